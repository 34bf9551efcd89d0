"""Structural observables against lattices, direct sums and ASE."""

from __future__ import annotations

import math

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from stablemd.errors import ConfigError, DataError, SystemDefinitionError
from stablemd.observables import (
    AngleDistribution,
    BondLengths,
    CoordinationNumber,
    Density,
    DihedralDistribution,
    MinimumIntermolecularDistance,
    RadiusOfGyration,
    StructureFactor,
    TetrahedralOrder,
    ensemble_average,
    read_curve,
    read_soper2013,
)
from stablemd.observables.settings import RadialDistributionSettings
from stablemd.system import System

PEROXIDE = System.create(["H", "O", "O", "H"], bonds=[[0, 1], [1, 2], [2, 3]], bond_lengths=[1] * 3)


def crystal(name: str, structure: str, a: float, repeat: int) -> tuple[System, Tensor]:
    atoms = bulk(name, structure, a=a, cubic=True).repeat(repeat)
    system = System.create(atoms.numbers, cell=atoms.cell[:], pbc=True)
    return system, torch.from_numpy(atoms.positions)[None]


def peroxide(dihedrals: Tensor) -> Tensor:
    """H2O2 (n, 4, 3) turned to dihedrals in degrees by ASE."""
    frames = []
    for angle in dihedrals.tolist():
        atoms = ase.Atoms("HOOH", [[0.3, 0.9, 0], [0, 0, 0], [1.45, 0, 0], [1.7, 0.9, 0]])
        atoms.set_dihedral(0, 1, 2, 3, angle, mask=[0, 0, 0, 1])
        frames.append(atoms.positions)
    return torch.from_numpy(np.stack(frames))


def test_angles_have_the_right_mean_and_density() -> None:
    angles = torch.tensor([40.0, 104.5, 150.0], dtype=torch.float64)
    radians = angles * math.pi / 180.0
    water = System.create(["O", "H", "H"], bonds=[[0, 1], [0, 2]], bond_lengths=[1.0, 1.0])
    x = torch.zeros(3, 3, 3, dtype=torch.float64)
    x[:, 1, 0] = 0.9
    x[:, 2, 0], x[:, 2, 1] = radians.cos(), radians.sin()
    p = AngleDistribution(water, elements=("H", "O", "H"), n_bins=90)
    values = p.values(x)
    torch.testing.assert_close(values.sum(dim=1) * p.bin_width, torch.ones(3).double())
    torch.testing.assert_close(values @ p.axis * p.bin_width, angles)
    with pytest.raises(SystemDefinitionError, match=r"no bond angle O-H-O.*H-O-H"):
        AngleDistribution(water, elements=("O", "H", "O"))


def test_a_straight_angle_keeps_its_weight_and_its_gradient() -> None:
    line = System.create(["O", "C", "O"], bonds=[[0, 1], [1, 2]], bond_lengths=[1.2, 1.2])
    x = torch.tensor([[[-1.2, 1e-9, 0], [0, 0, 0], [1.2, 0, 0]]], dtype=torch.float64)
    p = AngleDistribution(line, n_bins=90)
    x.requires_grad_(True)
    values = p.values(x)
    assert float(values.detach().sum()) * p.bin_width == pytest.approx(1.0)
    assert float(values.detach().argmax()) == 89
    values.square().sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all()


def test_dihedrals_are_those_of_ase_on_a_circle() -> None:
    given = torch.tensor([-179.5, -60.0, 0.0, 25.0, 111.5, 179.9], dtype=torch.float64)
    x = peroxide(given)
    p = DihedralDistribution(PEROXIDE, n_bins=72)
    values = p.values(x)
    torch.testing.assert_close(values.sum(dim=1) * p.bin_width, torch.ones(6).double())
    phase = torch.exp(1j * p.axis * math.pi / 180.0)
    mean = torch.angle((values * phase).sum(dim=1)) * 180.0 / math.pi
    turn = (mean - given + 180.0).remainder(360.0) - 180.0
    assert turn.abs().max() < 0.2  # the spline is centred in the angle, not on the circle
    # what passes 180° goes on at -180°
    close = DihedralDistribution(PEROXIDE, n_bins=72)
    edge = close.values(peroxide(torch.tensor([179.9, -179.9])))
    assert float((edge[0] - edge[1]).abs().sum()) * p.bin_width < 0.1
    named = DihedralDistribution(PEROXIDE, atoms=(3, 2, 1, 0), n_bins=72)
    torch.testing.assert_close(named.values(x), values)
    with pytest.raises(ConfigError, match="four different indices"):
        DihedralDistribution(PEROXIDE, atoms=(0, 1, 2, 2))


