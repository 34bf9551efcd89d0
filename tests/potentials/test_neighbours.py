"""Pair lists are those of ASE on random cells, and describe all images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.neighborlist import neighbor_list
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.geometry.pair_search import (
    list_pairs_densely,
    list_pairs_in_bins,
    list_replica_pairs,
)
from stablemd.potentials.neighbours import PairList, _dense_pairs, find_pairs
from stablemd.potentials.verlet_list import VerletList

PBC = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)]


def random_cell(rng: np.random.Generator, skewness: float = 1.0) -> np.ndarray:
    """A triclinic cell, at times far from reduced."""
    cell = np.diag(rng.uniform(3.0, 9.0, 3)) + skewness * rng.uniform(-2.5, 2.5, (3, 3))
    if rng.random() < 0.3:
        cell[2] += rng.integers(-2, 3) * cell[0] + rng.integers(-2, 3) * cell[1]
    return cell if abs(np.linalg.det(cell)) > 30.0 else random_cell(rng, skewness)


def canonical(i: np.ndarray, j: np.ndarray, shift: np.ndarray) -> list[tuple[int, ...]]:
    """Each unordered pair (i, j, image) once, sorted."""
    rows = set()
    for a, b, s in zip(i.tolist(), j.tolist(), shift.tolist(), strict=True):
        forward, backward = (a, b, *s), (b, a, *(-x for x in s))
        rows.add(min(forward, backward))
    return sorted(rows)


def of_replica(found: PairList, replica: int, n_atoms: int) -> list[tuple[int, ...]]:
    (first, second), start = found.pairs, int(found.counts[:replica].sum())
    part = slice(start, start + int(found.counts[replica]))
    i, j = first[part] - replica * n_atoms, second[part] - replica * n_atoms
    shifts = torch.zeros(len(i), 3) if found.shifts is None else found.shifts[part]
    listed = canonical(i.numpy(), j.numpy(), shifts.long().numpy())
    assert len(listed) == len(i), "a pair stands more than once"
    return listed


def by_ase(x: np.ndarray, cell: np.ndarray, pbc: tuple[bool, ...], cutoff: float) -> list:
    atoms = Atoms(f"H{len(x)}", x, cell=cell, pbc=pbc)
    i, j, shift = neighbor_list("ijS", atoms, cutoff, self_interaction=False)
    return canonical(i, j, shift)


@pytest.mark.parametrize("pbc", PBC)
def test_pairs_are_those_of_ase(pbc: tuple[bool, ...]) -> None:
    """Random cells, positions far outside, and cutoffs beyond half the box and beyond it."""
    rng = np.random.default_rng(sum(2**k for k, p in enumerate(pbc) if p))
    n_atoms = 7
    for cutoff in (1.5, 4.0, 9.0):
        cells = np.stack([random_cell(rng) for _ in range(8)])
        x = rng.uniform(-1.0, 2.0, (8, n_atoms, 3)) @ cells
        found = find_pairs(torch.from_numpy(x), torch.from_numpy(cells), torch.tensor(pbc), cutoff)
        for r in range(len(x)):
            assert of_replica(found, r, n_atoms) == by_ase(x[r], cells[r], pbc, cutoff)


def vectors(x: Tensor, cells: Tensor, found: PairList) -> Tensor:
    n_atoms = x.shape[1]
    first, second = found.pairs
    assert found.shifts is not None
    rows = cells[first // n_atoms]
    flat = x.reshape(-1, 3)
    return flat[second] - flat[first] + torch.einsum("pi,pij->pj", found.shifts.to(x), rows)


def test_shifts_belong_to_the_positions_as_given() -> None:
    """Every listed vector is shorter than the cutoff, wrapped or not, and the list is the same."""
    rng = np.random.default_rng(7)
    cells = torch.from_numpy(np.stack([random_cell(rng) for _ in range(5)]))
    x = torch.from_numpy(rng.uniform(0.0, 1.0, (5, 9, 3))) @ cells
    pbc = torch.tensor([True, True, True])
    moved = x + torch.from_numpy(rng.integers(-3, 4, (5, 9, 3)).astype(float)) @ cells
    here, there = find_pairs(x, cells, pbc, 5.0), find_pairs(moved, cells, pbc, 5.0)
    assert torch.equal(here.counts, there.counts)
    lengths = [vectors(p, cells, f).norm(dim=1) for p, f in ((x, here), (moved, there))]
    assert float(lengths[0].max()) < 5.0
    torch.testing.assert_close(
        lengths[0].sort().values, lengths[1].sort().values, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("pbc", PBC)
def test_bins_give_the_dense_list(pbc: tuple[bool, ...]) -> None:
    """The same rows in the same order, from one bin per direction to many."""
    rng = np.random.default_rng(17)
    periodic = np.array(pbc)
    for scale, cutoff, n_atoms in ((1.0, 2.5, 60), (1.0, 8.0, 12), (4.0, 5.0, 150)):
        cell = scale * random_cell(rng)
        x = rng.uniform(-0.3, 1.3, (n_atoms, 3)) @ cell
        inverse = np.linalg.inv(cell)
        reach = cutoff * np.linalg.norm(inverse, axis=0) * (1.0 + 1e-9)
        dense = list_pairs_densely(x, cell, inverse, reach, periodic, cutoff)
        assert len(dense) >= 15
        assert np.array_equal(list_pairs_in_bins(x, cell, inverse, reach, periodic, cutoff), dense)


def test_the_search_for_accelerators_gives_the_same_list() -> None:
    rng = np.random.default_rng(23)
    for pbc in PBC:
        cell = torch.from_numpy(random_cell(rng))
        x = torch.from_numpy(rng.uniform(-1.0, 2.0, (8, 3))) @ cell
        pairs, shifts = _dense_pairs(x, cell, torch.tensor(pbc), 5.0)
        rows = list_replica_pairs(x.numpy(), cell.numpy(), np.array(pbc), 5.0)
        assert np.array_equal(torch.cat([pairs.T, shifts], dim=1).numpy(), rows)


def test_kept_lists_give_the_pairs_of_fresh_ones() -> None:
    """Under drift, wrapping, a breathing cell, and a replica that blows up."""
    rng = np.random.default_rng(5)
    cells = torch.from_numpy(np.stack([random_cell(rng, 0.3) for _ in range(4)]))
    x = torch.from_numpy(rng.uniform(0.0, 1.0, (4, 12, 3))) @ cells
    pbc = torch.tensor([True, True, True])
    lists = VerletList(pbc, 4.0, 1.0)
    for step in range(40):
        x = x + 0.05 * torch.from_numpy(rng.standard_normal(x.shape))
        if step == 20:
            x = x - (x @ torch.linalg.inv(cells)).floor() @ cells
        if step >= 30:
            factor = 1.0 + 0.01 * torch.from_numpy(rng.standard_normal((4, 3, 3)))
            cells, x = cells * factor, x
        if step == 35:
            x[1, 3] = torch.nan
        kept, fresh = lists.pairs(x, cells), find_pairs(x, cells, pbc, 4.0)
        for name in ("pairs", "shifts", "counts"):
            assert torch.equal(getattr(kept, name), getattr(fresh, name)), (step, name)
    assert 4 < lists.n_rebuilt < 4 * 40


def test_a_list_is_kept_until_an_atom_has_moved_by_half_the_skin() -> None:
    pbc, cell = torch.tensor([True] * 3), 9.0 * torch.eye(3, dtype=torch.float64)[None]
    x = torch.tensor([[[0.5, 0.0, 0.0], [4.0, 0.0, 0.0]]], dtype=torch.float64)
    lists = VerletList(pbc, 3.0, 1.0)
    lists.pairs(x, cell)
    for shift, rebuilds in ((0.49, 1), (0.51, 2), (0.51 + 9.0, 3), (0.51, 4)):
        moved = x.clone()
        moved[0, 1, 0] += shift
        lists.pairs(moved, cell)
        assert lists.n_rebuilt == rebuilds
    lists.pairs(x, cell)
    assert len(lists.pairs(x, 1.3 * cell).pairs[0]) == 0 and lists.n_rebuilt == 6
    with pytest.raises(PotentialError, match="skin"):
        VerletList(pbc, 3.0, 0.0)


def test_a_position_that_is_not_finite_is_in_a_pair() -> None:
    x = torch.zeros(3, 4, 3, dtype=torch.float64)
    x[:, :, 0] = torch.arange(4) * 40.0
    x[1, 2, 1] = torch.nan
    cells = 200.0 * torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    found = find_pairs(x, cells, torch.tensor([True] * 3), 5.0)
    assert found.counts.tolist() == [0, 1, 0]
    assert 4 + 2 in found.pairs[:, 0].tolist()
