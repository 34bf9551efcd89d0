"""Gaussians without denormal numbers."""

from __future__ import annotations

import torch
from torch import Tensor

LOWEST_EXPONENT = -60.0
"""exp(-60) is nothing beside 1 in float64 and in float32, and far above the denormal numbers."""


def gaussian(x: Tensor, width: float) -> Tensor:
    """``exp(-x² / (2 width²))``, at least ``exp(-60)``.

    The far tail would be denormal in float32, and a processor takes about a hundred
    cycles for every product with such a number: a dense layer on an expansion of
    distances then takes ten times as long, and the gradient of its weights fifty times.
    """
    return torch.exp((x.square() * (-0.5 / width**2)).clamp_min(LOWEST_EXPONENT))
