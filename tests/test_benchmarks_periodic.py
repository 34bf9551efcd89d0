"""The periodic benchmarks compare like with like."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("torch_geometric", reason="the benchmarks need torch_geometric (make venv)")

from benchmarks.neighbours import _Box
from benchmarks.water import water_box
from stablemd.geometry.lattice import minimum_image, volumes


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


def test_all_searches_find_the_same_number_of_pairs() -> None:
    counts = {name: search() for name, search in _Box(4).searches().items()}
    assert len(set(counts.values())) == 1 and min(counts.values()) > 5000
