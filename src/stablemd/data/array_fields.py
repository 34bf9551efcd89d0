"""Frames from named arrays, the common part of the npz and HDF5 formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from ase.io.formats import string2index
from numpy.typing import NDArray
from torch import Tensor

from stablemd.data.composition import common_numbers
from stablemd.data.energy_units import resolve_units, warn_if_implausible
from stablemd.data.frames import Frames
from stablemd.errors import DataError

FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "numbers": ("numbers", "z", "nuclear_charges", "atomic_numbers", "species"),
    "positions": ("positions", "r", "coords", "coordinates", "pos"),
    "energies": ("energies", "e", "energy"),
    "forces": ("forces", "f", "force"),
    "cell": ("cell", "cells", "lattice", "box", "l"),
    "pbc": ("pbc",),
}
"""Names under which files hold each field, lower case; upper case is accepted too."""

ENERGY_UNIT_NAMES = ("energy_unit", "e_unit")
LENGTH_UNIT_NAMES = ("length_unit", "r_unit")


def find_field(
    field: str, present: Sequence[str], keys: Mapping[str, str] | None, source: str
) -> str | None:
    """The name under which a file holds ``field``, or None where it doesn't.

    Args:
        field: one of ``FIELD_NAMES``.
        present: the names in the file.
        keys: the user's own names, field to name, looked up first.
        source: the file, for messages.

    Raises:
        DataError: the user's name is not in the file, or two names fit.
    """
    check_keys(keys, source)
    if keys and field in keys:
        if keys[field] not in present:
            raise DataError(
                f"{source}: no {keys[field]!r} for {field}; the file has {sorted(present)}"
            )
        return keys[field]
    found = [name for name in present if name.lower() in FIELD_NAMES[field]]
    if len(found) > 1:
        raise DataError(
            f"{source}: {field} could be any of {sorted(found)}; "
            f"choose with keys={{{field!r}: ...}}"
        )
    return found[0] if found else None


def check_keys(keys: Mapping[str, str] | None, source: str) -> None:
    """Raise DataError when ``keys`` names a field that doesn't exist."""
    unknown = sorted(set(keys or {}) - set(FIELD_NAMES))
    if unknown:
        raise DataError(
            f"{source}: keys names unknown fields {unknown}; known are {sorted(FIELD_NAMES)}"
        )


def frames_from_arrays(
    present: Sequence[str],
    load: Callable[[str], Any],
    *,
    source: str,
    energy_unit: str | None,
    length_unit: str | None,
    stored_units: Mapping[str, str],
    keys: Mapping[str, str] | None,
    index: str | int | slice,
) -> Frames:
    """Build frames from named arrays, converted to eV and Å.

    Args:
        present: the names of the arrays.
        load: name to array.
        source: the file, for messages.
        energy_unit: the energy unit that the user stated, if any.
        length_unit: the length unit that the user stated, if any.
        stored_units: the file's own unit fields, under any of their names.
        keys: the user's own names, field to name.
        index: which frames, as in ASE (``":"``, ``"::10"``, ``-1``).

    Raises:
        DataError: a field is missing or of the wrong shape, or a unit is not stated.
    """
    names = {field: find_field(field, present, keys, source) for field in FIELD_NAMES}
    missing = [field for field in ("numbers", "positions") if names[field] is None]
    if missing:
        raise DataError(
            f"{source}: {' and '.join(missing)} missing; the file has {sorted(present)}. "
            f"Known names: {', '.join('/'.join(FIELD_NAMES[f]) for f in missing)}; for others "
            "use keys"
        )
    raw = {f: np.asarray(load(n)) for f, n in names.items() if n is not None}
    for field, value in raw.items():
        if value.dtype.kind not in "biuf":
            raise DataError(f"{source}: {names[field]} must be numeric, got dtype {value.dtype}")
    units = resolve_units(
        source,
        energy_given=energy_unit,
        energy_stored=_first(stored_units, ENERGY_UNIT_NAMES),
        length_given=length_unit,
        length_stored=_first(stored_units, LENGTH_UNIT_NAMES),
        energy_default=None if "energies" in raw or "forces" in raw else "eV",
    )
    pbc = _set_shapes(raw, source)
    chosen = parse_index(index, source)
    per_frame = {f: v[chosen] for f, v in raw.items() if f != "numbers"}
    numbers = raw["numbers"]
    if numbers.ndim == 2 and len(numbers[chosen]):
        numbers = common_numbers(numbers[chosen], source)
    scales = {
        "positions": units.length_angstrom,
        "energies": units.energy_ev,
        "forces": units.force_ev_per_angstrom,
        "cell": units.length_angstrom,
    }
    values = {
        f: torch.from_numpy(np.array(v, dtype=np.float64)) * scales[f] for f, v in per_frame.items()
    }
    frames = Frames(
        numbers=torch.from_numpy(numbers.astype(np.int64)), pbc=pbc, source=source, **values
    )
    warn_if_implausible(frames, units)
    return frames


