"""GemNet-T's compiled sampling form is the model that it was made from.

The arithmetic is that of float32: 1e-5 of the largest force, 1e-6 eV per atom.
"""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.potentials import GemNetT
from stablemd.potentials.float_vector import LANES
from stablemd.potentials.gemnet.silu_kernels import activate
from stablemd.potentials.gemnet_compiled import CompiledGemNetSampling
from stablemd.system import System

SHAPES = {
    "small": {},
    "widths that are no whole vectors": {
        "n_blocks": 1,
        "n_atom": 20,
        "n_edge": 24,
        "n_triplet": 9,
        "n_bilinear": 7,
        "n_rbf": 5,
        "n_cbf": 3,
        "n_spherical": 5,
    },
    "more angular than other features": {
        "n_blocks": 1,
        "n_atom": 4,
        "n_edge": 8,
        "n_triplet": 4,
        "n_bilinear": 4,
        "n_cbf": 2,
        "n_spherical": 12,
    },
    "other stacks of residual layers": {
        "n_blocks": 3,
        "n_before_skip": 2,
        "n_after_skip": 0,
        "n_concat": 0,
        "n_atom_residual": 2,
        "n_edge": 64,
    },
    "gaussian, distances alone": {
        "n_blocks": 1,
        "radial_basis": "gaussian",
        "envelope_exponent": 3,
        "n_spherical": 1,
        "n_atom_residual": 0,
    },
}


def water(n_molecules: int) -> tuple[System, Tensor]:
    """Molecules on a lattice in a triclinic box, distorted; three replicas, unwrapped."""
    side = round(n_molecules ** (1 / 3))
    generator = torch.Generator().manual_seed(2)
    grid = torch.cartesian_prod(*3 * [torch.arange(float(side))]).reshape(-1, 1, 3) * 3.1
    shape = torch.tensor([[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.2, 0.9, 0.3]])
    x = (grid + shape).reshape(1, -1, 3).double()
    x = x + 0.15 * torch.randn(3, *x.shape[1:], generator=generator).double()
    cell = 3.1 * side * np.array([[1.0, 0.0, 0.0], [0.1, 1.0, 0.0], [-0.2, 0.15, 1.05]])
    system = System.create(n_molecules * [8, 1, 1], cell=cell, pbc=True)
    x[1] += torch.tensor([2.0, -1.0, 3.0]).double() @ system.cell
    return system, x


def model(system: System, positions: Tensor, **arguments: object) -> GemNetT:
    torch.manual_seed(5)
    potential = GemNetT(**{"cutoff": 4.0, **arguments})  # type: ignore[arg-type]
    potential.set_energy_scale(1.7, {1: -13.6, 8: -431.25})
    potential.fit_scale_factors(potential.batch(system, positions[:1]))
    with torch.no_grad():
        for output in potential.outputs:
            output.energy.weight.mul_(5.0)  # forces of the size of a liquid's
    return potential


@pytest.mark.parametrize("shape", SHAPES)
def test_the_compiled_form_is_the_model(shape: str) -> None:
    """Energies, atomic energies, forces and stress, against the model in double precision."""
    system, positions = water(8)
    potential = model(system, positions, **SHAPES[shape])
    form = potential.for_sampling(system)
    assert isinstance(form, CompiledGemNetSampling)
    cells = system.cell * torch.tensor([1.0, 1.02, 0.97]).double()[:, None, None]
    energies, forces, stress = form.with_stress(positions, cells)
    exact = potential.double()
    expected = exact.energy_forces_and_stress(system, positions, cells)
    size = float(expected[1].abs().max())
    assert size > 0.3
    assert float((forces - expected[1]).abs().max()) < 1e-5 * size
    assert float((energies - expected[0]).detach().abs().max()) < 1e-6 * system.n_atoms
    assert float((stress - expected[2]).abs().max()) < 1e-5 * float(expected[2].abs().max())
    local = exact.local_energies(exact.batch(system, positions, cells)).detach()
    found = form.atomic_energies(positions, cells)
    torch.testing.assert_close(found.flatten(), local, rtol=0.0, atol=3e-6)


