"""What holds for every adapter of a trainable model.

Tolerances: the package's own calculator and the adapter differ by rounding only, 1e-10
of the largest value in float64 and 1e-5 in float32; total energies are about 5000 eV.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule
from torch import Tensor

from stablemd.potentials import ZBL, Potential
from stablemd.potentials.files import load_potential, save_potential
from stablemd.system import System

ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-5}

Files = Callable[[Any, torch.dtype], Path]


def load(case: Any, files: Files, dtype: torch.dtype) -> Potential:
    return load_potential(files(case, dtype), options=case.options)


def best(case: Any) -> torch.dtype:
    """The highest precision of a case."""
    return case.precisions[0]


@pytest.fixture
def model(case: Any, model_files: Files) -> Potential:
    return load(case, model_files, best(case))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_numbers_are_those_of_the_package_own_calculator(
    case: Any, dtype: torch.dtype, model_files: Files, ethanol: System, ethanol_positions: Tensor
) -> None:
    if dtype not in case.precisions:
        pytest.skip("the package has no such model in this precision")
    path = model_files(case, dtype)
    potential = load(case, model_files, dtype)
    energy, forces = potential.energy_and_forces(ethanol, ethanol_positions[:3])
    calculate = case.calculator(path, dtype)
    for k in range(3):
        atoms = molecule("CH3CH2OH")
        atoms.positions = ethanol_positions[k].numpy()
        expected_energy, expected_forces = calculate(atoms)
        size = np.abs(expected_forces).max()
        assert size > 1e-3, "a model without forces shows nothing"
        assert float(energy[k]) == pytest.approx(float(expected_energy), rel=ROUNDING[dtype])
        np.testing.assert_allclose(
            forces[k].numpy(), expected_forces, rtol=0, atol=ROUNDING[dtype] * max(1.0, size)
        )


def test_periodic_numbers_are_those_of_the_package_own_calculator(
    case: Any, model: Potential, model_files: Files, ethanol: System, ethanol_positions: Tensor
) -> None:
    """A cell shorter than twice the cutoff: atoms see images, their own among them."""
    cell = np.array([[4.3, 0.0, 0.0], [0.6, 4.8, 0.0], [0.0, -0.5, 5.2]])
    system = System.create(ethanol.numbers, cell=cell, pbc=True)
    energy, forces = model.energy_and_forces(system, ethanol_positions[:1])
    atoms = molecule("CH3CH2OH")
    atoms.positions = ethanol_positions[0].numpy()
    atoms.set_cell(cell)
    atoms.pbc = True
    dtype = best(case)
    expected_energy, expected_forces = case.calculator(model_files(case, dtype), dtype)(atoms)
    isolated = float(model.energy(ethanol, ethanol_positions[:1]).detach())
    assert abs(isolated - float(energy)) > 1e-3, "the images play no part"
    assert float(energy) == pytest.approx(float(expected_energy), rel=ROUNDING[dtype])
    size = np.abs(expected_forces).max()
    np.testing.assert_allclose(
        forces[0].numpy(), expected_forces, rtol=0, atol=ROUNDING[dtype] * max(1.0, size)
    )


def test_forces_are_the_gradient_and_stress_the_strain_derivative(
    case: Any, model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    if best(case) != torch.float64:
        pytest.skip("finite differences need float64")
    cell = torch.eye(3).double() * 5.5
    system = System.create(ethanol.numbers, cell=cell.numpy(), pbc=True)
    x = ethanol_positions[:1]
    _, forces, stress = model.energy_forces_and_stress(system, x)
    step = 1e-4
    shift = torch.zeros_like(x)
    shift[0, 2, 1] = step
    slope = (model.energy(system, x + shift) - model.energy(system, x - shift)) / (2 * step)
    assert float(slope) == pytest.approx(-float(forces[0, 2, 1]), abs=1e-6)
    strain = torch.zeros(3, 3).double()
    strain[0, 1] = strain[1, 0] = 0.5 * step
    deform = torch.eye(3).double() + strain
    back = torch.eye(3).double() - strain
    up = model.energy(system, x @ deform, (cell @ deform)[None])
    down = model.energy(system, x @ back, (cell @ back)[None])
    volume = float(torch.linalg.det(cell))
    assert float((up - down) / (2 * step)) == pytest.approx(
        volume * float(stress[0, 0, 1]), abs=1e-5
    )


def test_batched_equals_single_and_molecules_mix(
    case: Any, model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    from stablemd.potentials import Batch

    tolerance = ROUNDING[best(case)]
    energy, forces = model.energy_and_forces(ethanol, ethanol_positions)
    for k in (0, 5):
        one, force = model.energy_and_forces(ethanol, ethanol_positions[k : k + 1])
        torch.testing.assert_close(one[0], energy[k], rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(force[0], forces[k], rtol=0, atol=10 * tolerance)
    water = System.create([8, 1, 1])
    x = torch.from_numpy(molecule("H2O").positions)[None]
    mixed = Batch.concatenate([model.batch(water, x), model.batch(ethanol, ethanol_positions[:2])])
    expected = torch.cat([model.energy(water, x), energy[:2]])
    torch.testing.assert_close(
        model.batch_energy(mixed).double(), expected.double(), rtol=tolerance, atol=tolerance
    )


def test_atomic_energies_sum_to_the_total_and_atoms_may_be_alone(
    case: Any, model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    local = model.local_energies(model.batch(ethanol, ethanol_positions))
    energy = model.energy(ethanol, ethanol_positions)
    total = local.double().reshape(8, -1).sum(dim=1)
    torch.testing.assert_close(total, energy, rtol=ROUNDING[best(case)], atol=0)
    alone, forces = model.energy_and_forces(System.create([8]), torch.zeros(2, 1, 3).double())
    assert bool(torch.isfinite(alone).all()) and float(forces.abs().max()) == 0.0


def test_parameter_gradients_equal_finite_differences(
    case: Any, model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    if best(case) != torch.float64:
        pytest.skip("finite differences need float64")

    def loss() -> Tensor:
        energy, forces = model.energy_and_forces(ethanol, ethanol_positions[:2], create_graph=True)
        return (energy - energy.detach().round()).square().mean() + forces.square().mean()

    loss().backward()
    generator = torch.Generator().manual_seed(5)
    named = [(n, p) for n, p in model.named_parameters() if p.grad is not None]
    assert named, "nothing is trained"
    directions = [torch.randn(p.shape, generator=generator).to(p) for _, p in named]
    pairs = list(zip(named, directions, strict=True))
    expected = sum(float((p.grad * d).sum()) for (_, p), d in pairs)

    def shifted(step: float) -> float:
        with torch.no_grad():
            for (_, p), d in pairs:
                p.data.add_(d, alpha=step)
        value = float(loss().detach())
        with torch.no_grad():
            for (_, p), d in pairs:
                p.data.sub_(d, alpha=step)
        return value

    step = 1e-6
    assert (shifted(step) - shifted(-step)) / (2 * step) == pytest.approx(expected, rel=1e-4)


def test_saved_and_loaded_it_is_the_same_model(
    case: Any, model: Potential, tmp_path: Path, ethanol: System, ethanol_positions: Tensor
) -> None:
    """Also after a change of weights and constants; the package's calculator agrees."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(1.01)
    model.shift_energies(0.25)
    path = tmp_path / f"changed{model.file_suffix}"
    save_potential(model, path)
    again = load_potential(path, options=case.options)
    expected, forces = model.energy_and_forces(ethanol, ethanol_positions[:2])
    energy, forces_again = again.energy_and_forces(ethanol, ethanol_positions[:2])
    assert torch.equal(energy, expected) and torch.equal(forces, forces_again)
    atoms = molecule("CH3CH2OH")
    atoms.positions = ethanol_positions[0].numpy()
    own, _ = case.calculator(path, best(case))(atoms)
    assert float(expected[0]) == pytest.approx(float(own), rel=ROUNDING[best(case)])


