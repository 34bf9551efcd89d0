"""Gradients as lists of tensors, one per parameter."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def take_gradient(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """A copy of the parameters' ``.grad``; zeros where there is none."""
    return [torch.zeros_like(p) if p.grad is None else p.grad.detach().clone() for p in parameters]


def dot(a: list[Tensor], b: list[Tensor]) -> float:
    """Scalar product, summed in float64."""
    return sum(float((x.double() * y.double()).sum()) for x, y in zip(a, b, strict=True))


def norm(a: list[Tensor]) -> float:
    """Euclidean norm."""
    return dot(a, a) ** 0.5


def cosine(a: list[Tensor], b: list[Tensor]) -> float:
    """Cosine of the angle; 0 where one of them vanishes."""
    scale = norm(a) * norm(b)
    return dot(a, b) / scale if scale > 0.0 else 0.0


def without_conflict(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    """``a`` without the part that points against ``b``; unchanged where there is none.

    Following the result lowers or keeps, to first order, the loss that ``b`` is
    the gradient of.  Yu et al., "Gradient surgery for multi-task learning",
    NeurIPS 2020.
    """
    overlap, size = dot(a, b), dot(b, b)
    if overlap >= 0.0 or size == 0.0:
        return a
    return [x - (overlap / size) * y for x, y in zip(a, b, strict=True)]
