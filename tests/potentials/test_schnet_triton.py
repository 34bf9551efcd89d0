"""SchNet's form for a GPU, on a GPU or under triton's interpreter."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import molecule
from torch import Tensor

# The interpreter of old releases does not go with new ones of NumPy; kernels compile with them.
pytest.importorskip(
    "triton",
    minversion=None if torch.cuda.is_available() else "3.9",
    reason="the form for GPUs needs triton (pip install '.[triton]'), 3.9 or newer without a GPU",
)
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("without a GPU triton needs its interpreter", allow_module_level=True)

from stablemd.md import initial_state, make_integrator, simulate
from stablemd.potentials import (
    convolution_triton,
    schnet_device_arrays,
    schnet_sampling,
    tensor_steps,
)
from stablemd.potentials import schnet_triton as schnet_triton_module
from stablemd.potentials.base import EagerSampling, SamplingForm
from stablemd.potentials.schnet import SchNet
from stablemd.potentials.schnet_device import why_unusable
from stablemd.potentials.schnet_sampling import SchNetSampling
from stablemd.potentials.schnet_triton import TritonSchNetSampling
from stablemd.stability import make_detectors
from stablemd.system import System

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def water() -> System:
    return System.create(molecule("H2O").numbers)


@pytest.fixture(scope="module")
def positions() -> Tensor:
    """Two distorted structures; in each the hydrogen atoms are beyond the cutoff."""
    generator = torch.Generator().manual_seed(1)
    base = torch.from_numpy(molecule("H2O").positions)
    noise = torch.randn((2, *base.shape), generator=generator, dtype=torch.float64)
    found = base + 0.05 * noise
    distances = torch.cdist(found, found)
    assert (distances[:, 1, 2] > 1.4).all() and (distances[:, 0] < 1.3).all()
    return found


@pytest.fixture(scope="module")
def model() -> SchNet:
    """Biases that are not zero, and widths that are no power of two."""
    torch.manual_seed(7)
    potential = SchNet(n_features=24, n_filters=20, n_interactions=3, n_gaussians=9, cutoff=1.4)
    for parameter in potential.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.3)
    potential.set_energy_scale(2.0, {1: -13.0, 8: -2041.0})
    return potential


@pytest.fixture(scope="module")
def form(model: SchNet, water: System) -> TritonSchNetSampling:
    return TritonSchNetSampling(model.to(DEVICE), water.to(DEVICE), 512)


@pytest.fixture(scope="module")
def on_cpu(form: TritonSchNetSampling, model: SchNet, water: System) -> SchNetSampling:
    return SchNetSampling(model.cpu(), water, 512)


def test_equals_the_form_for_a_cpu(form, on_cpu, positions) -> None:
    energies, forces = form(positions.to(DEVICE))
    expected_energies, expected_forces = on_cpu(positions)
    assert expected_forces.abs().max() > 0.5
    torch.testing.assert_close(energies.cpu(), expected_energies, rtol=0, atol=1e-5)
    torch.testing.assert_close(forces.cpu(), expected_forces, rtol=0, atol=1e-5)
    local = form.atomic_energies(positions.to(DEVICE)).cpu()
    torch.testing.assert_close(local, on_cpu.atomic_energies(positions), rtol=0, atol=1e-5)


def test_equals_the_exact_model_within_the_bounds(form, model, water, positions) -> None:
    exact = model.to(DEVICE).energy_and_forces(water.to(DEVICE), positions.to(DEVICE))
    energies, forces = form(positions.to(DEVICE))
    per_atom = (energies - exact[0]).abs().max() / water.n_atoms
    assert per_atom < schnet_sampling.ENERGY_TOLERANCE
    assert (forces - exact[1]).abs().max() < schnet_sampling.FORCE_TOLERANCE


def test_a_second_call_gives_the_same_bits_and_forces_pull_nowhere(form, positions) -> None:
    first, second = form(positions.to(DEVICE)), form(positions.to(DEVICE))
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(form.energies(positions.to(DEVICE)), first[0])
    assert first[1].sum(1).abs().max() < 1e-12 * first[1].abs().max()


def test_a_lost_atom_makes_its_replica_no_number_and_no_other(form, positions) -> None:
    whole = form(positions.to(DEVICE))
    for value in (float("nan"), float("inf")):
        broken = positions.to(DEVICE, copy=True)
        broken[1, 2, 0] = value
        energies, forces = form(broken)
        assert energies[1].isnan() and forces[1].isnan().all()
        assert torch.equal(energies[0], whole[0][0]) and torch.equal(forces[0], whole[1][0])


def test_what_does_not_fit_into_memory_comes_in_parts(model, water, positions, monkeypatch) -> None:
    whole = TritonSchNetSampling(model.to(DEVICE), water.to(DEVICE), 512)
    parameters = whole._model
    size = sum(t.nbytes for t in vars(schnet_device_arrays.Workspace(parameters, 1)).values()
               if isinstance(t, Tensor))  # fmt: skip
    monkeypatch.setattr(schnet_device_arrays, "available_bytes", lambda device: 1.9 * size)
    assert schnet_device_arrays.Workspace.capacity(parameters) == 1
    three = torch.cat([positions, positions[:1]]).to(DEVICE)
    energies, forces = whole(three)
    assert whole._network.work.n_replicas == 1
    for k in range(3):
        alone = whole(three[k : k + 1])
        assert torch.equal(energies[k], alone[0][0]) and torch.equal(forces[k], alone[1][0])


class StepByStep(SamplingForm):
    """A form that only evaluates."""

    def __init__(self, form: SamplingForm) -> None:
        self._form = form

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._form(positions, cells)


def test_recorded_dynamics_is_the_ordinary_one(
    form, water, positions, monkeypatch, recorder
) -> None:
    """Steps in the form, replayed as a graph would be, and one replica lost on the way."""
    system = water.to(DEVICE)
    start = initial_state(system, positions.to(DEVICE), form, temperature_k=300.0, seed=3)

    def run(form: SamplingForm):
        integrator = make_integrator("langevin", dt_fs=0.5, temperature_k=300.0)
        detectors = make_detectors({"nonfinite": {}}, system)
        return simulate(form, lost, integrator, detectors, system, n_steps=3, seed=3, check_every=1)

    momenta = start.momenta.clone()
    momenta[0, 1] = 1e200  # a distance whose square is no number
    lost = replace(start, momenta=momenta)
    ordinary = run(StepByStep(form))
    if DEVICE.type == "cpu":
        monkeypatch.setattr(tensor_steps, "record", recorder)
        monkeypatch.setattr(schnet_triton_module, "record", recorder)
        launch = recorder.launching(convolution_triton.launch)
        monkeypatch.setattr(convolution_triton, "launch", launch)
    recorded = run(form.for_thread())
    assert (recorder.n_replays > 0) == (DEVICE.type == "cpu")
    assert recorded.reasons == ordinary.reasons == ["nonfinite", None]
    for quantity in ("positions", "momenta", "forces", "energies", "alive"):
        mine, theirs = (getattr(r.state, quantity)[1] for r in (recorded, ordinary))
        assert torch.equal(mine, theirs), quantity


def test_a_table_that_is_too_coarse_leads_to_the_exact_model(
    model, water, positions, monkeypatch, caplog
) -> None:
    monkeypatch.setattr(schnet_sampling, "_form_of", lambda *given: TritonSchNetSampling)
    model, system, x = model.to(DEVICE), water.to(DEVICE), positions.to(DEVICE)
    monkeypatch.setattr(schnet_sampling, "KNOT_COUNTS", (4, 512))
    assert model.for_sampling(system, x[:1]).n_knots == 512
    monkeypatch.setattr(schnet_sampling, "KNOT_COUNTS", (4,))
    caplog.set_level(logging.WARNING)
    assert isinstance(model.for_sampling(system, x[:1]), EagerSampling)
    assert "a table of 4 knots" in caplog.text


def test_kernels_are_tried_before_the_form_is_chosen(monkeypatch) -> None:
    why_unusable.cache_clear()
    assert why_unusable(DEVICE) is None
    why_unusable.cache_clear()

    def launch(*given, **more):
        raise FileNotFoundError("no C compiler")

    monkeypatch.setattr(convolution_triton, "launch", launch)
    assert "no C compiler" in str(why_unusable(DEVICE))
    why_unusable.cache_clear()
    monkeypatch.setattr(convolution_triton, "launch", lambda *given, **more: None)
    assert "wrong numbers" in str(why_unusable(DEVICE))
    why_unusable.cache_clear()


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_there() -> None:
    """To machine code of compute capability 9.0, in a process without the interpreter."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_triton_kernels.py")
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "find_neighbours",
        "gather_messages",
        "scatter_gradients",
        "pull_atoms",
        "shifted_softplus",
    ]
