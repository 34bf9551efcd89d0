"""A configuration that runs in seconds, on a slice of the packaged ethanol data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from stablemd.config import RunConfig
from stablemd.config_file import load_config
from stablemd.data import read_frames, write_frames
from stablemd.demo import DATA_PATH
from stablemd.rundir import RunDirectory
from stablemd.workflows import run_pretrain

TINY: dict[str, Any] = {
    "data": {"path": "slice.npz", "n_train": 20, "n_validation": 10, "n_reference": 30},
    "potential": {
        "hyperparameters": {
            "n_features": 16,
            "n_filters": 16,
            "n_interactions": 2,
            "n_gaussians": 10,
        }
    },
    "dynamics": {"temperature_k": 600.0},
    "pretrain": {"max_epochs": 20, "learning_rate": 2e-2, "batch_size": 2},
    "stable": {
        "n_replicas": 8,
        "simulation_steps": 400,
        "max_windows": 2,
        "rewind_steps": 20,
        "learning_steps": 20,
        "record_every": 5,
        "max_cycles": 1,
        "max_learning_epochs": 2,
        "steps_per_epoch": 2,
    },
    "evaluation": {
        "n_replicas": 8,
        "length_ps": 0.5,
        "record_every_fs": 10.0,
        "discard_fs": 20.0,
    },
    "simulation": {
        "n_replicas": 8,
        "length_ps": 0.5,
        "record_every_fs": 5.0,
        "format": "hdf5",
    },
}
"""The weak model fails within the simulated time, so that every branch is taken."""


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    write_frames(folder / "slice.npz", read_frames(DATA_PATH, index=":100"))
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return folder / "tiny.yaml"


@pytest.fixture(scope="session")
def tiny(tiny_file: Path) -> Callable[..., RunConfig]:
    """The configuration, with its run directory and overrides."""

    def build(out: Path, *overrides: str) -> RunConfig:
        return load_config(tiny_file, overrides=overrides, out=out)

    return build


@pytest.fixture(scope="session")
def model_file(tiny: Callable[..., RunConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weak model, trained on the training structures of ``tiny``."""
    config = tiny(tmp_path_factory.mktemp("model"))
    run_pretrain(config)
    return RunDirectory(config.out).model("pretrained")
