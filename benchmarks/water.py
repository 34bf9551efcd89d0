"""Boxes of flexible water at the liquid's density, and a model for them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from stablemd.data import read_frames, system_from_frames
from stablemd.geometry.lattice import minimum_image
from stablemd.potentials import Potential, SchNet
from stablemd.potentials.files import load_potential
from stablemd.system import System

WATER_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "water"
CUTOFF = 6.0
SPACING = 12.44287777 / 4.0
"""Å between the molecules of a cubic grid with the liquid's density."""


def water_model() -> tuple[Potential, bool]:
    """The trained SchNet of the shared data, or one of its size with random weights.

    Returns:
        The model, and whether it is the trained one.
    """
    path = WATER_DATA / "mdsim_schnet_water_1k.pt"
    if path.is_file():
        return load_potential(path, n_atoms=192), True
    torch.manual_seed(0)
    return SchNet(cutoff=CUTOFF), False


def water_box(n_side: int, n_replicas: int, seed: int = 0) -> tuple[System, Tensor]:
    """``n_side³`` molecules on a grid, and positions (R, N, 3) in Å.

    64 molecules (``n_side`` 4) are frames of the shared data where they are at
    hand; larger boxes are copies of them, if ``n_side`` is a multiple of 4.
    """
    path = WATER_DATA / "water_2k_shuffled.npz"
    if path.is_file() and n_side % 4 == 0:
        frames = read_frames(path, energy_unit="eV").select(slice(0, n_replicas))
        small = system_from_frames(frames)
        return _repeated(small, frames.positions.double(), n_side // 4)
    generator = torch.Generator().manual_seed(seed)
    n = n_side**3
    grid = torch.cartesian_prod(*[torch.arange(float(n_side), dtype=torch.float64)] * 3) * SPACING
    arms = torch.randn(n_replicas, n, 2, 3, generator=generator, dtype=torch.float64)
    first = arms[:, :, 0] / arms[:, :, 0].norm(dim=-1, keepdim=True)
    across = torch.linalg.cross(first, arms[:, :, 1])
    across = across / across.norm(dim=-1, keepdim=True)
    second = -0.394 * first + 0.919 * across
    oxygens = grid.expand(n_replicas, n, 3)
    positions = torch.stack([oxygens, oxygens + 1.02 * first, oxygens + 1.02 * second], dim=2)
    bonds = torch.tensor([[0, 1], [0, 2]]) + 3 * torch.arange(n)[:, None, None]
    system = System.create(
        [8, 1, 1] * n,
        cell=(SPACING * n_side * torch.eye(3)).numpy(),
        pbc=True,
        bonds=bonds.reshape(-1, 2).numpy(),
        bond_lengths=[1.02] * (2 * n),
    )
    return system, positions.reshape(n_replicas, 3 * n, 3)


def _repeated(small: System, positions: Tensor, times: int) -> tuple[System, Tensor]:
    corners = torch.cartesian_prod(*[torch.arange(float(times), dtype=torch.float64)] * 3)
    shifts = corners.reshape(-1, 3) @ small.cell
    n, copies = small.n_atoms, len(shifts)
    whole = _whole_molecules(small, positions)
    large = (whole[:, None] + shifts[None, :, None]).reshape(len(positions), copies * n, 3)
    bonds = small.bonds[None] + n * torch.arange(copies)[:, None, None]
    system = System.create(
        small.numbers.repeat(copies),
        cell=(times * small.cell).numpy(),
        pbc=True,
        bonds=bonds.reshape(-1, 2).numpy(),
        bond_lengths=small.bond_lengths.repeat(copies).numpy(),
    )
    return system, large


def _whole_molecules(system: System, positions: Tensor) -> Tensor:
    """Positions in which bonded atoms are near each other, not their images."""
    whole = positions.clone()
    first, second = system.bonds.T
    vectors = minimum_image(positions[:, second] - positions[:, first], system.cell, system.pbc)
    whole[:, second] = whole[:, first] + vectors
    return whole
