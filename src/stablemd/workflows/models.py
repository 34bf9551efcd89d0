"""The models of a run: a fresh one, the one to start from, those that were trained."""

from __future__ import annotations

from pathlib import Path

import torch

from stablemd.config import RunConfig
from stablemd.data import Frames
from stablemd.errors import ConfigError
from stablemd.potentials import POTENTIALS, Potential, make_potential
from stablemd.potentials.adapters import FORMATS, PATHLESS, format_of
from stablemd.potentials.files import load_potential, save_potential
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
        kind = POTENTIALS[config.potential.name]
        arguments = kind.fitted_hyperparameters(
            train.numbers, train.positions, config.potential.arguments
        )
        potential = make_potential(config.potential.name, **arguments)
        for term in config.potential.terms:
            potential = potential + make_potential(term.name, **term.hyperparameters)
    set_energy_scale(potential, train)
    return potential.to(config.device)


def save_model(potential: Potential, directory: RunDirectory, name: str) -> None:
    """Write a model into a run directory, in the format of its package."""
    save_potential(potential, directory.new_model(name, potential.file_suffix))


def start_model_path(config: RunConfig) -> Path:
    """File of the model that training starts from.

    Raises:
        ConfigError: there is none.
    """
    configured = configured_model(config)
    if configured is not None:
        return configured
    path = RunDirectory(config.out).model("pretrained")
    if not path.is_file():
        raise ConfigError(
            f"there is no model to start from: potential.path is not set, and {path} does not "
            "exist; run stablemd pretrain first, or set potential.path to a trained model"
        )
    return path


def configured_model(config: RunConfig) -> Path | None:
    """The trained model that is configured; the format stands for one without a file."""
    chosen = config.potential
    if chosen.format in PATHLESS:
        return Path(chosen.format)
    return chosen.path


def load_model(path: Path, config: RunConfig, n_atoms: int) -> Potential:
    """A model from a file, on the run's device.

    ``potential.options`` hold for the configured file, for models that training made of
    it, and for what is named without a file (see ``configured_model``).
    """
    chosen = config.potential
    if chosen.format in PATHLESS and path == Path(chosen.format):
        return FORMATS[chosen.format].load(None, chosen.options).to(config.device)
    outside = format_of(path)
    if path == chosen.path:
        outside = chosen.format or outside
    is_configured = outside is not None and outside == (
        chosen.format or (chosen.path and format_of(chosen.path))
    )
    return load_potential(
        path,
        device=config.device,
        n_atoms=n_atoms,
        format=outside if path == chosen.path else None,
        options=chosen.options if is_configured else None,
    )


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