def parse_index(index: str | int | slice, source: str) -> slice:
    """An ASE-style index as a slice.

    Raises:
        DataError: the index can't be understood.
    """
    if isinstance(index, str):
        try:
            index = string2index(index)
        except ValueError as error:
            raise DataError(f"{source}: index {index!r} is not like ':', '::10' or '-1'") from error
    if isinstance(index, slice):
        return index
    if isinstance(index, int):
        return slice(index, None if index == -1 else index + 1)
    raise DataError(f"{source}: index {index!r} is not like ':', '::10' or '-1'")


def _set_shapes(raw: dict[str, NDArray[Any]], source: str) -> Tensor | None:
    """Give every field but the numbers a leading axis of frames, in place; return pbc (3,)."""
    for field in ("positions", "forces"):
        if field in raw and raw[field].ndim == 2:
            raw[field] = raw[field][None]
    positions = raw["positions"]
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise DataError(
            f"{source}: positions must have shape (frames, atoms, 3), got {positions.shape}"
        )
    n = len(positions)
    energies = raw.get("energies")
    if energies is not None and (energies.shape == (n, 1) or (energies.ndim == 0 and n == 1)):
        raw["energies"] = energies.reshape(n)
    expected = {"energies": (n,), "forces": positions.shape}
    for field, shape in expected.items():
        if field in raw and raw[field].shape != shape:
            raise DataError(
                f"{source}: {field} must have shape {shape} like the positions "
                f"{positions.shape}, got {raw[field].shape}"
            )
    if raw["numbers"].shape not in {positions.shape[1:2], positions.shape[:2]}:
        raise DataError(
            f"{source}: atomic numbers must have shape {positions.shape[1:2]} like the positions "
            f"{positions.shape}, got {raw['numbers'].shape}"
        )
    return _set_cell(raw, n, source)


def _set_cell(raw: dict[str, NDArray[Any]], n: int, source: str) -> Tensor | None:
    """Make the cell (n, 3, 3) from a box edge, box edges, one cell or one per frame."""
    cell, given = raw.pop("cell", None), raw.pop("pbc", None)
    if cell is None:
        if given is not None and given.any():
            raise DataError(f"{source}: pbc is {given.tolist()} but the file holds no cell")
        return None
    if given is not None and given.shape not in {(), (3,)}:
        raise DataError(f"{source}: pbc must be one bool or three, got shape {given.shape}")
    pbc = np.broadcast_to(np.asarray(cell.any() if given is None else given, dtype=bool), (3,))
    if not pbc.any():
        return None
    if cell.ndim == 0 or cell.shape == (3,):
        cell = np.diag(np.broadcast_to(cell, (3,)))
    if cell.shape == (3, 3):
        cell = np.broadcast_to(cell, (n, 3, 3))
    if cell.shape != (n, 3, 3):
        raise DataError(
            f"{source}: the cell must be a box edge, (3,), (3, 3) or ({n}, 3, 3), got {cell.shape}"
        )
    raw["cell"] = cell
    return torch.from_numpy(pbc.copy())


def _first(stored: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((stored[name] for name in names if name in stored), None)
