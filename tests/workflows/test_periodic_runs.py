"""Every command takes a periodic system from its file to its results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase.build import molecule

from stablemd.config import RunConfig
from stablemd.config_file import load_config
from stablemd.data import Frames, read_frames, write_frames
from stablemd.evaluation import read_metrics
from stablemd.md.trajectory import read_trajectory
from stablemd.observables import OBSERVABLES
from stablemd.potentials import SchNet
from stablemd.rundir import RunDirectory
from stablemd.system import System
from stablemd.workflows import run_evaluate, run_pretrain, run_simulate, run_train

CELL = np.array([[6.4, 0.0, 0.0], [-1.2, 6.1, 0.0], [0.9, 0.7, 6.6]])
MODEL = {"n_features": 8, "n_filters": 8, "n_interactions": 1, "n_gaussians": 6, "cutoff": 4.0}
RDF = {"name": "rdf", "pair": ["O", "H"], "r_max": 4.0, "n_bins": 20, "intramolecular": False}

MEASURED = {
    **RDF,
    "reference": {"path": "measured.txt", "x": "r_A", "y": "O_H", "error": "OHError"},
}
OWN = {
    "name": "user_defined", "module": "my_periodic_observables", "observable": "dipole",
    "options": {"scale": 0.5},
}  # fmt: skip
MODULE = """
from stablemd.observables import observable

@observable(name="dipole", value_label="|sum z x|")
def dipole(system, positions, cells, *, scale=1.0):
    charge = system.numbers.to(positions) * scale
    return (charge[:, None] * positions).sum(dim=1).norm(dim=1, keepdim=True)