def test_a_constant_shifts_every_atom(
    model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    before = model.energy(ethanol, ethanol_positions[:2]).detach()
    model.shift_energies(0.5)
    after = model.energy(ethanol, ethanol_positions[:2]).detach()
    torch.testing.assert_close(after - before, torch.full_like(before, 4.5), rtol=1e-4, atol=0)


def test_copies_and_state_dicts_carry_the_weights(
    model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    """As training keeps them: tensors only, loaded back in place."""
    copied = copy.deepcopy(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert all(isinstance(value, Tensor) for value in state.values())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data.mul_(1.1)
    changed = model.energy(ethanol, ethanol_positions[:1]).detach()
    before = copied.energy(ethanol, ethanol_positions[:1]).detach()
    assert not torch.equal(changed, before)
    model.load_state_dict(state)
    assert torch.equal(model.energy(ethanol, ethanol_positions[:1]).detach(), before)


def test_a_repulsion_can_be_added(
    case: Any, model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    zbl = ZBL().to(best(case))
    energy, forces = (model + zbl).energy_and_forces(ethanol, ethanol_positions)
    parts = [t.energy_and_forces(ethanol, ethanol_positions) for t in (model, zbl)]
    tolerance = ROUNDING[best(case)]
    torch.testing.assert_close(energy, parts[0][0] + parts[1][0], rtol=tolerance, atol=0)
    torch.testing.assert_close(forces, parts[0][1] + parts[1][1], rtol=0, atol=1e3 * tolerance)


def test_a_broken_replica_does_not_reach_the_others(
    case: Any, model: Potential, ethanol: System, ethanol_positions: Tensor
) -> None:
    """Edges are counted anew in every call, so the others agree to rounding, not in every bit."""
    form = model.for_sampling(ethanol)
    energy, forces = form(ethanol_positions)
    broken = ethanol_positions.clone()
    broken[3, 2, 1] = float("nan")
    energy_broken, forces_broken = form(broken)
    keep = torch.arange(8) != 3
    assert not bool(torch.isfinite(energy_broken[3]))
    tolerance = ROUNDING[best(case)]
    torch.testing.assert_close(energy_broken[keep], energy[keep], rtol=tolerance, atol=0)
    torch.testing.assert_close(forces_broken[keep], forces[keep], rtol=0, atol=10 * tolerance)
