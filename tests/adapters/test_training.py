"""From a file of a package to a repaired file of the same format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from stablemd.config import RunConfig
from stablemd.data import read_frames, write_frames
from stablemd.demo import DATA_PATH
from stablemd.potentials.files import load_potential
from stablemd.rundir import RunDirectory
from stablemd.workflows import run_evaluate, run_train
from stablemd.workflows.models import models_by_role

Files = Callable[[Any, torch.dtype], Path]


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "slice.npz"
    write_frames(path, read_frames(DATA_PATH, index=":24"))
    return path


def config(case: Any, model: Path, frames: Path, out: Path) -> RunConfig:
    return RunConfig.from_values(
        {
            "data": {"path": str(frames), "n_train": 8, "n_validation": 4},
            "potential": {"path": str(model), "options": case.options},
            # Thermal vibration counts as a failure, so that there is something to learn from.
            "dynamics": {"bond_threshold": 0.12, "check_every": 2},
            "stable": {
                "n_replicas": 6,
                "simulation_steps": 30,
                "max_windows": 1,
                "rewind_steps": 10,
                "learning_steps": 16,
                "record_every": 2,
                "max_cycles": 1,
                "max_learning_epochs": 1,
                "steps_per_epoch": 1,
                "force_mae_budget": None,
                "energy_mae_budget": None,
                "min_n_eff": 0.0,
                "max_n_eff_loss": 1.0,
            },
            "evaluation": {
                "n_replicas": 2,
                "length_ps": 0.01,
                "record_every_fs": 2.0,
                "discard_fs": 2.0,
            },
            "control": False,
            "threads": 1,
            "out": str(out),
        }
    )


def test_one_learning_epoch_changes_the_model_and_keeps_its_format(
    case: Any, model_files: Files, frames: Path, tmp_path: Path
) -> None:
    """One configuration and one command; then the package's own calculator runs the result."""
    dtype = torch.float32
    source = model_files(case, dtype)
    run = config(case, source, frames, tmp_path / "run")
    metrics = run_train(run)
    directory = RunDirectory(run.out)
    learned = [r for r in directory.log.read() if r["phase"] == "learn"]
    assert learned and metrics["optimizer_steps"] > 0, directory.log.read()
    stable, start = directory.model("stable"), directory.model("start")
    suffix = load_potential(source, options=case.options).file_suffix
    assert stable.name == f"stable{suffix}" and start.name == f"start{suffix}"
    atoms = molecule("CH3CH2OH")
    energy, forces = case.calculator(stable, dtype)(atoms)
    assert np.isfinite(energy) and np.isfinite(forces).all()
    roles = models_by_role(directory)
    assert roles == {"before": start, "after": stable}
    run_evaluate(run)
    assert "after" in directory.read_metrics()


def test_training_moves_the_parameters(
    case: Any, model_files: Files, frames: Path, tmp_path: Path
) -> None:
    """Whichever candidate is kept in the end, the optimizer's step reaches the package's module."""
    from stablemd.data import system_from_frames
    from stablemd.potentials.files import save_potential
    from stablemd.training.control import train_control

    model = load_potential(model_files(case, torch.float32), options=case.options)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    data = read_frames(frames)
    settings = config(case, model_files(case, torch.float32), frames, tmp_path).stable
    train_control(model, system_from_frames(data), data, settings, 1)
    changed = [k for k, v in model.state_dict().items() if not torch.equal(v, before[k])]
    assert changed
    path = tmp_path / f"trained{model.file_suffix}"
    save_potential(model, path)
    again = load_potential(path, options=case.options).state_dict()
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())
