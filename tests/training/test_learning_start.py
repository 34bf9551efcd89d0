from __future__ import annotations

import pytest
import torch

from stablemd import units
from stablemd.md import State
from stablemd.md.velocities import (
    degrees_of_freedom,
    kinetic_temperature,
    maxwell_boltzmann_momenta,
)
from stablemd.system import System
from stablemd.training.learning_start import learning_start

TEMPERATURE_K = 500.0
WATER = System.create(["O", "H", "H"])


def thermal_state(n_replicas: int, step: int = 700) -> State:
    """Replicas at distinguishable positions with canonical momenta."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.arange(n_replicas)
    momenta = maxwell_boltzmann_momenta(WATER, TEMPERATURE_K, 11, ids)
    positions = torch.randn(n_replicas, 3, 3, generator=generator, dtype=torch.float64)
    return State(
        positions=positions,
        momenta=momenta,
        forces=-positions,
        energies=positions.square().sum((1, 2)),
        replica_ids=ids,
        step=step,
        alive=torch.ones(n_replicas, dtype=torch.bool),
        thermostat={"xi": torch.randn(n_replicas, 2, generator=generator, dtype=torch.float64)},
    )


def equal_replicas(a: State, b: State) -> torch.Tensor:
    """Which replicas are the same to the bit in everything but their identity, (R,) bool."""
    same = torch.ones(a.n_replicas, dtype=torch.bool)
    pairs = [(getattr(a, n), getattr(b, n)) for n in ("positions", "momenta", "forces", "energies")]
    pairs += [(a.thermostat[k], b.thermostat[k]) for k in a.thermostat]
    for x, y in pairs:
        same &= (x == y).reshape(a.n_replicas, -1).all(dim=1)
    return same


@pytest.mark.parametrize(
    ("share", "n_failed", "n_copies"), [(0.75, 4, 20), (0.5, 3, 13), (1.0, 1, 31)]
)
def test_copies_fill_the_wanted_share(toy, share: float, n_failed: int, n_copies: int) -> None:
    rewound = thermal_state(32)
    failed = torch.tensor([3, 8, 17, 30])[:n_failed]
    start, copied_from = learning_start(rewound, failed, WATER, toy.settings(failing_share=share))
    sources = rewound.positions[failed]
    matches = (start.positions[:, None] == sources[None]).flatten(2).all(dim=2)
    near_failure = matches.any(dim=1)
    assert int(near_failure.sum()) == round(share * 32) == n_failed + n_copies
    per_source = matches.sum(dim=0)  # every failure gets its part
    assert int(per_source.max() - per_source.min()) <= 1
    assert bool(start.alive.all()) and start.step == rewound.step
    copied = near_failure.clone()
    copied[failed] = False
    origin = failed[matches.int().argmax(dim=1)]
    assert torch.equal(copied_from[copied], origin[copied])
    assert torch.equal(copied_from[~copied], torch.arange(32)[~copied])
    assert torch.equal(start.forces[copied], rewound.forces[origin[copied]])
    assert torch.equal(start.energies[copied], rewound.energies[origin[copied]])
    assert torch.equal(start.thermostat["xi"][copied], rewound.thermostat["xi"][origin[copied]])


@pytest.mark.parametrize(
    ("wanted", "share", "n_failed"), [(128, 0.75, 4), (40, 0.75, 4), (100, 0.1, 2), (64, 1.0, 32)]
)
def test_additional_replicas_are_copies_under_ids_of_their_own(
    toy, wanted: int, share: float, n_failed: int
) -> None:
    rewound = thermal_state(32)
    failed = torch.randperm(32, generator=torch.Generator().manual_seed(2))[:n_failed]
    settings = toy.settings(failing_share=share, learning_replicas=wanted)
    start, source = learning_start(rewound, failed, WATER, settings)
    assert start.n_replicas == wanted and len(start.replica_ids.unique()) == wanted
    assert torch.equal(start.replica_ids[:32], rewound.replica_ids)
    assert torch.equal(start.positions, rewound.positions[source])
    near_failure = torch.isin(source, failed)
    assert int(near_failure.sum()) == max(round(share * wanted), n_failed)
    for group in (near_failure, ~near_failure):  # every source gets its part of the places
        counts = torch.bincount(source[group], minlength=32)
        counts = counts[counts > 0]
        assert not len(counts) or int(counts.max() - counts.min()) <= 1
    originals = torch.arange(wanted) == source
    assert torch.equal(start.momenta[originals], rewound.momenta[source[originals]])
    moved = (start.momenta != rewound.momenta[source]).flatten(1).any(dim=1)
    assert torch.equal(moved, ~originals)


def test_failed_and_remaining_replicas_are_untouched_and_identities_stay(toy) -> None:
    rewound = thermal_state(32)
    failed = torch.tensor([3, 8, 17, 30])
    start, _ = learning_start(rewound, failed, WATER, toy.settings(failing_share=0.75))
    same = equal_replicas(start, rewound)
    assert bool(same[failed].all())
    assert int(same.sum()) == 32 - 20
    assert torch.equal(start.replica_ids, rewound.replica_ids)
    assert len(start.replica_ids.unique()) == 32


@pytest.mark.parametrize(("share", "failed"), [(0.75, []), (0.0, [1, 2]), (0.1, [1, 2, 3, 4, 5])])
def test_nothing_is_copied_where_nothing_failed_or_enough_did(
    toy, share: float, failed: list[int]
) -> None:
    rewound = thermal_state(32)
    index = torch.tensor(failed, dtype=torch.int64)
    start, _ = learning_start(rewound, index, WATER, toy.settings(failing_share=share))
    assert bool(equal_replicas(start, rewound).all())


def test_copies_keep_the_canonical_distribution_of_momenta(toy) -> None:
    """Mixing p = sqrt(1 - a²) p_old + a p_fresh keeps mean and variance of every component."""
    n = 20000
    rewound = thermal_state(n)
    failed = torch.arange(0, n, 2)
    start, _ = learning_start(rewound, failed, WATER, toy.settings(failing_share=1.0))
    copies = torch.arange(1, n, 2)
    momenta = start.momenta[copies]
    n_dof = degrees_of_freedom(3, com_fixed=True)
    temperature = kinetic_temperature(momenta, WATER.masses, n_dof)
    # var(T)/T² = 2/n_dof: standard error of the mean over 10,000 copies
    tolerance = 4.0 * TEMPERATURE_K * (2.0 / n_dof / len(copies)) ** 0.5
    assert abs(float(temperature.mean()) - TEMPERATURE_K) < tolerance
    expected_spread = TEMPERATURE_K * (2.0 / n_dof) ** 0.5
    assert float(temperature.std()) == pytest.approx(expected_spread, rel=0.04)
    assert float(momenta.sum(dim=1).abs().max()) < 1e-12  # the centre of mass stays at rest


def test_copies_of_one_failure_differ_but_remember_it(toy) -> None:
    """What is kept of the source (share m) and what is fresh (variance v): m² + v = 1."""
    n = 4000
    rewound = thermal_state(n)
    start, _ = learning_start(rewound, torch.tensor([5]), WATER, toy.settings(failing_share=1.0))
    scale = (units.KB * TEMPERATURE_K * WATER.masses).sqrt()[:, None]
    copies = start.momenta[torch.arange(n) != 5] / scale
    source = rewound.momenta[5] / scale
    assert len(copies.flatten(1).unique(dim=0)) == n - 1
    mean = copies.mean(dim=0)
    memory = float((mean * source).sum() / source.square().sum())
    fresh = float((copies - mean).square().sum((1, 2)).mean()) / degrees_of_freedom(3, True)
    assert memory**2 + fresh == pytest.approx(1.0, abs=0.03)
    assert 0.02 < fresh < 0.9


def test_the_draws_are_those_of_the_step_and_not_of_start_velocities(toy) -> None:
    settings = toy.settings(failing_share=1.0, learning_replicas=8)
    failed = torch.tensor([0])
    first, _ = learning_start(thermal_state(8, step=700), failed, WATER, settings)
    again, _ = learning_start(thermal_state(8, step=700), failed, WATER, settings)
    later, _ = learning_start(thermal_state(8, step=800), failed, WATER, settings)
    assert bool(equal_replicas(first, again).all())
    assert equal_replicas(first, later).tolist() == [True] + [False] * 7
    # What was added to each copy is not a multiple of the velocities that the
    # same replica would start with at this step.
    state = thermal_state(8, step=700)
    fresh = maxwell_boltzmann_momenta(
        WATER, TEMPERATURE_K, settings.seed, state.replica_ids, step=700
    )
    for replica in range(1, 8):
        a, b = first.momenta[replica].flatten(), state.momenta[0].flatten()
        c = fresh[replica].flatten()
        basis = torch.stack([b, c], dim=1)
        residual = a - basis @ torch.linalg.lstsq(basis, a).solution
        assert float(residual.norm()) > 1e-3 * float(a.norm())


@pytest.mark.parametrize(("wanted", "n_failed", "n_earlier"), [(32, 2, 3), (64, 4, 7), (128, 1, 9)])
def test_remembered_failures_get_as_many_places_as_new_ones(
    toy, wanted: int, n_failed: int, n_earlier: int
) -> None:
    rewound, earlier = thermal_state(32), thermal_state(48).select(torch.arange(32, 32 + n_earlier))
    failed = torch.randperm(32, generator=torch.Generator().manual_seed(4))[:n_failed]
    settings = toy.settings(failing_share=0.75, learning_replicas=wanted)
    start, source = learning_start(rewound, failed, WATER, settings, earlier)
    everything = State.concatenate([rewound, earlier])
    assert torch.equal(start.positions, everything.positions[source])
    assert torch.equal(start.thermostat["xi"], everything.thermostat["xi"][source])
    near_failure = torch.isin(source, failed) | (source >= 32)
    assert int(near_failure.sum()) == round(0.75 * wanted)  # memory takes no further places
    counts = torch.bincount(source[near_failure], minlength=32 + n_earlier)
    counts = torch.cat([counts[failed], counts[32:]])
    assert int(counts.min()) > 0 and int(counts.max() - counts.min()) <= 1
    assert len(start.replica_ids.unique()) == wanted and bool(start.alive.all())
    # an earlier failure has no replica of its own, so each of its places has fresh momenta
    moved = (start.momenta != everything.momenta[source]).flatten(1).any(dim=1)
    assert bool(moved[source >= 32].all())


def test_without_a_new_failure_nothing_is_copied_from_memory(toy) -> None:
    rewound, none = thermal_state(32), torch.zeros(0, dtype=torch.int64)
    start, _ = learning_start(rewound, none, WATER, toy.settings(), thermal_state(5))
    assert bool(equal_replicas(start, rewound).all())
