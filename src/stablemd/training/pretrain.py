"""Training on reference energies and forces."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from stablemd.data import Frames, fit_atomic_energies
from stablemd.errors import DataError
from stablemd.potentials.base import Potential
from stablemd.settings import Settings
from stablemd.system import System
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint
from stablemd.training.label_errors import LabelErrors, energy_and_force_mae
from stablemd.training.label_loss import LabelLossSettings, label_loss, shuffled_batches

logger = logging.getLogger(__name__)

CHECKPOINT_KIND = "pretraining"

MAX_SCALE_ATOMS = 2000
"""Atoms at most, of all frames together, on which a network's scale factors are fitted."""


class PretrainSettings(Settings):
    """Optimizer, schedule and stop rules."""

    loss: LabelLossSettings = Field(default_factory=LabelLossSettings)
    learning_rate: PositiveFloat = Field(1e-3, description="of Adam at the start")
    batch_size: PositiveInt = Field(5, description="structures per optimizer step")
    max_epochs: PositiveInt = Field(1000, description="passes over the training frames at most")
    max_minutes: PositiveFloat | None = Field(None, description="wall time at most; none: no limit")
    gradient_clip: PositiveFloat = Field(10.0, description="largest gradient norm of a step")
    ema_decay: float | None = Field(
        None, gt=0.0, lt=1.0, description="validate and keep this running mean of the weights"
    )
    plateau_factor: float = Field(0.6, gt=0.0, lt=1.0, description="learning rate reduction")
    plateau_patience: PositiveInt = Field(20, description="epochs without progress before it")
    min_learning_rate: NonNegativeFloat = Field(1e-6, description="stop once below")
    early_stopping: PositiveInt = Field(100, description="stop after epochs without progress")
    seed: int = Field(0, ge=0, description="of weights and data order")


@dataclass(frozen=True)
class PretrainResult:
    """How a pretraining ended; the potential holds its best weights.

    Attributes:
        best_epoch: epoch of the lowest validation loss.
        errors: validation errors there.
        n_epochs: epochs that were run, earlier parts of a resumed run included.
        stop_reason: which rule ended it.
        wall_s: seconds, earlier parts included.
    """

    best_epoch: int
    errors: LabelErrors
    n_epochs: int
    stop_reason: str
    wall_s: float


