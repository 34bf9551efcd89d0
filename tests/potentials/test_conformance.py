"""Laws that every registered potential obeys.

Tolerances: in float64 two routes to one number differ by rounding only
(relative 1e-10); finite differences of step 1e-4 Å are good to about 1e-7.
"""

from __future__ import annotations

import io

import pytest
import torch
from ase.build import molecule
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials import POTENTIALS, Batch, Potential, make_potential
from stablemd.potentials.files import load_potential, save_potential
from stablemd.system import System

ROUNDING = 1e-10
FINITE_DIFFERENCE = 1e-6

ELSEWHERE = {
    "harmonic_bonds": "knows one kind of structure: test_classical.py",
    "lennard_jones": "atoms at bond lengths are far up its wall: test_classical.py",
    "nequip": "needs an environment of its own: tests/adapters",
}
"""Registered potentials that these structures do not suit, and where they are tested."""

pytestmark = pytest.mark.parametrize("name", sorted(set(POTENTIALS) - set(ELSEWHERE)))


def build(name: str, dtype: torch.dtype = torch.float64) -> Potential:
    torch.manual_seed(11)
    potential = make_potential(name).to(dtype)
    potential.requires_grad_(True)
    with torch.no_grad():
        for parameter in potential.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return potential


def rotation() -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2)).double())
    return q * torch.sign(torch.linalg.det(q))


