from __future__ import annotations

import pytest
from scipy.integrate import quad

from stablemd.training.candidates import Candidate


def candidate(cycle: int, n_failed: int, time_ps: float, within: bool = True) -> Candidate:
    return Candidate(
        cycle=cycle, steps=4 * cycle, n_failed=n_failed, time_ps=time_ps, within_budget=within
    )


@pytest.mark.parametrize(("n_failed", "time_ps"), [(0, 3.0), (1, 0.4), (6, 20.0)])
def test_the_rate_is_the_mean_of_the_posterior(n_failed: int, time_ps: float) -> None:
    """Poisson likelihood, Jeffreys' prior ∝ rate^(-1/2), integrated over y = sqrt(rate)."""

    def moment(power: int) -> float:
        def density(y: float) -> float:
            return float((y * y * time_ps) ** n_failed * 2.718281828459045 ** (-y * y * time_ps))

        return float(quad(lambda y: y ** (2 * power) * density(y), 0.0, 20.0, limit=200)[0])

    expected = moment(1) / moment(0)
    assert candidate(0, n_failed, time_ps).failure_rate == pytest.approx(expected, rel=1e-6)


def test_a_model_that_fails_at_once_has_a_finite_rate() -> None:
    assert 0 < candidate(0, 8, 0.0).failure_rate < float("inf")


def test_the_best_one_fails_least_per_time_whatever_the_order() -> None:
    few = candidate(2, 1, 10.0)
    pool = [candidate(0, 8, 10.0), candidate(1, 1, 2.0), few, candidate(3, 3, 12.0)]
    assert Candidate.best(pool) is few
    assert Candidate.best(pool[::-1]) is few


def test_more_time_without_a_failure_is_better() -> None:
    long = candidate(1, 0, 20.0)
    assert Candidate.best([candidate(0, 0, 5.0), long]) is long


def test_the_earliest_of_equals_is_kept() -> None:
    pool = [candidate(1, 2, 5.0), candidate(2, 2, 5.0)]
    assert Candidate.best(pool).cycle == 1
    assert Candidate.best(pool[::-1]).cycle == 1


def test_a_model_over_the_budget_is_no_candidate() -> None:
    stable_but_wrong = candidate(2, 0, 50.0, within=False)
    pool = [candidate(0, 9, 5.0), candidate(1, 4, 5.0), stable_but_wrong]
    assert Candidate.best(pool).cycle == 1
    # where none is within it, the start is what is left
    assert Candidate.best([candidate(0, 9, 5.0, within=False), stable_but_wrong]).cycle == 0
