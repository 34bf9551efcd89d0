"""The loss on reference energies and forces."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from stablemd.data.frames import Frames
from stablemd.potentials.base import Potential
from stablemd.settings import Settings
from stablemd.system import System


class LabelLossSettings(Settings):
    """``energy_weight * MSE(E) + force_weight * MSE(F)``, in eV² and (eV/Å)²."""

    energy_weight: NonNegativeFloat = Field(0.05, description="weight of the energy error")
    force_weight: NonNegativeFloat = Field(0.95, description="weight of the force error")
    energy_per_atom: bool = Field(
        False, description="divide energy errors by the number of atoms before squaring"
    )


def label_loss(
    potential: Potential,
    system: System,
    frames: Frames,
    settings: LabelLossSettings,
    *,
    free_offset: bool = False,
) -> Tensor:
    """Loss on labelled structures, with graph; a scalar in float64.

    Args:
        potential: differentiated twice.
        system: the atoms of the frames.
        frames: the batch.
        settings: weights.
        free_offset: leave out a constant energy error common to all frames,
            which no force sees and which is set afterwards in closed form.

    Raises:
        DataError: energies or forces are missing.
    """
    energies, forces = frames.require_labels()
    device = potential.device
    predicted_energies, predicted_forces = potential.energy_and_forces(
        system, *frames.geometry(device), create_graph=True
    )
    energy_error = predicted_energies.double() - energies.to(device)
    if free_offset:
        energy_error = energy_error - energy_error.mean()
    if settings.energy_per_atom:
        energy_error = energy_error / frames.n_atoms
    force_error = predicted_forces - forces.to(predicted_forces)
    loss: Tensor = settings.energy_weight * energy_error.square().mean()
    return loss + settings.force_weight * force_error.double().square().mean()


def anchor_loss(
    potential: Potential,
    system: System,
    positions: Tensor,
    forces: Tensor,
    cells: Tensor | None = None,
) -> Tensor:
    """Mean squared deviation of the forces from given ones (n, N, 3), in (eV/Å)²."""
    _, predicted = potential.energy_and_forces(system, positions, cells, create_graph=True)
    return (predicted - forces.to(predicted)).double().square().mean()


def shuffled_batches(n_frames: int, batch_size: int, *, seed: int, epoch: int) -> Iterator[Tensor]:
    """Index batches (b,) of one epoch in an order that (seed, epoch) determines."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    yield from torch.randperm(n_frames, generator=generator).split(batch_size)


def cycling_batches(n_frames: int, batch_size: int, *, seed: int, step: int) -> Tensor:
    """The batch (b,) of optimizer step ``step`` when epochs follow each other for ever."""
    per_epoch = max(1, n_frames // batch_size)
    batches = list(shuffled_batches(n_frames, batch_size, seed=seed, epoch=step // per_epoch))
    return batches[step % per_epoch]