def test_rigid_motion_changes_no_energy_and_rotates_forces(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = build(name)
    energy, forces = potential.energy_and_forces(ethanol, ethanol_positions)
    turn = rotation()
    moved = ethanol_positions @ turn.T + torch.tensor([0.3, -2.0, 1.1], dtype=torch.float64)
    energy_moved, forces_moved = potential.energy_and_forces(ethanol, moved)
    torch.testing.assert_close(energy_moved, energy, rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(forces_moved, forces @ turn.T, rtol=1e-8, atol=1e-9)


def test_energy_is_invariant_under_permutation_of_atoms(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = build(name)
    order = torch.randperm(ethanol.n_atoms, generator=torch.Generator().manual_seed(0))
    permuted = System.create(ethanol.numbers[order])
    _, forces = potential.energy_and_forces(ethanol, ethanol_positions)
    energy = potential.energy(ethanol, ethanol_positions)
    energy_permuted, forces_permuted = potential.energy_and_forces(
        permuted, ethanol_positions[:, order]
    )
    torch.testing.assert_close(energy_permuted, energy.detach(), rtol=ROUNDING, atol=ROUNDING)
    torch.testing.assert_close(forces_permuted, forces[:, order], rtol=1e-8, atol=1e-9)


def test_forces_are_the_negative_gradient(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = build(name)
    positions = ethanol_positions[:1]
    _, forces = potential.energy_and_forces(ethanol, positions)
    step = 1e-4
    for atom, axis in ((0, 0), (3, 1), (8, 2)):
        shift = torch.zeros_like(positions)
        shift[0, atom, axis] = step
        above = potential.energy(ethanol, positions + shift)
        below = potential.energy(ethanol, positions - shift)
        slope = float((above - below).detach()) / (2 * step)
        force = float(forces[0, atom, axis])
        assert abs(slope + force) < FINITE_DIFFERENCE * max(1.0, abs(force))


def test_forces_sum_to_zero(name: str, ethanol: System, ethanol_positions: Tensor) -> None:
    _, forces = build(name).energy_and_forces(ethanol, ethanol_positions)
    assert float(forces.sum(dim=1).abs().max()) < 1e-10


def test_energy_and_forces_vanish_smoothly_at_the_cutoff(name: str) -> None:
    """Two fragments pulled apart through the cutoff: no jump in energy or force."""
    potential = build(name)
    system = System.create([8, 6])
    separations = potential.cutoff + torch.linspace(-1e-3, 1e-3, 21, dtype=torch.float64)
    positions = torch.zeros(21, 2, 3, dtype=torch.float64)
    positions[:, 1, 0] = separations
    energy, forces = potential.energy_and_forces(system, positions)
    apart = potential.energy(system, 3 * positions[-1:]).detach()
    assert float((energy - apart).abs().max()) < 1e-6
    assert float(forces.abs().max()) < 1e-3
    assert float(forces[-5:].abs().max()) == 0.0


def test_isolated_atom_has_finite_energy_and_no_force(name: str) -> None:
    potential = build(name)
    system = System.create([8])
    energy, forces = potential.energy_and_forces(system, torch.zeros(2, 1, 3).double())
    assert bool(torch.isfinite(energy).all())
    assert float(forces.abs().max()) == 0.0


def test_batched_equals_single(name: str, ethanol: System, ethanol_positions: Tensor) -> None:
    potential = build(name)
    energy, forces = potential.energy_and_forces(ethanol, ethanol_positions)
    for index in range(len(ethanol_positions)):
        one = ethanol_positions[index : index + 1]
        energy_one, forces_one = potential.energy_and_forces(ethanol, one)
        torch.testing.assert_close(energy_one[0], energy[index], rtol=ROUNDING, atol=ROUNDING)
        torch.testing.assert_close(forces_one[0], forces[index], rtol=1e-9, atol=1e-10)


def test_different_molecules_in_one_batch(name: str, ethanol_positions: Tensor) -> None:
    potential = build(name)
    water = molecule("H2O")
    ethanol = System.create(molecule("CH3CH2OH").numbers)
    water_system = System.create(water.numbers)
    water_positions = torch.from_numpy(water.positions)[None]
    batch = Batch.concatenate(
        [
            potential.batch(ethanol, ethanol_positions[:2]),
            potential.batch(water_system, water_positions),
        ]
    )
    energy, _ = potential.batch_energy_and_forces(batch)
    expected = torch.cat(
        [
            potential.energy(ethanol, ethanol_positions[:2]),
            potential.energy(water_system, water_positions),
        ]
    )
    torch.testing.assert_close(energy, expected.detach(), rtol=ROUNDING, atol=ROUNDING)


def test_atomic_energies_sum_to_the_total(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = build(name)
    if not potential.has_local_energies:
        pytest.skip("this potential gives total energies only")
    batch = potential.batch(ethanol, ethanol_positions)
    local = potential.local_energies(batch).reshape(len(ethanol_positions), -1)
    energy = potential.energy(ethanol, ethanol_positions)
    torch.testing.assert_close(local.sum(dim=1), energy, rtol=ROUNDING, atol=ROUNDING)


def test_parameter_gradients_of_a_force_loss_equal_finite_differences(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = build(name)

    def loss() -> Tensor:
        energy, forces = potential.energy_and_forces(
            ethanol, ethanol_positions[:2], create_graph=True
        )
        return energy.square().mean() + forces.square().mean()

    loss().backward()
    generator = torch.Generator().manual_seed(5)
    direction = {
        key: torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for key, p in potential.named_parameters()
        if p.grad is not None
    }
    expected = sum(
        float((p.grad * direction[key]).sum())
        for key, p in potential.named_parameters()
        if p.grad is not None
    )
    step = 1e-5

    def shifted(sign: float) -> float:
        with torch.no_grad():
            for key, p in potential.named_parameters():
                if key in direction:
                    p.add_(sign * step * direction[key])
        value = float(loss().detach())
        with torch.no_grad():
            for key, p in potential.named_parameters():
                if key in direction:
                    p.sub_(sign * step * direction[key])
        return value

    slope = (shifted(1.0) - shifted(-1.0)) / (2 * step)
    assert slope == pytest.approx(expected, rel=1e-6)


def test_state_dict_round_trip(name: str, ethanol: System, ethanol_positions: Tensor) -> None:
    potential = build(name)
    stream = io.BytesIO()
    torch.save(potential.state_dict(), stream)
    stream.seek(0)
    copy = make_potential(name).double()
    copy.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(
        copy.energy(ethanol, ethanol_positions), potential.energy(ethanol, ethanol_positions)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_file_round_trip(
    name: str, dtype: torch.dtype, ethanol: System, ethanol_positions: Tensor, tmp_path
) -> None:
    potential = build(name, dtype)
    save_potential(potential, tmp_path / "model.pt")
    copy = load_potential(tmp_path / "model.pt")
    assert copy.dtype == dtype
    assert torch.equal(
        copy.energy(ethanol, ethanol_positions), potential.energy(ethanol, ethanol_positions)
    )


def test_sampling_form_gives_the_same_numbers(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    """The bounds of the sampling contract: 1e-4 eV/Å and 1e-5 eV per atom."""
    potential = build(name, torch.float32)
    energy, forces = potential.energy_and_forces(ethanol, ethanol_positions)
    form = potential.for_sampling(ethanol, ethanol_positions)
    energy_sampled, forces_sampled = form(ethanol_positions)
    assert float((forces_sampled - forces).abs().max()) < 1e-4
    assert float((energy_sampled - energy).abs().max()) < 1e-5 * ethanol.n_atoms


def test_sampling_forms_of_two_systems_do_not_disturb_each_other(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    """One model at several state points: forms of both are at hand, and called in turn."""
    potential = build(name, torch.float32)
    assert potential.is_transferable
    water = molecule("H2O")
    water_system = System.create(water.numbers)
    water_positions = torch.from_numpy(water.positions)[None].repeat(8, 1, 1)
    water_positions = water_positions + 0.02 * ethanol_positions[:, :3]
    alone = potential.for_sampling(ethanol, ethanol_positions)(ethanol_positions)
    first = potential.for_sampling(ethanol, ethanol_positions)
    second = potential.for_sampling(water_system, water_positions)
    for _ in range(2):
        other = second(water_positions)
        for found, expected in zip(first(ethanol_positions), alone, strict=True):
            assert torch.equal(found, expected)
    exact = potential.energy_and_forces(water_system, water_positions)
    assert float((other[0] - exact[0]).abs().max()) < 1e-5 * water_system.n_atoms
    assert float((other[1] - exact[1]).abs().max()) < 1e-4


def test_sampling_form_keeps_its_promise_of_independent_replicas(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    form = build(name, torch.float32).for_sampling(ethanol)
    if not form.replica_independent:
        pytest.skip("this form makes no such promise; the step loop pads its batch")
    energy, forces = form(ethanol_positions)
    order = torch.tensor([5, 0, 7])
    energy_some, forces_some = form(ethanol_positions[order])
    assert torch.equal(energy_some, energy[order])
    assert torch.equal(forces_some, forces[order])


def test_sampling_form_reports_non_finite_positions_without_harming_others(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    form = build(name, torch.float32).for_sampling(ethanol)
    _, forces = form(ethanol_positions)
    broken = ethanol_positions.clone()
    broken[3, 2, 1] = float("nan")
    energy_broken, forces_broken = form(broken)
    keep = torch.arange(len(broken)) != 3
    assert not bool(torch.isfinite(energy_broken[3]))
    assert torch.equal(forces_broken[keep], forces[keep])


def test_atomic_energies_of_the_sampling_form_are_the_models(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    potential = build(name, torch.float32)
    form = potential.for_sampling(ethanol, ethanol_positions)
    if not potential.has_local_energies:
        with pytest.raises(PotentialError, match="atomic energies"):
            form.atomic_energies(ethanol_positions)
        return
    local = form.atomic_energies(ethanol_positions)
    assert local.shape == (len(ethanol_positions), ethanol.n_atoms)
    exact = potential.local_energies(potential.batch(ethanol, ethanol_positions)).detach()
    assert float((local - exact.reshape(local.shape)).abs().max()) < 1e-4
    energies, _ = form(ethanol_positions)
    torch.testing.assert_close(local.sum(dim=1), energies, rtol=0, atol=1e-5)


def test_energies_alone_are_those_of_a_call(
    name: str, ethanol: System, ethanol_positions: Tensor
) -> None:
    form = build(name, torch.float32).for_sampling(ethanol)
    broken = ethanol_positions.clone()
    broken[3, 2, 1] = float("nan")
    energies, _ = form(broken)
    assert torch.equal(form.energies(broken).isfinite(), energies.isfinite())
    keep = energies.isfinite()
    torch.testing.assert_close(form.energies(broken)[keep], energies[keep], rtol=0, atol=1e-7)
