"""Periodic images against exhaustive search and against ASE."""

from __future__ import annotations

import itertools

import ase
import numpy as np
import pytest
import torch
from ase.neighborlist import neighbor_list
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry import (
    MoleculeUnfolding,
    PairSelection,
    frame_cells,
    heights,
    image_shifts,
    inscribed_radius,
    reciprocal_rows,
    rounded_image,
    unwrap,
)
from stablemd.geometry.lattice import volumes
from stablemd.geometry.squares import squared_distances
from stablemd.system import System


def random_cells(n: int, seed: int, skew: float = 1.0) -> Tensor:
    """Strongly triclinic cells (n, 3, 3) with lattice planes about 4 Å apart."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 3, 3, generator=generator, dtype=torch.float64)
    return 5.0 * torch.eye(3, dtype=torch.float64) + skew * noise


def every_image(vectors: Tensor, cells: Tensor, pbc: Tensor, reach: int = 5) -> Tensor:
    """All images (n, P, S, 3) up to ``reach`` cells away."""
    ranges = [range(-reach, reach + 1) if p else (0,) for p in pbc.tolist()]
    shifts = torch.tensor(list(itertools.product(*ranges)), dtype=torch.float64)
    return vectors[:, :, None] + (shifts @ cells)[:, None]


def test_reciprocal_vectors_heights_and_volumes() -> None:
    cells = random_cells(5, 1, skew=1.5)
    identity = cells @ reciprocal_rows(cells).transpose(1, 2)
    torch.testing.assert_close(identity, torch.eye(3).double().expand(5, 3, 3))
    areas = [torch.linalg.cross(cells[:, j], cells[:, k]).norm(dim=1) for j, k in ((1, 2), (2, 0))]
    apart = heights(cells, torch.tensor([True, True, False]))
    torch.testing.assert_close(apart[:, 0], volumes(cells) / areas[0])
    torch.testing.assert_close(apart[:, 1], volumes(cells) / areas[1])
    assert apart[:, 2].isinf().all()


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
def test_rounding_finds_the_nearest_image_within_the_inscribed_radius(pbc: tuple[bool]) -> None:
    periodic = torch.tensor(pbc)
    cells = random_cells(20, 2)
    generator = torch.Generator().manual_seed(3)
    vectors = torch.randn(20, 60, 3, generator=generator, dtype=torch.float64) * 8.0
    images = every_image(vectors, cells, periodic, reach=9)
    exact = images.norm(dim=-1).amin(dim=2)
    radius = inscribed_radius(cells, periodic)[:, None]
    found = rounded_image(vectors, cells, periodic).norm(dim=-1)
    near = exact < radius
    assert near.any()
    torch.testing.assert_close(found[near], exact[near])
    assert (found[~near] >= radius.expand_as(found)[~near] * (1.0 - 1e-12)).all()


@pytest.mark.parametrize("cutoff", [1.0, 3.0, 7.5])
def test_shifts_reach_every_image_within_the_cutoff(cutoff: float) -> None:
    cells, pbc = random_cells(6, 4), torch.tensor([True, True, True])
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(6, 20, 3, generator=generator, dtype=torch.float64) * 6.0
    images = every_image(vectors, cells, pbc, reach=9).norm(dim=-1).flatten(1)
    shifts = image_shifts(cells, pbc, cutoff)
    assert torch.equal(shifts[0], torch.zeros(3).double())
    rounded = rounded_image(vectors, cells, pbc)[:, :, None] + (shifts @ cells)[:, None]
    listed = rounded.norm(dim=-1).flatten(1)
    for f in range(6):
        a, b = (x[f][x[f] < cutoff].sort().values for x in (images, listed))
        torch.testing.assert_close(a, b)


def test_no_shift_is_needed_up_to_half_a_cubic_cell() -> None:
    cells = 4.0 * torch.eye(3, dtype=torch.float64)[None]
    pbc = torch.tensor([True, True, False])
    assert len(image_shifts(cells, pbc, 2.0)) == 1
    assert len(image_shifts(cells, pbc, 2.001)) == 9
    flat = torch.diag(torch.tensor([0.01, 0.01, 5.0])).double()[None]
    with pytest.raises(SystemDefinitionError, match="smaller cutoff"):
        image_shifts(flat, torch.tensor([True, True, True]), 5.0)


def test_pairs_within_a_cutoff_equal_the_neighbour_list_of_ase() -> None:
    rng = np.random.default_rng(6)
    cell = random_cells(1, 7)[0]
    numbers = [8, 1, 1, 6, 8, 1]
    system = System.create(numbers, cell=cell, pbc=[True, True, False])
    positions = torch.from_numpy(rng.normal(size=(6, 3)) * 6.0)
    atoms = ase.Atoms(numbers, positions=positions.numpy(), cell=cell.numpy(), pbc=[1, 1, 0])
    cutoff = 6.5
    i, j, d = neighbor_list("ijd", atoms, cutoff)
    for elements, inside in ((None, i < j), (("O", "H"), None), (("H", "H"), None)):
        if inside is None:
            z = atoms.numbers
            want = sorted(ase.Atoms(elements).numbers)
            inside = (i < j) & (want == np.sort(np.stack([z[i], z[j]]), axis=0).T).all(axis=1)
        pairs = PairSelection.of(system, elements)
        boxes = frame_cells(system, positions[None], None)
        assert boxes is not None
        shifts = image_shifts(boxes, system.pbc, cutoff)
        found = torch.cat(
            [c.flatten() for c in pairs.distance_chunks(positions[None], boxes, system.pbc, shifts)]
        )
        found = found[found < cutoff].sort().values
        np.testing.assert_allclose(found.numpy(), np.sort(d[inside]), atol=1e-10)


def test_pairs_know_their_molecules() -> None:
    water = System.create(["O", "H", "H"] * 2, molecule_ids=[0, 0, 0, 1, 1, 1])
    assert len(PairSelection.of(water)) == 15
    assert len(PairSelection.of(water, intramolecular=False)) == 9
    assert len(PairSelection.of(water, ("H", "O"), intermolecular=False)) == 4
    assert PairSelection.of(water, ("H", "O")).name == "O-H"
    with pytest.raises(SystemDefinitionError, match="no pair O-O within a molecule"):
        PairSelection.of(water, ("O", "O"), intermolecular=False)


def test_wrapping_is_undone() -> None:
    generator = torch.Generator().manual_seed(8)
    cells, pbc = random_cells(1, 9).expand(50, 3, 3), torch.tensor([True, True, True])
    path = torch.randn(50, 2, 4, 3, generator=generator, dtype=torch.float64).mul(0.3).cumsum(0)
    path[0] = 0.5
    turns = torch.randint(-3, 4, path.shape, generator=generator).double()
    turns[0] = 0.0
    wrapped = path + turns @ cells[0]
    torch.testing.assert_close(unwrap(wrapped, cells, pbc), path)
    assert unwrap(wrapped, None, pbc) is wrapped


def test_molecules_become_whole() -> None:
    """A ring with a tail and a bare ion; every bond goes to the nearest image afterwards."""
    bonds = [[0, 1], [1, 2], [2, 3], [3, 0], [3, 4], [4, 5], [5, 6]]
    cell = random_cells(1, 10)[0]
    system = System.create(
        ["C"] * 7 + ["Na"], bonds=bonds, bond_lengths=[1.0] * 7, cell=cell, pbc=True
    )
    whole = torch.tensor(
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 2, 0], [0, 3, 0], [0, 4, 0], [1, 1, 3]],
        dtype=torch.float64,
    )[None]
    generator = torch.Generator().manual_seed(11)
    wrapped = whole + torch.randint(-2, 3, whole.shape, generator=generator).double() @ cell
    unfolded = MoleculeUnfolding(system)(wrapped, cell[None])
    torch.testing.assert_close(
        unfolded[0, :7] - unfolded[0, 0], whole[0, :7] - whole[0, 0], atol=1e-10, rtol=0
    )
    assert torch.equal(unfolded[0, 7], wrapped[0, 7])


def test_shapes_that_do_not_fit_are_refused() -> None:
    system = System.create(["H"] * 2, cell=[4, 4, 4] * np.eye(3), pbc=True)
    positions = torch.zeros(3, 2, 3)
    with pytest.raises(SystemDefinitionError, match=r"cells must be \(3, 3, 3\)"):
        frame_cells(system, positions, torch.zeros(2, 3, 3))
    with pytest.raises(SystemDefinitionError, match=r"\(frames, 2, 3\)"):
        frame_cells(system, positions[:, :1], None)
    assert frame_cells(System.create(["H"] * 2), positions, None) is None


@pytest.mark.parametrize("pbc", [(True, True, True), (False, True, True), None])
def test_cheap_squares_are_those_of_the_rounded_image(pbc) -> None:
    generator = torch.Generator().manual_seed(12)
    positions = torch.randn(6, 9, 3, generator=generator, dtype=torch.float64) * 10.0
    cells = None if pbc is None else random_cells(6, 13)
    flags = (False,) * 3 if pbc is None else pbc
    vectors = positions[:, :, None] - positions[:, None]
    expected = rounded_image(vectors, cells, torch.tensor(flags)).square().sum(dim=-1)
    found = squared_distances(positions, cells, flags, lambda x: x[:, :, None] - x[:, None])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
