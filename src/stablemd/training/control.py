"""The control: the same number of optimizer steps on energies and forces alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from stablemd.data import Frames
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.energy_offset import centre_energies
from stablemd.training.label_loss import cycling_batches, label_loss
from stablemd.training.stable_settings import StableSettings
from stablemd.training.training_point import MAIN_POINT, TrainingPoint


def train_control(
    potential: Potential,
    system: System,
    train: Frames,
    settings: StableSettings,
    n_steps: int,
    *,
    further: Sequence[TrainingPoint] = (),
    on_progress: Callable[[str, float], None] | None = None,
) -> None:
    """Train in place on reference data with the optimizer of StABlE Training.

    It answers whether more training would have done as well: same start, same
    optimizer, same batches, same loss on energies and forces (the mean over all state
    points), the same number of steps, the same choice of the energies' constant, and no
    simulation.  The rate is that of the settings, without the factor that the limits on a
    step lead to.

    Args:
        potential: the model that StABlE Training started from.
        system: the molecule.
        train: labelled frames.
        settings: those of the StABlE Training.
        n_steps: optimizer steps that it took.
        further: its state points beside the main one.
        on_progress: called with a description and the share done.
    """
    parameters = [p for p in potential.parameters() if p.requires_grad]
    kind = torch.optim.SGD if settings.optimizer == "sgd" else torch.optim.Adam
    optimizer = kind(parameters, lr=settings.learning_rate)
    main = TrainingPoint(MAIN_POINT, system, train, train, train, settings)
    points = [main, *further]
    for step in range(n_steps):
        optimizer.zero_grad(set_to_none=True)
        for point in points:
            n_batch = min(settings.label_batch_size, len(point.train))
            index = cycling_batches(len(point.train), n_batch, seed=point.settings.seed, step=step)
            loss = label_loss(
                potential,
                point.system,
                point.train.select(index),
                settings.label_loss,
                free_offset=True,
            )
            (settings.label_weight / len(points) * loss).backward()
        nn.utils.clip_grad_norm_(parameters, settings.gradient_clip)
        optimizer.step()
        if on_progress is not None:
            on_progress("control: energies and forces alone", (step + 1) / n_steps)
    centre_energies(potential, points)