def test_bond_lengths_one_by_one_and_by_elements() -> None:
    x = peroxide(torch.tensor([30.0, 80.0]))
    lengths = BondLengths(PEROXIDE).values(x)
    direct = (x[:, 1:] - x[:, :-1]).norm(dim=2)
    torch.testing.assert_close(lengths, direct)
    kinds = BondLengths(PEROXIDE, by_elements=True)
    assert kinds.kinds == ["H-O", "O-O"]
    expected = torch.stack([direct[:, [0, 2]].mean(dim=1), direct[:, 1]], dim=1)
    torch.testing.assert_close(kinds.values(x), expected)


def test_the_nearest_atoms_of_other_molecules() -> None:
    system = System.create(
        ["O", "H", "O", "H"], cell=10.0 * np.eye(3), pbc=True, molecule_ids=[0, 0, 1, 1]
    )
    x = torch.zeros(1, 4, 3, dtype=torch.float64)
    x[0, :, 0] = torch.tensor([0.0, 0.6, 8.0, 7.0])
    assert float(MinimumIntermolecularDistance(system).values(x)) == pytest.approx(2.0)
    apart = MinimumIntermolecularDistance(system, pair=("H", "H"))
    assert float(apart.values(x)) == pytest.approx(3.6)


def test_coordination_of_fcc_and_rock_salt() -> None:
    system, x = crystal("Cu", "fcc", 4.0, 2)
    assert float(CoordinationNumber(system, cutoff=3.4).values(x)) == pytest.approx(12.0)
    # at the middle of the transition a neighbour counts half
    nearest = 4.0 / math.sqrt(2.0)
    half = CoordinationNumber(system, cutoff=nearest, width=0.2).values(x)
    assert float(half) == pytest.approx(6.0)
    salt, ions = crystal("NaCl", "rocksalt", 5.64, 1)
    for pair in (("Na", "Cl"), ("Cl", "Na")):
        n = CoordinationNumber(salt, pair=pair, cutoff=3.4)
        assert float(n.values(ions)) == pytest.approx(6.0)
    same = CoordinationNumber(salt, pair=("Na", "Na"), cutoff=4.5)
    assert float(same.values(ions)) == pytest.approx(12.0)


def test_diamond_is_tetrahedral_and_a_gas_is_not() -> None:
    system, x = crystal("C", "diamond", 3.57, 2)
    assert float(TetrahedralOrder(system, element="C").values(x)) == pytest.approx(1.0)
    generator = torch.Generator().manual_seed(3)
    gas = torch.rand(40, system.n_atoms, 3, generator=generator, dtype=torch.float64) @ system.cell
    order = ensemble_average(TetrahedralOrder(system, element="C").values(gas), torch.arange(40))
    assert abs(float(order.mean)) < 4.0 * float(order.stderr)
    assert float(order.stderr) < 0.02


def test_radius_of_gyration_of_a_dimer_across_the_boundary() -> None:
    """R_g² = m₁ m₂ d² / (m₁ + m₂)²; the bare ion does not count."""
    system = System.create(
        ["O", "H", "Na"], bonds=[[0, 1]], bond_lengths=[1.0], cell=8.0 * np.eye(3), pbc=True
    )
    x = torch.tensor([[[0.2, 0, 0], [7.4, 0, 0], [3.0, 3, 3]]], dtype=torch.float64)
    m1, m2 = (float(m) for m in system.masses[:2])
    expected = math.sqrt(m1 * m2) / (m1 + m2) * 0.8
    assert float(RadiusOfGyration(system).values(x)) == pytest.approx(expected)


def test_density_of_ice_like_cell() -> None:
    system = System.create(["O", "H", "H"], cell=np.diag([3.0, 3.1, 3.2]), pbc=True)
    x = torch.zeros(1, 3, 3, dtype=torch.float64)
    grams = 18.015 / 6.02214076e23
    expected = grams / (3.0 * 3.1 * 3.2 * 1e-24)
    assert float(Density(system).values(x)) == pytest.approx(expected, rel=1e-5)
    double = 2.0 ** (1 / 3) * system.cell[None]
    assert float(Density(system).values(x, double)) == pytest.approx(expected / 2, rel=1e-5)


