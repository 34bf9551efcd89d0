"""Steps that a form makes itself: the integrator's dynamics, however they are grouped."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.md import initial_state, make_integrator, placement, sharding, simulate
from stablemd.md.random_streams import NormalBlocks
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.potentials.schnet import SchNet
from stablemd.potentials.schnet_sampling import SchNetSampling
from stablemd.potentials.tensor_steps import TensorSteps
from stablemd.stability import make_detectors
from stablemd.system import System

NAMES = ("positions", "momenta", "forces", "energies")


class StepByStep(SamplingForm):
    """A form that only evaluates."""

    replica_independent = True

    def __init__(self, form: SamplingForm) -> None:
        self._form = form

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._form(positions, cells)


@pytest.fixture(scope="module")
def form(ethanol: System) -> SchNetSampling:
    torch.manual_seed(2)
    model = SchNet(n_interactions=2)
    return SchNetSampling(model, ethanol)


@pytest.fixture
def start(form: SchNetSampling, ethanol: System, ethanol_positions: Tensor) -> State:
    return initial_state(ethanol, ethanol_positions, form, temperature_k=300.0, seed=3)


def run(form: SamplingForm, start: State, system: System, name: str = "langevin", **options):
    integrator = make_integrator(name, dt_fs=0.5, temperature_k=300.0)
    detectors = make_detectors({"nonfinite": {}}, system)
    return simulate(form, start, integrator, detectors, system, **{"seed": 3, **options})


def assert_same(a: State, b: State, rows: list[int] | slice = slice(None)) -> None:
    for name in NAMES:
        assert torch.equal(getattr(a, name), getattr(b, name)[rows]), name


@pytest.mark.parametrize("name", ["langevin", "nve"])
def test_one_step_is_the_integrators_step(form, start, ethanol, name) -> None:
    integrator = make_integrator(name, dt_fs=0.5, temperature_k=300.0)
    state = integrator.init(start, ethanol, 3)
    noise = None
    if integrator.needs_noise:
        noise = NormalBlocks(3, state.replica_ids, (ethanol.n_atoms, 3), 0, 1).at(0)
    expected = integrator.step(state, form, noise)
    result = run(form, start, ethanol, name, n_steps=1).state
    for quantity in ("positions", "momenta"):
        # Before the forces of the new positions enter, all is double precision.
        torch.testing.assert_close(
            getattr(result, quantity), getattr(expected, quantity), rtol=0, atol=1e-5
        )
    assert float((result.positions - expected.positions).abs().max()) < 1e-13
    energies, forces = form(result.positions)
    assert torch.equal(result.energies, energies)
    assert torch.equal(result.forces, forces)
    half = 0.5 * integrator._dt
    at_half = expected.momenta - half * expected.forces
    assert float((result.momenta - half * forces - at_half).abs().max()) < 1e-13


@pytest.mark.parametrize("name", ["langevin", "nve"])
def test_grouping_of_steps_changes_no_bit(form, start, ethanol, name) -> None:
    plain = run(form, start, ethanol, name, n_steps=24, check_every=24)
    busy = run(form, start, ethanol, name, n_steps=24, check_every=1, record_every=5)
    assert_same(plain.state, busy.state)
    first = run(form, start, ethanol, name, n_steps=11)
    second = run(form, first.state, ethanol, name, n_steps=13)
    assert_same(plain.state, second.state)
    assert plain.state.step == second.state.step == 24


def test_blocks_of_noise_change_no_bit(form, start, ethanol, monkeypatch) -> None:
    whole = run(form, start, ethanol, n_steps=12, check_every=12)
    sizes = []
    original = SchNetSampling.advance

    def counted(self, *args):
        sizes.append(args[4])
        return original(self, *args)

    monkeypatch.setattr(NormalBlocks.__init__, "__defaults__", (0, 5 * 8 * 27))
    monkeypatch.setattr(SchNetSampling, "advance", counted)
    blocks = run(form, start, ethanol, n_steps=12, check_every=12)
    assert sizes == [5, 5, 2]
    assert_same(whole.state, blocks.state)


def test_replicas_alone_and_in_threads_are_bit_identical(form, start, ethanol, monkeypatch) -> None:
    together = run(form, start, ethanol, n_steps=20)
    for rows in ([3], [1, 6]):
        alone = run(form, start.select(torch.tensor(rows)), ethanol, n_steps=20)
        assert_same(alone.state, together.state, rows)
    monkeypatch.setattr(placement.os, "cpu_count", lambda: 4)
    sharding.set_threads(3)
    assert_same(run(form, start, ethanol, n_steps=20).state, together.state)


def test_a_failure_leaves_no_trace_in_the_others(form, start, ethanol) -> None:
    calm = run(form, start, ethanol, n_steps=30)
    momenta = start.momenta.clone()
    momenta[4] = 1e200
    failing = run(form, replace(start, momenta=momenta), ethanol, n_steps=30)
    assert failing.n_failed == 1 and 0 < int(failing.failed_step[4]) < 30
    keep = [0, 1, 2, 3, 5, 6, 7]
    assert_same(failing.state.select(torch.tensor(keep)), calm.state, keep)
    assert failing.n_force_evaluations == 8 * 10 + 7 * 20


def test_the_start_is_not_changed(form, start, ethanol) -> None:
    before = {name: getattr(start, name).clone() for name in NAMES}
    result = run(form, start, ethanol, n_steps=20, check_every=5, record_every=5)
    for name in NAMES:
        assert torch.equal(getattr(start, name), before[name])
    first = run(form, start, ethanol, n_steps=5)
    assert torch.equal(result.frames.select(slice(0, 8)).positions, first.state.positions)


def test_without_a_bath_energy_drifts_no_more_than_with_the_exact_model(
    ethanol, ethanol_positions
) -> None:
    """The table is smooth: its energy error stays where the model in float32 has it."""
    torch.manual_seed(2)
    model = SchNet(n_interactions=2)
    compiled = SchNetSampling(model, ethanol)
    exact = model.double().for_sampling(ethanol)
    drift = {}
    for name, form in (("compiled", compiled), ("exact", exact)):
        begin = initial_state(ethanol, ethanol_positions[:2], form, temperature_k=300.0, seed=3)
        integrator = make_integrator("nve", dt_fs=0.5, temperature_k=300.0)
        energies = [integrator.conserved(begin, ethanol)]
        state = begin
        for _ in range(8):
            state = run(form, state, ethanol, "nve", n_steps=50, check_every=50).state
            energies.append(integrator.conserved(state, ethanol))
        deviation = torch.stack(energies) - energies[0]
        drift[name] = float(deviation.abs().max())
    kinetic = float(begin.kinetic_energies(ethanol.masses).mean())
    assert drift["exact"] < 0.01 * kinetic
    # float32 energies resolve 1e-6 eV.
    assert drift["compiled"] < 1.2 * drift["exact"] + 1e-5


def test_steps_of_a_form_and_steps_around_it_agree(form, start, ethanol) -> None:
    inside = run(form, start, ethanol, n_steps=10).state
    around = run(StepByStep(form), start, ethanol, n_steps=10).state
    np.testing.assert_allclose(inside.positions, around.positions, atol=1e-6)


class DependentWells(SamplingForm):
    """Wells whose strength depends on the size of the batch, as rounding may, but visibly."""

    advances = True

    def __init__(self) -> None:
        self.sizes: set[int] = set()

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces = positions.new_empty(len(positions)), torch.empty_like(positions)
        self._fill(positions, energies, forces)
        return energies, forces

    def _fill(self, positions: Tensor, energies: Tensor, forces: Tensor) -> None:
        self.sizes.add(len(positions))
        k = 1.0 + 0.1 * len(positions)
        torch.sum(0.5 * k * positions.square(), (1, 2), out=energies)
        torch.mul(positions, -k, out=forces)

    def advance(self, positions, momenta, forces, step, n_steps, noise) -> Tensor:
        steps = TensorSteps(self._fill, positions.shape, positions.device, step)
        return steps.advance(positions, momenta, forces, step, n_steps, noise)


@pytest.mark.parametrize("name", ["langevin", "nve"])
def test_a_form_that_needs_one_batch_size_keeps_it(ethanol, ethanol_positions, name) -> None:
    form = DependentWells()
    start = initial_state(ethanol, ethanol_positions, form, temperature_k=300.0, seed=3)
    calm = run(form, start, ethanol, name, n_steps=20, check_every=5)
    momenta = start.momenta.clone()
    momenta[4] = 1e200
    failing = run(form, replace(start, momenta=momenta), ethanol, name, n_steps=20, check_every=5)
    assert failing.failed_step.tolist() == [-1] * 4 + [5] + [-1] * 3
    assert form.sizes == {8}
    keep = [0, 1, 2, 3, 5, 6, 7]
    assert_same(failing.state.select(torch.tensor(keep)), calm.state, keep)
    assert_same(failing.state.select(torch.tensor([4])), replace(start, momenta=momenta), [4])
    assert failing.n_force_evaluations == calm.n_force_evaluations == 8 * 20
