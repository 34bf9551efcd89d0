"""Activations with a factor that the next weights take up."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Scaled(NamedTuple):
    """The activations ``factor * values``.

    GemNet multiplies activations by constants all the time, to keep their
    variance.  A linear layer can multiply its weights instead, which are far
    fewer than the activations of all edges.

    Attributes:
        values: (..., F).
        factor: a number, or a tensor without dimensions.
    """

    values: Tensor
    factor: float | Tensor = 1.0


def scaled_sum(a: Scaled, b: Scaled, factor: float) -> Scaled:
    """``factor * (a + b)`` in one pass over the values; both factors are plain numbers."""
    if isinstance(a.factor, Tensor) or isinstance(b.factor, Tensor):
        raise TypeError("a sum needs factors that are plain numbers")
    return Scaled(torch.add(a.values, b.values, alpha=b.factor / a.factor), a.factor * factor)
