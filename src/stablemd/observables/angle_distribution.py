"""The distribution of bond angles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry import frame_cells
from stablemd.geometry.bonded import angle_values, find_angles, kind_names, of_kind
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.observables.histogram import Histogram
from stablemd.system import System


class AngleDistribution(Observable):
    """The density p(θ) of the angles between bonds at a common atom, in 1/degree.

    It integrates to one over 0° to 180°; the spline kernel is mirrored at both
    ends.  A bond goes to the nearest image.

    Args:
        system: with bonds.
        elements: symbols of the three atoms, the vertex in the middle; None for all.
        n_bins: bins between 0° and 180°.
        bandwidth: of the kernel in degrees; one bin width by default.

    Raises:
        SystemDefinitionError: there is no such angle.
        ConfigError: a number is out of range.
    """

    name = "angle_distribution"
    axis_label = "θ (degrees)"
    value_label = "p(θ) (1/degree)"

    def __init__(
        self,
        system: System,
        *,
        elements: Sequence[str] | None = None,
        n_bins: int = 180,
        bandwidth: float | None = None,
    ) -> None:
        every = find_angles(system)
        self.atoms = of_kind(system, every, elements)
        if not len(self.atoms):
            raise SystemDefinitionError(
                f"{system.formula} has no bond angle "
                f"{'' if elements is None else '-'.join(elements)}; its bonds make the angles "
                f"{sorted(set(kind_names(system, every)))}"
            )
        self._system = system
        self._histogram = Histogram(
            0.0, 180.0, n_bins, bandwidth=bandwidth, ends=("reflect", "reflect"), unit="degrees"
        )
        self.bin_width = self._histogram.bin_width
        self.axis = self._histogram.centres.to(system.device)
        if elements is not None:
            self.label = f"{self.name}_{'-'.join(elements)}"

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """p(θ) of every frame, (n, n_bins) float64 in 1/degree; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        angles = angle_values(positions.to(torch.float64), self.atoms, boxes, self._system.pbc)
        counts = self._histogram.counts(angles * (180.0 / math.pi))
        return only_finite_frames(counts / (len(self.atoms) * self.bin_width), positions)

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """The integral of |<p>(θ) - p_ref(θ)| over θ (dimensionless, between 0 and 2)."""
        return (mean - reference).abs().sum() * self.bin_width
