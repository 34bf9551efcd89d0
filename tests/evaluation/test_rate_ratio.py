from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from stablemd.errors import DataError
from stablemd.evaluation.rate_ratio import failure_rate_ratio


@dataclass(frozen=True)
class Counts:
    n_failed: int
    total_time_ps: float


def sampled(mean: float, length: float, n: int, rng: np.random.Generator) -> Counts:
    lifetimes = rng.exponential(mean, n)
    return Counts(int((lifetimes < length).sum()), float(np.minimum(lifetimes, length).sum()))


def test_point_estimate_is_the_quotient_of_the_mean_times() -> None:
    estimate = failure_rate_ratio(Counts(2, 180.0), Counts(15, 165.0))
    assert estimate.ratio == pytest.approx((180.0 / 2) / (165.0 / 15))


def test_at_the_limits_the_conditional_binomial_tail_is_half_the_error() -> None:
    a, b = Counts(3, 188.0), Counts(15, 165.0)
    estimate = failure_rate_ratio(a, b)
    assert estimate.lower is not None
    assert estimate.upper is not None
    n = a.n_failed + b.n_failed
    for limit, tail in ((estimate.lower, "many"), (estimate.upper, "few")):
        p = limit * b.total_time_ps / (limit * b.total_time_ps + a.total_time_ps)
        if tail == "many":
            assert stats.binom.sf(b.n_failed - 1, n, p) == pytest.approx(0.025)
        else:
            assert stats.binom.cdf(b.n_failed, n, p) == pytest.approx(0.025)


def test_the_ratio_turned_over_has_the_limits_turned_over() -> None:
    a, b = Counts(3, 188.0), Counts(15, 165.0)
    forward, backward = failure_rate_ratio(a, b), failure_rate_ratio(b, a)
    assert forward.lower == pytest.approx(1 / backward.upper)  # type: ignore[operator]
    assert forward.upper == pytest.approx(1 / backward.lower)  # type: ignore[operator]


@pytest.mark.parametrize(("mean_a", "mean_b"), [(11.0, 11.0), (60.0, 11.0), (20.0, 2.0)])
def test_interval_covers(mean_a: float, mean_b: float) -> None:
    rng = np.random.default_rng(3)
    trials, covered = 1000, 0
    for _ in range(trials):
        estimate = failure_rate_ratio(sampled(mean_a, 3.0, 64, rng), sampled(mean_b, 3.0, 64, rng))
        assert estimate.lower is not None
        covered += estimate.lower <= mean_a / mean_b and (
            estimate.upper is None or mean_a / mean_b <= estimate.upper
        )
    assert covered / trials >= stats.binom.ppf(1e-3, trials, 0.95) / trials


def test_lower_limit_covers_where_most_samples_have_no_failure() -> None:
    rng = np.random.default_rng(5)
    trials, covered = 1000, 0
    for _ in range(trials):
        estimate = failure_rate_ratio(sampled(200.0, 3.0, 64, rng), sampled(11.0, 3.0, 64, rng))
        assert estimate.lower is not None
        covered += estimate.lower <= 200.0 / 11.0
    assert covered / trials >= stats.binom.ppf(1e-3, trials, 0.95) / trials


def test_without_a_failure_after_only_a_one_sided_lower_limit_exists() -> None:
    a, b = Counts(0, 192.0), Counts(15, 165.0)
    estimate = failure_rate_ratio(a, b)
    assert estimate.ratio is None
    assert estimate.upper is None
    assert estimate.one_sided
    assert estimate.lower is not None
    p = estimate.lower * b.total_time_ps / (estimate.lower * b.total_time_ps + a.total_time_ps)
    assert p**b.n_failed == pytest.approx(0.05)


def test_without_a_failure_before_only_an_upper_limit_exists() -> None:
    estimate = failure_rate_ratio(Counts(4, 150.0), Counts(0, 192.0))
    assert estimate.ratio == 0.0
    assert estimate.lower == 0.0
    assert estimate.upper is not None
    assert np.isfinite(estimate.upper)


def test_without_any_failure_nothing_is_claimed() -> None:
    estimate = failure_rate_ratio(Counts(0, 192.0), Counts(0, 192.0))
    assert (estimate.ratio, estimate.lower, estimate.upper) == (None, 0.0, None)


def test_a_side_that_fails_at_time_zero_has_no_finite_ratio() -> None:
    running, at_once = Counts(3, 100.0), Counts(8, 0.0)
    assert failure_rate_ratio(at_once, running).ratio == 0.0
    assert failure_rate_ratio(running, at_once).lower is None
    assert failure_rate_ratio(at_once, at_once).lower == 0.0


@pytest.mark.parametrize(
    ("a", "confidence", "message"),
    [
        (Counts(-1, 10.0), 0.95, "-1 failures"),
        (Counts(1, float("nan")), 0.95, "nan ps"),
        (Counts(0, 0.0), 0.95, "simulate before"),
        (Counts(1, 10.0), 1.0, "between 0 and 1"),
    ],
)
def test_impossible_input_is_refused(a: Counts, confidence: float, message: str) -> None:
    with pytest.raises(DataError, match=message):
        failure_rate_ratio(a, Counts(1, 10.0), confidence)
