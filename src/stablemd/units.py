"""Physical constants and unit conversions.

Public boundaries use eV, Å, amu, fs and K.  Inside the integrators time is
measured in ASE's unit, Å·sqrt(amu/eV) (about 10.18 fs), in which
``force / mass`` needs no conversion factor.
"""

from ase import units as _ase

KB = float(_ase.kB)
"""Boltzmann constant, eV/K."""

FS = float(_ase.fs)
"""One femtosecond in the internal time unit."""

PS = 1000.0 * FS
"""One picosecond in the internal time unit."""

KCAL_PER_MOL = float(_ase.kcal / _ase.mol)
"""One kcal/mol in eV."""

BAR = float(_ase.bar)
"""One bar in eV/Å³."""

HARTREE = float(_ase.Hartree)
"""One hartree in eV."""

BOHR = float(_ase.Bohr)
"""One bohr in Å."""


def beta(temperature_k: float) -> float:
    """Inverse temperature 1/(k_B T) in 1/eV for a temperature in K."""
    return 1.0 / (KB * temperature_k)
