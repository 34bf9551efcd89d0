"""Read reference structures from a file, whatever its format."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stablemd.data.ase_formats import read_ase
from stablemd.data.frames import Frames
from stablemd.data.hdf5 import read_hdf5
from stablemd.data.npz import read_npz
from stablemd.errors import DataError

READERS = {".npz": read_npz, ".h5": read_hdf5, ".hdf5": read_hdf5}
"""Readers by suffix; everything else is ASE's."""


def read_frames(
    path: str | Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    index: str | int | slice = ":",
) -> Frames:
    """Read structures of one composition, with energies and forces where the file has them.

    npz and HDF5 files must say their energy unit, or the caller must; formats read by ASE are in
    eV and Å by its convention unless the caller says otherwise.  Implausible force magnitudes
    are logged as a warning.

    Args:
        path: ``.npz`` or ``.h5``/``.hdf5`` with z/R/E/F or the like, or a format ASE reads.
        energy_unit: eV, kcal/mol, kJ/mol, hartree, ...; forces are in energy_unit/length_unit.
        length_unit: angstrom (default), bohr or nm.
        keys: own names of the file's fields, e.g. ``{"energies": "U", "forces": "grad"}``.
        index: which frames, as in ASE: ``":"``, ``":100"``, ``"::10"``, ``-1``.

    Returns:
        Frames in eV and Å.

    Raises:
        DataError: the file or a field is missing, shapes, compositions or atom orders don't fit
            together, labels are not finite, or the energy unit is not stated.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path} does not exist or is not a file (looked from {Path.cwd()}); check the path"
        )
    reader = READERS.get(path.suffix.lower(), read_ase)
    return reader(path, energy_unit=energy_unit, length_unit=length_unit, keys=keys, index=index)
