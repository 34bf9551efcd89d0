"""Potentials as files: architecture, hyper-parameters and weights, without code."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from stablemd.atomic import write_atomic
from stablemd.errors import PotentialError
from stablemd.potentials import POTENTIALS, Potential, SumPotential, make_potential
from stablemd.potentials.adapters import FORMATS, format_of
from stablemd.potentials.adapters.base import AdaptedPotential
from stablemd.potentials.schnet_weights import schnet_from_weights

FORMAT = "stablemd-potential"
VERSION = 1
SUM = "sum"


def save_potential(potential: Potential, path: str | Path) -> None:
    """Write a potential so that ``load_potential`` gives the same numbers back.

    A model of an outside package is written in that package's own format.  The file is
    replaced in one step: an interrupted write leaves the old one.

    Raises:
        PotentialError: it is of no known kind, or the file's suffix is not its format's.
    """
    path = Path(path)
    if isinstance(potential, AdaptedPotential):
        potential.save(path)
        return
    stream = io.BytesIO()
    torch.save(_payload(potential), stream)
    write_atomic(path, stream.getvalue())


def load_potential(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    n_atoms: int | None = None,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Potential:
    """Read a potential written by this package or by another one.

    Args:
        path: a file of ``save_potential``, a torch_geometric SchNet state dict, an MDsim
            SchNet checkpoint, or a model of an outside package.
        device: where to put it.
        n_atoms: needed for checkpoints that normalize total energies.
        format: an outside package's name (see ``FORMATS``); None: from the file's suffix.
            Files of outside packages run code when they are read, so that they must
            come from where you trust.
        options: of that package's reader.

    Raises:
        PotentialError: the file is missing, holds code, or is of another kind.
        MissingDependencyError: it needs a package that is not there.
    """
    path = Path(path)
    if not path.is_file():
        raise PotentialError(f"{path}: no such file; give a model file")
    if format is not None and format not in FORMATS:
        raise PotentialError(f"unknown model format {format!r}; choose one of {sorted(FORMATS)}")
    outside = format or format_of(path)
    if outside is not None and not (format is None and _is_own_or_weights(path)):
        return FORMATS[outside].load(path, options or {}).to(device)
    if options:
        raise PotentialError(
            f"{path}: options {dict(options)} are of outside packages' formats, and this file is "
            "read as stablemd's own; leave them out, or name the format"
        )
    payload = _read(path)
    if payload.get("format") != FORMAT:
        return schnet_from_weights(payload, n_atoms=n_atoms).to(device)
    if payload["version"] > VERSION:
        raise PotentialError(
            f"{path}: written by a newer stablemd (file version {payload['version']}, this one "
            f"reads up to {VERSION}); update stablemd"
        )
    return _build(payload).to(device)


def _payload(potential: Potential) -> dict[str, Any]:
    head = {"format": FORMAT, "version": VERSION}
    if isinstance(potential, SumPotential):
        outside = [t for t in potential.terms if isinstance(t, AdaptedPotential)]
        if outside:
            raise PotentialError(
                f"a sum with {type(outside[0]).__name__}, which is saved in its package's own "
                "format, does not fit into one file; save its terms one by one"
            )
        return {**head, "architecture": SUM, "terms": [_payload(t) for t in potential.terms]}
    names = [name for name, kind in POTENTIALS.items() if type(potential) is kind]
    if not names:
        raise PotentialError(
            f"{type(potential).__name__} is not a registered potential and can't be saved by "
            f"name; save its state_dict, or register it (known: {sorted(POTENTIALS)})"
        )
    return {
        **head,
        "architecture": names[0],
        "hyperparameters": dict(potential.hyperparameters),
        "dtype": str(potential.dtype).removeprefix("torch."),
        "state_dict": {k: v.detach().cpu() for k, v in potential.state_dict().items()},
    }


def _build(payload: Mapping[str, Any]) -> Potential:
    if payload["architecture"] == SUM:
        return SumPotential([_build(term) for term in payload["terms"]])
    potential = make_potential(payload["architecture"], **payload["hyperparameters"])
    potential.to(getattr(torch, payload["dtype"]))
    potential.load_state_dict(payload["state_dict"])
    return potential


def _read(path: Path) -> dict[str, Any]:
    try:
        payload: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise PotentialError(
            f"{path}: can't be read as tensors ({error}); stablemd executes no code from a model "
            "file of its own format, so save a state dict or use save_potential; for a model of "
            f"another package name its format ({', '.join(sorted(FORMATS))})"
        ) from error
    if not isinstance(payload, dict):
        raise PotentialError(f"{path}: holds a {type(payload).__name__}, expected a dictionary")
    return payload


def _is_own_or_weights(path: Path) -> bool:
    """Whether a ``.ckpt`` is plain weights, as MDsim writes them."""
    if path.suffix != ".ckpt":
        return False
    try:
        payload = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:
        return False
    return isinstance(payload, dict) and "hyper_parameters" not in payload
