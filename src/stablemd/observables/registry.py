"""Observables by name, those of users included."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.observables.base import Observable
from stablemd.observables.user_defined import ObservableFunction, observable_class
from stablemd.system import System

OBSERVABLES: dict[str, type[Observable]] = {}
"""Every observable by its name; each is built as ``cls(system, **options)``."""


def make_observable(name: str, system: System, **options: Any) -> Observable:
    """The observable of that name for a system.

    Args:
        name: a key of ``OBSERVABLES``.
        system: the atoms.
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
    made: Observable = factory(system, **options)
    return made


def observable(
    *,
    name: str,
    axis: Sequence[float] | Tensor = (0.0,),
    axis_label: str = "component",
    value_label: str = "value",
) -> Callable[[ObservableFunction], type[Observable]]:
    """Decorator that makes an observable of a function and registers it by name.

    The function takes the system, positions (n, N, 3) float64 in Å and cells
    (n, 3, 3) in Å or None, then options by keyword, and returns (n, D),
    differentiable by autograd.  Frames that are not finite are taken care of.

    Args:
        name: the new key in ``OBSERVABLES``.
        axis: what the D components stand for; one component by default.
        axis_label: axis title with unit.
        value_label: value title with unit.

    Raises:
        ConfigError: the name is taken, or the function's arguments do not fit.
    """

    def register(function: ObservableFunction) -> type[Observable]:
        if name in OBSERVABLES:
            raise ConfigError(f"an observable {name!r} exists already; choose another name")
        made = observable_class(
            function, name=name, axis=axis, axis_label=axis_label, value_label=value_label
        )
        OBSERVABLES[name] = made
        return made

    return register
