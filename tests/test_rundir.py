"""A run directory never loses, mixes or half-writes results."""

from __future__ import annotations

import json
import os
import stat
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stablemd.atomic import write_atomic
from stablemd.errors import CheckpointError, ConfigError
from stablemd.jsonl import JsonlLog
from stablemd.rundir import RunDirectory
from stablemd.stages import DEMO, EVALUATE, PRETRAIN, SHARED_FILES, TRAIN
from stablemd.strict_json import dumps, plain
from stablemd.tensorboard_log import TensorBoardLog, scalars

CONFIG: dict[str, Any] = {
    "data": {"n_train": 25},
    "stable": {"learning_rate": 1e-3, "max_cycles": 2},
    "device": "cpu",
    "seed": 0,
}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    directory = RunDirectory(tmp_path / "run")
    directory.start(CONFIG, TRAIN)
    return directory


# Atomic writes


def test_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "metrics.json"
    write_atomic(target, "old")

    def no_space(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(OSError, match="no space"):
        write_atomic(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_write_respects_the_umask(tmp_path: Path) -> None:
    plain_file = tmp_path / "plain"
    plain_file.write_text("")
    written = write_atomic(tmp_path / "sub" / "atomic", b"x")
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(plain_file.stat().st_mode)


# Strict JSON


@dataclass(frozen=True)
class _Interval:
    low: float
    high: float


def test_json_is_strict_and_keeps_values() -> None:
    record = {
        "nan": float("nan"),
        "infinite": torch.tensor(float("inf")),
        "pair": torch.tensor([1.5, 2.5]),
        "count": np.int64(3),
        "flag": np.bool_(True),
        "interval": _Interval(0.1, float("inf")),
        "path": Path("a") / "b",
        3: (1, 2),
    }

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(dumps(record), parse_constant=refuse) == {
        "nan": None,
        "infinite": None,
        "pair": [1.5, 2.5],
        "count": 3,
        "flag": True,
        "interval": {"low": 0.1, "high": None},
        "path": str(Path("a") / "b"),
        "3": [1, 2],
    }


def test_json_floats_survive_bit_for_bit() -> None:
    values = torch.rand(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.tensor(json.loads(dumps(values)), dtype=torch.float64), values)


def test_json_names_the_type_it_can_not_write() -> None:
    with pytest.raises(TypeError, match="can't write a Generator"):
        plain({"rng": torch.Generator()})


# The log


def test_log_returns_what_was_appended(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "new" / "log.jsonl")
    assert log.read() == []
    records = [{"epoch": i, "text": "first\nsecond \u2028 Å"} for i in range(3)]
    for record in records:
        log.append(record)
    assert log.read() == records
    assert len(log.path.read_text(encoding="utf-8").strip().split("\n")) == len(log) == 3


@pytest.mark.parametrize("half", [b'{"epoch": 1, "lo', b'{"epoch": 1}', b"\xc3"])
def test_half_written_last_line_is_dropped_on_resume(tmp_path: Path, half: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + half)
    log = JsonlLog(path)
    assert log.read() == [{"epoch": 0}]
    log.append({"epoch": 1})
    assert log.read() == [{"epoch": 0}, {"epoch": 1}]
    assert path.read_bytes() == b'{"epoch": 0}\n{"epoch": 1}\n'


@pytest.mark.parametrize("bad", [b"not json", b"[1, 2]", b"\xff\xfe"])
def test_damaged_line_in_the_middle_is_an_error_with_its_number(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"epoch": 0}\n' + bad + b'\n{"epoch": 2}\n')
    with pytest.raises(CheckpointError, match="line 2"):
        JsonlLog(path).read()


def test_truncating_to_the_checkpoint_makes_the_resumed_log_equal(tmp_path: Path) -> None:
    straight, resumed = (JsonlLog(tmp_path / name) for name in ("straight", "resumed"))
    for epoch in range(4):
        straight.append({"epoch": epoch})
    for epoch in range(3):
        resumed.append({"epoch": epoch})
    resumed = JsonlLog(resumed.path)
    resumed.truncate(2)
    for epoch in (2, 3):
        resumed.append({"epoch": epoch})
    assert resumed.path.read_bytes() == straight.path.read_bytes()
    with pytest.raises(CheckpointError, match="has 4 records"):
        resumed.truncate(5)


def test_keeping_some_records_keeps_their_bytes(tmp_path: Path) -> None:
    log = JsonlLog(tmp_path / "log.jsonl")
    for epoch in range(4):
        log.append({"epoch": epoch})
    log.keep(lambda record: record["epoch"] % 2 == 1)
    assert log.read() == [{"epoch": 1}, {"epoch": 3}]
    log.append({"epoch": 5})
    assert len(log) == 3


# The directory


def test_start_writes_config_versions_and_status(run: RunDirectory) -> None:
    assert run.read_config() == CONFIG
    assert run.read_versions()["torch"] == torch.__version__
    assert run.is_run and not run.is_finished(TRAIN)
    run.finish(TRAIN)
    assert run.is_finished(TRAIN) and not run.is_finished(PRETRAIN)
    assert run.checkpoint("best").parent == run.checkpoints


def test_looking_at_a_directory_makes_nothing(tmp_path: Path) -> None:
    absent = RunDirectory(tmp_path / "absent")
    assert not absent.is_run and absent.stages() == {} and absent.read_metrics() == {}
    with pytest.raises(CheckpointError, match="not a run directory"):
        absent.read_config()
    assert not absent.path.exists()


@pytest.mark.parametrize("finished", [False, True])
def test_an_earlier_run_is_never_overwritten_silently(run: RunDirectory, finished: bool) -> None:
    run.write_metrics({"force_mae": 0.1}, TRAIN)
    if finished:
        run.finish(TRAIN)
    before = {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()}
    with pytest.raises(ConfigError, match=r"a finished" if finished else r"an unfinished"):
        RunDirectory(run.path).start(CONFIG, TRAIN)
    assert {p: p.read_bytes() for p in run.path.rglob("*") if p.is_file()} == before


def test_overwrite_removes_the_stage_and_leaves_other_files(run: RunDirectory) -> None:
    run.write_metrics({"force_mae": 0.1}, TRAIN)
    run.log.append({"stage": "train", "epoch": 0})
    write_atomic(run.checkpoint("stable"), b"weights")
    run.finish(TRAIN)
    note = run.path / "note.txt"
    note.write_text("mine")
    again = RunDirectory(run.path)
    assert again.start({**CONFIG, "seed": 1}, TRAIN, overwrite=True) is False
    assert again.read_config()["seed"] == 1
    assert again.log.read() == [] and again.read_metrics() == {} and not again.is_finished(TRAIN)
    assert not again.checkpoint("stable").exists()
    assert note.read_text() == "mine"


def test_resume_keeps_everything(run: RunDirectory) -> None:
    run.log.append({"stage": "train", "epoch": 0})
    started = run.stages()["train"]["started"]
    again = RunDirectory(run.path)
    assert again.start(CONFIG, TRAIN, resume=True) is True
    assert again.log.read() == [{"stage": "train", "epoch": 0}]
    assert again.stages()["train"]["started"] == started


def test_resume_without_an_earlier_run_starts_one(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "fresh")
    assert directory.start(CONFIG, TRAIN, resume=True) is False
    assert directory.is_run


def test_resume_names_every_changed_key_that_matters(run: RunDirectory) -> None:
    changed = deepcopy(CONFIG)
    changed["device"] = "cuda"
    changed["stable"]["max_cycles"] = 9
    assert RunDirectory(run.path).start(changed, TRAIN, resume=True)
    changed["stable"]["learning_rate"] = 0.1
    changed["data"]["n_train"] = 5
    expected = r"data\.n_train: 25 -> 5; stable\.learning_rate: 0\.001 -> 0\.1\)"
    with pytest.raises(ConfigError, match=expected):
        RunDirectory(run.path).start(changed, TRAIN, resume=True)


def test_files_of_unknown_origin_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="no config.yaml"):
            RunDirectory(tmp_path).start(CONFIG, TRAIN, overwrite=overwrite)
    assert (tmp_path / "metrics.json").read_text() == "{}"


def test_a_start_that_was_interrupted_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("stablemd.rundir.yaml.safe_dump", lambda *a, **k: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            directory.start(CONFIG, TRAIN)
    assert not directory.is_run
    directory.start(CONFIG, TRAIN)
    assert directory.read_config() == CONFIG


def test_contradicting_flags_and_a_file_in_the_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both set"):
        RunDirectory(tmp_path / "run").start(CONFIG, TRAIN, resume=True, overwrite=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        RunDirectory(tmp_path / "file").start(CONFIG, TRAIN)


# Several commands in one directory


@pytest.fixture
def full(tmp_path: Path) -> RunDirectory:
    """A directory in which pretraining, training and evaluation have finished."""
    directory = RunDirectory(tmp_path / "full")
    for stage in (PRETRAIN, TRAIN, EVALUATE):
        directory.start(CONFIG, stage)
        directory.log.append({"stage": stage.name})
        for name in stage.files:
            write_atomic(directory.path / name, stage.name)
        directory.write_metrics({"by": stage.name}, stage)
        directory.finish(stage)
    return directory


def test_stages_share_a_directory_and_its_metrics(full: RunDirectory) -> None:
    assert list(full.stages()) == ["pretrain", "train", "evaluate"]
    metrics = {"pretrain": {"by": "pretrain"}, "train": {"by": "train"}, "by": "evaluate"}
    assert full.read_metrics() == metrics
    full.write_metrics({"other": 1}, EVALUATE)
    assert full.read_metrics() == {k: metrics[k] for k in ("pretrain", "train")} | {"other": 1}


def test_overwriting_a_stage_removes_what_was_computed_from_it(full: RunDirectory) -> None:
    with pytest.raises(ConfigError, match="also removes what was computed from it: evaluate"):
        full.start(CONFIG, TRAIN)
    full.start(CONFIG, TRAIN, overwrite=True)
    assert list(full.stages()) == ["pretrain", "train"]
    assert full.log.read() == [{"stage": "pretrain"}]
    assert full.read_metrics() == {"pretrain": {"by": "pretrain"}}
    left = {str(p.relative_to(full.path)) for p in full.path.rglob("*") if p.is_file()}
    assert left == {*PRETRAIN.files, *SHARED_FILES}


def test_a_stage_may_not_contradict_results_that_stay(full: RunDirectory) -> None:
    changed = deepcopy(CONFIG)
    changed["stable"]["learning_rate"] = 0.1
    with pytest.raises(ConfigError, match=r"the train in .* \(stable\.learning_rate: "):
        full.start(changed, EVALUATE, overwrite=True)
    assert list(full.stages()) == ["pretrain", "train", "evaluate"]
    full.start(changed, TRAIN, overwrite=True)
    assert full.read_config() == changed


def test_an_exclusive_stage_shares_with_nobody(full: RunDirectory, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="demo can't share"):
        full.start(CONFIG, DEMO, overwrite=True)
    demo = RunDirectory(tmp_path / "demo")
    demo.start(CONFIG, DEMO, overwrite=True)
    write_atomic(demo.model("stable"), b"weights")
    with pytest.raises(ConfigError, match="evaluate can't share"):
        demo.start(CONFIG, EVALUATE)
    demo.start({**CONFIG, "seed": 5}, DEMO, overwrite=True)
    assert not demo.model("stable").exists() and demo.read_config()["seed"] == 5


# TensorBoard


def test_tensorboard_shows_the_numbers_of_the_log(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with TensorBoardLog(tmp_path) as log:
        for step in range(3):
            log.append({"loss": {"force": 0.5**step}, "phase": "learning"}, step)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert events.Tags()["scalars"] == ["loss/force"]
    assert [(e.step, e.value) for e in events.Scalars("loss/force")] == [
        (0, 1),
        (1, 0.5),
        (2, 0.25),
    ]


def test_scalars_are_the_finite_numbers_only() -> None:
    record = {"a": 1, "b": {"c": float("nan"), "d": 2.5}, "flag": True, "list": [1.0], "s": "x"}
    assert list(scalars(record)) == [("a", 1.0), ("b/d", 2.5)]
