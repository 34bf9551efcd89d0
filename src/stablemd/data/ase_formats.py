"""Frames in every format that ASE reads (extxyz, xyz, traj, db, ...)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from numpy.typing import NDArray

from stablemd.data.array_fields import check_keys
from stablemd.data.composition import common_numbers
from stablemd.data.energy_units import resolve_units, warn_if_implausible
from stablemd.data.frames import Frames
from stablemd.errors import DataError

ENERGY_NAMES = ("energy", "energies", "e", "potential_energy", "total_energy", "ref_energy")
FORCE_NAMES = ("forces", "force", "f", "ref_forces")
_INFO_FIELDS = ("energies", "forces")


def read_ase(
    path: Path,
    *,
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
    index: str | int | slice = ":",
) -> Frames:
    """Read with ASE, in eV and Å unless told otherwise; see ``read_frames``.

    Raises:
        DataError: ASE can't read the file, a label is in some frames only, or the frames
            differ in composition, atom order or periodicity.
    """
    source = str(path)
    check_keys(keys, source)
    other = sorted(set(keys or {}) - set(_INFO_FIELDS))
    if other:
        raise DataError(f"{source}: keys may name {_INFO_FIELDS} in this format, not {other}")
    try:
        images = ase.io.read(path, index=index)
    except Exception as error:  # ASE's parsers raise errors of every kind
        raise DataError(
            f"{source}: ASE can't read this file ({type(error).__name__}: {error}); check the "
            "file and its suffix"
        ) from error
    images = images if isinstance(images, list) else [images]
    if not images:
        raise DataError(f"{source}: no frames were found with index {index!r}")
    return frames_from_ase(
        images, source=source, energy_unit=energy_unit, length_unit=length_unit, keys=keys
    )


def frames_from_ase(
    images: list[Atoms],
    *,
    source: str = "memory",
    energy_unit: str | None = None,
    length_unit: str | None = None,
    keys: Mapping[str, str] | None = None,
) -> Frames:
    """Frames from ASE ``Atoms`` of one composition; arguments as in ``read_frames``."""
    units = resolve_units(
        source,
        energy_given=energy_unit,
        energy_stored=None,
        length_given=length_unit,
        length_stored=None,
        energy_default="eV",
    )
    numbers = common_numbers([atoms.numbers for atoms in images], source)
    pbc = np.stack([atoms.pbc for atoms in images])
    if (pbc != pbc[0]).any():
        frame = int(np.flatnonzero((pbc != pbc[0]).any(axis=1))[0])
        raise DataError(
            f"{source}: frame {frame} has pbc {pbc[frame].tolist()} but frame 0 has "
            f"{pbc[0].tolist()}; all frames must be periodic in the same directions"
        )
    wanted = keys or {}
    energies = _labels(images, _energies_of, ENERGY_NAMES, wanted.get("energies"), source, ())
    shape = (len(numbers), 3)
    forces = _labels(images, _forces_of, FORCE_NAMES, wanted.get("forces"), source, shape)
    scale = units.length_angstrom
    periodic = bool(pbc[0].any())
    frames = Frames(
        numbers=torch.from_numpy(numbers),
        positions=torch.from_numpy(np.stack([a.positions for a in images]) * scale),
        energies=None if energies is None else torch.from_numpy(energies * units.energy_ev),
        forces=None if forces is None else torch.from_numpy(forces * units.force_ev_per_angstrom),
        cell=torch.from_numpy(np.stack([a.cell.array for a in images]) * scale)
        if periodic
        else None,
        pbc=torch.from_numpy(pbc[0].copy()) if periodic else None,
        source=source,
    )
    warn_if_implausible(frames, units)
    return frames


def frames_to_ase(frames: Frames) -> list[Atoms]:
    """ASE ``Atoms`` with the labels in a ``SinglePointCalculator``."""
    images = []
    for i in range(len(frames)):
        atoms = Atoms(
            numbers=frames.numbers.numpy(),
            positions=frames.positions[i].numpy(),
            cell=None if frames.cell is None else frames.cell[i].numpy(),
            pbc=None if frames.pbc is None else frames.pbc.numpy(),
        )
        results: dict[str, Any] = {}
        if frames.energies is not None:
            results["energy"] = float(frames.energies[i])
        if frames.forces is not None:
            results["forces"] = frames.forces[i].numpy()
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    return images


def write_extxyz(path: Path, frames: Frames) -> None:
    """Write frames as extended XYZ, in eV and Å by ASE's convention."""
    ase.io.write(path, frames_to_ase(frames), format="extxyz")


def _energies_of(atoms: Atoms) -> dict[str, Any]:
    return {**atoms.info, **_calculated(atoms)}


def _forces_of(atoms: Atoms) -> dict[str, Any]:
    return {**atoms.arrays, **_calculated(atoms)}


def _calculated(atoms: Atoms) -> dict[str, Any]:
    """Labels that ASE moved from the file into a calculator."""
    return {} if atoms.calc is None else dict(atoms.calc.results)


def _labels(
    images: list[Atoms],
    holder: Callable[[Atoms], dict[str, Any]],
    names: tuple[str, ...],
    key: str | None,
    source: str,
    shape: tuple[int, ...],
) -> NDArray[np.float64] | None:
    """One label per frame, (n, *shape), or None where no frame has it."""
    present = holder(images[0])
    if key is None:
        lower = {name.lower(): name for name in present}
        key = next((lower[name] for name in names if name in lower), None)
        if key is None:
            return None
    elif key not in present:
        raise DataError(f"{source}: no {key!r} in frame 0, which has {sorted(present)}")
    values = np.empty((len(images), *shape))
    for frame, atoms in enumerate(images):
        value = holder(atoms).get(key)
        if value is None:
            raise DataError(
                f"{source}: frame {frame} has no {key!r} but frame 0 has; label all frames, or "
                "select the labelled ones with index"
            )
        try:
            values[frame] = np.asarray(value, dtype=np.float64).reshape(shape)
        except ValueError as error:
            raise DataError(
                f"{source}: {key!r} of frame {frame} must have shape {shape}, got {np.shape(value)}"
            ) from error
    return values
