"""Integrators by name."""

from __future__ import annotations

import inspect
from typing import Any

from stablemd.errors import ConfigError
from stablemd.md.integrators.baoab import BAOAB
from stablemd.md.integrators.base import Integrator
from stablemd.md.integrators.cell_rescaling import StochasticCellRescaling
from stablemd.md.integrators.csvr import CSVR
from stablemd.md.integrators.nose_hoover import NoseHooverChain
from stablemd.md.integrators.velocity_verlet import VelocityVerlet

INTEGRATORS: dict[str, type[Integrator]] = {
    "cell_rescaling": StochasticCellRescaling,
    "csvr": CSVR,
    "langevin": BAOAB,
    "nose_hoover": NoseHooverChain,
    "nve": VelocityVerlet,
}


def make_integrator(name: str, *, dt_fs: float, temperature_k: float, **options: Any) -> Integrator:
    """The integrator of that name.

    Args:
        name: a key of ``INTEGRATORS``: "langevin", "nose_hoover", "csvr", "nve", or
            "cell_rescaling" for constant pressure.
        dt_fs: time step in fs.
        temperature_k: temperature in K.
        options: the integrator's own options, e.g. ``friction_per_ps`` of
            "langevin" or ``tau_fs`` of "nose_hoover".

    Raises:
        ConfigError: the name or an option is unknown, or a value is impossible.
    """
    if name not in INTEGRATORS:
        raise ConfigError(f"unknown integrator {name!r}; choose one of {sorted(INTEGRATORS)}")
    kind = INTEGRATORS[name]
    known = sorted(set(inspect.signature(kind).parameters) - {"dt_fs", "temperature_k"})
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ConfigError(f"integrator {name!r} has no option {unknown}; it takes {known}")
    build: Any = kind
    integrator: Integrator = build(dt_fs=dt_fs, temperature_k=temperature_k, **options)
    return integrator


__all__ = [
    "BAOAB",
    "CSVR",
    "INTEGRATORS",
    "Integrator",
    "NoseHooverChain",
    "StochasticCellRescaling",
    "VelocityVerlet",
    "make_integrator",
]