def test_forces_are_the_gradient_of_the_forms_own_energy() -> None:
    """Both come from float32; the step is as wide as their rounding needs."""
    system, positions = water(8)
    form = model(system, positions).for_sampling(system)
    x = positions[:1]
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
    direction /= direction.norm()
    above, below = (form.energies(x + s * 0.005 * direction) for s in (1.0, -1.0))
    slope = float(above - below) / 0.01
    assert abs(slope) > 0.1
    assert -float((form(x)[1] * direction).sum()) == pytest.approx(slope, abs=2e-3)


def test_numbers_depend_on_no_other_replica_nor_on_what_came_before() -> None:
    """Also where scratch memory has to grow, and where a replica is not finite."""
    system, positions = water(27)
    form = model(system, positions).for_sampling(system)
    dense = 0.7 * positions
    cells = (0.7 * system.cell).expand(3, 3, 3)
    first = form(positions)
    crowded = form(dense, cells)
    again = form(positions)
    for found, expected in zip(again, first, strict=True):
        assert torch.equal(found, expected)
    broken = dense.clone()
    broken[1, 4, 2] = float("inf")
    energies, forces = form(broken, cells)
    assert bool(energies[1].isnan()) and bool(forces[1].isnan().all())
    keep = [0, 2]
    assert torch.equal(forces[keep], crowded[1][keep])
    assert torch.equal(form.energies(dense, cells), crowded[0])


def test_threads_and_copies_give_the_same_bits() -> None:
    system, positions = water(8)
    form = model(system, positions).for_sampling(system)
    expected = form(positions)[1]
    copies = [form.for_thread() for _ in range(2)] + [pickle.loads(pickle.dumps(form))]
    with ThreadPoolExecutor(len(copies)) as threads:
        for forces in threads.map(lambda own: own(positions)[1], copies):
            assert torch.equal(forces, expected)


def test_molecules_without_neighbours_and_without_a_cell() -> None:
    """An isolated pair as in the model, and atoms with nothing in reach."""
    free = System.create([8, 1, 1])
    bent = torch.tensor([[[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.2, 0.9, 0.3]]]).double()
    potential = model(free, bent, n_edge=2 * LANES)
    form = potential.for_sampling(free)
    energies, forces = form(bent)
    exact_energies, exact_forces = potential.double().energy_and_forces(free, bent)
    torch.testing.assert_close(forces, exact_forces, rtol=0.0, atol=1e-5)
    torch.testing.assert_close(energies, exact_energies.detach(), rtol=0.0, atol=1e-5)
    far = form(20.0 * bent)
    assert float(far[1].abs().max()) == 0.0
    alone = potential.energy(free, 20.0 * bent).detach()
    torch.testing.assert_close(far[0], alone, rtol=0.0, atol=1e-5)


def test_atoms_in_one_place_end_their_own_replica_alone() -> None:
    system, positions = water(8)
    form = model(system, positions).for_sampling(system)
    energies, forces = form(positions)
    positions[1, 4] = positions[1, 2]
    found, found_forces = form(positions)
    assert bool(found[1].isnan()) and bool(found_forces[1].isnan().all())
    assert torch.equal(found[[0, 2]], energies[[0, 2]])
    assert torch.equal(found_forces[[0, 2]], forces[[0, 2]])


def test_silu_and_its_slope_from_one_end_of_single_precision_to_the_other() -> None:
    """Relative to their size, the slope to that of one, and NaN stays NaN."""
    v = torch.cat([torch.linspace(-30.0, 30.0, 1000 * LANES - 4), torch.tensor([-1e30, 0, 1e30])])
    v = torch.cat([v, torch.tensor([float("nan")])])
    value, slope = torch.empty_like(v), torch.empty_like(v)
    activate(v.numpy(), value.numpy(), slope.numpy())
    x = v.double().requires_grad_(True)
    exact = torch.nn.functional.silu(x) / 0.6
    (exact_slope,) = torch.autograd.grad(exact.sum(), x)
    assert bool(value[-1].isnan()) and bool(slope[-1].isnan())
    torch.testing.assert_close(value[:-4].double(), exact.detach()[:-4], rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(slope[:-4].double(), exact_slope[:-4], rtol=1e-6, atol=1e-6)
    assert float(value[-2]) == pytest.approx(1e30 / 0.6, rel=1e-6)
    assert float(value[-3]) == 0.0 and float(slope[-3]) == pytest.approx(0.5 / 0.6, rel=1e-6)
