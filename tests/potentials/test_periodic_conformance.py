"""Laws that every registered potential obeys in periodic systems.

The cell is triclinic and shorter than the cutoff, so that atoms are neighbours
of their own images and one pair of atoms has several.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.potentials import POTENTIALS, Potential, make_potential
from stablemd.system import System

ELSEWHERE = {
    "harmonic_bonds": "knows one kind of structure: test_classical.py",
    "lennard_jones": "its default is argon: a crystal of it is in test_function.py",
    "nequip": "needs an environment of its own: tests/adapters",
    "zbl": "ends at 2 Å, shorter than this cell",
}
"""Registered potentials that this crystal does not suit, and where they are tested."""

pytestmark = pytest.mark.parametrize("name", sorted(set(POTENTIALS) - set(ELSEWHERE)))

CELL = torch.tensor([[4.1, 0.0, 0.0], [0.9, 3.9, 0.0], [-0.6, 0.4, 4.4]], dtype=torch.float64)
POSITIONS = torch.tensor([[[0.1, 0.2, 0.3], [2.0, 1.9, 2.2], [0.9, 2.3, 0.4]]], dtype=torch.float64)
STEP = 1e-5
"""Of finite differences; their error falls as its square and is below 1e-8 eV here."""


def build(name: str) -> Potential:
    torch.manual_seed(12)
    return make_potential(name).double()


def crystal() -> System:
    return System.create([8, 1, 6], cell=CELL.numpy(), pbc=True)


def test_a_repeated_cell_has_the_energy_and_forces_of_its_copies(name: str) -> None:
    potential, system = build(name), crystal()
    batch = potential.batch(system, POSITIONS)
    assert bool((batch.pairs[0] == batch.pairs[1]).any()), "self-image pairs are meant to be in"
    energy, forces = potential.energy_and_forces(system, POSITIONS)
    large = System.create(system.numbers.repeat(8), cell=(2.0 * CELL).numpy(), pbc=True)
    corners = torch.cartesian_prod(*[torch.arange(2.0).double()] * 3) @ CELL
    copies = (POSITIONS[0] + corners[:, None]).reshape(1, 24, 3)
    energy_large, forces_large = potential.energy_and_forces(large, copies)
    assert float(energy_large) == pytest.approx(8.0 * float(energy), rel=1e-11)
    torch.testing.assert_close(forces_large, forces.repeat(1, 8, 1), rtol=1e-9, atol=1e-11)


def test_moving_atoms_by_cell_vectors_changes_nothing(name: str) -> None:
    potential, system = build(name), crystal()
    energy, forces = potential.energy_and_forces(system, POSITIONS)
    shifts = torch.tensor([[0.0, 0.0, 0.0], [3.0, -1.0, 2.0], [-2.0, 5.0, 1.0]]).double()
    energy_moved, forces_moved = potential.energy_and_forces(system, POSITIONS + shifts @ CELL)
    torch.testing.assert_close(energy_moved, energy, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(forces_moved, forces, rtol=1e-9, atol=1e-10)


def test_forces_are_the_negative_gradient(name: str) -> None:
    potential, system = build(name), crystal()
    _, forces = potential.energy_and_forces(system, POSITIONS)
    for atom, axis in ((0, 0), (1, 2), (2, 1)):
        shift = torch.zeros_like(POSITIONS)
        shift[0, atom, axis] = STEP
        above = potential.energy(system, POSITIONS + shift)
        below = potential.energy(system, POSITIONS - shift)
        slope = float((above - below).detach()) / (2.0 * STEP)
        assert -slope == pytest.approx(float(forces[0, atom, axis]), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize(("i", "j"), [(0, 0), (1, 2)])
def test_stress_is_the_strain_derivative(name: str, i: int, j: int) -> None:
    potential, system = build(name), crystal()
    _, _, stress = potential.energy_forces_and_stress(system, POSITIONS)
    strain = torch.zeros(3, 3, dtype=torch.float64)
    strain[i, j] += 0.5 * STEP
    strain[j, i] += 0.5 * STEP

    def energy(deformation: Tensor) -> float:
        moved = potential.energy(system, POSITIONS @ deformation, (CELL @ deformation)[None])
        return float(moved.detach())

    one = torch.eye(3, dtype=torch.float64)
    slope = (energy(one + strain) - energy(one - strain)) / (2.0 * STEP)
    volume = float(torch.linalg.det(CELL).abs())
    assert float(stress[0, i, j]) * volume == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_sampling_form_gives_the_same_numbers(name: str) -> None:
    potential, system = build(name).float(), crystal()
    cells = CELL * torch.tensor([1.0, 1.02, 0.97]).double()[:, None, None]
    positions = POSITIONS + 0.05 * torch.randn(
        3, 3, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )
    energy, forces = potential.energy_and_forces(system, positions, cells)
    form = potential.for_sampling(system)
    energy_sampled, forces_sampled = form(positions, cells)
    assert float((forces_sampled - forces).abs().max()) < 1e-4
    assert float((energy_sampled - energy).abs().max()) < 1e-5 * system.n_atoms
