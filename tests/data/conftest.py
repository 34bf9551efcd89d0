"""Small reference structures with labels, made up but finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ase.build import molecule

from stablemd.data import Frames


@pytest.fixture
def labelled() -> Frames:
    """Twelve distorted ethanol structures with random labels."""
    return _random_frames(cell=False)


@pytest.fixture
def labelled_periodic() -> Frames:
    """The same in a triclinic cell."""
    return _random_frames(cell=True)


def _random_frames(*, cell: bool) -> Frames:
    rng = np.random.default_rng(5)
    atoms = molecule("CH3CH2OH")
    box = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [1.0, -1.0, 10.0]])
    return Frames(
        numbers=torch.from_numpy(atoms.numbers.astype(np.int64)),
        positions=torch.from_numpy(atoms.positions + 0.05 * rng.normal(size=(12, 9, 3))),
        energies=torch.from_numpy(rng.normal(-100.0, 0.1, size=12)),
        forces=torch.from_numpy(rng.normal(size=(12, 9, 3))),
        cell=torch.from_numpy(np.tile(box, (12, 1, 1))) if cell else None,
        pbc=torch.tensor([True, True, False]) if cell else None,
        source="made up",
    )
