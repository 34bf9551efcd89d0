"""Fixtures of the observable tests: an isolated molecule, and water in a triclinic cell."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.system import System

TRICLINIC = [[7.2, 0.3, -0.2], [1.1, 6.8, 0.4], [-0.8, 0.9, 7.5]]


def make_methanol() -> System:
    return System.create(
        ["C", "O", "H", "H", "H", "H"],
        bonds=[[0, 1], [0, 2], [0, 3], [0, 4], [1, 5]],
        bond_lengths=[1.42, 1.09, 1.09, 1.09, 0.96],
    )


def make_methanol_frames() -> Tensor:
    """Seven distorted methanol-like frames (7, 6, 3) in Å."""
    generator = torch.Generator().manual_seed(11)
    equilibrium = torch.tensor(
        [
            [0.0, 0.0, 0.0],
            [1.42, 0.0, 0.0],
            [-0.36, 1.03, 0.0],
            [-0.36, -0.51, 0.89],
            [-0.36, -0.51, -0.89],
            [1.73, 0.9, 0.0],
        ],
        dtype=torch.float64,
    )
    noise = torch.randn(7, 6, 3, generator=generator, dtype=torch.float64)
    return equilibrium + 0.2 * noise


def make_water_box() -> System:
    """Seven water molecules in a triclinic cell."""
    bonds = [[3 * m, 3 * m + h] for m in range(7) for h in (1, 2)]
    return System.create(
        ["O", "H", "H"] * 7, cell=TRICLINIC, pbc=True, bonds=bonds, bond_lengths=[0.97] * 14
    )


def make_water_frames() -> Tensor:
    """Seven frames (7, 21, 3) in Å, molecules whole and partly outside the cell."""
    generator = torch.Generator().manual_seed(12)
    cell = torch.tensor(TRICLINIC, dtype=torch.float64)
    centres = 2.0 * torch.rand(7, 7, 1, 3, generator=generator, dtype=torch.float64) @ cell
    shape = torch.tensor([[0.0, 0.0, 0.0], [0.97, 0.0, 0.0], [-0.24, 0.94, 0.0]])
    noise = torch.randn(7, 7, 3, 3, generator=generator, dtype=torch.float64)
    return (centres + shape.double() + 0.15 * noise).reshape(7, 21, 3)


@pytest.fixture
def methanol() -> System:
    return make_methanol()


@pytest.fixture
def frames() -> Tensor:
    return make_methanol_frames()


@pytest.fixture
def water_box() -> System:
    return make_water_box()


@pytest.fixture
def water_frames() -> Tensor:
    return make_water_frames()
