"""Where the replicas of a simulation phase start."""

from __future__ import annotations

import torch

from stablemd.data import Frames
from stablemd.md import State, initial_state
from stablemd.potentials.base import SamplingForm
from stablemd.system import System
from stablemd.training.stable_settings import StableSettings


def fresh_replicas(
    train: Frames,
    system: System,
    form: SamplingForm,
    settings: StableSettings,
    *,
    cycle: int,
    step: int,
    device: torch.device,
) -> State:
    """Training structures, chosen by (seed, cycle), with Maxwell–Boltzmann momenta.

    Args:
        train: the structures.
        system: the atoms.
        form: gives energies and forces at the start.
        settings: number of replicas, temperature and seed.
        cycle: of the training.
        step: count of the random streams, from which the momenta are drawn.
        device: of the state.
    """
    generator = torch.Generator().manual_seed(settings.seed * 7919 + cycle)
    order = torch.cat(
        [
            torch.randperm(len(train), generator=generator)
            for _ in range(-(-settings.n_replicas // len(train)))
        ]
    )[: settings.n_replicas]
    positions, cells = train.select(order).geometry(device)
    return initial_state(
        system,
        positions,
        form,
        cells=cells,
        temperature_k=settings.dynamics.temperature_k,
        seed=settings.seed,
        step=step,
    )
