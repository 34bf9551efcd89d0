"""Several observables as one vector with one loss."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature

import torch
from torch import Tensor

from stablemd.estimators import Loss, make_loss
from stablemd.estimators.losses import LOSSES
from stablemd.observables.base import Observable
from stablemd.observables.settings import ObservableSettings
from stablemd.system import System


class ObservableTarget:
    """The observables that supervise a training, side by side.

    Args:
        system: the molecule.
        reference: structures (n, N, 3) in Å whose averages are the targets of the
            observables that have no reference of their own.
        settings: the observables, each with its loss and weight.
        cells: the structures' cells (n, 3, 3) in Å; the system's cell by default.
    """

    def __init__(
        self,
        system: System,
        reference: Tensor,
        settings: Sequence[ObservableSettings],
        cells: Tensor | None = None,
    ) -> None:
        self.observables: list[Observable] = []
        self._losses: list[Loss] = []
        self._weights: list[float] = []
        unvisited: list[Tensor] = []
        reference = reference.to(system.device)
        boxes = None if cells is None else cells.to(system.device)
        for choice in settings:
            observable = choice.build(system, reference, boxes)
            if observable.reference is None:
                target = observable.values(reference, boxes).mean(dim=0)
            else:
                target = observable.reference.mean.to(system.device)
            unvisited.append(target == 0.0)
            self.observables.append(observable)
            options = _uncertainty(observable, choice.loss)
            self._losses.append(make_loss(choice.loss, target, _spacing(observable), **options))
            self._weights.append(choice.weight)
        self._sizes = [len(observable.axis) for observable in self.observables]
        self._unvisited = torch.cat(unvisited).double()

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """All observables of frames (n, N, 3) in Å, (n, sum of sizes) float64."""
        return torch.cat([o.values(positions, cells).double() for o in self.observables], dim=1)

    def covers(self, values: Tensor) -> Tensor:
        """Whether frames with these values are of a kind that the reference knows, (n,) bool.

        They are where every component that is zero in the reference, a bin that it never
        visits or the excess of a bond, is zero in the frame.  Values are (n, sum of sizes).
        """
        return values @ self._unvisited == 0.0

    def loss(self, mean: Tensor) -> Tensor:
        """Weighted sum of the losses on an average (sum of sizes,)."""
        parts = mean.split(self._sizes)
        terms = [
            weight * loss(part)
            for weight, loss, part in zip(self._weights, self._losses, parts, strict=True)
        ]
        return torch.stack(terms).sum()


def _spacing(observable: Observable) -> float:
    """Bin width of a distribution; 1 where the components are separate quantities."""
    axis = observable.axis
    return float(axis[1] - axis[0]) if len(axis) > 1 else 1.0


def _uncertainty(observable: Observable, loss: str) -> dict[str, Tensor]:
    """The errors of a reference that states them, as the option of losses that take them."""
    given = observable.reference
    if given is None or given.stderr is None or "sigma" not in signature(LOSSES[loss]).parameters:
        return {}
    return {"sigma": given.stderr}
