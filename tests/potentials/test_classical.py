"""Classical terms against their formulas, and sums of potentials."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials import (
    ZBL,
    FunctionPotential,
    HarmonicBonds,
    LennardJones,
    SchNet,
    SumPotential,
)
from stablemd.potentials.classical.pair_term import envelope
from stablemd.potentials.files import load_potential, save_potential
from stablemd.system import System


def pair(distances: list[float]) -> Tensor:
    positions = torch.zeros(len(distances), 2, 3, dtype=torch.float64)
    positions[:, 1, 2] = torch.tensor(distances, dtype=torch.float64)
    return positions


def test_envelope_is_one_at_zero_and_flat_at_both_ends() -> None:
    x = torch.tensor([0.0, 1.0 - 1e-9, 1.0, 1.7], dtype=torch.float64, requires_grad=True)
    value = envelope(x)
    (slope,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(value.detach(), torch.tensor([1.0, 0, 0, 0]).double())
    assert float(slope.detach().abs().max()) < 1e-8 and float(curvature.abs().max()) < 1e-6
    assert bool(torch.isnan(envelope(torch.tensor(float("nan")))))


def test_lennard_jones_well() -> None:
    """The minimum of the unlike pair is -sqrt(ε1 ε2), at 2^(1/6) (σ1 + σ2) / 2."""
    term = LennardJones({"Ar": (3.4, 0.010), "Ne": (2.8, 0.0036)}, cutoff=1000.0).double()
    system = System.create(["Ar", "Ne"])
    minimum = 2 ** (1 / 6) * 3.1
    energy, forces = term.energy_and_forces(system, pair([minimum, 3.1]))
    assert float(energy[0]) == pytest.approx(-0.006, rel=1e-5)
    # σ is held in single precision: an error of 6e-8 of it is 24 ε · 6e-8 = 1e-8 eV.
    assert abs(float(energy[1])) < 2e-8 and float(forces[0].abs().max()) < 1e-7


def test_elements_without_parameters_do_not_interact() -> None:
    term = LennardJones({"Ar": (3.4, 0.010)}).double()
    energy, forces = term.energy_and_forces(System.create(["Ar", "H"]), pair([1.0, 3.0]))
    assert float(energy.abs().max()) == 0.0 and float(forces.abs().max()) == 0.0


def test_zbl_is_the_screened_coulomb_energy() -> None:
    """At 0.1 Å, against the published formula written out; atomic units elsewhere."""
    r, z1, z2 = 0.1, 14, 8
    a = 0.8854 * 0.529177 / (z1**0.23 + z2**0.23)
    x = r / a
    phi = (
        0.18175 * np.exp(-3.19980 * x)
        + 0.50986 * np.exp(-0.94229 * x)
        + 0.28022 * np.exp(-0.40290 * x)
        + 0.02817 * np.exp(-0.20162 * x)
    )
    expected = z1 * z2 * 14.39964 / r * phi
    energy = ZBL(cutoff=1e4).double().energy(System.create([z1, z2]), pair([r]))
    assert float(energy.detach()) == pytest.approx(expected, rel=1e-4)


def test_zbl_repels_everywhere_inside_its_cutoff() -> None:
    energy, forces = (
        ZBL()
        .double()
        .energy_and_forces(System.create([6, 1]), pair(np.linspace(0.05, 1.99).tolist()))
    )
    assert bool((energy.diff() < 0).all()) and bool((forces[:, 1, 2] > 0).all())


def test_harmonic_bonds_are_springs() -> None:
    system = System.create(["O", "H", "H"], bonds=[(0, 1), (0, 2)], bond_lengths=[0.96, 0.97])
    term = HarmonicBonds.of(system, stiffness=30.0).double()
    positions = torch.tensor([[[0, 0, 0], [1.06, 0, 0], [0, 1.07, 0]]]).double().repeat(2, 1, 1)
    energy, forces = term.energy_and_forces(system, positions)
    # Two bonds, 0.1 Å too long; bond lengths are held in single precision.
    assert energy.tolist() == pytest.approx([0.3, 0.3], rel=1e-5)
    assert forces[0, 1].tolist() == pytest.approx([-3.0, 0.0, 0.0], rel=1e-5)
    with pytest.raises(PotentialError, match="3 atoms"):
        term.energy(System.create([1, 1]), pair([1.0]))


def test_no_structures_have_no_energies() -> None:
    system = System.create(["H", "H"], bonds=[(0, 1)], bond_lengths=[1.0])
    assert HarmonicBonds.of(system).energy(system, torch.zeros(0, 2, 3).double()).shape == (0,)


def test_harmonic_bonds_reach_across_the_cell() -> None:
    system = System.create(
        ["H", "H"], bonds=[(0, 1)], bond_lengths=[0.7], cell=np.eye(3) * 5.0, pbc=True
    )
    term = HarmonicBonds.of(system, stiffness=2.0).double()
    inside = torch.tensor([[[0.1, 0, 0], [0.9, 0, 0]]]).double()
    across = torch.tensor([[[0.1, 0, 0], [4.3, 0, 0]]]).double()
    torch.testing.assert_close(term.energy(system, inside), term.energy(system, across))


@pytest.mark.parametrize("trainable", [True, False])
def test_terms_are_trainable_or_frozen(trainable: bool) -> None:
    for term in (ZBL(trainable=trainable), LennardJones(trainable=trainable)):
        assert (term.n_parameters > 0) == trainable
        if not trainable:
            with pytest.raises(PotentialError, match="no trainable parameters"):
                term.require_trainable()


# Sums


def terms() -> tuple[SchNet, ZBL]:
    torch.manual_seed(4)
    return SchNet(n_features=8, n_filters=8, n_interactions=1), ZBL()


def test_a_sum_is_the_sum(ethanol: System, ethanol_positions: Tensor) -> None:
    model, zbl = terms()
    total = model + zbl
    energy, forces = total.energy_and_forces(ethanol, ethanol_positions)
    parts = [t.energy_and_forces(ethanol, ethanol_positions) for t in (model, zbl)]
    torch.testing.assert_close(energy, parts[0][0] + parts[1][0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(forces, parts[0][1] + parts[1][1], rtol=1e-5, atol=1e-5)
    assert float(parts[1][1].abs().max()) > 1.0, "the repulsion plays no part in this test"
    assert total.n_parameters == model.n_parameters, "a frozen term adds none"
    local = total.local_energies(total.batch(ethanol, ethanol_positions)).double()
    torch.testing.assert_close(local.reshape(8, -1).sum(dim=1), energy, rtol=1e-6, atol=1e-6)


def test_a_sum_of_sums_is_flat(ethanol: System, ethanol_positions: Tensor) -> None:
    model, zbl = terms()
    total = model + (zbl + LennardJones({}))
    assert isinstance(total, SumPotential) and len(total.terms) == 3


def test_the_sampling_form_of_a_sum_is_the_sum_of_the_terms_own(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    model, zbl = terms()
    energy, forces = (model + zbl).for_sampling(ethanol)(ethanol_positions)
    own = [t.for_sampling(ethanol)(ethanol_positions) for t in (model, zbl)]
    torch.testing.assert_close(energy, own[0][0] + own[1][0], rtol=0, atol=1e-6)
    torch.testing.assert_close(forces, own[0][1] + own[1][1], rtol=0, atol=1e-5)
    form = (model + zbl).for_sampling(ethanol)
    torch.testing.assert_close(form.energies(ethanol_positions), energy, rtol=0, atol=1e-6)
    local = form.atomic_energies(ethanol_positions).sum(dim=1)
    torch.testing.assert_close(local, energy, rtol=0, atol=1e-5)


def test_a_sum_survives_its_file(
    ethanol: System, ethanol_positions: Tensor, tmp_path: Path
) -> None:
    model, zbl = terms()
    total = model + zbl
    total.shift_energies(-2.0)
    save_potential(total, tmp_path / "sum.pt")
    copy = load_potential(tmp_path / "sum.pt")
    assert torch.equal(
        copy.energy(ethanol, ethanol_positions), total.energy(ethanol, ethanol_positions)
    )
    assert copy.n_parameters == model.n_parameters, "frozen stays frozen"


def test_a_repulsion_of_higher_precision_meets_a_model_of_single_precision(
    ethanol: System, ethanol_positions: Tensor
) -> None:
    model, zbl = terms()
    total = model + zbl.double()
    energy, _ = total.energy_and_forces(ethanol, ethanol_positions)
    expected = model.energy(ethanol, ethanol_positions) + zbl.energy(ethanol, ethanol_positions)
    torch.testing.assert_close(energy, expected.detach(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LennardJones({"Xx": (1.0, 1.0)}), "'Xx' is not a chemical symbol"),
        (lambda: LennardJones({"H": (-1.0, 1.0)}), "H has σ = -1.0"),
        (lambda: ZBL(cutoff=0.0), "cutoff = 0.0 Å must be positive"),
        (lambda: HarmonicBonds([(0, 1)], [1.0, 2.0], n_atoms=2), "1 bonds, 2 lengths"),
        (lambda: HarmonicBonds([(0, 2)], [1.0], n_atoms=2), "expected 0 to 1"),
        (lambda: SumPotential([ZBL()]), "two potentials or more"),
        (lambda: FunctionPotential(3, cutoff=1.0), "given a int"),
    ],
)
def test_impossible_terms_are_refused(make, words: str) -> None:
    with pytest.raises(PotentialError, match=words):
        make()
