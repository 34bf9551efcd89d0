"""The periodic benchmarks compare like with like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("torch_geometric", reason="the benchmarks need torch_geometric (make venv)")

from benchmarks.neighbours import REACH, _Box, _in_order
from benchmarks.water import water_box
from stablemd.geometry.lattice import minimum_image, volumes
from stablemd.geometry.pair_search import list_pairs_in_bins


@pytest.mark.parametrize("n_side", [3, 4, 8])
def test_water_boxes_are_water_at_the_liquids_density(n_side: int) -> None:
    system, positions = water_box(n_side, 1)
    assert positions.shape == (1, 3 * n_side**3, 3)
    first, second = system.bonds.T
    vectors = minimum_image(positions[:, second] - positions[:, first], system.cell, system.pbc)
    lengths = vectors.norm(dim=-1)
    assert len(system.bonds) == 2 * n_side**3
    assert float(lengths.min()) > 0.8 and float(lengths.max()) < 1.3
    density = float(system.masses.sum() / volumes(system.cell)) * 1.66054
    assert density == pytest.approx(0.994, abs=0.01)
    assert torch.isfinite(positions).all()


def test_rows_put_in_order_are_those_of_the_search_in_bins() -> None:
    box = _Box(5)
    rows = list_pairs_in_bins(box.x, box.cell, box.inverse, box.reach, box.pbc, REACH)
    mixed = rows[np.random.default_rng(0).permutation(len(rows))]
    assert np.array_equal(_in_order(mixed[:, :2].astype(np.uint64), mixed[:, 2:]), rows)


def test_all_searches_find_the_same_number_of_pairs() -> None:
    counts = {name: search() for name, search in _Box(4).searches().items()}
    assert len(set(counts.values())) == 1 and min(counts.values()) > 5000
