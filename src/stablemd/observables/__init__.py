"""Observables: what is compared with the reference, with error bars."""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from typing import Any

from stablemd.errors import ConfigError
from stablemd.observables.averages import Average, block_average, ensemble_average
from stablemd.observables.base import Observable
from stablemd.observables.bond_excess import BondExcess
from stablemd.observables.comparison import ObservableError, compare_with_reference
from stablemd.observables.distance_distribution import DistanceDistribution
from stablemd.system import System

OBSERVABLES: dict[str, type[Observable]] = {
    DistanceDistribution.name: DistanceDistribution,
    BondExcess.name: BondExcess,
}
"""Every observable by its name; each is built as ``cls(system, **options)``."""

__all__ = [
    "OBSERVABLES",
    "Average",
    "BondExcess",
    "DistanceDistribution",
    "Observable",
    "ObservableError",
    "block_average",
    "compare_with_reference",
    "ensemble_average",
    "make_observable",
]


def make_observable(name: str, system: System, **options: Any) -> Observable:
    """The observable of that name for a system.

    Args:
        name: a key of ``OBSERVABLES``.
        system: the molecule.
        options: keyword arguments of the observable's constructor.

    Raises:
        ConfigError: unknown name or option.
    """
    if name not in OBSERVABLES:
        close = get_close_matches(name, OBSERVABLES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(f"unknown observable {name!r}; known are {sorted(OBSERVABLES)}{hint}")
    factory: Any = OBSERVABLES[name]
    accepted = list(inspect.signature(factory).parameters)[1:]
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ConfigError(f"observable {name!r} has no option {unknown}; it takes {accepted}")
    observable: Observable = factory(system, **options)
    return observable
