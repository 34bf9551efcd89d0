"""Energy and length units of reference data: stated, never guessed silently."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ase import units as ase_units

from stablemd.data.frames import Frames
from stablemd.errors import DataError
from stablemd.units import BOHR, HARTREE, KCAL_PER_MOL

logger = logging.getLogger(__name__)

ENERGY_UNITS: dict[str, float] = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": float(ase_units.kJ / ase_units.mol),
    "hartree": HARTREE,
    "rydberg": float(ase_units.Rydberg),
}
"""Energy units and their size in eV."""

LENGTH_UNITS: dict[str, float] = {"angstrom": 1.0, "bohr": BOHR, "nm": 10.0}
"""Length units and their size in Å."""

_ALIASES = {
    "kcal mol-1": "kcal/mol",
    "kcal mol^-1": "kcal/mol",
    "kj mol-1": "kJ/mol",
    "kj mol^-1": "kJ/mol",
    "ha": "hartree",
    "eh": "hartree",
    "ry": "rydberg",
    "ang": "angstrom",
    "å": "angstrom",
    "a0": "bohr",
}

PLAUSIBLE_FORCE_RMS = (0.02, 10.0)
"""Range of the root mean square force component in eV/Å outside which a unit is suspicious.

Molecules and liquids between 50 and 2000 K lie at 0.2 to 3; the factor kcal/mol to eV is 23.
"""


@dataclass(frozen=True)
class LabelUnits:
    """The units that a file's numbers are in; forces are in ``energy/length``."""

    energy: str
    length: str

    @property
    def energy_ev(self) -> float:
        """One energy unit in eV."""
        return ENERGY_UNITS[self.energy]

    @property
    def length_angstrom(self) -> float:
        """One length unit in Å."""
        return LENGTH_UNITS[self.length]

    @property
    def force_ev_per_angstrom(self) -> float:
        """One force unit in eV/Å."""
        return self.energy_ev / self.length_angstrom


def canonical_energy_unit(name: str) -> str:
    """The standard spelling of an energy unit.

    Raises:
        DataError: the unit is unknown.
    """
    return _canonical(name, ENERGY_UNITS, "energy")


def canonical_length_unit(name: str) -> str:
    """The standard spelling of a length unit.

    Raises:
        DataError: the unit is unknown.
    """
    return _canonical(name, LENGTH_UNITS, "length")


def resolve_units(
    source: str,
    *,
    energy_given: str | None,
    energy_stored: str | None,
    length_given: str | None,
    length_stored: str | None,
    energy_default: str | None = None,
) -> LabelUnits:
    """Decide a file's units from what the user said and what the file says.

    Args:
        source: the file, for messages.
        energy_given: the energy unit that the user stated, if any.
        energy_stored: the energy unit written in the file, if any.
        length_given: the length unit that the user stated, if any.
        length_stored: the length unit written in the file, if any; Å without either.
        energy_default: the format's own convention, if it has one.

    Raises:
        DataError: the energy unit is stated nowhere, a unit is unknown, or the two disagree.
    """
    energy = _agree(source, "energy_unit", energy_given, energy_stored, ENERGY_UNITS, "energy")
    length = _agree(source, "length_unit", length_given, length_stored, LENGTH_UNITS, "length")
    if energy is None:
        energy = energy_default
    if energy is None:
        raise DataError(
            f"{source}: the file does not say which unit its energies are in; state it with "
            f"energy_unit=... (one of {', '.join(ENERGY_UNITS)}; MD17, rMD17 and MD22 as published "
            "are in kcal/mol). Forces are then read as energy_unit per length_unit"
        )
    return LabelUnits(energy=energy, length=length or "angstrom")


def warn_if_implausible(frames: Frames, units: LabelUnits) -> None:
    """Log a warning when the force magnitudes suggest that the stated unit is wrong."""
    if frames.forces is None:
        return
    rms = float(frames.forces.square().mean().sqrt())
    low, high = PLAUSIBLE_FORCE_RMS
    if not low <= rms <= high:
        logger.warning(
            "%s: the root mean square force is %.3g eV/Å, outside the usual %g to %g, when "
            "read as %s per %s; check energy_unit and length_unit",
            frames.source,
            rms,
            low,
            high,
            units.energy,
            units.length,
        )


def _canonical(name: str, known: dict[str, float], kind: str) -> str:
    wanted = name.strip().lower()
    wanted = _ALIASES.get(wanted, wanted)
    for unit in known:
        if unit.lower() == wanted.lower():
            return unit
    raise DataError(f"unknown {kind} unit {name!r}; known are {', '.join(known)}")


def _agree(
    source: str,
    option: str,
    given: str | None,
    stored: str | None,
    known: dict[str, float],
    kind: str,
) -> str | None:
    ours = None if given is None else _canonical(given, known, kind)
    theirs = None if stored is None else _canonical(stored, known, kind)
    if ours is not None and theirs is not None and ours != theirs:
        raise DataError(
            f"{source}: {option}={given!r} was given, but the file says {stored!r}; "
            f"leave {option} out, or correct the file"
        )
    return ours or theirs