"""

SETTINGS: dict[str, Any] = {
    "data": {"path": "water.extxyz", "n_train": 16, "n_validation": 6, "n_reference": 20},
    "potential": {"hyperparameters": MODEL},
    "dynamics": {"temperature_k": 300.0, "dt_fs": 0.5},
    "pretrain": {"max_epochs": 2, "batch_size": 4},
    "stable": {
        "n_replicas": 4, "simulation_steps": 40, "max_windows": 1, "rewind_steps": 10,
        "learning_steps": 20, "record_every": 2, "max_cycles": 1, "max_learning_epochs": 1,
        "steps_per_epoch": 1, "observables": [MEASURED, OWN],
    },
    "evaluation": {
        "n_replicas": 4, "length_ps": 0.02, "record_every_fs": 1.0, "discard_fs": 2.0,
        "observables": [MEASURED, {"name": "density"}, OWN],
        "dynamical": [
            {"name": "diffusion_coefficient", "element": "O", "fit_ps": [0.002, 0.008],
             "path_ps": 0.009, "reference": 0.24},
            {"name": "mean_squared_displacement", "max_lag_ps": 0.008, "path_ps": 0.009},
            {"name": "velocity_autocorrelation", "max_lag_fs": 8.0, "path_ps": 0.009},
            {"name": "vibrational_spectrum", "max_lag_fs": 8.0, "path_ps": 0.009},
        ],
        "thermodynamic": [{"name": "pressure", "max_frames": 8}, {"name": "heat_capacity"}],
    },
    "simulation": {
        "n_replicas": 4, "length_ps": 0.02, "record_every_fs": 5.0, "format": "hdf5",
        "dynamics": {"integrator": "cell_rescaling", "pressure_bar": 2000.0,
                     "barostat_tau_fs": 20.0, "check_every": 10},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunConfig]:
    """Three molecules in a triclinic cell, wrapped, labelled by a random network.

    Trained on a measured g(r) and on an observable of the user's own.
    """
    folder = tmp_path_factory.mktemp("periodic")
    (folder / "my_periodic_observables.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    r = np.arange(0.0, 6.0, 0.1)
    table = np.column_stack([r, 1.0 - np.exp(-(r**2)), np.full_like(r, 0.05)])
    np.savetxt(folder / "measured.txt", table, header="r_A O_H OHError", comments="")
    rng = np.random.default_rng(1)
    water = molecule("H2O")
    centres = np.array([[0.1, 0.1, 0.1], [0.6, 0.2, 0.5], [0.3, 0.7, 0.8]]) @ CELL
    base = np.concatenate([water.positions + c for c in centres])
    positions = base + 0.05 * rng.standard_normal((60, 9, 3))
    positions -= np.floor(positions @ np.linalg.inv(CELL)) @ CELL
    system = System.create(list(water.numbers) * 3, cell=CELL, pbc=True)
    torch.manual_seed(3)
    labels = SchNet(**MODEL).double()
    x = torch.from_numpy(positions)
    energies, forces = labels.energy_and_forces(system, x)
    frames = Frames(
        numbers=system.numbers,
        positions=x,
        energies=energies,
        forces=forces,
        cell=system.cell.expand(60, 3, 3).clone(),
        pbc=system.pbc,
        source="made up",
    )
    write_frames(folder / "water.extxyz", frames)
    (folder / "water.yaml").write_text(yaml.safe_dump(SETTINGS))
    yield load_config(folder / "water.yaml", out=folder / "run")
    sys.path.remove(str(folder))
    OBSERVABLES.pop("dipole", None)


def test_a_periodic_system_goes_through_every_command(config: RunConfig) -> None:
    run_pretrain(config)
    run_train(config)
    directory = RunDirectory(config.out)
    assert directory.model("stable").is_file()
    run_evaluate(config)
    metrics = read_metrics(directory.path / "metrics.json")
    assert set(metrics["observables"]) == {"rdf_O-H_intermolecular", "density", "dipole"}
    records = [r for r in directory.log.read() if r.get("phase") == "learn"]
    norms = [step["observable_gradient_norm"] for r in records for step in r["steps"]]
    assert norms and all(norm > 0.0 for norm in norms), "trained on the measurement and on OWN"
    assert len(metrics["dynamical"]) == 4 and len(metrics["thermodynamic"]) == 2
    for content in (*metrics["dynamical"].values(), *metrics["thermodynamic"].values()):
        assert np.isfinite(content["value"]).all() and "why" not in content
    assert 4 < metrics["thermodynamic"]["pressure"]["n_frames"] <= 8
    report = directory.report_path.read_text(encoding="utf-8")
    for title in (
        "rdf O-H intermolecular against its reference", "density against its reference",
        "dipole against its reference",
        "mean squared displacement", "velocity autocorrelation", "vibrational spectrum",
    ):  # fmt: skip
        assert f"<h3>{title}</h3>" in report
    for row in ("Diffusion coefficient O", "Pressure", "Heat capacity"):
        assert f'<th scope="row">{row} <small>' in report
    assert "Å²/ps, reference 0.24" in report
    run_simulate(config, model=directory.model("stable"))
    (path,) = Path(directory.trajectories).glob("*.h5")
    frames = read_trajectory(path)
    assert frames.cells is not None and len(frames) > 4
    first = frames.select(frames.replica == 0)
    assert first.cells is not None
    assert not torch.equal(first.cells[0], first.cells[-1]), "the pressure changes the cell"


def test_the_localized_estimator_is_reached_by_configuration(config: RunConfig) -> None:
    """Hot molecules of an untrained network: their bonds break, and steps are taken."""
    values = config.to_values()
    for section in ("stable", "evaluation", "simulation"):
        values[section]["dynamics"]["temperature_k"] = 3000.0
    values["stable"] |= {
        "estimator": "localized",
        "observables": [{"name": "bond_lengths"}, {"name": "bond_excess"}],
        "max_failed": 1.0,
        "target_failed": 0.0,
        "max_n_eff_loss": 1.0,
        "force_mae_budget": None,
    }
    values["stable"]["dynamics"]["bond_threshold"] = 0.3
    chosen = RunConfig.from_values({**values, "control": False, "out": str(config.out) + "_local"})
    run_pretrain(chosen)
    run_train(chosen)
    records = RunDirectory(chosen.out).log.read()
    steps = [step for r in records if r.get("phase") == "learn" for step in r["steps"]]
    assert steps and all(step["observable_gradient_norm"] > 0.0 for step in steps)


def test_boxes_with_other_numbers_of_molecules_in_one_training(
    config: RunConfig, tmp_path: Path
) -> None:
    """Two of the three molecules beside all of them, and under constant pressure."""
    whole = read_frames(config.data.path)
    assert whole.cell is not None
    positions, cells = whole.positions[:, :6], whole.cell
    system = System.create(whole.numbers[:6], cell=cells[0], pbc=True)
    torch.manual_seed(4)
    energies, forces = SchNet(**MODEL).double().energy_and_forces(system, positions, cells)
    thin = Frames(
        system.numbers, positions, energies, forces, cell=cells, pbc=whole.pbc, source="thin"
    )
    write_frames(tmp_path / "thin.extxyz", thin)
    point = {
        "name": "thin",
        "data": {"path": str(tmp_path / "thin.extxyz")},
        "dynamics": {"integrator": "cell_rescaling", "bond_threshold": 0.2},
        "observables": [{"name": "bond_excess"}, {"name": "density"}],
    }
    values = {**config.to_values(), "state_points": [point], "out": str(tmp_path / "run")}
    values["evaluation"] = {**values["evaluation"], "thermodynamic": []}
    both = RunConfig.from_values(values)
    run_pretrain(both)
    run_train(both)
    records = [r for r in RunDirectory(both.out).log.read() if r.get("phase") == "learn"]
    steps = [step["points"]["thin"] for r in records for step in r["steps"]]
    assert steps and all(step["observable_gradient_norm"] > 0.0 for step in steps)
    metrics = run_evaluate(both, at="thin")
    assert {"bond_excess", "density"} <= set(metrics["observables"])
