"""Refilled slots: every life is one that the replica has alone, and the rate is that without."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.errors import SimulationError
from stablemd.md import initial_state, make_integrator, simulate
from stablemd.md.refill import FailureTimes, failure_times
from stablemd.potentials.base import SamplingForm
from stablemd.stability import make_detectors
from stablemd.system import System

SEED = 5
N_STEPS = 1500
REFILL = 50
T = 420.0


class LeakyWell(SamplingForm):
    """Harmonic wells around the origin that push an atom away for good beyond 0.3 Å."""

    replica_independent = True

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        forces = torch.where(positions.abs() > 0.3, 30.0 * positions, -2.0 * positions)
        return positions.square().sum(dim=(1, 2)), forces


SYSTEM = System.create([6, 1], bonds=[(0, 1)], bond_lengths=[0.0])


def starts(identities: Tensor) -> Tensor:
    return torch.zeros(len(identities), 2, 3, dtype=torch.float64)


def parts(name: str):
    # Strong friction: the chance to fail soon does not depend on a replica's age.
    options = {"friction_per_ps": 20.0} if name == "langevin" else {"tau_fs": 30.0}
    return (
        make_integrator(name, dt_fs=1.0, temperature_k=T, **options),
        make_detectors({"nonfinite": {}, "bond_length": {"threshold": 0.9}}, SYSTEM),
        SYSTEM,
    )


def run(name: str = "langevin", n_slots: int = 12, **options) -> FailureTimes:
    given = {"n_steps": N_STEPS, "refill_every": REFILL, **options}
    return failure_times(
        LeakyWell(), starts, *parts(name), n_slots=n_slots, temperature_k=T, seed=SEED, **given
    )


@pytest.mark.parametrize("name", ["langevin", "nose_hoover"])
def test_every_life_is_that_of_the_replica_alone(name: str) -> None:
    found = run(name)
    assert int(found.failed.sum()) > 6
    later = torch.nonzero(found.begin > 0).flatten().tolist()
    assert later
    for r in [0, 3, *later[:3]]:
        begin = int(found.begin[r])
        state = initial_state(
            SYSTEM,
            starts(torch.tensor([r])),
            LeakyWell(),
            temperature_k=T,
            seed=SEED,
            replica_ids=torch.tensor([r]),
            step=begin,
        )
        alone = simulate(LeakyWell(), state, *parts(name), n_steps=N_STEPS - begin, seed=SEED)
        assert bool(found.failed[r]) == bool(alone.n_failed)
        expected = int(alone.failed_step[0]) if alone.n_failed else N_STEPS - begin
        assert int(found.steps[r]) == expected
        assert found.details[r] == alone.details[0]


def test_slots_are_filled_at_once_and_never_hold_two_replicas() -> None:
    found = run()
    assert torch.equal(found.begin % REFILL, torch.zeros_like(found.begin))
    for slot in range(12):
        inside = torch.nonzero(found.slot == slot).flatten()
        begins = found.begin[inside]
        ends = begins + found.steps[inside]
        gaps = begins[1:] - ends[:-1]
        assert bool((gaps >= 0).all() and (gaps < REFILL).all())
        assert bool(found.failed[inside[:-1]].all())
        if found.failed[inside[-1]]:
            assert N_STEPS - int(ends[-1]) <= REFILL
        else:
            assert int(ends[-1]) == N_STEPS
    assert bool((found.begin + found.steps <= N_STEPS).all())


def test_the_rate_is_that_of_replicas_that_are_not_replaced() -> None:
    """Failures over total time, with Poisson errors; refilling sees more failures."""
    without = run(n_slots=150, refill_every=N_STEPS)
    refilled = run(n_slots=60)
    assert len(without.steps) == 150 and len(refilled.steps) > 60
    n, m = int(without.failed.sum()), int(refilled.failed.sum())
    assert m > 60
    ratio = refilled.failures_per_step / without.failures_per_step
    assert abs(ratio - 1.0) < 4.0 * (1.0 / n + 1.0 / m) ** 0.5


def test_refilling_does_not_depend_on_how_often_it_is_looked_at() -> None:
    """Replicas of the first generation live as long whatever the filling interval."""
    often, rarely = run(), run(refill_every=500)
    assert torch.equal(often.steps[:12], rarely.steps[:12])
    assert torch.equal(often.failed[:12], rarely.failed[:12])


def test_impossible_numbers_are_refused() -> None:
    with pytest.raises(SimulationError, match="n_slots"):
        run(n_slots=0)
