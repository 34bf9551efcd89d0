from __future__ import annotations

import pytest
import torch
from scipy.integrate import quad

from stablemd.training.candidates import Candidate, CandidateModels


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


def test_a_second_phase_adds_to_the_first_and_may_bring_an_earlier_model_back() -> None:
    models = CandidateModels()
    weights = [{"w": torch.tensor(float(cycle))} for cycle in range(3)]
    models.add(candidate(0, 5, 50.0), weights[0])
    models.add(candidate(1, 1, 50.0), weights[1])
    models.add(candidate(2, 0, 50.0), weights[2])
    assert models.best.cycle == 2
    joined = models.add(candidate(2, 9, 40.0), weights[2])
    assert (joined.n_failed, joined.time_ps, joined.n_phases) == (9, 90.0, 2)
    assert len(models.measured) == 3 and models.is_measured(8) and not models.is_measured(4)
    assert models.best.cycle == 1
    assert torch.equal(models.best_weights()["w"], torch.tensor(1.0))
    again = CandidateModels()
    again.restore(models.payload(), torch.device("cpu"))
    assert again.measured == models.measured
    assert torch.equal(again.best_weights()["w"], models.best_weights()["w"])


def test_kept_weights_do_not_follow_the_model() -> None:
    models = CandidateModels()
    weight = torch.zeros(2)
    models.add(candidate(0, 1, 5.0), {"w": weight})
    weight += 1.0
    assert torch.equal(models.best_weights()["w"], torch.zeros(2))
