"""Recorded steps: the dynamics of the integrators, bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from stablemd.md import make_integrator
from stablemd.md.random_streams import NormalBlocks
from stablemd.md.state import State
from stablemd.potentials import device_graph, tensor_steps
from stablemd.potentials.base import SamplingForm
from stablemd.potentials.tensor_steps import TensorSteps
from stablemd.system import System

N_STEPS = 12
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    ),
]


class Wells(SamplingForm):
    """Quartic wells that drive neighbouring atoms apart."""

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies = positions.new_empty(len(positions))
        forces = torch.empty_like(positions)
        self.fill(positions, energies, forces)
        return energies, forces

    def fill(self, positions: Tensor, energies: Tensor, forces: Tensor) -> None:
        next_atom = positions.roll(-1, 1)
        torch.sum(positions**4 - positions * next_atom, (1, 2), out=energies)
        torch.add(next_atom, positions.roll(1, 1), out=forces).sub_(4.0 * positions**3)


@pytest.fixture
def state(ethanol: System, ethanol_positions: Tensor) -> State:
    generator = torch.Generator().manual_seed(5)
    momenta = torch.randn(ethanol_positions.shape, generator=generator, dtype=torch.float64)
    energies, forces = Wells()(ethanol_positions)
    return State(
        positions=ethanol_positions,
        momenta=momenta,
        forces=forces,
        energies=energies,
        replica_ids=torch.arange(len(energies)),
        step=0,
        alive=torch.ones(len(energies), dtype=torch.bool),
    )


@pytest.fixture(autouse=True)
def _graphs_as_before() -> Iterator[None]:
    before = device_graph.get_cuda_graphs()
    yield
    device_graph.set_cuda_graphs(before)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["langevin", "nve"])
@pytest.mark.parametrize("replayed", [False, True])
def test_recorded_steps_are_the_integrators_steps(
    state, ethanol, monkeypatch, recorder, name, replayed, device
) -> None:
    if replayed and device == "cpu":
        monkeypatch.setattr(tensor_steps, "record", recorder)
    device_graph.set_cuda_graphs(replayed)
    form, system = Wells(), ethanol.to(device)
    integrator = make_integrator(name, dt_fs=0.5, temperature_k=300.0)
    expected = integrator.init(State.from_dict(state.to_dict(), device), system, 3)
    positions, momenta, forces = (
        t.clone() for t in (expected.positions, expected.momenta, expected.forces)
    )
    noise = None
    if integrator.needs_noise:
        shape = (ethanol.n_atoms, 3)
        noise = NormalBlocks(3, expected.replica_ids, shape, 0, N_STEPS).upcoming(0, N_STEPS)
    for k in range(N_STEPS):
        expected = integrator.step(expected, form, None if noise is None else noise[k])

    split = integrator.split_step()
    assert split is not None
    steps = TensorSteps(form.fill, positions.shape, positions.device, split)
    assert steps.fits(positions.shape, split)
    for begin, end in ((0, 5), (5, N_STEPS)):  # in two calls, and then recorded work goes on
        draws = None if noise is None else noise[begin:end]
        energies = steps.advance(positions, momenta, forces, split, end - begin, draws)
    assert recorder.n_replays == (N_STEPS if replayed and device == "cpu" else 0)
    for mine, theirs in (
        (positions, expected.positions),
        (momenta, expected.momenta),
        (forces, expected.forces),
        (energies, expected.energies),
    ):
        assert torch.equal(mine, theirs)


def test_another_step_or_shape_is_other_work(state) -> None:
    def split(dt_fs: float, temperature_k: float):
        integrator = make_integrator("langevin", dt_fs=dt_fs, temperature_k=temperature_k)
        integrator.init(state, System.create([6] * state.positions.shape[1]), 0)
        return integrator.split_step()

    shape = state.positions.shape
    steps = TensorSteps(Wells().fill, shape, torch.device("cpu"), split(0.5, 300.0))
    assert steps.fits(shape, split(0.5, 600.0)), "temperature and masses are buffers"
    noise = torch.ones(1, *shape, dtype=torch.float64)
    kicked = []
    for temperature_k in (300.0, 1200.0):
        x, p, f = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        steps.advance(x, p, f, split(0.5, temperature_k), 1, noise)
        kicked.append(x)
    torch.testing.assert_close(kicked[1], 2.0 * kicked[0], rtol=1e-12, atol=0)
    assert not steps.fits(shape, split(1.0, 300.0))
    assert not steps.fits(torch.Size((1, *shape[1:])), split(0.5, 300.0))


def test_only_a_gpu_records(caplog) -> None:
    calls = []
    assert device_graph.record(lambda: calls.append(1), torch.device("cpu")) is None
    assert not calls and not caplog.records


def test_work_goes_on_unrecorded_for_a_stated_reason(monkeypatch, caplog) -> None:
    def fails(work, device):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(device_graph, "_record", fails)
    caplog.set_level(logging.INFO)
    assert device_graph.record(lambda: None, torch.device("cuda")) is None
    assert "not permitted when stream is capturing" in caplog.text
    caplog.clear()
    device_graph.set_cuda_graphs(False)
    assert device_graph.record(lambda: None, torch.device("cuda")) is None
    assert "switched off" in caplog.text


def test_the_recorder_tells_frozen_decisions(recorder) -> None:
    """The stand-in for a graph replays what was recorded, not what Python would do now."""
    x, factor = torch.ones(3), [2.0]
    replay = recorder(lambda: x.mul_(factor[0]), torch.device("cpu"))
    x.fill_(1.0)
    factor[0] = 5.0
    replay()
    assert torch.equal(x, torch.full((3,), 2.0))
    with pytest.raises(AssertionError, match="a number was asked for"):
        recorder(lambda: x.mul_(float(x.sum())), torch.device("cpu"))
