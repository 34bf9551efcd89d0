"""A function as an observable."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.geometry import frame_cells
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System

ObservableFunction = Callable[..., Tensor]
"""``function(system, positions (n, N, 3), cells (n, 3, 3) or None, **options) -> (n, D)``."""


def observable_class(
    function: ObservableFunction,
    *,
    name: str,
    axis: Sequence[float] | Tensor,
    axis_label: str,
    value_label: str,
) -> type[Observable]:
    """A class of observables from a function; see ``stablemd.observables.observable``.

    Raises:
        ConfigError: the function does not take a system, positions and cells.
    """
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) < 3 or any(
        p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD) and p.default is p.empty
        for p in parameters[3:]
    ):
        raise ConfigError(
            f"the observable {name!r} must be a function (system, positions, cells, *, option=..."
            f") -> values; got {function.__name__}{inspect.signature(function)}"
        )
    components = torch.as_tensor(axis, dtype=torch.float64).flatten()
    label_of_axis, label_of_value, registered = axis_label, value_label, name

    class FunctionObservable(Observable):
        name = registered
        axis_label = label_of_axis
        value_label = label_of_value

        def __init__(self, system: System, **options: Any) -> None:
            self._system = system
            self._options = options
            self.axis = components.to(system.device)

        def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
            boxes = frame_cells(self._system, positions, cells)
            result = function(self._system, positions.to(torch.float64), boxes, **self._options)
            if result.shape != (len(positions), len(self.axis)):
                raise ConfigError(
                    f"the observable {registered!r} must return ({len(positions)}, "
                    f"{len(self.axis)}), one row per frame and one column per point of its axis; "
                    f"got {tuple(result.shape)}"
                )
            return only_finite_frames(result.to(torch.float64), positions)

    options = parameters[3:]
    signature = inspect.Signature(
        [inspect.Parameter("system", inspect.Parameter.POSITIONAL_OR_KEYWORD), *options]
    )
    FunctionObservable.__signature__ = signature  # type: ignore[attr-defined]
    FunctionObservable.__name__ = FunctionObservable.__qualname__ = function.__name__
    FunctionObservable.__module__ = function.__module__
    FunctionObservable.__doc__ = function.__doc__
    return FunctionObservable
