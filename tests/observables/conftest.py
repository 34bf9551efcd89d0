"""Fixtures of the observable tests: a small molecule with bonds and repeated elements."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.system import System


@pytest.fixture
def methanol() -> System:
    return System.create(
        ["C", "O", "H", "H", "H", "H"],
        bonds=[[0, 1], [0, 2], [0, 3], [0, 4], [1, 5]],
        bond_lengths=[1.42, 1.09, 1.09, 1.09, 0.96],
    )


@pytest.fixture
def frames() -> Tensor:
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