def test_structure_factor_is_the_direct_sum(water_box: System, water_frames: Tensor) -> None:
    s = StructureFactor(water_box, pair=("O", "H"), q_max=2.5, bin_width=0.4, max_vectors=10**6)
    found = s.values(water_frames[:2])
    cell = water_box.cell
    b = 2.0 * math.pi * torch.linalg.inv(cell).T
    n = torch.cartesian_prod(*[torch.arange(-5, 6)] * 3).double()
    q = n @ b
    length = q.norm(dim=1)
    keep = (length > 0) & (length <= 2.5)
    q, length = q[keep], length[keep]
    bins = (length / 0.4).floor().long()
    oxygen, hydrogen = (torch.nonzero(water_box.numbers == z).flatten() for z in (8, 1))
    for f in range(2):
        rho = torch.exp(1j * (q @ water_frames[f].T))
        product = (rho[:, oxygen].sum(1) * rho[:, hydrogen].sum(1).conj()).real
        product = product / math.sqrt(7 * 14)
        direct = torch.stack([product[bins == k].mean() for k in bins.unique()])
        torch.testing.assert_close(found[f], direct, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        s.axis, torch.stack([length[bins == k].mean() for k in bins.unique()])
    )


def test_a_gas_has_structure_factor_one_and_a_crystal_its_bragg_peaks() -> None:
    system, x = crystal("Cu", "fcc", 4.0, 2)
    generator = torch.Generator().manual_seed(4)
    gas = torch.rand(300, system.n_atoms, 3, generator=generator, dtype=torch.float64) @ system.cell
    s = StructureFactor(system, q_max=4.0, bin_width=0.5)
    average = ensemble_average(s.values(gas), torch.arange(300))
    assert ((average.mean - 1.0) / average.stderr).abs().max() < 4.0
    peak = StructureFactor(system, q_max=2.0 * math.pi / 4.0 * 1.8, bin_width=0.01, max_vectors=99)
    values = peak.values(x)[0]
    bragg = 2.0 * math.pi / 4.0 * math.sqrt(3.0)  # (111)
    at = (peak.axis - bragg).abs() < 1e-9
    assert float(values[at]) == pytest.approx(system.n_atoms)
    assert values[~at].abs().max() < 1e-9


# Reference curves


def test_a_curve_is_averaged_over_bins(tmp_path) -> None:
    r = np.linspace(0.0, 3.0, 31)
    table = np.column_stack([r, 2.0 * r, 0.1 + 0.0 * r])
    path = tmp_path / "curve.txt"
    path.write_text("# a title\n# r g err\n" + "\n".join(" ".join(map(str, row)) for row in table))
    curve = read_curve(path, x="r", y="g", error="err")
    centres = torch.tensor([0.35, 1.05, 1.75])
    average = curve.over_bins(centres.double())
    torch.testing.assert_close(average.mean, 2.0 * centres.double(), rtol=1e-6, atol=1e-6)
    assert average.stderr is not None
    torch.testing.assert_close(average.stderr, torch.full((3,), 0.1).double())
    nm = read_curve(path, length_unit="nm")
    torch.testing.assert_close(nm.x, 10.0 * curve.x)
    assert nm.error is None
    with pytest.raises(DataError, match="covers 0 to 3"):
        curve.over_bins(torch.tensor([1.0, 3.0, 5.0]).double())
    with pytest.raises(DataError, match="no column 'h'"):
        read_curve(path, y="h")
    np.savez(tmp_path / "curve.npz", r=r, g=2.0 * r)
    torch.testing.assert_close(read_curve(tmp_path / "curve.npz", x="r", y="g").y, curve.y)
    (tmp_path / "bad.txt").write_text("1 2\n3\n")
    with pytest.raises(DataError, match="equally long rows"):
        read_curve(tmp_path / "bad.txt")


def test_soper_columns_are_found_by_pair(tmp_path) -> None:
    path = tmp_path / "soper.txt"
    path.write_text(
        "#doi\n#r_A O_O OOError O_H OHError H_H HHError\n0 1 2 3 4 5 6\n1 1 2 3 4 5 6\n"
    )
    for pair, value in (("O-O", 1.0), ("O-H", 3.0), ("H-H", 5.0)):
        curve = read_soper2013(path, pair)
        assert curve.error is not None
        assert (float(curve.y[0]), float(curve.error[0])) == (value, value + 1.0)


def test_a_measured_curve_becomes_the_target_with_its_errors(tmp_path, water_box: System) -> None:
    path = tmp_path / "g.txt"
    path.write_text("0 0 0\n3 0 0\n6 2 0.2\n")
    choice = RadialDistributionSettings.model_validate(
        {"r_max": 6.0, "n_bins": 12, "reference": {"path": path, "y": 1, "error": 2}}
    )
    reference = choice.build(water_box, torch.zeros(1, 21, 3)).reference
    assert reference is not None and reference.stderr is not None
    assert float(reference.mean[-1]) == pytest.approx(2.0 - 1.0 / 6.0)
    # where the file states no error, the least one holds
    assert reference.stderr[:6].tolist() == pytest.approx([0.01] * 6)
    assert float(reference.stderr[-1]) == pytest.approx(0.2 - 0.1 / 6.0)
