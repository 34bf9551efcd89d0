"""g(r): radial distribution functions of a periodic system."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import PairSelection, frame_cells
from stablemd.geometry.lattice import volumes
from stablemd.geometry.pair_sums import sum_within
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.observables.histogram import Histogram, Kernel
from stablemd.system import System


class RadialDistribution(Observable):
    """The density of pairs at a distance over that of as many independent pairs, g(r).

    ``g(r) = V n(r) / (P v(r))`` with P pairs of different atoms in the volume
    V, n(r) of their images counted in a bin and v(r) the volume that the bin's
    kernel weighs.  Independent, uniformly distributed atoms give 1 in every bin
    for any number of atoms: an atom is not its own neighbour, so the finite
    number of atoms needs no further correction.  All periodic images within
    reach count, so r may go beyond half the cell, in any cell; an atom's own
    images do not count.

    With ``intramolecular = False`` P is the number of pairs between different
    molecules, so that g tends to 1 too.

    Args:
        system: periodic in all directions.
        pair: the two chemical symbols; None for all pairs of atoms.
        r_max: upper end in Å.
        n_bins: bins between 0 and ``r_max``.
        bandwidth: of the spline kernel in Å; one bin width by default.
        kernel: "spline" (differentiable), or "box" for plain counting.
        intramolecular: whether pairs within a molecule count.
        chunk_size: frames worked on at a time, which bounds the memory.

    Raises:
        SystemDefinitionError: not periodic in all directions, or no such pair.
        ConfigError: a number is out of range.

    Reference: Allen and Tildesley, Computer Simulation of Liquids (2017),
    section 8.2; the error as in Fu et al., TMLR 2023, arXiv 2210.07237.
    """

    name = "rdf"
    axis_label = "r (Å)"

    def __init__(
        self,
        system: System,
        *,
        pair: Sequence[str] | None = None,
        r_max: float = 6.0,
        n_bins: int = 120,
        bandwidth: float | None = None,
        kernel: Kernel = "spline",
        intramolecular: bool = True,
        chunk_size: int = 64,
    ) -> None:
        if not bool(system.pbc.all()):
            raise SystemDefinitionError(
                f"g(r) needs a volume, but {system.formula} has pbc = {system.pbc.tolist()}; give "
                "a system that is periodic in three directions, or use distance_distribution"
            )
        if r_max <= 0.0 or chunk_size < 1:
            raise ConfigError(
                f"g(r) needs r_max > 0 Å and chunk_size >= 1, got {r_max} and {chunk_size}"
            )
        self._histogram = Histogram(
            0.0, r_max, n_bins, bandwidth=bandwidth, ends=("reflect", "open"), kernel=kernel
        )
        self._system = system
        self.pairs = PairSelection.of(system, pair, intramolecular=intramolecular)
        suffix = "" if intramolecular else "_intermolecular"
        self.label = f"rdf_{self.pairs.name}{suffix}"
        self.value_label = f"g(r), {self.pairs.name}"
        self.axis = self._histogram.centres.to(system.device)
        self.bin_width = self._histogram.bin_width
        self.chunk_size = int(chunk_size)
        # The mean of r² over the kernel of a bin; the mirror at r = 0 keeps this exact.
        square = self.axis.square() + self._histogram.variance
        self._shell = 4.0 * math.pi * square * self.bin_width

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """g(r) of every frame, (n, n_bins) float64, differentiable with the kernel "spline".

        Args:
            positions: (n, N, 3) in Å.
            cells: (n, 3, 3) in Å; the system's by default.

        Raises:
            SystemDefinitionError: the shapes do not fit.
        """
        boxes = frame_cells(self._system, positions, cells)
        assert boxes is not None
        if len(positions) == 0:
            return positions.new_zeros((0, len(self.axis)), dtype=torch.float64)
        size = self.chunk_size
        parts = zip(positions.split(size), boxes.split(size), strict=True)
        return torch.cat([self._chunk(x.to(torch.float64), h) for x, h in parts])

    def _chunk(self, positions: Tensor, cells: Tensor) -> Tensor:
        pbc = self._system.pbc
        reach = self._histogram.upper + self._histogram.reach
        counts = sum_within(self.pairs, positions, cells, pbc, reach, self._histogram.counts)
        density = volumes(cells)[:, None] / (len(self.pairs) * self._shell)
        return only_finite_frames(counts * density, positions)

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """The integral of |<g>(r) - g_ref(r)| over r in Å, the "RDF MAE" of Fu et al."""
        return (mean - reference).abs().sum() * self.bin_width
