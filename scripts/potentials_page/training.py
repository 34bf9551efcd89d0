"""Architectures trained on the same few structures for the same processor time."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stablemd.data import Frames, read_frames
from stablemd.potentials import GemNetT, Potential, SchNet
from stablemd.system import System
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.label_loss import LabelLossSettings
from stablemd.training.pretrain import PretrainSettings, pretrain, set_energy_scale


@dataclass(frozen=True)
class Task:
    """Frames to learn from and for how long.

    Attributes:
        title: row title.
        file: under the folder of reference data.
        n_train: training frames; as many as ``n_validation`` and ``n_test`` follow them.
        n_validation: frames that choose the best epoch.
        n_test: frames that errors are reported on.
        batch_size: frames per optimizer step.
        cpu_s: processor time per model, validation included.
    """

    title: str
    file: str
    n_train: int
    n_validation: int
    n_test: int
    batch_size: int
    cpu_s: float


TASKS = {
    "ethanol": Task("ethanol, 100 frames", "md17/ethanol_1k.npz", 100, 25, 300, 5, 50.0),
    "water": Task("64 H₂O, 20 frames", "water/water_2k_shuffled.npz", 20, 2, 10, 1, 65.0),
}
MODELS: dict[str, type[Potential]] = {"SchNet": SchNet, "GemNet-T, small": GemNetT}
LEARNING_RATE = 2e-3


class _BudgetUsedError(Exception):
    """Ends a training from its report of an epoch."""


def load(task: Task, data: Path) -> Frames:
    """The first frames of the file, with the cell that water files give as an edge ``L``."""
    path = data / task.file
    n = task.n_train + task.n_validation + task.n_test
    frames = read_frames(path, energy_unit="eV").select(slice(0, n))
    with np.load(path) as arrays:
        if "L" not in arrays.files:
            return frames
        cell = torch.eye(3, dtype=torch.float64).mul(float(arrays["L"])).expand(n, 3, 3)
    return replace(frames, cell=cell, pbc=torch.ones(3, dtype=torch.bool))


def train(model: str, task: Task, data: Path) -> dict[str, Any]:
    """Test errors of a model of ``MODELS`` after its processor time."""
    frames = load(task, data)
    torch.manual_seed(0)
    return {"model": model, **_train(MODELS[model](), frames, task)}


def _train(potential: Potential, frames: Frames, task: Task) -> dict[str, Any]:
    train = frames.select(slice(0, task.n_train))
    validation = frames.select(slice(task.n_train, task.n_train + task.n_validation))
    test = frames.select(slice(task.n_train + task.n_validation, len(frames)))
    set_energy_scale(potential, train)
    begin = time.process_time()
    best: dict[str, torch.Tensor] = {}
    epochs = 0

    def on_epoch(record: dict[str, Any]) -> None:
        nonlocal best, epochs
        epochs = record["epoch"]
        if record["best_epoch"] == epochs:
            best = {k: v.clone() for k, v in potential.state_dict().items()}
        if time.process_time() - begin > task.cpu_s:
            raise _BudgetUsedError

    settings = PretrainSettings(
        learning_rate=LEARNING_RATE,
        batch_size=task.batch_size,
        max_epochs=100_000,
        loss=LabelLossSettings(energy_per_atom=True),
    )
    try:
        pretrain(potential, train, validation, settings, on_epoch=on_epoch)
    except _BudgetUsedError:
        potential.load_state_dict(best)
    spent = time.process_time() - begin
    cell = None if test.cell is None else test.cell[0].numpy()
    system = System.create(test.numbers, cell=cell, pbc=cell is not None)
    errors = energy_and_force_mae(potential, system, test)
    assert test.forces is not None
    return {
        "parameters": potential.n_parameters,
        "epochs": epochs,
        "cpu_s": spent,
        "force_mae_ev_per_angstrom": errors.force_mae_ev_per_angstrom,
        "energy_mae_mev_per_atom": 1e3 * errors.energy_mae_ev / test.n_atoms,
        "mean_absolute_force_ev_per_angstrom": float(test.forces.abs().mean()),
    }
