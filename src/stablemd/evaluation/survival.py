"""First-passage statistics of right-censored stable times."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from stablemd.errors import DataError

Interval = tuple[float | None, float | None]
"""Lower and upper limit; None is a limit that the data leave open."""

_ROUNDING = 1e-12


@dataclass(frozen=True)
class SurvivalCurve:
    """Kaplan–Meier estimate of the probability of still being stable.

    The curve is a step function that is continuous from the right and holds
    its last value until the last time.

    Attributes:
        times: start of every step in ps, first 0, increasing, (K,).
        survival: probability of a stable time longer than ``times``, (K,).
        lower: lower limit of the pointwise interval, (K,).
        upper: upper limit of the pointwise interval, (K,).
    """

    times: NDArray[np.float64]
    survival: NDArray[np.float64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]


@dataclass(frozen=True)
class StableTime:
    """How long replicas stay stable, with the uncertainty of a censored sample.

    Attributes:
        times_ps: failure time, or length of the run where none failed, ps, (R,).
        failed: whether ``times_ps`` is a failure time, (R,) bool.
        length_ps: longest possible time in ps.
        confidence: level of all intervals.
        curve: Kaplan–Meier curve with its band.
        median: time in ps by which half of the replicas have failed; None
            where fewer have failed within the run.
        median_interval: Brookmeyer–Crowley interval of the median in ps; None
            is a limit beyond the run.
        mean_time_to_failure: total time at risk over failures in ps; None
            (infinite) without a failure.
        mean_time_to_failure_interval: exact interval of an exponential
            lifetime in ps; without a failure the upper limit is None and the
            lower limit is one-sided at ``confidence``.
        restricted_mean: area under the curve up to its last time, ps.
    """

    times_ps: NDArray[np.float64]
    failed: NDArray[np.bool_]
    length_ps: float
    confidence: float
    curve: SurvivalCurve
    median: float | None
    median_interval: Interval
    mean_time_to_failure: float | None
    mean_time_to_failure_interval: Interval
    restricted_mean: float

    @property
    def n_failed(self) -> int:
        """Number of replicas that failed."""
        return int(self.failed.sum())

    @property
    def n_replicas(self) -> int:
        """Number of replicas."""
        return int(self.failed.shape[0])

    @property
    def total_time_ps(self) -> float:
        """Time at risk summed over replicas in ps."""
        return float(self.times_ps.sum())

    def at_risk(self, times: ArrayLike) -> NDArray[np.int64]:
        """Replicas that are under observation and stable just before ``times`` (ps)."""
        queries = np.atleast_1d(np.asarray(times, dtype=np.float64))[:, None]
        counts: NDArray[np.int64] = np.sum(self.times_ps >= queries - _ROUNDING, axis=1)
        return counts

    def to_json(self) -> dict[str, object]:
        """The dictionary of metrics.json, in ps, always with 95 % intervals.

        None stands for what the data leave open: a median beyond the run, an
        infinite mean time, a missing limit.
        """
        if self.confidence != 0.95:
            return stable_time(self.times_ps, self.failed, self.length_ps).to_json()
        return {
            "median": self.median,
            "ci95": list(self.median_interval),
            "mean_time_to_failure": self.mean_time_to_failure,
            "mean_time_to_failure_ci95": list(self.mean_time_to_failure_interval),
            "n_failed": self.n_failed,
            "n_replicas": self.n_replicas,
            "length_ps": self.length_ps,
            "total_time_ps": self.total_time_ps,
            "restricted_mean": self.restricted_mean,
        }


def stable_time(
    times_ps: ArrayLike, failed: ArrayLike, length_ps: float, confidence: float = 0.95
) -> StableTime:
    """First-passage statistics of replicas that were stopped at their failure.

    Args:
        times_ps: time in ps at which each replica failed or was stopped, (R,);
            0 is a starting structure that already fails.
        failed: whether each replica failed, (R,) bool.
        length_ps: length of the runs in ps.
        confidence: level of the intervals.

    Raises:
        DataError: shapes, times or level are not possible.

    Sources: Kaplan and Meier, J. Am. Stat. Assoc. 53, 457 (1958); Brookmeyer
    and Crowley, Biometrics 38, 29 (1982), with the log-log transformed band;
    Epstein and Sobel, J. Am. Stat. Assoc. 48, 486 (1953), and Garwood,
    Biometrika 28, 437 (1936), for the mean time to failure.
    """
    times = np.array(times_ps, dtype=np.float64)
    events = np.asarray(failed)
    _check(times, events, length_ps)
    check_confidence(confidence)
    events = events.astype(bool)
    curve = _kaplan_meier(times, events, confidence)
    return StableTime(
        times_ps=times,
        failed=events,
        length_ps=float(length_ps),
        confidence=confidence,
        curve=curve,
        median=_first_time_at_half(curve.times, curve.survival),
        median_interval=(
            _first_time_at_half(curve.times, curve.lower),
            _first_time_at_half(curve.times, curve.upper),
        ),
        mean_time_to_failure=float(times.sum() / events.sum()) if events.any() else None,
        mean_time_to_failure_interval=exponential_mean_interval(
            float(times.sum()), int(events.sum()), confidence
        ),
        restricted_mean=float(np.sum(curve.survival[:-1] * np.diff(curve.times))),
    )


def exponential_mean_interval(total_time: float, n_failed: int, confidence: float) -> Interval:
    """Exact interval of the mean lifetime from failures in a time at risk.

    The limits are ``2 T / chi2`` quantiles with ``2 n + 2`` (lower) and ``2 n``
    (upper) degrees of freedom, the Poisson limits of the failure rate turned
    over.  They assume a failure rate that is constant in time.  Without a
    failure only the lower limit exists and gets the whole error probability
    (``T / 3.00`` at 0.95, the "rule of three").
    """
    alpha = 1.0 - confidence
    if n_failed == 0:
        return float(2.0 * total_time / stats.chi2.isf(alpha, 2)), None
    lower = 2.0 * total_time / stats.chi2.isf(alpha / 2, 2 * n_failed + 2)
    upper = 2.0 * total_time / stats.chi2.ppf(alpha / 2, 2 * n_failed)
    return float(lower), float(upper)


def check_confidence(confidence: float) -> None:
    """Raise a DataError unless the confidence level is inside (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise DataError(
            f"the confidence level is {confidence}; give a number between 0 and 1, such as 0.95"
        )


def _kaplan_meier(
    times: NDArray[np.float64], failed: NDArray[np.bool_], confidence: float
) -> SurvivalCurve:
    survival_function = stats.ecdf(stats.CensoredData.right_censored(times, ~failed)).sf
    with warnings.catch_warnings():
        # The log-log band is undefined at survival 1 and 0; both are filled below.
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        with np.errstate(divide="ignore", invalid="ignore"):
            band = survival_function.confidence_interval(confidence, method="log-log")
    knots = np.asarray(survival_function.quantiles, dtype=np.float64)
    survival = np.asarray(survival_function.probabilities, dtype=np.float64)
    lower = np.array(band.low.probabilities, dtype=np.float64)
    upper = np.array(band.high.probabilities, dtype=np.float64)
    if knots[0] > 0.0:
        knots, survival = np.append(0.0, knots), np.append(1.0, survival)
        lower, upper = np.append(np.nan, lower), np.append(np.nan, upper)
    at_risk = np.sum(times[None, :] >= knots[:, None], axis=1)
    # Before the first failure: the exact binomial limit of n stable replicas out of n.
    untouched = survival == 1.0
    lower[untouched] = (1.0 - confidence) ** (1.0 / at_risk[untouched])
    upper[untouched] = 1.0
    # After the last replica has failed the band keeps its last upper limit.
    empty = survival == 0.0
    lower[empty] = 0.0
    upper[empty] = upper[~empty][-1] if not empty.all() else 1.0
    return SurvivalCurve(knots, survival, lower, upper)


def _first_time_at_half(
    times: NDArray[np.float64], probability: NDArray[np.float64]
) -> float | None:
    reached = np.flatnonzero(probability <= 0.5 + _ROUNDING)
    return float(times[reached[0]]) if len(reached) else None


def _check(times: NDArray[np.float64], failed: NDArray[np.generic], length_ps: float) -> None:
    if times.ndim != 1 or len(times) == 0 or failed.shape != times.shape:
        raise DataError(
            "stable times need one time and one flag for each of at least one replica, got "
            f"shapes {times.shape} and {failed.shape}"
        )
    if failed.dtype != np.bool_ and not np.isin(failed, (0, 1)).all():
        raise DataError(f"failed must hold booleans, got {np.unique(failed)[:5].tolist()}")
    if not (np.isfinite(length_ps) and length_ps > 0):
        raise DataError(f"length_ps is {length_ps}; give the length of the runs in ps, above 0")
    # A time is a whole number of steps, so it may exceed the length by rounding only.
    bad = ~np.isfinite(times) | (times < 0) | (times > length_ps * (1 + 1e-6))
    if bad.any():
        raise DataError(
            f"stable times must be finite and within 0..{length_ps} ps; replica "
            f"{int(np.flatnonzero(bad)[0])} has {times[bad][0]} ({int(bad.sum())} such replicas); "
            "give times in ps, censored replicas at the time they were stopped"
        )
