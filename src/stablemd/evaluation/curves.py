"""An averaged observable of an evaluation beside its reference."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Curve:
    """An averaged observable for a plot: axis, mean and standard error, each (D,)."""

    axis: Tensor
    mean: Tensor
    stderr: Tensor


@dataclass(frozen=True)
class ComparedCurve:
    """What a potential's simulation gave, and what it should have given.

    Attributes:
        sampled: NaN where there were no frames to average.
        reference: None where none was given.
        axis_label: with unit.
        value_label: with unit.
    """

    sampled: Curve
    reference: Curve | None
    axis_label: str
    value_label: str
