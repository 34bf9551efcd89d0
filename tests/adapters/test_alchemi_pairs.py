"""Pairs by nvalchemi-toolkit-ops are those of stablemd's own search."""

from __future__ import annotations

import pytest
import torch

from stablemd.potentials import alchemi_pairs, neighbours
from stablemd.potentials.neighbours import find_pairs

pytest.importorskip(
    "nvalchemiops", reason="nvalchemi-toolkit-ops is not installed (pip install stablemd[alchemi])"
)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("cutoff", [2.0, 7.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_lists_are_the_same_in_skew_cells_of_any_size(
    pbc: tuple[bool, bool, bool], cutoff: float, seed: int
) -> None:
    """Unwrapped positions, a cell of its own for every replica, cutoffs beyond half of it."""
    generator = torch.Generator().manual_seed(seed)
    skew = torch.randn(3, 3, 3, generator=generator, dtype=torch.float64)
    cells = 6.0 * torch.eye(3, dtype=torch.float64) + 0.8 * skew
    fractions = 3.0 * torch.rand(3, 40, 3, generator=generator, dtype=torch.float64) - 1.0
    positions = fractions @ cells
    periodic = torch.tensor(pbc)
    own = find_pairs(positions, cells, periodic, cutoff)
    half = alchemi_pairs.list_pairs(positions, cells, periodic, cutoff)
    pairs, shifts = neighbours._in_order(*half)
    assert torch.equal(pairs, own.pairs)
    assert own.shifts is not None and torch.equal(shifts, own.shifts)


def test_a_search_in_cells_gives_the_whole_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """``find_pairs`` as on an accelerator: pairs, shifts and counts of every replica."""
    generator = torch.Generator().manual_seed(3)
    cells = 8.0 * torch.eye(3, dtype=torch.float64).repeat(4, 1, 1)
    positions = 8.0 * torch.rand(4, 30, 3, generator=generator, dtype=torch.float64)
    positions[2] = positions[2, :1]  # all in one place: a replica with other counts
    positions[2] += 0.3 * torch.rand(30, 3, generator=generator, dtype=torch.float64)
    periodic = torch.ones(3, dtype=torch.bool)
    own = find_pairs(positions, cells, periodic, 3.0)
    monkeypatch.setattr(neighbours, "_searches_in_cells", lambda x, h: True)
    found = find_pairs(positions, cells, periodic, 3.0)
    assert found.shifts is not None and own.shifts is not None
    for a, b in zip(found, own, strict=True):
        assert a is not None and b is not None and torch.equal(a, b)


def test_more_neighbours_than_expected_are_all_found() -> None:
    """A dense cluster in a large box: what was reserved for a liquid is too little."""
    generator = torch.Generator().manual_seed(2)
    positions = torch.randn(1, 300, 3, generator=generator, dtype=torch.float64)
    cells = 40.0 * torch.eye(3, dtype=torch.float64)[None]
    pairs, _ = alchemi_pairs.list_pairs(positions, cells, torch.ones(3, dtype=torch.bool), 6.0)
    own = find_pairs(positions, cells, torch.ones(3, dtype=torch.bool), 6.0)
    assert pairs.shape[1] == int(own.counts) > 40_000
