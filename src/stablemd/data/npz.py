"""Frames in numpy's npz format, with the field names of MD17 and MD22."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stablemd.data.array_fields import ENERGY_UNIT_NAMES, LENGTH_UNIT_NAMES, frames_from_arrays
from stablemd.data.frames import Frames
from stablemd.errors import DataError

_RESERVED = ("z", "R", "E", "F", "cell", "pbc", "energy_unit", "length_unit", "source")


def read_npz(
    path: Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    index: str | int | slice = ":",
) -> Frames:
    """Read an npz file; see :func:`stablemd.data.readers.read_frames`."""
    try:
        with path.open("rb") as raw:
            file = np.load(raw, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path}: a single array without a name; write it with numpy.savez")
            stored = {
                name: _text(file[name])
                for name in (*ENERGY_UNIT_NAMES, *LENGTH_UNIT_NAMES)
                if name in file.files
            }
            return frames_from_arrays(
                file.files,
                file.__getitem__,
                source=str(path),
                energy_unit=energy_unit,
                length_unit=length_unit,
                stored_units=stored,
                keys=keys,
                index=index,
            )
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path}: not a readable npz file of plain arrays ({error}); save it with "
            "numpy.savez and without Python objects"
        ) from error


def write_npz(
    path: Path,
    frames: Frames,
    *,
    metadata: Mapping[str, Any] | None = None,
    single_precision: bool = False,
) -> None:
    """Write frames as z, R, E, F in eV and Å with fields that state the units.

    Args:
        path: the file.
        frames: what to write.
        metadata: further fields, e.g. the origin of the data.
        single_precision: positions and forces in float32; energies stay float64.

    Raises:
        DataError: a metadata name is one of the fields.
    """
    clash = sorted(set(metadata or {}) & set(_RESERVED))
    if clash:
        raise DataError(f"metadata names {clash} are taken; choose others")
    dtype = np.float32 if single_precision else np.float64
    fields: dict[str, Any] = {
        "z": frames.numbers.numpy(),
        "R": frames.positions.numpy().astype(dtype),
        "energy_unit": "eV",
        "length_unit": "angstrom",
        "source": frames.source,
    }
    if frames.energies is not None:
        fields["E"] = frames.energies.numpy()
    if frames.forces is not None:
        fields["F"] = frames.forces.numpy().astype(dtype)
    if frames.cell is not None and frames.pbc is not None:
        fields["cell"] = frames.cell.numpy()
        fields["pbc"] = frames.pbc.numpy()
    with path.open("wb") as file:
        np.savez_compressed(file, **fields, **(metadata or {}))


def _text(value: np.ndarray) -> str:
    item = value.item() if value.size == 1 else value
    return item.decode() if isinstance(item, bytes) else str(item)
