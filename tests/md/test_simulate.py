from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stablemd.md import initial_state, make_integrator, simulate
from stablemd.md.integrators import INTEGRATORS
from stablemd.md.state import State
from stablemd.stability import make_detectors
from stablemd.system import System

R = 5
BAD = 3
RUN = {"n_steps": 60, "seed": 4, "check_every": 10}


def positions_with(bad: float | None) -> torch.Tensor:
    """Replicas near the bottom of the cliff's well, one of them (or none) beyond its edge."""
    generator = torch.Generator().manual_seed(0)
    positions = 0.1 * torch.randn(R, 3, 3, generator=generator, dtype=torch.float64)
    if bad is not None:
        positions[BAD, 1] = bad
    return positions


def integrator_named(name: str):
    # A thermostat much slower than the fall, or it would hold the falling replica up.
    options = {"tau_fs": 5000.0} if name in ("nose_hoover", "csvr", "cell_rescaling") else {}
    return make_integrator(name, dt_fs=2.0, temperature_k=50.0, **options)


def begin(form, system: System, bad: float | None = 2.6) -> State:
    return initial_state(system, positions_with(bad), form, temperature_k=50.0, seed=4)


def assert_same(a: State, b: State, rows_a: list[int], rows_b: list[int]) -> None:
    for name in ("positions", "momenta", "forces", "energies", "alive", "replica_ids"):
        assert torch.equal(getattr(a, name)[rows_a], getattr(b, name)[rows_b]), name
    if a.cells is not None or b.cells is not None:
        assert torch.equal(a.cells[rows_a], b.cells[rows_b])
    assert a.thermostat.keys() == b.thermostat.keys()
    for name, value in a.thermostat.items():
        assert torch.equal(value[rows_a], b.thermostat[name][rows_b]), name
    assert a.step == b.step


@pytest.fixture
def detectors(atoms):
    return make_detectors({"nonfinite": {}, "temperature": {"max_temperature_k": 1e6}}, atoms)


@pytest.fixture
def atoms_for(atoms, atoms_in_a_box):
    """The atoms, in a box where the integrator of that name changes one."""
    return lambda name: atoms if INTEGRATORS[name].constant_volume else atoms_in_a_box


OTHERS = [r for r in range(R) if r != BAD]


@pytest.mark.parametrize("name", sorted(INTEGRATORS))
@pytest.mark.parametrize("independent", [True, False])
def test_a_failure_leaves_no_trace_in_the_other_replicas(
    cliff, atoms_for, detectors, name, independent
):
    atoms = atoms_for(name)
    form = cliff(shape_factor=0.0 if independent else 1e-3, replica_independent=independent)
    failing = simulate(form, begin(form, atoms), integrator_named(name), detectors, atoms, **RUN)
    calm = simulate(form, begin(form, atoms, None), integrator_named(name), detectors, atoms, **RUN)
    assert failing.n_failed == 1
    assert calm.n_failed == 0
    assert 0 < int(failing.failed_step[BAD]) < RUN["n_steps"]
    assert failing.state.alive.tolist() == [r != BAD for r in range(R)]
    assert_same(failing.state, calm.state, OTHERS, OTHERS)


@pytest.mark.parametrize("name", sorted(INTEGRATORS))
def test_a_replica_replayed_alone_is_bit_identical(cliff, atoms_for, detectors, name):
    atoms = atoms_for(name)
    form = cliff()
    together = simulate(form, begin(form, atoms), integrator_named(name), detectors, atoms, **RUN)
    for r in (0, BAD, 4):
        alone = initial_state(
            atoms,
            positions_with(2.6)[[r]],
            form,
            temperature_k=50.0,
            seed=4,
            replica_ids=torch.tensor([r]),
        )
        result = simulate(form, alone, integrator_named(name), detectors, atoms, **RUN)
        assert_same(result.state, together.state, [0], [r])
        assert result.failed_step[0] == together.failed_step[r]
        assert result.details[0] == together.details[r]


