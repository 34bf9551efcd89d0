"""Relative entropy of a training: the structures themselves as the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from stablemd.data import Frames
from stablemd.estimators import Ensemble, StatePoint, ensemble_gradient
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.epoch_frames import EpochFrames


def relative_entropy_gradient(
    potential: Potential,
    system: System,
    epoch: EpochFrames,
    reference: Frames,
    *,
    beta: float,
    weight: float,
    chunk_size: int,
    n_structures: int,
    seed: int,
) -> None:
    """Add the gradient of the relative entropy to ``.grad``.

    ``β (<∂U/∂θ>_ref - <∂U/∂θ>_θ)`` lowers the energy of what the reference visits and
    raises that of what the model's frames visit.  Both averages are over a random
    sample, of the same frames and with the same weights as the observables'.  Where
    those are weights of neighbourhoods, a whole frame has none that would hold in a
    large system, and the average is over the frames as they were sampled.  Frames that
    start near failures stand for these rather than for the whole ensemble.

    Args:
        potential: at the present parameters.
        system: the atoms.
        epoch: frames and their present energies.
        reference: structures of the reference ensemble.
        beta: inverse temperature in 1/eV.
        weight: factor on the gradient.
        chunk_size: frames per pass.
        n_structures: frames, and reference structures, of the sample at most.
        seed: of the sample.

    Reference: Shell, J. Chem. Phys. 129, 144108 (2008).
    """
    generator = torch.Generator().manual_seed(seed)
    own = torch.randperm(len(epoch.energies), generator=generator)[: max(2, n_structures)]
    theirs = torch.randperm(len(reference), generator=generator)[:n_structures]
    own = own.to(epoch.energies.device)
    positions, cells = reference.select(theirs).geometry(potential.device)
    frames, present = epoch.frames.select(own), epoch.total_energies[own]
    if epoch.around is not None:
        frames = replace(frames, reference_energies=present)
    point = StatePoint(
        system,
        frames,
        beta,
        energies=present,
        reference_positions=positions,
        reference_cells=cells,
    )

    def loss(at: Mapping[str, Ensemble]) -> Tensor:
        return weight * at["frames"].relative_entropy()

    ensemble_gradient(potential, {"frames": point}, loss, chunk_size=chunk_size, noise_groups=0)
