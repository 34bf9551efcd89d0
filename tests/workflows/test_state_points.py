"""Two state points in one run: the log, both evaluations, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from stablemd.config import RunConfig
from stablemd.data import Frames, read_frames, write_frames
from stablemd.errors import ConfigError
from stablemd.potentials.files import load_potential
from stablemd.rundir import RunDirectory
from stablemd.stages import TRAIN
from stablemd.system import System
from stablemd.workflows import run_evaluate, run_train
from stablemd.workflows.run_log import point_records, stage_records

Build = Callable[..., RunConfig]

HOT = "state_points=[{name: hot, dynamics: {temperature_k: 900}}]"


@pytest.fixture(scope="module")
def trained(tiny: Build, model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run directory with a training at 600 K and 900 K, and the control."""
    out = tmp_path_factory.mktemp("points") / "run"
    config = tiny(out, HOT, f"potential.path={model_file}", "stable.target_failed=0.1")
    run_train(config)
    return config


def test_every_point_has_its_records(trained: RunConfig) -> None:
    records = stage_records(RunDirectory(trained.out), TRAIN)
    phases = [r for r in records if r["phase"] == "simulate"]
    assert [r["state_point"] for r in phases] == ["main", "hot"] * (len(phases) // 2)
    learned = [r for r in records if r["phase"] == "learn"]
    assert learned and all(set(r["points"]) == {"main", "hot"} for r in learned)
    for name in ("main", "hot"):
        own = point_records(records, name)
        assert len(own) == len(learned) + len(phases) // 2
        for record, mine in zip(learned, (r for r in own if r["phase"] == "learn"), strict=True):
            assert mine["budget_used"] == record["points"][name]["budget_used"]
            for step, whole in zip(mine["steps"], record["steps"], strict=True):
                assert step["label_loss"] == whole["points"][name]["label_loss"]
                assert step["step_share"] == whole["step_share"]
    metrics = RunDirectory(trained.out).read_metrics()["train"]
    assert metrics["candidates"][0]["n_failed"] == sum(
        round(8 * r["failed_fraction"]) for r in phases[:2]
    )
    one = [{"phase": "simulate", "failed_fraction": 0.5}]
    assert point_records(one, "main") == one


def test_the_same_models_are_evaluated_at_either_point(trained: RunConfig) -> None:
    here = run_evaluate(trained)
    there = run_evaluate(trained, at="hot")
    assert there["identities"] == here["identities"]
    assert {"before", "after", "control"} <= set(there)
    directory = RunDirectory(trained.out / "at" / "hot")
    assert directory.read_metrics() == there
    assert "at 900 K" in directory.report_path.read_text()
    assert "at 600 K" in RunDirectory(trained.out).report_path.read_text()
    for metrics in (here, there):  # the course of the training is in both reports
        assert metrics["wall_s"]["train"] > 0.0
    assert "failed_fraction" in directory.report_data_path.read_text()
    # It is what an evaluation of the model alone at that temperature finds.
    hot = trained.model_copy(update={"out": trained.out.parent / "alone"})
    alone = run_evaluate(hot, model=RunDirectory(trained.out).model("stable"), at="hot")
    assert alone["model"]["stable_time_ps"] == there["after"]["stable_time_ps"]
    assert here["after"]["stable_time_ps"] != there["after"]["stable_time_ps"]
    with pytest.raises(ConfigError, match="no further state point 'cold'.*state_points has hot"):
        run_evaluate(trained, at="cold")


def test_a_training_anew_removes_the_evaluations_at_its_points(
    trained: RunConfig, tiny: Build, model_file: Path
) -> None:
    folder = trained.out / "at" / "hot"
    folder.mkdir(parents=True, exist_ok=True)
    changed = tiny(trained.out, f"potential.path={model_file}", "stable.target_failed=0.1")
    with pytest.raises(ConfigError, match=r"state_points: .*hot.* -> \[\]"):
        run_train(changed, resume=True)
    run_train(trained, overwrite=True)
    assert not folder.exists()


def test_two_molecules_are_trained_by_one_network(
    tiny: Build, model_file: Path, tmp_path: Path
) -> None:
    """The second one is a part of the first, labelled by the model with all energies stretched."""
    whole = read_frames(tiny(tmp_path).data.path).select(slice(0, 100))
    oxygen = whole.numbers.tolist().index(8)
    distances = (whole.positions[0] - whole.positions[0, oxygen]).norm(dim=1)
    nearest = distances.masked_fill(whole.numbers != 1, torch.inf).argmin()
    hydroxyl = torch.stack([torch.tensor(oxygen), nearest])
    positions = whole.positions[:, hydroxyl]
    model = load_potential(model_file)
    system = System.create(whole.numbers[hydroxyl])
    energies, forces = model.energy_and_forces(system, positions.to(model.dtype))
    part = Frames(
        system.numbers, positions, 1.1 * energies.double(), 1.1 * forces.double(), source="part"
    )
    write_frames(tmp_path / "part.npz", part)
    point = f"{{name: part, data: {{path: {tmp_path / 'part.npz'}}}}}"
    config = tiny(tmp_path / "run", f"state_points=[{point}]", f"potential.path={model_file}")
    metrics = run_train(config)
    records = stage_records(RunDirectory(config.out), TRAIN)
    used = [r["points"]["part"]["budget_used"] for r in records if r["phase"] == "learn"]
    assert metrics["optimizer_steps"] > 0 and all(0.0 <= u <= 1.0 + 1e-9 for u in used)
    found = run_evaluate(config, at="part")
    assert found["after"]["stable_time_ps"]["n_replicas"] == 8