@pytest.mark.parametrize("name", sorted(INTEGRATORS))
@pytest.mark.parametrize("independent", [True, False])
def test_two_halves_equal_one_run(cliff, atoms_for, detectors, name, independent):
    atoms = atoms_for(name)
    form = cliff(shape_factor=0.0 if independent else 1e-3, replica_independent=independent)
    begin_state = begin(form, atoms)
    whole = simulate(form, begin_state, integrator_named(name), detectors, atoms, **RUN)
    half = {**RUN, "n_steps": 30}
    first = simulate(form, begin_state, integrator_named(name), detectors, atoms, **half)
    second = simulate(form, first.state, integrator_named(name), detectors, atoms, **half)
    assert_same(second.state, whole.state, list(range(R)), list(range(R)))
    assert second.n_failed + first.n_failed == whole.n_failed == 1


def test_a_form_that_depends_on_the_batch_keeps_its_batch(cliff, atoms, detectors):
    form = cliff(replica_independent=False)
    state = begin(form, atoms)
    form.calls.clear()
    result = simulate(form, state, integrator_named("langevin"), detectors, atoms, **RUN)
    assert [len(x) for x in form.calls] == [R] * RUN["n_steps"]
    assert result.n_force_evaluations == R * RUN["n_steps"]
    failed = int(result.failed_step[BAD])
    for x in form.calls[failed:]:
        assert torch.equal(x[BAD], result.state.positions[BAD])


def test_a_failed_replica_leaves_the_batch_of_an_independent_form(cliff, atoms, detectors):
    form = cliff()
    state = begin(form, atoms)
    form.calls.clear()
    result = simulate(form, state, integrator_named("langevin"), detectors, atoms, **RUN)
    failed = int(result.failed_step[BAD])
    expected = [R] * failed + [R - 1] * (RUN["n_steps"] - failed)
    assert [len(x) for x in form.calls] == expected
    assert result.n_force_evaluations == sum(expected)


def test_a_failed_replica_stays_at_its_last_checked_state(cliff, atoms, detectors):
    form = cliff()
    integrator = integrator_named("nose_hoover")
    result = simulate(form, begin(form, atoms), integrator, detectors, atoms, **RUN)
    last_valid = int(result.failed_step[BAD]) - RUN["check_every"]
    assert last_valid > 0
    until = simulate(
        form, begin(form, atoms), integrator, detectors, atoms, **{**RUN, "n_steps": last_valid}
    )
    assert until.n_failed == 0
    assert torch.equal(until.state.positions[BAD], result.state.positions[BAD])
    assert torch.equal(until.state.momenta[BAD], result.state.momenta[BAD])
    assert bool(result.state.positions.isfinite().all())


@pytest.mark.parametrize("rewind", [10, 14, 20, 10_000])
def test_rewinding_picks_the_checked_state_that_many_steps_before_the_last_valid_one(
    cliff, atoms, detectors, rewind
):
    form = cliff()
    integrator = integrator_named("nve")
    state = begin(form, atoms, 2.05)
    run = {**RUN, "n_steps": 300, "check_every": 5}
    result = simulate(form, state, integrator, detectors, atoms, **run, rewind_steps=rewind)
    last_valid = int(result.failed_step[BAD]) - 5
    assert last_valid > 20
    back = result.rewind_state
    assert back is not None
    assert back.alive.all()
    assert back.step == result.state.step == 300
    target = (last_valid - rewind) // 5 * 5
    expected = state
    if target > 0:
        run = {**run, "n_steps": target}
        expected = simulate(form, state, integrator, detectors, atoms, **run).state
    for name in ("positions", "momenta", "forces", "energies"):
        assert torch.equal(getattr(back, name)[BAD], getattr(expected, name)[BAD])
    assert torch.equal(back.positions[OTHERS], result.state.positions[OTHERS])


def test_without_rewinding_there_is_no_rewind_state(cliff, atoms, detectors):
    form = cliff()
    result = simulate(form, begin(form, atoms), integrator_named("nve"), detectors, atoms, **RUN)
    assert result.rewind_state is None


