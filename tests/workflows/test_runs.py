"""Commands in one run directory: what they leave, and that an interruption changes nothing."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from stablemd.config import RunConfig
from stablemd.errors import CheckpointError, ConfigError
from stablemd.evaluation import read_metrics
from stablemd.md.trajectory import read_trajectory
from stablemd.potentials.files import load_potential
from stablemd.rundir import RunDirectory
from stablemd.stages import EVALUATE, PRETRAIN, TRAIN
from stablemd.workflows import (
    Reporter,
    run_evaluate,
    run_pretrain,
    run_report,
    run_simulate,
    run_train,
)
from stablemd.workflows.run_log import stage_records

Build = Callable[..., RunConfig]


class Stopping(Reporter):
    """Ctrl-C after so many signs of progress."""

    def __init__(self, n_calls: int) -> None:
        self.left = n_calls
        self.shares: list[float] = []

    def progress(self, text: str, share: float, overall: float | None = None) -> None:
        self.shares.append(share)
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


class Interrupting(Reporter):
    """Ctrl-C after so many records."""

    def __init__(self, n_records: int) -> None:
        self.left = n_records

    def record(self, record: Mapping[str, Any]) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tiny: Build, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A run directory after pretraining, training and evaluation."""
    config = tiny(tmp_path_factory.mktemp("runs") / "tiny")
    run_pretrain(config)
    run_train(config)
    run_evaluate(config)
    return config


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_potential(path).state_dict())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def without_times(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    times = ("wall_s", "cpu_s")
    return [{k: v for k, v in record.items() if k not in times} for record in records]


def without_wall(metrics: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in metrics.items() if k != "wall_s"}


def test_each_command_leaves_its_files(finished: RunConfig) -> None:
    directory = RunDirectory(finished.out)
    assert {name: s["state"] for name, s in directory.stages().items()} == dict.fromkeys(
        ("pretrain", "train", "evaluate"), "finished"
    )
    for name in ("pretrained", "start", "stable", "control"):
        assert directory.model(name).is_file()
    assert same(weights(directory.model("start")), weights(directory.model("pretrained")))
    phases = [record["phase"] for record in directory.log.read()]
    assert phases[:20] == ["pretrain"] * 20
    assert phases[20] == phases[-1] == "simulate" and "learn" in phases
    assert "</html>" in directory.report_path.read_text()
    assert RunConfig.from_values(directory.read_config()) == finished


def test_metrics_have_the_promised_keys(finished: RunConfig) -> None:
    metrics = read_metrics(RunDirectory(finished.out).metrics_path)
    stable_keys = {
        "median", "ci95", "mean_time_to_failure", "mean_time_to_failure_ci95",
        "n_failed", "n_replicas", "length_ps",
    }  # fmt: skip
    for part in (metrics, metrics["before"], metrics["after"], metrics["control"]):
        assert stable_keys <= set(part["stable_time_ps"])
        assert set(part["observables"]["distance_distribution"]) == {"mae", "stderr"}
        assert part["force_mae_ev_per_angstrom"] > 0 and part["energy_mae_ev"] > 0
    assert metrics["stable_time_ps"] == metrics["after"]["stable_time_ps"]
    ratio = metrics["comparison"]["force_mae_ratio"]["after_over_before"]
    expected = (
        metrics["after"]["force_mae_ev_per_angstrom"]
        / metrics["before"]["force_mae_ev_per_angstrom"]
    )
    assert ratio == pytest.approx(expected)
    assert {"pretrain", "train", "control", "evaluate_before"} <= set(metrics["wall_s"])
    assert metrics["train"]["control_steps"] > 0


def test_a_model_alone_is_evaluated_as_within_the_run(
    finished: RunConfig, tiny: Build, tmp_path: Path
) -> None:
    """Same structures, velocities and noise whoever is evaluated beside."""
    model = RunDirectory(finished.out).model("pretrained")
    alone = run_evaluate(tiny(tmp_path / "alone"), model=model)
    together = RunDirectory(finished.out).read_metrics()["before"]
    assert alone["main"] == "model"
    for key in ("stable_time_ps", "observables", "force_mae_ev_per_angstrom", "energy_mae_ev"):
        assert alone[key] == alone["model"][key] == together[key]
    assert "before" not in alone and "comparison" not in alone


def test_report_again_is_the_same_page(finished: RunConfig) -> None:
    page = RunDirectory(finished.out).report_path
    first = page.read_bytes()
    page.unlink()
    assert run_report(finished.out) == page
    assert page.read_bytes() == first


def test_interrupted_pretraining_resumes_to_the_same_model(
    finished: RunConfig, tiny: Build, tmp_path: Path
) -> None:
    config = tiny(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        run_pretrain(config, reporter=Interrupting(7))
    directory, straight = RunDirectory(config.out), RunDirectory(finished.out)
    assert not directory.is_finished(PRETRAIN)
    with pytest.raises(ConfigError, match="an unfinished pretrain"):
        run_pretrain(config)
    run_pretrain(config, resume=True)
    assert same(weights(directory.model("pretrained")), weights(straight.model("pretrained")))
    records = [stage_records(d, PRETRAIN) for d in (directory, straight)]
    assert without_times(records[0]) == without_times(records[1])


@pytest.mark.parametrize("n_records", [1, 2])
def test_interrupted_training_resumes_bit_for_bit(
    finished: RunConfig, tiny: Build, tmp_path: Path, n_records: int
) -> None:
    straight = RunDirectory(finished.out)
    start = straight.model("pretrained")
    config = tiny(tmp_path / "cut", f"potential.path={start}")
    with pytest.raises(KeyboardInterrupt):
        run_train(config, reporter=Interrupting(n_records))
    run_train(config, resume=True)
    directory = RunDirectory(config.out)
    for name in ("start", "stable", "control"):
        assert same(weights(directory.model(name)), weights(straight.model(name)))
    records = [stage_records(d, TRAIN) for d in (directory, straight)]
    assert without_times(records[0]) == without_times(records[1])


@pytest.mark.parametrize("n_calls", [1, 40, 130])
def test_an_interrupted_evaluation_resumes_to_the_same_numbers(
    finished: RunConfig,
    tiny: Build,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    n_calls: int,
) -> None:
    monkeypatch.setattr("stablemd.evaluation.run_store.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("stablemd.md.long_run.WINDOW_S", 0.0)
    trained = RunDirectory(finished.out)
    config = tiny(tmp_path / "cut")
    Path(config.out).mkdir()
    for name in ("config.yaml", "status.json", "start.pt", "stable.pt", "control.pt"):
        shutil.copy(trained.path / name, config.out)
    directory = RunDirectory(config.out)
    cut, resumed = Stopping(n_calls), Stopping(-1)
    with pytest.raises(KeyboardInterrupt):
        run_evaluate(config, overwrite=True, reporter=cut)
    assert not directory.is_finished(EVALUATE)
    with pytest.raises(ConfigError, match="an unfinished evaluate;.*--resume"):
        run_evaluate(config)
    metrics = run_evaluate(config, resume=True, reporter=resumed)
    if n_calls > 1:  # not from the start: windows that were over are not run again
        assert resumed.shares[0] > 0.5 * cut.shares[-1] > cut.shares[0]
    straight = trained.read_metrics()
    for role in ("before", "after", "control"):
        assert without_wall(metrics[role]) == without_wall(straight[role])
    assert not (directory.checkpoints / "evaluate").exists()
    assert directory.is_finished(EVALUATE)
    assert run_evaluate(config, resume=True, reporter=Stopping(1)) == directory.read_metrics()


def test_a_finished_evaluation_is_not_passed_off_as_another_models(
    finished: RunConfig, tiny: Build, tmp_path: Path
) -> None:
    trained, config = RunDirectory(finished.out), tiny(tmp_path / "one")
    metrics = run_evaluate(config, model=trained.model("start"))
    assert run_evaluate(config, model=trained.model("start"), resume=True) == metrics
    with pytest.raises(CheckpointError, match="other models.*--overwrite"):
        run_evaluate(config, model=trained.model("control"), resume=True)


def test_an_evaluation_of_another_model_is_not_continued(
    finished: RunConfig, tiny: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stablemd.evaluation.run_store.SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("stablemd.md.long_run.WINDOW_S", 0.0)
    trained, config = RunDirectory(finished.out), tiny(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        run_evaluate(config, model=trained.model("start"), reporter=Stopping(20))
    with pytest.raises(CheckpointError, match="another model.*--overwrite"):
        run_evaluate(config, model=trained.model("control"), resume=True)


def test_seed_changes_the_replicas_but_not_the_data(
    finished: RunConfig, tiny: Build, tmp_path: Path
) -> None:
    model = RunDirectory(finished.out).model("pretrained")
    other = run_evaluate(tiny(tmp_path / "seed", "seed=1"), model=model)
    before = RunDirectory(finished.out).read_metrics()["before"]
    assert other["force_mae_ev_per_angstrom"] == before["force_mae_ev_per_angstrom"]
    assert other["observables"] != before["observables"]


def test_a_trajectory_does_not_depend_on_how_it_was_written(
    finished: RunConfig, tiny: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = RunDirectory(finished.out).model("pretrained")
    found = []
    for n_frames in (7, 1000):
        monkeypatch.setattr("stablemd.md.long_run.FRAMES_PER_WINDOW", n_frames)
        summary = run_simulate(tiny(tmp_path / str(n_frames)), model=model)
        found.append((summary, read_trajectory(summary["trajectory"])))
    (first, a), (second, b) = found
    assert len(a) > 6
    for name in ("positions", "energies", "replica", "step"):
        assert torch.equal(getattr(a, name), getattr(b, name))
    assert first["failed_after_ps"] == second["failed_after_ps"]
    assert first["failures"] == second["failures"]
    assert any(detail is not None for detail in first["failures"]), "no failure was tested"
    beside = json.loads(Path(first["trajectory"]).with_suffix(".json").read_text())
    assert beside["stable_time_ps"] == first["stable_time_ps"]


def test_there_must_be_a_model(tiny: Build, tmp_path: Path, finished: RunConfig) -> None:
    config = tiny(tmp_path / "empty")
    for command in (run_train, run_evaluate, run_simulate):
        with pytest.raises(ConfigError, match=r"stablemd pretrain"):
            command(config)
    assert not config.out.exists()
    model = RunDirectory(finished.out).model("pretrained")
    with pytest.raises(ConfigError, match="nothing to pretrain"):
        run_pretrain(tiny(tmp_path / "empty", f"potential.path={model}"))
