"""JSON that every parser reads: numbers are finite, everything else is a plain value."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stablemd.atomic import write_atomic


def plain(value: object) -> Any:
    """The same content as dicts, lists, strings, bools, finite numbers and None.

    NaN and infinities become None (``null``): JSON has no word for them, and a
    log must survive the very steps at which a run goes wrong.

    Args:
        value: nested mappings, sequences, dataclasses, enums, paths, numpy and
            torch scalars and arrays of any shape.

    Raises:
        TypeError: a value of another type, named with its type.
    """
    if value is None or (isinstance(value, bool | str) and not isinstance(value, enum.Enum)):
        return value
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, torch.Tensor):
        return plain(value.detach().cpu().tolist())
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(plain(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    raise TypeError(
        f"can't write a {type(value).__name__} as JSON; give numbers, strings, arrays, "
        "mappings, sequences or dataclasses"
    )


def dumps(value: object, *, indent: int | None = None) -> str:
    """JSON text of ``plain(value)``."""
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False, indent=indent)


def write_json(path: str | Path, value: object) -> Path:
    """Write a readable JSON file atomically; returns the path."""
    return write_atomic(path, dumps(value, indent=2) + "\n")
