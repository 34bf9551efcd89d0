"""The contract of an observable."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from stablemd.observables.reference import ReferenceAverage


class Observable(ABC):
    """A vector of D numbers per frame whose ensemble average is compared with a reference."""

    name: str
    """Key in the registry and in configurations, e.g. ``"distance_distribution"``."""

    label: str = ""
    """Key in metrics and reports, e.g. ``"rdf_O-H"``; the name where it is empty."""

    axis: Tensor
    """What the components stand for (bin centres, lags), (D,) float64."""

    axis_label: str
    """Axis title with unit for plots."""

    value_label: str
    """Value title with unit for plots."""

    reference: ReferenceAverage | None = None
    """The average to reach, where it is given (an experiment); else reference structures say."""

    component_atoms: Tensor | None = None
    """The atoms that each component is about, (D, m) int64; None where it is the whole system."""

    sees_surroundings: bool = False
    """Whether a component depends on atoms near those that it is about as well."""

    @property
    def key(self) -> str:
        """What stands for this observable in metrics and reports."""
        return self.label or self.name

    @abstractmethod
    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Values (n, D) float64 of frames; differentiable.

        Args:
            positions: (n, N, 3) in Å, unwrapped or wrapped.
            cells: (n, 3, 3) in Å with the cell vectors as rows; the system's by default.
        """

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """Error (scalar) of an average (D,) against the reference (D,), as the field defines it.

        By default the mean over components of the absolute error, in the unit
        of the observable.
        """
        return (mean - reference).abs().mean()


def only_finite_frames(values: Tensor, positions: Tensor) -> Tensor:
    """Values (n, D) with NaN in all components of a frame that has a non-finite position."""
    finite = torch.isfinite(positions).flatten(1).all(dim=1)
    return torch.where(finite[:, None], values, torch.nan)
