"""The gradients of several state points as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.training.gradients import norm, without_conflict

TIGHT_BUDGET = 0.5
"""Above this use of a budget the observables may no longer pull against the labels."""


@dataclass(frozen=True)
class PointGradients:
    """Gradients of one state point, each a tensor per parameter.

    Attributes:
        observables: of the loss on ensemble averages; None where the point did not sample.
        labels: of the energy/force loss.
        anchor: of the change of forces on stable frames; None without such frames.
        budget_used: share of the error budget that is used up.
    """

    observables: list[Tensor] | None
    labels: list[Tensor]
    anchor: list[Tensor] | None
    budget_used: float


def combined_gradient(
    points: Sequence[PointGradients],
    *,
    label_weight: float,
    anchor_weight: float,
    clip: float,
    without_observables: bool = False,
) -> list[Tensor]:
    """The weighted sum of the three kinds of gradients, each averaged over its state points.

    Each part of each point is clipped by itself, so that a point with a steep loss does not
    drown the others.  The average of a kind is over the points that have one: two points
    alike then step as one of them would, and where a single one of several fails, its
    observables pull against the labels and the anchor as strongly as if it were alone.
    Where the budget of a point is tight, the part of every point's observable gradient
    that would raise the label loss there is projected out.

    Args:
        points: one at least.
        label_weight: of the labels' gradient.
        anchor_weight: of the anchor's.
        clip: largest norm of each weighted part.
        without_observables: leave their gradient out.

    Raises:
        DataError: a gradient is not finite.
    """
    tight = [point.labels for point in points if point.budget_used > TIGHT_BUDGET]
    observables: list[list[Tensor]] = []
    for point in points:
        if point.observables is not None and not without_observables:
            gradient = point.observables
            for labels in tight:
                gradient = without_conflict(gradient, labels)
            observables.append(gradient)
    kinds = (
        (1.0, observables),
        (label_weight, [point.labels for point in points]),
        (anchor_weight, [point.anchor for point in points if point.anchor is not None]),
    )
    total = [torch.zeros_like(g) for g in points[0].labels]
    for weight, gradients in kinds:
        for gradient in gradients:
            factor = _clipped(weight, norm(gradient), clip) / len(gradients)
            for out, part in zip(total, gradient, strict=True):
                out.add_(part, alpha=factor)
    return total


def _clipped(weight: float, length: float, clip: float) -> float:
    """The weight, made smaller where the weighted gradient would be longer than ``clip``."""
    size = weight * length
    if not size < float("inf"):
        raise DataError(
            f"a gradient of the StABlE step has norm {size}; the model or a training "
            "structure gives numbers that are not finite, so check both before training on"
        )
    return weight * min(1.0, clip / size) if size > 0.0 else 0.0
