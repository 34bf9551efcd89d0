"""The models of a run: a fresh one, the one to start from, those that were trained."""

from __future__ import annotations

from pathlib import Path

import torch

from stablemd.config import RunConfig
from stablemd.data import Frames
from stablemd.errors import ConfigError
from stablemd.potentials import Potential, make_potential
from stablemd.potentials.files import load_potential
from stablemd.rundir import RunDirectory
from stablemd.training.pretrain import set_energy_scale

START_MODELS = ("start", "pretrained")
"""Models of a run directory that are the start of training, best first."""


def fresh_potential(config: RunConfig, train: Frames) -> Potential:
    """An untrained model with the energy scale of the training data.

    Its weights depend on ``pretrain.seed`` alone.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.pretrain.seed)
        potential = make_potential(config.potential.name, **config.potential.hyperparameters)
    set_energy_scale(potential, train)
    return potential.to(config.device)


def start_model_path(config: RunConfig) -> Path:
    """File of the model that training starts from.

    Raises:
        ConfigError: there is none.
    """
    if config.potential.path is not None:
        return config.potential.path
    path = RunDirectory(config.out).model("pretrained")
    if not path.is_file():
        raise ConfigError(
            f"there is no model to start from: potential.path is not set, and {path} does not "
            "exist; run stablemd pretrain first, or set potential.path to a trained model"
        )
    return path


def load_model(path: Path, config: RunConfig, n_atoms: int) -> Potential:
    """A model from a file, on the run's device."""
    return load_potential(path, device=config.device, n_atoms=n_atoms)


def models_by_role(directory: RunDirectory) -> dict[str, Path]:
    """Models that a run directory holds: before, after and control, those that exist."""
    found: dict[str, Path] = {}
    for name in START_MODELS:
        if directory.model(name).is_file():
            found["before"] = directory.model(name)
            break
    for role, name in (("after", "stable"), ("control", "control")):
        if directory.model(name).is_file():
            found[role] = directory.model(name)
    return found


def best_model(config: RunConfig) -> Path:
    """The furthest trained model of a run: stable, pretrained, or the configured one.

    Raises:
        ConfigError: there is none.
    """
    path = RunDirectory(config.out).model("stable")
    return path if path.is_file() else start_model_path(config)
