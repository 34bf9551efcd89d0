"""h(r): the distribution of all interatomic distances of a molecule."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables.base import Observable
from stablemd.system import System


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
        chunk_size: int = 256,
    ) -> None:
        """Set up the bins.

        Args:
            system: the molecule, or its number of atoms.
            r_max: upper end of the histogram in Å.
            n_bins: number of bins between 0 and ``r_max``.
            bandwidth: width of the kernel in Å, a whole multiple of the bin
                width; one bin width by default.
            chunk_size: frames worked on at a time, which bounds the memory.

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
        if n_bins < 3 or chunk_size < 1 or not 0.0 < r_max < float("inf"):
            raise ConfigError(
                "h(r) needs r_max > 0 Å, n_bins >= 3 and chunk_size >= 1; "
                f"got r_max={r_max}, n_bins={n_bins}, chunk_size={chunk_size}"
            )
        self.n_atoms = n_atoms
        self.r_max = float(r_max)
        self.n_bins = int(n_bins)
        self.bin_width = self.r_max / self.n_bins
        self.chunk_size = int(chunk_size)
        self._bins_per_bandwidth = self._whole_bins(bandwidth)
        self.bandwidth = self._bins_per_bandwidth * self.bin_width
        self.axis = (torch.arange(self.n_bins, dtype=torch.float64) + 0.5) * self.bin_width
        self._pairs = torch.triu_indices(n_atoms, n_atoms, offset=1)

    def _whole_bins(self, bandwidth: float | None) -> int:
        ratio = 1.0 if bandwidth is None else bandwidth / self.bin_width
        bins = round(ratio)
        if bins < 1 or abs(ratio - bins) > 1e-6 or 3 * bins > self.n_bins:
            raise ConfigError(
                f"bandwidth must be a whole multiple of the bin width {self.bin_width:g} Å, "
                f"up to a third of r_max = {self.r_max:g} Å, so that every distance counts "
                f"once; got {bandwidth} Å"
            )
        return bins

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """h(r) of every frame.

        Args:
            positions: (n, N, 3) in Å; a frame with a non-finite position gives
                NaN in all of its own bins and changes no other frame.
            cells: not used, since the molecule is isolated.

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
        return torch.cat([self._histogram(self._distances(chunk)) for chunk in chunks])

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

    def _histogram(self, distances: Tensor) -> Tensor:
        m = self._bins_per_bandwidth
        n_frames, n_pairs = distances.shape
        below, above = 2 * m, 3 * m
        beyond = float(self.n_bins + 2 * m)
        finite = torch.isfinite(distances)
        t = torch.where(finite, distances / self.bin_width - 0.5, beyond).clamp(max=beyond)
        first = (t.detach() - 1.5 * m).floor() + 1.0
        column = first.to(torch.int64).clamp(max=self.n_bins) + below

        width = below + self.n_bins + above
        rows = width * torch.arange(n_frames, device=distances.device)
        index = (column + rows[:, None]).reshape(-1)
        padded = t.new_zeros(n_frames * width)
        for offset in range(3 * m):
            weight = _quadratic_spline((first + float(offset) - t) / m)
            padded = padded.scatter_add(0, index + offset, weight.reshape(-1))
        padded = padded.reshape(n_frames, width)

        reflected = padded[:, :below].flip(1)
        inside = padded[:, below : below + self.n_bins]
        inside = torch.cat([inside[:, :below] + reflected, inside[:, below:]], dim=1)
        h = inside / (n_pairs * self.bandwidth)
        return torch.where(finite.all(dim=1, keepdim=True), h, float("nan"))


def _norm(vectors: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length


def _quadratic_spline(x: Tensor) -> Tensor:
    """The quadratic B-spline on (-3/2, 3/2), centred, with unit integral."""
    a = x.abs()
    outer = (1.5 - a).clamp(min=0.0)
    inner = (0.5 - a).clamp(min=0.0)
    return 0.5 * outer * outer - 1.5 * inner * inner
