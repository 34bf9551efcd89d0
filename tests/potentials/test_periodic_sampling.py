"""Sampling forms, stress and cells of every registered potential in periodic systems.

The cell is smaller than the cutoff; tolerances are those of ``test_conformance``.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.errors import PotentialError, SystemDefinitionError
from stablemd.geometry.lattice import volumes
from stablemd.potentials import POTENTIALS, Potential
from stablemd.system import System
from tests.potentials.test_conformance import build

CELL = torch.tensor([[4.6, 0.0, 0.0], [-1.1, 4.3, 0.0], [0.8, 0.9, 4.9]], dtype=torch.float64)
WATER = [[0.0, 0.0, 0.0], [0.93, 0.2, 0.1], [-0.3, 0.9, -0.15]]

ELSEWHERE = {
    "harmonic_bonds": "knows one kind of structure: test_classical.py",
    "lennard_jones": "its default is argon: a crystal of it is in test_function.py",
    "nequip": "needs an environment of its own: tests/adapters",
    "zbl": "ends at 2 Å, shorter than this cell",
}
"""Registered potentials that this crystal does not suit, and where they are tested."""

pytestmark = pytest.mark.parametrize("name", sorted(set(POTENTIALS) - set(ELSEWHERE)))


@pytest.fixture
def ice() -> System:
    return System.create(["O", "H", "H"], cell=CELL.numpy(), pbc=True)


@pytest.fixture
def positions() -> Tensor:
    generator = torch.Generator().manual_seed(4)
    noise = 0.1 * torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    return torch.tensor(WATER, dtype=torch.float64) + noise


def needs_stress(potential: Potential, ice: System, positions: Tensor) -> None:
    try:
        potential.energy_forces_and_stress(ice, positions[:1])
    except PotentialError as error:
        if "stress" not in str(error):
            raise
        pytest.skip(f"gives no stress: {error}")


def test_stress_is_the_strain_derivative(name: str, ice: System, positions: Tensor) -> None:
    potential, step = build(name), 1e-4
    needs_stress(potential, ice, positions)
    generator = torch.Generator().manual_seed(9)
    factor = 1.0 + 0.05 * torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
    cells = CELL * factor
    x = positions[:2]
    _, forces, stress = potential.energy_forces_and_stress(ice, x, cells)
    torch.testing.assert_close(forces, potential.energy_and_forces(ice, x, cells)[1])
    torch.testing.assert_close(stress, stress.transpose(1, 2), rtol=0, atol=1e-12)
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain = torch.zeros(3, 3, dtype=torch.float64)
        strain[a, b] = strain[b, a] = step if a == b else 0.5 * step
        above, below = (
            potential.energy(ice, x + s * x @ strain, cells + s * cells @ strain).detach()
            for s in (1.0, -1.0)
        )
        slope = (above - below) / (2 * step) / volumes(cells)
        torch.testing.assert_close(stress[:, a, b], slope, rtol=1e-5, atol=1e-7)


def test_a_wide_cell_is_no_cell(name: str, ice: System, positions: Tensor) -> None:
    potential = build(name)
    free = System.create(ice.numbers)
    wide = System.create(ice.numbers, cell=60.0 * torch.eye(3).numpy(), pbc=True)
    energy, forces = potential.energy_and_forces(free, positions)
    energy_wide, forces_wide = potential.energy_and_forces(wide, positions)
    torch.testing.assert_close(energy_wide, energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(forces_wide, forces, rtol=1e-8, atol=1e-9)
    with pytest.raises((SystemDefinitionError, PotentialError)):
        potential.energy_forces_and_stress(free, positions)


def test_sampling_forms_follow_atoms_and_cells(name: str, ice: System, positions: Tensor) -> None:
    """The sampling contract holds along a path on which lists are kept and rebuilt."""
    potential = build(name, torch.float32)
    form = potential.for_sampling(ice, positions)
    generator = torch.Generator().manual_seed(6)
    x, cells = positions, CELL.repeat(3, 1, 1)
    for step in range(6):
        x = x + 0.12 * torch.randn(x.shape, generator=generator, dtype=torch.float64)
        if step == 2:
            x = x - (x @ torch.linalg.inv(cells)).floor() @ cells
        if step > 3:
            cells = cells * 1.01
        energy, forces = potential.energy_and_forces(ice, x, cells)
        energy_form, forces_form = form(x, cells)
        assert float((forces_form - forces).abs().max()) < 1e-4 * max(
            1.0, float(forces.abs().max())
        )
        assert float((energy_form - energy).abs().max()) < 1e-5 * ice.n_atoms
    if form.replica_independent:
        alone = [form(one, cell) for one, cell in zip(x.split(1), cells.split(1), strict=True)]
        assert torch.equal(torch.cat([f for _, f in alone]), forces_form)
        assert torch.equal(torch.cat([e for e, _ in alone]), energy_form)
    needs_stress(potential, ice, positions)
    stress = potential.energy_forces_and_stress(ice, x, cells)[2]
    *_, stress_form = form.with_stress(x, cells)
    assert float((stress_form - stress).abs().max()) < 1e-5 * max(1.0, float(stress.abs().max()))


def test_a_replica_that_is_not_finite_harms_no_other(
    name: str, ice: System, positions: Tensor
) -> None:
    form = build(name, torch.float32).for_sampling(ice)
    _, forces = form(positions)
    broken = positions.clone()
    broken[1, 2, 0] = float("nan")
    energy_broken, forces_broken = form(broken)
    assert not bool(torch.isfinite(energy_broken[1]))
    keep = torch.tensor([0, 2])
    assert torch.equal(forces_broken[keep], forces[keep])
