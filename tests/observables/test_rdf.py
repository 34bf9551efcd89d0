"""Laws of g(r)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase.build import bulk
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.observables import RadialDistribution, ensemble_average
from stablemd.system import System
from tests.observables.conftest import TRICLINIC


def gas(n_frames: int, seed: int) -> tuple[System, Tensor]:
    """Independent atoms, uniform in a triclinic cell: 6 O and 4 H in molecules of two."""
    generator = torch.Generator().manual_seed(seed)
    system = System.create(
        ["O"] * 6 + ["H"] * 4, cell=TRICLINIC, pbc=True, molecule_ids=np.arange(10) // 2
    )
    fractional = torch.rand(n_frames, 10, 3, generator=generator, dtype=torch.float64)
    return system, fractional @ system.cell


@pytest.mark.parametrize("pair", [None, ("O", "O"), ("O", "H")])
@pytest.mark.parametrize("kernel", ["spline", "box"])
@pytest.mark.parametrize("intramolecular", [True, False])
def test_an_ideal_gas_has_one_everywhere(pair, kernel, intramolecular) -> None:
    """Also near r = 0, beyond half the cell, and for a handful of atoms."""
    system, positions = gas(3000, seed=1)
    rdf = RadialDistribution(
        system, pair=pair, r_max=6.0, n_bins=12, kernel=kernel, intramolecular=intramolecular
    )
    average = ensemble_average(rdf.values(positions), torch.arange(len(positions)))
    deviation = (average.mean - 1.0) / average.stderr
    seen = average.stderr > 0  # the very first bin may hold no pair at all
    assert seen[1:].all()
    assert deviation[seen].abs().max() < 4.0
    assert average.stderr[2:].max() < 0.06


def test_coordination_shells_of_fcc() -> None:
    """12, 6, 24, 12 and 24 neighbours at 1, √2, √3, 2 and √5, from one primitive cell's images."""
    a = 4.0
    crystal = bulk("Cu", "fcc", a=a, cubic=True)
    system = System.create(crystal.numbers, cell=crystal.cell[:], pbc=True)
    nearest = a / math.sqrt(2.0)
    rdf = RadialDistribution(system, r_max=2.4 * nearest, n_bins=480, kernel="spline")
    positions = torch.from_numpy(crystal.positions)[None]
    g = rdf.values(positions)[0]
    # n(r) from g(r): 4π r² with the kernel's variance, and pairs of different atoms
    rho = 3 / a**3  # the other atoms of the cell; images of an atom itself do not count
    cumulative = (g * rho * rdf._shell).cumsum(0)
    shells = torch.tensor([12, 6, 24, 12, 24], dtype=torch.float64)
    # own images stand at a (6 of them, √2), 2 (12) : what is left are different atoms
    other = shells - torch.tensor([0, 6, 0, 12, 0])
    edges = [1.2, 1.55, 1.85, 2.1, 2.35]
    found = [float(cumulative[int(e * nearest / rdf.bin_width)]) for e in edges]
    np.testing.assert_allclose(found, other.cumsum(0).numpy(), rtol=1e-12)


def test_a_supercell_adds_own_images() -> None:
    """In 2×2×2 cells an atom's own images are other atoms, so all shells are full."""
    a = 4.0
    crystal = bulk("Cu", "fcc", a=a, cubic=True).repeat(2)
    system = System.create(crystal.numbers, cell=crystal.cell[:], pbc=True)
    nearest = a / math.sqrt(2.0)
    rdf = RadialDistribution(system, r_max=2.4 * nearest, n_bins=480)
    g = rdf.values(torch.from_numpy(crystal.positions)[None])[0]
    cumulative = (g * (31 / (8 * a**3)) * rdf._shell).cumsum(0)
    found = [float(cumulative[int(e * nearest / rdf.bin_width)]) for e in (1.2, 1.55, 1.85, 2.1)]
    np.testing.assert_allclose(found, [12, 18, 42, 54], rtol=1e-12)


def test_spline_and_box_count_the_same_pairs(water_box: System, water_frames: Tensor) -> None:
    spline, box = (
        RadialDistribution(water_box, r_max=6.0, n_bins=60, kernel=kernel, pair=("O", "H"))
        for kernel in ("spline", "box")
    )
    counts = [(rdf.values(water_frames) * rdf._shell)[:, :50].sum(dim=1) for rdf in (spline, box)]
    # they differ by the pairs within a kernel of the end alone
    torch.testing.assert_close(counts[0], counts[1], rtol=0.03, atol=0.0)


def test_chunks_are_of_no_consequence(water_box: System, water_frames: Tensor, monkeypatch) -> None:
    whole = RadialDistribution(water_box).values(water_frames)
    monkeypatch.setattr("stablemd.geometry.pairs.MAX_ELEMENTS", 500)
    pieces = RadialDistribution(water_box, chunk_size=2).values(water_frames)
    torch.testing.assert_close(whole, pieces, rtol=1e-12, atol=1e-12)


def test_the_error_is_an_integral(water_box: System) -> None:
    rdf = RadialDistribution(water_box, r_max=6.0, n_bins=30)
    zero = torch.zeros(30, dtype=torch.float64)
    assert float(rdf.mean_absolute_error(zero + 0.5, zero)) == pytest.approx(3.0)


def test_what_has_no_volume_is_refused(methanol: System) -> None:
    with pytest.raises(SystemDefinitionError, match="distance_distribution"):
        RadialDistribution(methanol)
