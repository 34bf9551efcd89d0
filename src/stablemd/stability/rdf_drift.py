"""Structure that drifts away from the reference's radial distribution function."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import PairSelection, frame_cells, inscribed_radius
from stablemd.geometry.lattice import volumes
from stablemd.geometry.pairs import MAX_ELEMENTS
from stablemd.geometry.squares import squared_distances
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import ReferenceStructures, Threshold, given, learnt
from stablemd.system import System


class RdfDrift(Detector):
    """Fails a replica when its RDF over the last checks is too far from the reference's.

    ``Detection.value`` is the integral of |g(r) - g_ref(r)| in Å with g averaged
    over the last ``window`` checks of the run; before that many it is 0.
    ``where`` is -1.

    Args:
        system: periodic in all directions.
        reference: g_ref, (n_bins,).
        max_error: limit in Å.
        window: checks that are averaged.
        pair: the two chemical symbols; None for all pairs.
        r_max: upper end in Å, within half the distance of the lattice planes.
        intramolecular: whether pairs within a molecule count.

    Raises:
        SystemDefinitionError: not periodic, or no such pair.
        ConfigError: a number is out of range.

    Source: the criterion for water of Fu et al., TMLR 2023, arXiv 2210.07237.
    """

    reason = "rdf_drift"

    def __init__(
        self,
        system: System,
        *,
        reference: Tensor,
        max_error: float | Threshold,
        window: int = 100,
        pair: Sequence[str] | None = None,
        r_max: float | None = None,
        intramolecular: bool = True,
    ) -> None:
        limit = (
            max_error if isinstance(max_error, Threshold) else given("max_error", max_error, "Å")
        )
        self.thresholds = (limit,)
        self._limit = limit.value
        if not bool(system.pbc.all()):
            raise SystemDefinitionError(
                f"rdf_drift needs a volume, but {system.formula} has pbc = {system.pbc.tolist()}; "
                "use distance_window"
            )
        radius = float(inscribed_radius(system.cell, system.pbc))
        self.r_max = radius if r_max is None else float(r_max)
        if window < 1 or not 0.0 < self.r_max <= radius:
            raise ConfigError(
                f"rdf_drift needs window >= 1 and 0 < r_max <= {radius:.3g} Å, half the distance "
                f"between the cell's lattice planes; got {window} and {r_max}"
            )
        self._system = system
        self._pairs = PairSelection.of(system, pair, intramolecular=intramolecular)
        self._window = window
        self._reference = reference.to(system.device)
        n_bins = len(reference)
        self._width = self.r_max / n_bins
        edges = torch.arange(n_bins + 1, dtype=torch.float64, device=system.device) * self._width
        self._shells = 4.0 / 3.0 * math.pi * edges.pow(3).diff()
        self._past: list[Tensor] = []
        self._sum: Tensor | None = None

    @classmethod
    def from_reference(
        cls,
        system: System,
        reference: ReferenceStructures,
        *,
        window: int = 100,
        pair: Sequence[str] | None = None,
        r_max: float | None = None,
        n_bins: int = 60,
        intramolecular: bool = True,
        max_error: float | None = None,
        quantile: float = 0.0,
        margin: float = 1.0,
    ) -> RdfDrift:
        """The reference's own g(r), and a limit a ``margin`` (Å) above its own scatter.

        The scatter is that of ``window`` consecutive structures, or of all where
        there are fewer.
        """
        empty = torch.zeros(n_bins, dtype=torch.float64)
        probe = cls(
            system, reference=empty, max_error=1.0, window=window, pair=pair, r_max=r_max,
            intramolecular=intramolecular,
        )  # fmt: skip
        cells = reference.cells
        g = torch.cat(
            [
                probe._rdf(x[None], None if cells is None else cells[f : f + 1])
                for f, x in enumerate(reference.positions)
            ]
        )
        mean = g.mean(dim=0)
        limit: float | Threshold
        if max_error is None:
            parts = [part.mean(dim=0) for part in g.split(window) if len(part) == window]
            errors = torch.stack(parts or [mean]).sub(mean).abs().sum(dim=1) * probe._width
            limit = learnt(
                "max_error", errors, "Å", upper=True, quantile=quantile, margin=margin,
                source=reference.source, what="largest error",
                counted=f"windows of {window} structures",
            )  # fmt: skip
        else:
            limit = given("max_error", max_error, "Å")
        return cls(
            system, reference=mean, max_error=limit, window=window, pair=pair, r_max=r_max,
            intramolecular=intramolecular,
        )  # fmt: skip

    def for_run(self) -> Self:
        fresh = copy.copy(self)
        fresh._past, fresh._sum = [], None
        return fresh

    def keep(self, going_on: Tensor) -> None:
        self._past = [g[going_on] for g in self._past]
        self._sum = None if self._sum is None else self._sum[going_on]

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        now = self._rdf(positions, cells)
        self._past.append(now)
        self._sum = now if self._sum is None else self._sum + now
        if len(self._past) > self._window:
            self._sum = self._sum - self._past.pop(0)
        mean = self._sum / len(self._past)
        error = (mean - self._reference).abs().sum(dim=1) * self._width
        if len(self._past) < self._window:
            error = 0.0 * error  # NaN stays
        return Detection(
            failed=error.lt(self._limit).logical_not(),
            value=error,
            where=torch.full_like(error, -1, dtype=torch.int64),
        )

    def _rdf(self, positions: Tensor, cells: Tensor | None) -> Tensor:
        """g(r) of every replica, (R, n_bins); NaN where a position is not finite."""
        boxes = frame_cells(self._system, positions, cells)
        assert boxes is not None
        n_replicas, n_bins = len(positions), len(self._shells)
        counts = positions.new_zeros(n_replicas, n_bins + 1)
        size = max(1, MAX_ELEMENTS // max(1, n_replicas))
        for first, second in zip(
            self._pairs.first.split(size), self._pairs.second.split(size), strict=True
        ):

            def difference(x: Tensor, first: Tensor = first, second: Tensor = second) -> Tensor:
                return x.index_select(1, first).sub_(x.index_select(1, second))

            squares = squared_distances(positions, boxes, (True, True, True), difference)
            place = squares.sqrt_().div_(self._width)
            place = torch.where(place < n_bins, place, float(n_bins)).to(torch.int64)
            counts = counts.scatter_add(1, place, torch.ones_like(place, dtype=counts.dtype))
        density = volumes(boxes)[:, None] / (len(self._pairs) * self._shells)
        # Zero times a number that is not finite is NaN.
        return counts[:, :n_bins] * density + (0.0 * positions).flatten(1).sum(dim=1, keepdim=True)

    def describe(self, where: int, value: float) -> str:
        return (
            f"g(r) of {self._pairs.name} over the last {self._window} checks is {value:.2f} Å from "
            f"the reference's (limit {self._limit:.2f} Å)"
        )
