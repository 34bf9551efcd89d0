"""Histograms whose bins are differentiable with respect to the values."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.observables.histogram_kernel import OPEN, PERIODIC, REFLECT, spline_counts

Kernel = Literal["spline", "box"]
End = Literal["open", "reflect", "periodic"]

ENDS: dict[End, int] = {"open": OPEN, "reflect": REFLECT, "periodic": PERIODIC}


class Histogram:
    """Counts of values on a range, each value spread over a few neighbouring bins.

    With the kernel "spline" every value is spread with the quadratic B-spline,
    which is once continuously differentiable, has a support of three bandwidths
    and sums to one over the bins exactly; the cost per value is three bins for
    any number of bins.  With "box" every value counts in its own bin, which has
    no gradient.

    What a kernel puts beyond an end of the range is lost ("open"), mirrored
    ("reflect") or put to the other end ("periodic").

    Args:
        lower: lower end of the range.
        upper: upper end of the range.
        n_bins: number of bins.
        bandwidth: width of the kernel, a whole multiple of the bin width; one
            bin width by default.  Of no meaning for "box".
        ends: what happens at the lower and at the upper end.
        kernel: "spline" or "box".
        unit: of the values, for messages.

    Raises:
        ConfigError: the range is empty, or the bandwidth is no multiple.
    """

    def __init__(
        self,
        lower: float,
        upper: float,
        n_bins: int,
        *,
        bandwidth: float | None = None,
        ends: tuple[End, End] = ("open", "open"),
        kernel: Kernel = "spline",
        unit: str = "Å",
    ) -> None:
        if n_bins < 3 or not lower < upper < float("inf"):
            raise ConfigError(
                f"a histogram needs 3 bins or more between two finite ends, got {n_bins} bins "
                f"between {lower:g} and {upper:g} {unit}"
            )
        if kernel not in ("spline", "box"):
            raise ConfigError(f"kernel must be 'spline' or 'box', got {kernel!r}")
        self.lower, self.upper, self.n_bins = float(lower), float(upper), int(n_bins)
        self.bin_width = (self.upper - self.lower) / self.n_bins
        self.kernel: Kernel = kernel
        self._ends = ends
        ratio = 1.0 if bandwidth is None else bandwidth / self.bin_width
        m = round(ratio)
        if m < 1 or abs(ratio - m) > 1e-6 or 3 * m > self.n_bins:
            raise ConfigError(
                f"bandwidth must be a whole multiple of the bin width {self.bin_width:g} {unit}, "
                f"up to a third of the range of {self.upper - self.lower:g} {unit}, so that every "
                f"value counts once; got {bandwidth} {unit}"
            )
        self._m = m
        self.bandwidth = m * self.bin_width

    @property
    def centres(self) -> Tensor:
        """Bin centres, (n_bins,) float64."""
        return self.lower + (torch.arange(self.n_bins, dtype=torch.float64) + 0.5) * self.bin_width

    @property
    def reach(self) -> float:
        """How far beyond an end a value still counts in a bin."""
        return 0.0 if self.kernel == "box" else 1.5 * self.bandwidth

    @property
    def variance(self) -> float:
        """Variance that the kernel and the bin add to a value's place."""
        return self.bin_width**2 / 12.0 if self.kernel == "box" else 0.25 * self.bandwidth**2

    def counts(self, values: Tensor, scale: float = 1.0) -> Tensor:
        """Values (n, P) counted in the bins of their row, (n, n_bins), each as ``scale`` in all.

        A value that is not finite counts nowhere.
        """
        if self.kernel == "box":
            return scale * self._box_counts(values.detach())
        if values.device.type == "cpu" and not (torch.is_grad_enabled() and values.requires_grad):
            return self._compiled_counts(values, scale)
        return scale * self._spline_counts(values)

    def _compiled_counts(self, values: Tensor, scale: float) -> Tensor:
        out = torch.zeros(len(values), self.n_bins, dtype=torch.float64)
        low, high = (ENDS[end] for end in self._ends)
        contiguous = values.detach().to(torch.float64).contiguous()
        spline_counts(
            contiguous.numpy(), self.lower, self.bin_width, self._m, low, high, scale, out.numpy()
        )
        return out.to(values.dtype)

    def _box_counts(self, values: Tensor) -> Tensor:
        place = ((values - self.lower) / self.bin_width).floor()
        inside = (place >= 0) & (place < self.n_bins)
        if "periodic" in self._ends:
            place, inside = place.remainder(self.n_bins), torch.isfinite(values)
        index = torch.where(inside, place, float(self.n_bins)).to(torch.int64)
        out = values.new_zeros(len(values), self.n_bins + 1)
        return out.scatter_add(1, index, torch.ones_like(values))[:, : self.n_bins]

    def _spline_counts(self, values: Tensor) -> Tensor:
        m, n, n_rows = self._m, self.n_bins, len(values)
        pad = 3 * m
        width = n + 2 * pad
        t = (values - self.lower) / self.bin_width - 0.5
        inside = (t > -0.5 - 1.5 * m) & (t < n - 0.5 + 1.5 * m)
        t = torch.where(inside, t, 0.0)
        first = (t.detach() - 1.5 * m).floor() + 1.0
        rows = width * torch.arange(n_rows, device=values.device)
        index = (first.to(torch.int64) + (rows + pad)[:, None]).reshape(-1)
        padded = t.new_zeros(n_rows * width)
        for offset in range(3 * m):
            weight = _quadratic_spline((first + float(offset) - t) / m)
            weight = torch.where(inside, weight, 0.0)
            padded = padded.scatter_add(0, index + offset, weight.reshape(-1))
        below, counts, above = padded.reshape(n_rows, width).split([pad, n, pad], dim=1)
        low, high = self._ends
        if low == "periodic":
            below, above = above, below
        else:
            below = below.flip(1) if low == "reflect" else torch.zeros_like(below)
            above = above.flip(1) if high == "reflect" else torch.zeros_like(above)
        counts = torch.cat([counts[:, :pad] + below, counts[:, pad:]], dim=1)
        return torch.cat([counts[:, :-pad], counts[:, -pad:] + above], dim=1) / m


def _quadratic_spline(x: Tensor) -> Tensor:
    """The quadratic B-spline on (-3/2, 3/2), centred, with unit integral."""
    a = x.abs()
    outer = (1.5 - a).clamp(min=0.0)
    inner = (0.5 - a).clamp(min=0.0)
    return 0.5 * outer * outer - 1.5 * inner * inner
