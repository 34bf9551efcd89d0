"""Frames in HDF5, with the units as attributes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stablemd.data.array_fields import ENERGY_UNIT_NAMES, LENGTH_UNIT_NAMES, frames_from_arrays
from stablemd.data.frames import Frames
from stablemd.errors import DataError


def read_hdf5(
    path: Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    index: str | int | slice = ":",
) -> Frames:
    """Read an HDF5 file; see :func:`stablemd.data.readers.read_frames`."""
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a readable HDF5 file ({error})") from error
    with file:
        stored = {
            name: _text(file.attrs[name] if name in file.attrs else file[name][()])
            for name in (*ENERGY_UNIT_NAMES, *LENGTH_UNIT_NAMES)
            if name in file.attrs or name in file
        }
        return frames_from_arrays(
            [name for name in file if isinstance(file[name], h5py.Dataset)],
            lambda name: file[name][()],
            source=str(path),
            energy_unit=energy_unit,
            length_unit=length_unit,
            stored_units=stored,
            keys=keys,
            index=index,
        )


def write_hdf5(path: Path, frames: Frames, *, metadata: Mapping[str, Any] | None = None) -> None:
    """Write frames in eV and Å, the units and ``metadata`` as attributes of the file."""
    fields = {
        "numbers": frames.numbers,
        "positions": frames.positions,
        "energies": frames.energies,
        "forces": frames.forces,
    }
    if frames.cell is not None and frames.pbc is not None:
        fields |= {"cell": frames.cell, "pbc": frames.pbc}
    with h5py.File(path, "w") as file:
        for name, value in fields.items():
            if value is not None:
                file.create_dataset(name, data=value.numpy())
        file.attrs.update({"energy_unit": "eV", "length_unit": "angstrom", "source": frames.source})
        for name, value in (metadata or {}).items():
            file.attrs[name] = value


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return value.decode() if isinstance(value, bytes) else str(value)
