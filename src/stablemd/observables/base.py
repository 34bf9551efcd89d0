"""The contract of an observable."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Observable(ABC):
    """A vector of D numbers per frame whose ensemble average is compared with a reference."""

    name: str
    """Key in metrics and reports, e.g. ``"distance_distribution"``."""

    axis: Tensor
    """What the components stand for (bin centres, lags), (D,) float64."""

    axis_label: str
    """Axis title with unit for plots."""

    value_label: str
    """Value title with unit for plots."""

    @abstractmethod
    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Values (n, D) of frames; differentiable.

        Args:
            positions: unwrapped, (n, N, 3) in Å.
            cells: (n, 3, 3) in Å; the system's cell by default, where it is periodic.
        """

    @abstractmethod
    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """Error (scalar) of an average (D,) against the reference (D,), as the field defines it."""
