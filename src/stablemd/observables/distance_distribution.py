"""h(r): the distribution of all interatomic distances of a molecule."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables.base import Observable
from stablemd.observables.histogram import Histogram
from stablemd.system import System

CHUNK_PAIRS = 1_000_000


class DistanceDistribution(Observable):
    """The density h(r) of the N(N-1)/2 interatomic distances of a frame, in 1/Å.

    Every distance is spread over the neighbouring bins with the quadratic
    B-spline, which is once continuously differentiable, has a support of three
    bandwidths and sums to one over the bins exactly.  The cost per distance is
    therefore three bins for any number of bins.  The same estimator serves the
    reference and the prediction, so their difference has no bias from binning.

    The normalisation is the number of pairs, always: ``values.sum(1) *
    bin_width`` is 1 where all distances are at most ``r_max - bandwidth``, and
    the part of each kernel beyond ``r_max`` leaves the histogram (a frame that
    falls apart loses weight instead of piling it up in the last bin).  At r = 0
    the kernel is reflected.

    Reference: Fu et al., "Forces are not enough", TMLR 2023, arXiv 2210.07237,
    section 3 (distribution of interatomic distances).
    """

    name = "distance_distribution"
    axis_label = "r (Å)"
    value_label = "h(r) (1/Å)"

    def __init__(
        self,
        system: System | int,
        *,
        r_max: float = 10.0,
        n_bins: int = 500,
        bandwidth: float | None = None,
        chunk_size: int | None = None,
    ) -> None:
        """Set up the bins.

        Args:
            system: the molecule, or its number of atoms.
            r_max: upper end of the histogram in Å.
            n_bins: number of bins between 0 and ``r_max``.
            bandwidth: width of the kernel in Å, a whole multiple of the bin
                width; one bin width by default.
            chunk_size: frames worked on at a time, which bounds the memory; by default as
                many as have a million pairs of atoms.

        Raises:
            ConfigError: a number is out of range.
            SystemDefinitionError: fewer than two atoms, or a periodic system.
        """
        n_atoms = system if isinstance(system, int) else system.n_atoms
        if n_atoms < 2:
            raise SystemDefinitionError(
                f"h(r) needs at least two atoms to have a distance, got {n_atoms}"
            )
        if isinstance(system, System) and system.is_periodic:
            raise SystemDefinitionError(
                f"h(r) counts every pair of an isolated molecule, but {system.formula} is "
                "periodic; give a system with pbc = False"
            )
        if chunk_size is None:
            chunk_size = max(1, CHUNK_PAIRS // (n_atoms * (n_atoms - 1) // 2))
        if n_bins < 3 or chunk_size < 1 or not 0.0 < r_max < float("inf"):
            raise ConfigError(
                "h(r) needs r_max > 0 Å, n_bins >= 3 and chunk_size >= 1; "
                f"got r_max={r_max}, n_bins={n_bins}, chunk_size={chunk_size}"
            )
        self._histogram = Histogram(
            0.0, float(r_max), int(n_bins), bandwidth=bandwidth, ends=("reflect", "open")
        )
        self.n_atoms = n_atoms
        self.r_max = float(r_max)
        self.n_bins = int(n_bins)
        self.bin_width = self._histogram.bin_width
        self.bandwidth = self._histogram.bandwidth
        self.chunk_size = int(chunk_size)
        self.axis = self._histogram.centres
        self._pairs = torch.triu_indices(n_atoms, n_atoms, offset=1)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """h(r) of every frame.

        Args:
            positions: (n, N, 3) in Å; a frame with a non-finite position gives
                NaN in all of its own bins and changes no other frame.
            cells: of no meaning, since the molecule is isolated.

        Returns:
            (n, n_bins) float64 in 1/Å, differentiable with respect to positions.

        Raises:
            SystemDefinitionError: the shape does not fit.
        """
        if positions.ndim != 3 or positions.shape[1:] != (self.n_atoms, 3):
            raise SystemDefinitionError(
                f"h(r) was set up for positions of shape (frames, {self.n_atoms}, 3), "
                f"got {tuple(positions.shape)}"
            )
        if positions.shape[0] == 0:
            return positions.new_zeros((0, self.n_bins), dtype=torch.float64)
        chunks = torch.split(positions, self.chunk_size)
        parts = [self._density(self._distances(chunk)) for chunk in chunks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """The integral of |<h>(r) - <h>_ref(r)| over r (dimensionless, between 0 and 2).

        This is the "h(r) MAE" of Fu et al., arXiv 2210.07237, and of the StABlE
        paper: an integral over r, not a mean over bins, so that it does not
        depend on the number of bins.
        """
        return (mean - reference).abs().sum() * self.bin_width

    def _distances(self, positions: Tensor) -> Tensor:
        """Interatomic distances (n, n_pairs) in Å, with zero gradient where two atoms coincide."""
        x = positions.to(torch.float64)
        i, j = self._pairs.to(x.device)
        return _norm(x.index_select(1, i) - x.index_select(1, j))

    def _density(self, distances: Tensor) -> Tensor:
        finite = torch.isfinite(distances).all(dim=1, keepdim=True)
        h = self._histogram.counts(distances, scale=1.0 / (distances.shape[1] * self.bin_width))
        return h if bool(finite.all()) else torch.where(finite, h, float("nan"))


def _norm(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length
