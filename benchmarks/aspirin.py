"""Replicas of aspirin for benchmarks; the geometry is the project's own."""

from __future__ import annotations

from pathlib import Path

import torch
from ase.io import read
from torch import Tensor

from stablemd.system import System

DISPLACEMENT = 0.05
"""Standard deviation of each coordinate around the minimum, Å: a warm molecule, bonds intact."""


def aspirin_replicas(n_replicas: int, seed: int = 0) -> tuple[System, Tensor]:
    """Aspirin and displaced copies of it, (n_replicas, 21, 3) float64 in Å."""
    atoms = read(Path(__file__).with_name("aspirin.xyz"))
    generator = torch.Generator().manual_seed(seed)
    positions = torch.as_tensor(atoms.positions, dtype=torch.float64)
    noise = torch.randn((n_replicas, *positions.shape), generator=generator, dtype=torch.float64)
    return System.create(atoms.numbers), positions + DISPLACEMENT * noise
