"""Functions of a distance that vanish smoothly at the cutoff."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from stablemd.potentials.gaussian import gaussian

RADIAL_BASES = ("bessel", "gaussian")


def polynomial_envelope(x: Tensor, exponent: int) -> Tensor:
    """One at x = 0, and zero with its first two derivatives from x = 1 on.

    ``1 - (p+1)(p+2)/2 x^p + p(p+2) x^(p+1) - p(p+1)/2 x^(p+2)`` (Gasteiger, Groß,
    Günnemann, "Directional Message Passing for Molecular Graphs", ICLR 2020,
    equation 8), written as ``(1-x)^3 sum_{k<p} (k+1)(k+2)/2 x^k``, which does not
    lose digits near x = 1.

    Args:
        x: distance over cutoff.
        exponent: p, at least 1.
    """
    series = torch.full_like(x, 0.5 * exponent * (exponent + 1))
    for k in range(exponent - 2, -1, -1):
        series = series * x + 0.5 * (k + 1) * (k + 2)
    # x = 1 itself stands in for all farther distances: not a number stays one.
    inside = 1.0 - x
    inside = torch.where(inside < 0.0, torch.zeros_like(inside), inside)
    return inside * inside * inside * series


class RadialBasis(nn.Module):
    """Radial functions times envelope.

    ``bessel``: ``sqrt(2/c) sin(n π d/c) / d`` (ICLR 2020, equation 7), whose
    frequencies are trained from ``n π``.  ``gaussian``: evenly spaced on
    [0, cutoff], as wide as their spacing.

    Args:
        kind: "bessel" or "gaussian".
        n_radial: number of functions, at least 2.
        cutoff: Å.
        envelope_exponent: p of ``polynomial_envelope``.
    """

    def __init__(self, kind: str, n_radial: int, cutoff: float, envelope_exponent: int) -> None:
        super().__init__()
        self._kind = kind
        self._n_radial = n_radial
        self._cutoff = cutoff
        self._exponent = envelope_exponent
        if kind == "bessel":
            self.frequencies = nn.Parameter(math.pi * torch.arange(1.0, n_radial + 1.0))

    def forward(self, distances: Tensor) -> Tensor:
        """(P, n_radial) of distances (P,) in Å."""
        x = (distances / self._cutoff)[:, None]
        envelope = polynomial_envelope(x, self._exponent)
        if self._kind == "bessel":
            waves = torch.sin(x * self.frequencies) / x
            return waves * (envelope * math.sqrt(2.0 / self._cutoff**3))
        spacing = 1.0 / (self._n_radial - 1)
        centres = spacing * torch.arange(self._n_radial, dtype=x.dtype, device=x.device)
        return gaussian(x - centres, spacing) * envelope
