"""Sums over listed pairs are those over all pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.geometry import pair_sums
from stablemd.observables import CoordinationNumber, Observable, RadialDistribution
from stablemd.system import System

CELL = np.array([[14.0, 0.0, 0.0], [-4.0, 13.0, 0.0], [3.0, 2.5, 15.0]])
N_MOLECULES = 12


def water_like(pbc: bool = True) -> tuple[System, Tensor, Tensor]:
    """Molecules anywhere in and around a triclinic cell, three frames with their own cells."""
    n = 3 * N_MOLECULES
    bonds = [[3 * m, 3 * m + k] for m in range(N_MOLECULES) for k in (1, 2)]
    system = System.create(
        ["O", "H", "H"] * N_MOLECULES, bonds=bonds, bond_lengths=[1.0] * len(bonds),
        cell=CELL if pbc else None, pbc=pbc,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(3)
    x = 12.0 * torch.randn(3, n, 3, generator=generator, dtype=torch.float64)
    scale = torch.tensor([1.0, 1.02, 0.98], dtype=torch.float64)[:, None, None]
    return system, x, scale * torch.from_numpy(CELL)


def both_ways(
    observable: Observable, x: Tensor, cells: Tensor, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[Tensor, Tensor]]:
    """Values and position gradients, every distance computed and pairs listed."""
    found = []
    generator = torch.Generator().manual_seed(4)
    for least in (2**40, 1):
        monkeypatch.setattr(pair_sums, "LISTED_MIN_PAIRS", least)
        leaf = x.clone().requires_grad_(True)
        values = observable.values(leaf, cells)
        weights = torch.randn(values.shape, generator=generator.manual_seed(4)).to(values)
        (slope,) = torch.autograd.grad((weights * values).sum(), leaf)
        with torch.no_grad():
            torch.testing.assert_close(observable.values(x, cells), values.detach())
        found.append((values.detach(), slope))
    return found


@pytest.mark.parametrize("intramolecular", [True, False])
@pytest.mark.parametrize("pair", [None, ("O", "H"), ("H", "H")])
def test_both_ways_give_the_same_numbers_and_gradients(
    pair: tuple[str, str] | None, intramolecular: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    system, x, cells = water_like()
    options = {"pair": pair, "intramolecular": intramolecular}
    for observable in (
        RadialDistribution(system, r_max=3.5, n_bins=20, **options),
        CoordinationNumber(system, cutoff=3.5, width=0.5, **options),
    ):
        (every, slope), (listed, other) = both_ways(observable, x, cells, monkeypatch)
        assert float(every.abs().max()) > 0.0 and float(slope.abs().max()) > 0.0
        torch.testing.assert_close(listed, every, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(other, slope, rtol=1e-9, atol=1e-11)


def test_lists_are_used_where_they_pay_and_only_there(monkeypatch: pytest.MonkeyPatch) -> None:
    system, x, cells = water_like()
    searches: list[float] = []
    search = pair_sums.list_replica_pairs

    def counted(*arguments: object) -> object:
        searches.append(float(arguments[3]))  # type: ignore[arg-type]
        return search(*arguments)

    monkeypatch.setattr(pair_sums, "list_replica_pairs", counted)
    RadialDistribution(system, r_max=3.5, n_bins=20).values(x, cells)
    assert not searches, "few pairs"
    monkeypatch.setattr(pair_sums, "LISTED_MIN_PAIRS", 1)
    RadialDistribution(system, r_max=6.0, n_bins=20).values(x, cells)
    assert not searches, "most of the cell is within reach"
    RadialDistribution(system, r_max=3.5, n_bins=20).values(x, cells)
    assert len(searches) == 3 and min(searches) >= 3.5


def test_a_frame_that_is_not_finite_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_sums, "LISTED_MIN_PAIRS", 1)
    system, x, cells = water_like()
    rdf = RadialDistribution(system, r_max=3.5, n_bins=20)
    whole = rdf.values(x, cells)
    x[1, 4, 2] = torch.nan
    found = rdf.values(x, cells)
    assert bool(found[1].isnan().all())
    assert torch.equal(found[[0, 2]], whole[[0, 2]])


def test_isolated_systems_are_searched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    system, x, _ = water_like(pbc=False)
    coordination = CoordinationNumber(system, cutoff=6.0, width=0.5)
    every = coordination.values(x)
    monkeypatch.setattr(pair_sums, "LISTED_MIN_PAIRS", 1)
    torch.testing.assert_close(coordination.values(x), every, rtol=1e-12, atol=1e-12)
    assert float(every.min()) > 0.0
