"""Checkpoint files: nested plain values and tensors, read back without executing code."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stablemd.atomic import write_atomic
from stablemd.errors import CheckpointError

FORMAT = "stablemd-checkpoint"
FORMAT_VERSION = 1


def save_checkpoint(
    path: str | os.PathLike[str], payload: Mapping[str, object], *, kind: str
) -> Path:
    """Write a checkpoint atomically: an interruption leaves the previous one intact.

    Args:
        path: the file, usually ``.pt``; replaced if it exists.
        payload: dicts (string or integer keys), lists, tuples, tensors, numbers,
            strings, bools and None, nested as needed.
        kind: what it is, e.g. ``"training run"``; asked for again on loading.

    Returns:
        The path.

    Raises:
        CheckpointError: the payload holds something else, named with its place.
    """
    content = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "kind": kind,
        "payload": _plain(payload, "payload"),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return write_atomic(path, buffer.getvalue())


def load_checkpoint(path: str | os.PathLike[str], *, kind: str) -> dict[str, Any]:
    """Read a checkpoint; its tensors are on the CPU.

    Args:
        path: a file of ``save_checkpoint``.
        kind: the kind it was saved as.

    Returns:
        The payload, with every tensor and float bit for bit as saved.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint of stablemd, of
            another kind, of a newer format, or holds code.
    """
    file = Path(path)
    if not file.is_file():
        raise CheckpointError(
            f"no checkpoint at {file}; give the path of a .pt file, usually under "
            "checkpoints/ in the folder of a run"
        )
    content = _read(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(
            f"{file} is a tensor file, but not a checkpoint of stablemd; weights of other "
            "programs are imported through the potential's own reader"
        )
    if content["version"] > FORMAT_VERSION:
        raise CheckpointError(
            f"{file} has checkpoint format {content['version']} and this version reads up to "
            f"{FORMAT_VERSION}; update stablemd"
        )
    if content["kind"] != kind:
        raise CheckpointError(
            f"{file} is a checkpoint of kind {content['kind']!r}, and {kind!r} was expected; "
            "give a file that was written by the matching command"
        )
    payload: dict[str, Any] = content["payload"]
    return payload


def _read(file: Path) -> object:
    try:
        # PyTorch does not compare check sums while reading, so flipped bits would
        # pass as numbers.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"check sum of {damaged} is wrong")
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} holds objects other than tensors and plain values, and loading them could "
            "run code, so it was refused; use a checkpoint written by stablemd"
        ) from error
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{file} is damaged or not a checkpoint ({error}); use an earlier checkpoint of the "
            "run, or start again"
        ) from error


def _plain(value: object, place: str) -> object:
    """A copy with plain containers, and tensors that own exactly their numbers."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach()
        if tensor.untyped_storage().nbytes() != tensor.numel() * tensor.element_size():
            tensor = tensor.clone(memory_format=torch.contiguous_format)
        # A parameter would be stored as one; a checkpoint holds numbers.
        return tensor.as_subclass(torch.Tensor)
    if isinstance(value, Mapping):
        for key in value:
            if type(key) not in (str, int):
                raise CheckpointError(
                    f"{place} has a key of type {type(key).__name__} ({key!r}); a checkpoint "
                    "takes string and integer keys"
                )
        return {key: _plain(item, f"{place}[{key!r}]") for key, item in value.items()}
    if type(value) in (list, tuple):
        items = [_plain(v, f"{place}[{i}]") for i, v in enumerate(value)]  # type: ignore[arg-type, var-annotated]
        return items if type(value) is list else tuple(items)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise CheckpointError(
        f"{place} is a {type(value).__name__}; a checkpoint takes tensors, numbers, strings, "
        "dicts, lists and tuples: convert it first (numpy arrays with torch.from_numpy)"
    )
