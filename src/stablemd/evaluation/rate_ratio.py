"""Ratio of two mean times to failure with an exact interval."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
from scipy import stats

from stablemd.errors import DataError
from stablemd.evaluation.survival import check_confidence


class Exposure(Protocol):
    """Failures in a time at risk; a ``StableTime`` is one."""

    @property
    def n_failed(self) -> int:
        """Number of failures."""

    @property
    def total_time_ps(self) -> float:
        """Time at risk in ps."""


@dataclass(frozen=True)
class RatioEstimate:
    """A ratio of mean times to failure with its interval.

    Attributes:
        ratio: point estimate; None where it is infinite or undefined.
        lower: lower limit; 0 where the data set none, None where it is infinite.
        upper: upper limit; None where the data set none.
        one_sided: whether the interval has one finite limit only, which then
            takes the whole error probability.
        confidence: level of the interval.
    """

    ratio: float | None
    lower: float | None
    upper: float | None
    one_sided: bool
    confidence: float

    def to_json(self) -> dict[str, float | bool | None]:
        """All fields by name."""
        return asdict(self)


def failure_rate_ratio(a: Exposure, b: Exposure, confidence: float = 0.95) -> RatioEstimate:
    """Mean time to failure of ``a`` over that of ``b``, with an exact interval.

    With constant failure rates the failures are two Poisson counts.  Given
    their sum, those of ``b`` are binomial with probability
    ``p = ρ T_b / (ρ T_b + T_a)``, where ``ρ`` is the ratio of mean times
    ``a`` over ``b``; the Clopper–Pearson limits of ``p`` give those of ``ρ``.

    Without a failure in ``a`` the ratio is None (infinite) and without one in
    ``b`` it is 0; the one limit that exists is then one-sided at
    ``confidence``.  Without a failure in both, nothing is known: lower 0,
    upper None.  If every replica of one side fails at time 0, that side has no
    time at risk and the ratio is 0 (``a``) or infinite (``b``, lower None).

    Args:
        a: failures and time at risk after a change, e.g. a ``StableTime``.
        b: the same before it.
        confidence: level of the interval.

    Raises:
        DataError: a count, a time at risk or the level is not possible.

    Source: Przyborowski and Wilenski, Biometrika 31, 313 (1940).
    """
    check_confidence(confidence)
    for side in (a, b):
        _check(side)
    if a.total_time_ps == 0.0 or b.total_time_ps == 0.0:
        return _without_time_at_risk(a, b, confidence)
    n_a, n_b = int(a.n_failed), int(b.n_failed)
    exposure = float(a.total_time_ps) / float(b.total_time_ps)
    one_sided = n_a == 0 or n_b == 0
    tail = (1.0 - confidence) / (1 if one_sided else 2)
    lower = 0.0 if n_b == 0 else exposure * _odds(stats.beta.ppf(tail, n_b, n_a + 1))
    upper = None if n_a == 0 else exposure * _odds(stats.beta.isf(tail, n_b + 1, n_a))
    ratio = None if n_a == 0 else exposure * n_b / n_a
    return RatioEstimate(ratio, lower, upper, one_sided, confidence)


def _without_time_at_risk(a: Exposure, b: Exposure, confidence: float) -> RatioEstimate:
    if a.total_time_ps == b.total_time_ps:
        return RatioEstimate(None, 0.0, None, False, confidence)
    if a.total_time_ps == 0.0:
        return RatioEstimate(0.0, 0.0, 0.0, False, confidence)
    return RatioEstimate(None, None, None, False, confidence)


def _odds(probability: float) -> float:
    return float(probability / (1.0 - probability))


def _check(side: Exposure) -> None:
    if side.n_failed < 0 or not np.isfinite(side.total_time_ps) or side.total_time_ps < 0:
        raise DataError(
            f"a ratio of mean times needs counts and times at risk from 0 on, got "
            f"{side.n_failed} failures in {side.total_time_ps} ps"
        )
    if side.total_time_ps == 0.0 and side.n_failed == 0:
        raise DataError(
            "a ratio of mean times needs time at risk, got 0 failures in 0 ps; "
            "simulate before comparing"
        )
