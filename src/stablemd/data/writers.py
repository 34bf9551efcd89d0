"""Write reference structures to a file, in the format its suffix says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stablemd.data.ase_formats import write_extxyz
from stablemd.data.frames import Frames
from stablemd.data.hdf5 import write_hdf5
from stablemd.data.npz import write_npz
from stablemd.errors import DataError


def write_frames(
    path: str | Path, frames: Frames, *, metadata: Mapping[str, Any] | None = None
) -> None:
    """Write frames to ``.npz``, ``.h5``/``.hdf5`` or ``.extxyz``, in eV and Å.

    Args:
        path: the file; its folder is made.
        frames: what to write.
        metadata: names and plain values stored beside the frames (npz and HDF5 only).

    Raises:
        DataError: the suffix is another one, or metadata can't be stored.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".npz":
        write_npz(path, frames, metadata=metadata)
    elif suffix in {".h5", ".hdf5"}:
        write_hdf5(path, frames, metadata=metadata)
    elif suffix == ".extxyz":
        if metadata:
            raise DataError(f"{path}: extxyz keeps no metadata; write .npz or .h5, or leave it out")
        write_extxyz(path, frames)
    else:
        raise DataError(f"{path}: can't write {suffix!r}; use .npz, .h5, .hdf5 or .extxyz")
