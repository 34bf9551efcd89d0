"""A user's own module or function as a potential, and any potential as an ASE calculator."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.potentials import Batch, FunctionPotential, LennardJones
from stablemd.system import System


class Springs(nn.Module):
    """All atoms on springs at the origin; atomic energies."""

    def __init__(self) -> None:
        super().__init__()
        self.stiffness = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))

    def forward(self, batch: Batch) -> Tensor:
        return 0.5 * self.stiffness * batch.positions.square().sum(dim=1)


def test_a_module_gives_energies_forces_and_parameter_gradients(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = FunctionPotential(Springs(), cutoff=1.0)
    energy, forces = potential.energy_and_forces(ethanol, ethanol_positions)
    torch.testing.assert_close(energy, ethanol_positions.square().sum(dim=(1, 2)))
    torch.testing.assert_close(forces, -2.0 * ethanol_positions)
    potential.energy(ethanol, ethanol_positions).sum().backward()
    expected = 0.5 * float(ethanol_positions.square().sum())
    assert float(potential.function.stiffness.grad) == pytest.approx(expected)  # type: ignore[union-attr]


def test_a_function_of_total_energies_has_no_atomic_ones(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    def total(batch: Batch) -> Tensor:
        return batch.positions.square().reshape(batch.n_structures, -1).sum(dim=1)

    potential = FunctionPotential(total, cutoff=1.0, local=False)
    _, forces = potential.energy_and_forces(ethanol, ethanol_positions)
    torch.testing.assert_close(forces, -2.0 * ethanol_positions)
    with pytest.raises(PotentialError, match="total energies only"):
        potential.require_local_energies()
    with pytest.raises(PotentialError, match="no trainable parameters"):
        potential.require_trainable()


def test_a_result_of_another_shape_is_explained(ethanol: System, ethanol_positions: Tensor) -> None:
    potential = FunctionPotential(lambda batch: batch.positions.sum(), cutoff=1.0)
    with pytest.raises(PotentialError, match=r"returned \(\); expected atomic energies"):
        potential.energy(ethanol, ethanol_positions)


def test_ase_calculator_of_a_molecule() -> None:
    atoms = molecule("H2O")
    atoms.calc = FunctionPotential(Springs(), cutoff=1.0).calculator()
    np.testing.assert_allclose(atoms.get_forces(), -2.0 * atoms.positions)
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy())
    numerical = calculate_numerical_forces(atoms, eps=1e-4)
    np.testing.assert_allclose(atoms.get_forces(), numerical, atol=1e-7)


def test_ase_calculator_of_a_crystal() -> None:
    atoms = bulk("Ar", "fcc", a=5.2, cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell * [1.0, 1.02, 0.98], scale_atoms=True)
    atoms.calc = LennardJones({"Ar": (3.4, 0.0103)}, cutoff=7.0).double().calculator()
    np.testing.assert_allclose(
        atoms.get_forces(), calculate_numerical_forces(atoms, eps=1e-4), atol=1e-8
    )
    np.testing.assert_allclose(
        atoms.get_stress(), calculate_numerical_stress(atoms, eps=1e-5), atol=1e-8
    )


def test_the_example_of_the_documentation_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "adapters.md").read_text(encoding="utf-8")
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page, re.S) if "Morse" in block
    )
    names: dict[str, Any] = {}
    exec(code, names)
    potential = names["potential"]
    positions = torch.tensor([[[0.0, 0, 0], [1.4, 0, 0]], [[0, 0, 0], [7.0, 0, 0]]]).double()
    energy, forces = potential.energy_and_forces(System.create(["H", "H"]), positions)
    envelope = (1.0 - (1.4 / 6.0) ** 2) ** 3
    assert energy.tolist() == pytest.approx([-0.2 * envelope, 0.0])
    assert float(forces[1].abs().max()) == 0.0
    energy = potential.energy(System.create(["H", "H"]), positions)
    energy.sum().backward()
    assert float(potential.function.depth.grad) == pytest.approx(-envelope)