def set_energy_scale(potential: Potential, frames: Frames) -> None:
    """Give a fresh potential the constants of the training data.

    These are the energy offsets, the force RMS as energy scale, and the
    network's own scale factors where it has some.
    """
    _, forces = frames.require_labels()
    potential.set_energy_scale(float(forces.square().mean().sqrt()), fit_atomic_energies(frames))
    some = frames.select(slice(0, max(1, MAX_SCALE_ATOMS // frames.n_atoms)))
    system = _atoms_of(frames).to(potential.device)
    potential.fit_scale_factors(potential.batch(system, *some.geometry(potential.device)))


def _atoms_of(frames: Frames) -> System:
    """Atoms and periodicity of frames, without bonds."""
    cell = None if frames.cell is None else frames.cell[0].cpu().numpy()
    pbc = None if frames.pbc is None else frames.pbc.cpu().numpy()
    return System.create(frames.numbers, cell=cell, pbc=pbc)


def pretrain(
    potential: Potential,
    train: Frames,
    validation: Frames,
    settings: PretrainSettings,
    *,
    checkpoint: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> PretrainResult:
    """Fit energies and forces with Adam; the potential ends at its best weights.

    Args:
        potential: trained in place; call ``set_energy_scale`` first for a fresh one.
        train: labelled frames to fit.
        validation: labelled frames of the same atoms that steer schedule and stop.
        settings: see ``PretrainSettings``.
        checkpoint: file that is rewritten after every epoch.
        resume: continue from ``checkpoint`` if it is there.
        on_epoch: called with the record of every epoch.

    Raises:
        DataError: labels are missing, atoms differ, or the loss is not finite.
    """
    if not torch.equal(train.numbers, validation.numbers):
        raise DataError(
            f"training and validation frames hold different atoms ({train.source}, "
            f"{validation.source}); give frames of one molecule in one order"
        )
    run = _Pretraining(potential, train, validation, settings)
    if resume and checkpoint is not None and checkpoint.is_file():
        run.restore(load_checkpoint(checkpoint, kind=CHECKPOINT_KIND))
    while (reason := run.stop_reason()) is None:
        record = run.epoch()
        if checkpoint is not None:
            save_checkpoint(checkpoint, run.payload(), kind=CHECKPOINT_KIND)
        if on_epoch is not None:
            on_epoch(record)
    potential.load_state_dict(run.best_state)
    return PretrainResult(run.best_epoch, run.best_errors, run.epochs_done, reason, run.wall_s)


class _Pretraining:
    """The state of a pretraining between epochs."""

    def __init__(
        self, potential: Potential, train: Frames, validation: Frames, settings: PretrainSettings
    ) -> None:
        self._potential = potential
        self._train = train
        self._validation = validation
        self._settings = settings
        self._system = _atoms_of(train).to(potential.device)
        self._optimizer = torch.optim.Adam(potential.parameters(), lr=settings.learning_rate)
        self._schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            self._optimizer, factor=settings.plateau_factor, patience=settings.plateau_patience
        )
        self._average = _copy_state(potential) if settings.ema_decay else None
        self.epochs_done = 0
        self.best_epoch = 0
        self.best_loss = float("inf")
        self.best_errors = LabelErrors(float("inf"), float("inf"))
        self.best_state = _copy_state(potential)
        self.wall_s = 0.0

    @property
    def learning_rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def stop_reason(self) -> str | None:
        """Which stop rule holds, if any."""
        s = self._settings
        if self.epochs_done >= s.max_epochs:
            return f"max_epochs = {s.max_epochs} reached"
        if s.max_minutes is not None and self.wall_s >= 60.0 * s.max_minutes:
            return f"max_minutes = {s.max_minutes} used up"
        if self.epochs_done - self.best_epoch >= s.early_stopping:
            return f"no progress for early_stopping = {s.early_stopping} epochs"
        if self.learning_rate < s.min_learning_rate:
            return f"learning rate below min_learning_rate = {s.min_learning_rate}"
        return None

    def epoch(self) -> dict[str, Any]:
        """Train for one pass over the data and validate."""
        begin = time.perf_counter()
        settings, seen, total = self._settings, 0, 0.0
        rate = self.learning_rate
        for index in shuffled_batches(
            len(self._train), settings.batch_size, seed=settings.seed, epoch=self.epochs_done
        ):
            total += self._step(self._train.select(index)) * len(index)
            seen += len(index)
        self.epochs_done += 1
        validation_loss, errors = self._validate()
        self._schedule.step(validation_loss)
        if validation_loss < self.best_loss:
            self.best_loss, self.best_errors = validation_loss, errors
            self.best_epoch = self.epochs_done
            self.best_state = {k: v.clone() for k, v in self._validated_state().items()}
        self.wall_s += time.perf_counter() - begin
        return {
            "phase": "pretrain",
            "epoch": self.epochs_done,
            "train_loss": total / seen,
            "validation_loss": validation_loss,
            "force_mae_ev_per_angstrom": errors.force_mae_ev_per_angstrom,
            "energy_mae_ev": errors.energy_mae_ev,
            "best_epoch": self.best_epoch,
            "learning_rate": rate,
            "wall_s": self.wall_s,
        }

    def _step(self, frames: Frames) -> float:
        self._optimizer.zero_grad(set_to_none=True)
        loss = label_loss(self._potential, self._system, frames, self._settings.loss)
        value = float(loss.detach())
        if not value < float("inf"):
            raise DataError(
                f"the training loss became {value} in epoch {self.epochs_done + 1}; use a smaller "
                f"learning_rate than {self.learning_rate:.1e}, or check the labels' units"
            )
        loss.backward()
        nn.utils.clip_grad_norm_(self._potential.parameters(), self._settings.gradient_clip)
        self._optimizer.step()
        if self._average is not None and self._settings.ema_decay is not None:
            _blend(self._average, self._potential.state_dict(), 1.0 - self._settings.ema_decay)
        return value

    def _validated_state(self) -> dict[str, Tensor]:
        return self._average if self._average is not None else self._potential.state_dict()

    def _validate(self) -> tuple[float, LabelErrors]:
        """Validation loss (from squared errors) and mean absolute errors."""
        trained = _copy_state(self._potential) if self._average is not None else None
        if self._average is not None:
            self._potential.load_state_dict(self._average)
        errors = energy_and_force_mae(self._potential, self._system, self._validation)
        total = 0.0
        for part in torch.arange(len(self._validation)).split(64):
            frames = self._validation.select(part)
            loss = label_loss(self._potential, self._system, frames, self._settings.loss)
            total += float(loss.detach()) * len(part)
        if trained is not None:
            self._potential.load_state_dict(trained)
        return total / len(self._validation), errors

    def payload(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        return {
            "potential": self._potential.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "average": self._average,
            "best_state": self.best_state,
            "best_errors": list(self.best_errors),
            "counters": {
                "epochs_done": self.epochs_done,
                "best_epoch": self.best_epoch,
                "best_loss": self.best_loss,
                "wall_s": self.wall_s,
            },
        }

    def restore(self, payload: dict[str, Any]) -> None:
        """Continue from a payload."""
        self._potential.load_state_dict(payload["potential"])
        self._optimizer.load_state_dict(payload["optimizer"])
        self._schedule.load_state_dict(payload["schedule"])
        device = self._potential.device
        self._average = _to(payload["average"], device) if payload["average"] else None
        self.best_state = _to(payload["best_state"], device)
        self.best_errors = LabelErrors(*payload["best_errors"])
        for name, value in payload["counters"].items():
            setattr(self, name, value)


def _copy_state(potential: Potential) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in potential.state_dict().items()}


def _to(state: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {k: v.to(device) for k, v in state.items()}


@torch.no_grad()
def _blend(average: dict[str, Tensor], state: dict[str, Tensor], share: float) -> None:
    for name, value in state.items():
        if value.is_floating_point():
            average[name].lerp_(value, share)
