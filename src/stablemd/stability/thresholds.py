"""Thresholds with their origin, given or learnt from reference structures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import ConfigError


@dataclass(frozen=True)
class Threshold:
    """A number that a detector compares with.

    Attributes:
        name: what it limits, e.g. ``"min_distance"``.
        value: the limit.
        unit: its unit.
        origin: where it comes from, e.g. ``"given"``.
    """

    name: str
    value: float
    unit: str
    origin: str = "given"

    def __str__(self) -> str:
        return f"{self.name} = {self.value:.4g} {self.unit}".rstrip() + f" ({self.origin})"


@dataclass(frozen=True)
class ReferenceStructures:
    """Structures that a stable simulation resembles.

    Attributes:
        positions: (n, N, 3) in Å.
        cells: (n, 3, 3) in Å; the system's cell by default.
        forces: (n, N, 3) in eV/Å, where known.
        source: where they come from.
    """

    positions: Tensor
    cells: Tensor | None = None
    forces: Tensor | None = None
    source: str = "the reference"


def given(name: str, value: object, unit: str) -> Threshold:
    """A threshold as the user gave it.

    Raises:
        ConfigError: it is not a positive number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name} must be a positive number in {unit}, got {value!r}")
    if value <= 0:
        raise ConfigError(f"{name} must be greater than 0 {unit}, got {value!r}")
    return Threshold(name, float(value), unit)


def learnt(
    name: str,
    extremes: Tensor,
    unit: str,
    *,
    upper: bool,
    quantile: float,
    margin: float,
    source: str,
    what: str,
    counted: str = "structures",
) -> Threshold:
    """A threshold beyond what reference structures show.

    Args:
        name: what it limits.
        extremes: the smallest (or, with ``upper``, largest) value of each structure, (n,).
        unit: of the values.
        upper: whether larger values are failures; else smaller ones are.
        quantile: share of the structures that would fail without the margin; 0
            takes the most extreme one.
        margin: moves the threshold outward, in ``unit``.
        source: name of the structures.
        what: the values in words, e.g. ``"shortest distance"``.
        counted: what there is one value of each.

    Raises:
        ConfigError: quantile or margin is out of range.
    """
    if not 0.0 <= quantile < 0.5 or not 0.0 <= margin < math.inf:
        raise ConfigError(
            f"{name}: quantile must be within 0 and 0.5 and margin 0 {unit} or more, got "
            f"{quantile} and {margin}"
        )
    level = 1.0 - quantile if upper else quantile
    seen = float(torch.quantile(extremes.double(), level))
    sign, word = (1.0, "plus") if upper else (-1.0, "less")
    which = f"quantile {level:g} of the {what}" if quantile else f"{what}"
    origin = (
        f"{which} of {len(extremes)} {counted} of {source} is {seen:.4g} {unit}, {word} a margin "
        f"of {margin:g} {unit}"
    )
    return Threshold(name, seen + sign * margin, unit, origin.replace("  ", " "))


def require_reference(
    reference: ReferenceStructures | None, name: str, key: str
) -> ReferenceStructures:
    """The reference structures, or an error that says what to give instead.

    Raises:
        ConfigError: there are none.
    """
    if reference is None:
        raise ConfigError(
            f"the detector {name!r} learns its threshold from reference structures, and none are "
            f"at hand; give {key}"
        )
    return reference
