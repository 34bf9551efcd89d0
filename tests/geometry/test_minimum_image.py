"""Nearest images are the nearest, for cells of any shape."""

from __future__ import annotations

import itertools

import pytest
import torch

from stablemd.errors import SystemDefinitionError
from stablemd.geometry.lattice import cells_of, heights, lattice_offsets, minimum_image, volumes

SKEWED = torch.tensor([[8.0, 0.0, 0.0], [-5.0, 7.0, 0.0], [15.5, 3.0, 7.5]], dtype=torch.float64)


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, True), (False, False, False)])
@pytest.mark.parametrize("diagonal", [True, False])
def test_no_image_is_nearer(pbc: tuple[bool, ...], diagonal: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([1.0, 1.1, 0.9], dtype=torch.float64)[:, None, None]
    cells = scale * (torch.diag(SKEWED.diagonal()) if diagonal else SKEWED)
    vectors = 30.0 * torch.randn(3, 40, 3, generator=generator, dtype=torch.float64)
    periodic = torch.tensor(pbc)
    nearest = minimum_image(vectors, cells, periodic)
    turns = (nearest - vectors) @ torch.linalg.inv(cells)
    torch.testing.assert_close(turns, turns.round() * periodic, rtol=0, atol=1e-9)
    for n in itertools.product(*[range(-4, 5) if p else [0] for p in pbc]):
        other = nearest + (torch.tensor(n, dtype=torch.float64) @ cells)[:, None]
        assert bool((other.norm(dim=-1) > nearest.norm(dim=-1) - 1e-9).all())


def test_the_nearest_image_follows_positions_and_cell() -> None:
    cells = SKEWED.expand(2, 3, 3).clone().requires_grad_(True)
    vectors = (9.0 * torch.randn(2, 5, 3, dtype=torch.float64)).requires_grad_(True)
    pbc = torch.tensor([True, True, True])
    assert torch.autograd.gradcheck(lambda v, h: minimum_image(v, h, pbc), (vectors, cells))


def test_offsets_lead_into_the_home_cell() -> None:
    x = 50.0 * torch.randn(2, 6, 3, dtype=torch.float64)
    cells = SKEWED.expand(2, 3, 3)
    pbc = torch.tensor([True, True, False])
    offsets = lattice_offsets(x, cells, pbc)
    assert float(offsets[..., 2].abs().max()) == 0.0
    fractions = (x - offsets @ cells) @ torch.linalg.inv(cells)
    assert bool(((fractions >= -1e-9) & (fractions < 1 + 1e-9))[..., :2].all())


def test_volume_is_base_times_height() -> None:
    base = torch.linalg.vector_norm(torch.linalg.cross(SKEWED[0], SKEWED[1]))
    torch.testing.assert_close(volumes(SKEWED), base * heights(SKEWED)[2])


def test_cells_of_the_wrong_shape_are_named() -> None:
    with pytest.raises(SystemDefinitionError, match=r"\(4, 3, 3\)"):
        cells_of(SKEWED, 4, SKEWED.expand(3, 3, 3))
