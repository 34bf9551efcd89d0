from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from stablemd.errors import DataError
from stablemd.evaluation.survival import StableTime, exponential_mean_interval, stable_time

# Ten runs of at most 8 ps, worked through by hand below.
TIMES = [1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0, 6.0, 8.0, 8.0]
FAILED = [1, 1, 0, 1, 0, 1, 1, 1, 0, 0]
# Failure times with the replicas at risk: 1 of 10 at 1 ps, 1 of 9 at 2 ps (its
# tie is censored after it), 1 of 7 at 3 ps, 1 of 5 at 4 ps, 1 of 4 at 5 ps, 1 of 3 at 6 ps.
AT_RISK = {1.0: 10, 2.0: 9, 3.0: 7, 4.0: 5, 5.0: 4, 6.0: 3}


def exponential_runs(
    mean: float, length: float, n_replicas: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    lifetimes = rng.exponential(mean, n_replicas)
    return np.minimum(lifetimes, length), lifetimes < length


def least_coverage(level: float, trials: int) -> float:
    """Coverage that a procedure with the nominal level undercuts once in a thousand tests."""
    return float(stats.binom.ppf(1e-3, trials, level)) / trials


def by_hand() -> tuple[dict[float, Fraction], dict[float, float]]:
    survival, greenwood = Fraction(1), Fraction(0)
    values, errors = {}, {}
    for time, n in AT_RISK.items():
        survival *= Fraction(n - 1, n)
        greenwood += Fraction(1, n * (n - 1))
        values[time], errors[time] = survival, math.sqrt(greenwood)
    return values, errors


def test_kaplan_meier_curve_equals_the_hand_computation() -> None:
    result = stable_time(TIMES, FAILED, 8.0)
    values, errors = by_hand()
    assert values[4.0] == Fraction(9, 10) * Fraction(8, 9) * Fraction(6, 7) * Fraction(4, 5)
    curve = result.curve
    for time, expected in values.items():
        (at,) = np.flatnonzero(curve.times == time)
        assert curve.survival[at] == pytest.approx(float(expected), abs=1e-14)
        log_survival = math.log(expected)
        spread = 1.959963984540054 * errors[time] / abs(log_survival)
        assert curve.lower[at] == pytest.approx(math.exp(log_survival * math.exp(spread)))
        assert curve.upper[at] == pytest.approx(math.exp(log_survival * math.exp(-spread)))
    assert curve.times[0] == 0.0
    assert curve.survival[0] == 1.0
    assert curve.times[-1] == 8.0


def test_median_and_its_interval_are_where_curve_and_band_pass_one_half() -> None:
    values, _ = by_hand()
    # 0.5486 after 4 ps, 0.4114 after 5 ps.
    assert values[4.0] > Fraction(1, 2) > values[5.0]
    result = stable_time(TIMES, FAILED, 8.0)
    assert result.median == 5.0
    # After 1 ps: ln 0.9 = -0.1054, its error / |ln 0.9| = 1.0005, so the band reaches down to
    # 0.9 ** exp(1.96 * 1.0005) = 0.473; its upper limit stays above one half to the end.
    assert result.curve.lower[1] == pytest.approx(0.473, abs=5e-4)
    assert result.median_interval == (1.0, None)
    assert result.curve.upper.min() > 0.5
    many = stable_time(np.repeat(TIMES, 20), np.repeat(FAILED, 20), 8.0)
    assert many.median == 5.0
    assert many.median_interval == (4.0, 5.0)


def test_median_at_exactly_one_half_is_reached() -> None:
    assert stable_time([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0], 4.0).median == 2.0
    # 1 - 1/6 - 1/6 - 1/6 is not exactly 0.5 in floating point.
    assert stable_time(np.arange(1.0, 7.0), [1, 1, 1, 0, 0, 0], 6.0).median == 3.0


def test_mean_time_to_failure_and_restricted_mean() -> None:
    result = stable_time(TIMES, FAILED, 8.0)
    assert result.mean_time_to_failure == pytest.approx(42.0 / 6)
    values, _ = by_hand()
    steps = [(0.0, Fraction(1)), *values.items(), (8.0, Fraction(0))]
    area = sum(float(s) * (later - time) for (time, s), (later, _) in pairwise(steps))
    assert result.restricted_mean == pytest.approx(area)


def test_limits_of_the_mean_time_are_where_the_poisson_tail_is_half_the_error() -> None:
    total, n_failed = 137.0, 9
    lower, upper = exponential_mean_interval(total, n_failed, 0.95)
    assert lower is not None
    assert upper is not None
    assert stats.poisson.cdf(n_failed, total / lower) == pytest.approx(0.025)
    assert stats.poisson.sf(n_failed - 1, total / upper) == pytest.approx(0.025)


def test_without_a_failure_the_lower_limit_is_the_rule_of_three() -> None:
    result = stable_time([3.0] * 64, [False] * 64, 3.0)
    assert result.median is None
    assert result.median_interval == (None, None)
    assert result.mean_time_to_failure is None
    lower, upper = result.mean_time_to_failure_interval
    assert upper is None
    assert lower == pytest.approx(192.0 / -math.log(0.05))
    # No failure in 64 has the probability 0.05 at the lower limit of the band.
    assert result.curve.lower[-1] ** 64 == pytest.approx(0.05)
    assert result.restricted_mean == pytest.approx(3.0)


def test_failure_at_time_zero_counts() -> None:
    result = stable_time([0.0, 3.0, 3.0, 3.0], [True, False, False, False], 3.0)
    assert result.curve.times[0] == 0.0
    assert result.curve.survival[0] == pytest.approx(0.75)
    assert result.mean_time_to_failure == pytest.approx(9.0)
    at_once = stable_time([0.0, 0.0], [True, True], 3.0)
    assert at_once.median == 0.0
    assert at_once.mean_time_to_failure == 0.0


def test_all_failed_curve_ends_at_zero_inside_its_band() -> None:
    curve = stable_time([1.0, 2.0, 3.0], [True] * 3, 3.0).curve
    assert curve.survival[-1] == 0.0
    assert np.isfinite(curve.lower).all()
    assert np.isfinite(curve.upper).all()
    assert (curve.lower <= curve.survival).all()
    assert (curve.survival <= curve.upper).all()


def test_at_risk_counts_replicas_under_observation() -> None:
    assert stable_time(TIMES, FAILED, 8.0).at_risk([0.0, 2.0, 2.5, 8.0]).tolist() == [10, 9, 7, 2]


@pytest.mark.parametrize(("mean", "length"), [(3.0, 3.0), (11.0, 3.0), (40.0, 3.0)])
def test_interval_of_the_mean_time_covers(mean: float, length: float) -> None:
    rng = np.random.default_rng(7)
    trials, covered = 2000, 0
    for _ in range(trials):
        times, failed = exponential_runs(mean, length, 48, rng)
        lower, upper = exponential_mean_interval(float(times.sum()), int(failed.sum()), 0.95)
        assert lower is not None
        covered += lower <= mean and (upper is None or mean <= upper)
    assert covered / trials >= least_coverage(0.95, trials)


def test_interval_of_the_median_covers() -> None:
    rng = np.random.default_rng(11)
    trials, covered, mean = 500, 0, 2.0
    median = mean * math.log(2.0)
    for _ in range(trials):
        lifetimes = rng.exponential(mean, 40)
        stopped = rng.uniform(0.5, 6.0, 40)  # censoring that differs between replicas
        result = stable_time(np.minimum(lifetimes, stopped), lifetimes < stopped, 6.0)
        lower, upper = result.median_interval
        covered += (lower is None or lower <= median) and (upper is None or median <= upper)
    assert covered / trials >= least_coverage(0.95, trials)
    assert covered < trials


def test_a_higher_confidence_gives_wider_intervals() -> None:
    narrow, wide = (stable_time(TIMES, FAILED, 8.0, level) for level in (0.8, 0.99))
    assert (wide.curve.lower <= narrow.curve.lower).all()
    assert (wide.curve.upper >= narrow.curve.upper).all()
    assert wide.mean_time_to_failure_interval[0] < narrow.mean_time_to_failure_interval[0]  # type: ignore[operator]
    assert wide.mean_time_to_failure_interval[1] > narrow.mean_time_to_failure_interval[1]  # type: ignore[operator]


def test_json_has_the_keys_of_metrics_and_95_percent_intervals() -> None:
    keys = {
        "median", "ci95", "mean_time_to_failure", "mean_time_to_failure_ci95", "n_failed",
        "n_replicas", "length_ps", "total_time_ps", "restricted_mean",
    }  # fmt: skip
    result: StableTime = stable_time(TIMES, FAILED, 8.0)
    assert set(result.to_json()) == keys
    assert stable_time(TIMES, FAILED, 8.0, confidence=0.8).to_json() == result.to_json()
    empty = stable_time([3.0], [False], 3.0).to_json()
    assert empty["mean_time_to_failure"] is None
    assert empty["median"] is None


@pytest.mark.parametrize(
    ("times", "failed", "length", "confidence", "message"),
    [
        ([], [], 3.0, 0.95, "at least one replica"),
        ([1.0, 2.0], [True], 3.0, 0.95, "shapes"),
        ([[1.0]], [[True]], 3.0, 0.95, "shapes"),
        ([1.0, float("nan")], [True, True], 3.0, 0.95, "replica 1 has nan"),
        ([-1.0], [True], 3.0, 0.95, "within 0"),
        ([4.0], [True], 3.0, 0.95, "times in ps"),
        ([1.0], [2], 3.0, 0.95, "booleans"),
        ([1.0], [True], 0.0, 0.95, "length_ps is 0"),
        ([1.0], [True], 3.0, 95.0, "between 0 and 1"),
    ],
)
def test_impossible_input_is_refused(
    times: list[float], failed: list[bool], length: float, confidence: float, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        stable_time(times, failed, length, confidence)