@pytest.mark.parametrize("check_every", [7, 10])
def test_recorded_frames_are_the_states_of_that_step_and_all_valid(
    cliff, atoms, detectors, check_every
):
    form = cliff()
    run = {**RUN, "check_every": check_every}
    result = simulate(
        form,
        begin(form, atoms),
        integrator_named("langevin"),
        detectors,
        atoms,
        **run,
        record_every=15,
    )
    frames, failed = result.frames, int(result.failed_step[BAD])
    assert bool(frames.positions.isfinite().all() & frames.energies.isfinite().all())
    expected = [(s, r) for s in (15, 30, 45, 60) for r in range(R) if r != BAD or s < failed]
    assert list(zip(frames.step.tolist(), frames.replica.tolist(), strict=True)) == expected
    until = simulate(
        form,
        begin(form, atoms),
        integrator_named("langevin"),
        detectors,
        atoms,
        **{**run, "n_steps": 30},
    ).state
    for f in torch.nonzero(frames.step == 30).flatten().tolist():
        assert torch.equal(frames.positions[f], until.positions[int(frames.replica[f])])
        assert torch.equal(frames.energies[f], until.energies[int(frames.replica[f])])


def test_a_frame_on_the_failing_check_never_enters(cliff, atoms, detectors):
    form = cliff()
    result = simulate(
        form,
        begin(form, atoms),
        integrator_named("nve"),
        detectors,
        atoms,
        **{**RUN, "check_every": 1000},
        record_every=1,
    )
    last = int(result.frames.step[result.frames.replica == BAD].max())
    assert last == int(result.failed_step[BAD]) - 1


def test_recording_and_checking_more_often_changes_no_numbers(cliff, atoms, detectors):
    form = cliff()
    state = begin(form, atoms, None)
    langevin = integrator_named("langevin")
    plain = simulate(form, state, langevin, detectors, atoms, **RUN)
    busy = simulate(
        form, state, langevin, detectors, atoms, n_steps=60, seed=4, check_every=1, record_every=7
    )
    assert_same(plain.state, busy.state, list(range(R)), list(range(R)))


def test_a_start_that_fails_is_a_result_at_step_zero(cliff, atoms):
    form = cliff()
    state = begin(form, atoms, None)
    state = replace(state, momenta=state.momenta.clone())
    state.momenta[BAD] *= 1e4
    detectors = make_detectors({"temperature": {"max_temperature_k": 1e5}}, atoms)
    result = simulate(
        form, state, integrator_named("nve"), detectors, atoms, **RUN, rewind_steps=10
    )
    assert result.failed_step.tolist() == [0 if r == BAD else -1 for r in range(R)]
    assert result.reasons[BAD] == "temperature"
    assert "limit 100000 K" in (result.details[BAD] or "")
    assert torch.equal(result.state.positions[BAD], state.positions[BAD])
    assert result.rewind_state is not None
    assert torch.equal(result.rewind_state.momenta[BAD], state.momenta[BAD])


def test_replicas_frozen_before_stay_frozen(cliff, atoms, detectors):
    form = cliff()
    state = begin(form, atoms, None)
    frozen = replace(state, alive=torch.tensor([True, False, True, True, True]))
    nve = integrator_named("nve")
    result = simulate(form, frozen, nve, detectors, atoms, **RUN)
    whole = simulate(form, state, nve, detectors, atoms, **RUN)
    assert torch.equal(result.state.positions[1], state.positions[1])
    assert not result.state.alive[1]
    assert int(result.failed_step[1]) == -1
    assert_same(result.state, whole.state, [0, 2, 3, 4], [0, 2, 3, 4])


@pytest.mark.parametrize("stop", [True, False])
def test_the_step_count_advances_even_if_all_replicas_fail(cliff, atoms, detectors, stop):
    form = cliff()
    positions = torch.full((R, 3, 3), 2.6, dtype=torch.float64)
    state = initial_state(atoms, positions, form, temperature_k=50.0, seed=4, step=17)
    seen: list[tuple[int, int]] = []
    result = simulate(
        form,
        state,
        integrator_named("langevin"),
        detectors,
        atoms,
        **RUN,
        stop_when_all_failed=stop,
        on_progress=lambda done, alive: seen.append((done, alive)),
    )
    assert result.n_failed == R
    assert not result.state.alive.any()
    assert result.state.step == 77
    assert seen[-1] == ((int(result.failed_step.max()) if stop else 60), 0)
    assert seen[0] == (10, R)


def test_wall_times_cover_the_parts(cliff, atoms, detectors):
    form = cliff()
    result = simulate(
        form, begin(form, atoms), integrator_named("langevin"), detectors, atoms, **RUN
    )
    assert set(result.wall_s) == {"model", "noise", "integrate", "detect", "record"}
    assert all(value > 0 for value in result.wall_s.values())
