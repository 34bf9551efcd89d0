"""Fixtures shared by all rooms."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule

if not torch.cuda.is_available():  # read by triton, wherever it is installed, when it is imported
    os.environ.setdefault("TRITON_INTERPRET", "1")

from stablemd.md import sharding
from stablemd.system import System

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _replicas_in_one_thread() -> Iterator[None]:
    """A command sets the number of threads of its process, and may run in a fixture of a module."""
    sharding.set_threads(1)
    yield
    sharding.set_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real reference data, or a skip where it is not at hand."""
    if not SHARED_DATA.is_dir():
        pytest.skip("real reference data (../shared/data) are not at hand")
    return SHARED_DATA


@pytest.fixture(scope="session")
def ethanol() -> System:
    """Ethanol without bonds: 9 atoms, three elements."""
    return System.create(molecule("CH3CH2OH").numbers)


@pytest.fixture
def ethanol_positions() -> torch.Tensor:
    """Eight distorted ethanol structures, (8, 9, 3) float64 Å."""
    rng = np.random.default_rng(3)
    base = molecule("CH3CH2OH").positions
    return torch.from_numpy(base + 0.08 * rng.standard_normal((8, 9, 3)))
