"""Dense and residual layers with scaled SiLU and orthogonal weights.

Gasteiger, Becker, Günnemann, "GemNet: Universal Directional Graph Neural
Networks for Molecules", NeurIPS 2021 (arXiv 2106.08903), section 5 and appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from stablemd.potentials.gemnet.scaled import Scaled, scaled_sum

SILU_GAIN = 1.0 / 0.6
"""Makes the variance of SiLU's output that of its standard normal input."""

INV_SQRT_2 = 1.0 / math.sqrt(2.0)
"""Keeps the variance of a sum of two independent terms."""


@torch.no_grad()
def orthogonal_weights_(weight: Tensor) -> Tensor:
    """Fill (n_out, n_in) with orthogonal weights; a row has mean 0 and variance 1 / n_in."""
    nn.init.orthogonal_(weight)
    variance, mean = torch.var_mean(weight, dim=1, keepdim=True)
    return weight.sub_(mean).mul_(torch.rsqrt((variance + 1e-6) * weight.shape[1]))


class Linear(nn.Module):
    """A linear map without bias: what is zero at the cutoff stays zero."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        orthogonal_weights_(self.weight)

    def forward(self, x: Scaled) -> Tensor:
        one = isinstance(x.factor, float) and x.factor == 1.0
        return linear(x.values, self.weight if one else self.weight * x.factor)


class Dense(Linear):
    """A linear map without bias, followed by scaled SiLU, ``x sigmoid(x) / 0.6``."""

    def forward(self, x: Scaled) -> Scaled:  # type: ignore[override]
        return Scaled(silu(super().forward(x)), SILU_GAIN)


class Residual(nn.Module):
    """``(x + f(x)) / sqrt(2)`` with two dense layers as ``f``."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.first = Dense(n_features, n_features)
        self.second = Dense(n_features, n_features)

    def forward(self, x: Scaled) -> Scaled:
        return scaled_sum(x, self.second(self.first(x)), INV_SQRT_2)


def residual_stack(n_features: int, n_layers: int) -> nn.Sequential:
    """``n_layers`` residual layers one after the other; none is the identity."""
    return nn.Sequential(*(Residual(n_features) for _ in range(n_layers)))
