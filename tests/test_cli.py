"""The command line: help at once, errors as messages, exit codes, and the whole chain."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from stablemd.cli import app
from stablemd.commands.console import describe_record
from stablemd.commands.guard import guarded
from stablemd.data import read_frames, write_frames
from stablemd.demo import DATA_PATH
from stablemd.errors import SimulationError

COMMANDS = ("demo", "pretrain", "train", "evaluate", "simulate", "report", "info")

CONFIG: dict[str, Any] = {
    "data": {"path": "slice.npz", "n_train": 10, "n_validation": 5},
    "potential": {
        "hyperparameters": {"n_features": 8, "n_filters": 8, "n_interactions": 1, "n_gaussians": 8}
    },
    "pretrain": {"max_epochs": 2},
    "stable": {
        "n_replicas": 4,
        "simulation_steps": 20,
        "max_windows": 1,
        "learning_steps": 10,
        "record_every": 5,
        "max_cycles": 1,
        "max_learning_epochs": 1,
    },
    "evaluation": {"n_replicas": 3, "length_ps": 0.03, "record_every_fs": 5.0, "discard_fs": 5.0},
    "simulation": {"n_replicas": 2, "length_ps": 0.02, "record_every_fs": 5.0},
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    write_frames(folder / "slice.npz", read_frames(DATA_PATH, index=":40"))
    (folder / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    return folder / "small.yaml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory of its own, so that default folders land there."""
    folder = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


# Help


def test_help_is_there_before_pytorch() -> None:
    """Importing PyTorch and matplotlib takes seconds; asking for help must not."""
    code = (
        "import sys; from stablemd.cli import app\n"
        "try: app(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "slow = {'torch', 'matplotlib', 'numba', 'ase', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {slow}' if slow else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "StABlE Training" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_teaches(command: str) -> None:
    code, text = call(command, "--help")
    assert code == 0
    assert f"stablemd {command}" in text
    assert "Example" in text and "Writes" in text


def test_the_package_offers_its_names_lazily() -> None:
    import stablemd

    for name in stablemd.__all__:
        assert getattr(stablemd, name).__name__ == name
    assert set(stablemd.__all__) <= set(dir(stablemd))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = stablemd.nothing
    result = subprocess.run(
        [sys.executable, "-c", "import stablemd, sys; sys.exit('torch' in sys.modules)"],
        check=False,
    )
    assert result.returncode == 0


# Errors


def test_a_wrong_key_ends_with_a_message_and_code_2(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, text = call("train", file, "--set", "stable.n_replicas=0", "--out", out)
    assert code == 2
    assert "stable.n_replicas is 0; expected an integer ≥ 2" in text
    assert "Traceback" not in text and not out.exists()


def test_missing_model_and_missing_run_are_messages(file: Path, tmp_path: Path) -> None:
    code, text = call("evaluate", file, "--out", tmp_path / "none")
    assert code == 2 and "run stablemd pretrain" in text
    code, text = call("report", tmp_path)
    assert code == 2 and "report.json does not exist" in text
    code, text = call("info", tmp_path / "nothing.npz")
    assert code == 2 and "does not exist" in text
    code, text = call("evaluate", file, "--model", tmp_path / "x.pt", "--out", tmp_path / "n")
    assert code == 2 and "x.pt: no such file" in text
    assert not (tmp_path / "n").exists()


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is missing"):
        call("train", tmp_path / "absent.yaml", "--debug")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (SimulationError("atoms overlap"), 2, "Error: atoms overlap"),
        (OSError(28, "No space left on device"), 1, "No space left"),
        (KeyboardInterrupt(), 130, "stablemd train c.yaml --set 'seed=1' --out o --resume"),
    ],
)
def test_exit_codes(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import typer

    def train(**_: Any) -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        guarded(train)(config=Path("c.yaml"), set_=["seed=1"], out=Path("o"))
    assert ended.value.exit_code == code
    assert words in capsys.readouterr().err


def test_every_kind_of_record_has_a_line() -> None:
    common = {"force_mae_ev_per_angstrom": 0.1234, "energy_mae_ev": 0.05}
    pretrain = {"phase": "pretrain", "epoch": 3, "best_epoch": 2, "learning_rate": 1e-3}
    assert "epoch 3: force MAE 0.1234" in describe_record(common | pretrain)
    simulate = {"phase": "simulate", "cycle": 1, "failed_fraction": 0.25, "replica_time_ps": 9.0}
    assert "25 % of replicas failed in 9.0 ps" in describe_record(common | simulate)
    learn = {"phase": "learn", "cycle": 1, "epoch": 2, "failed_fraction": 0.5, "steps": []}
    assert "cycle 1, epoch 2: 50 %" in describe_record(common | learn)


# The chain


def test_pretrain_train_evaluate_report_info(file: Path, runs: Path) -> None:
    out = Path("runs/small")
    code, text = call("pretrain", file)
    assert code == 0 and "validation force MAE" in text and "max_epochs = 2 reached" in text
    code, text = call("pretrain", file)
    assert code == 2 and "--resume" in text and "--overwrite" in text
    code, text = call("train", file)
    assert code == 0 and "(chosen)" in text and "stablemd evaluate" in text
    code, text = call("train", file, "--resume")
    assert code == 0
    code, text = call("evaluate", file)
    assert code == 0 and "Mean time to failure" in text and str(out / "report.html") in text
    for name in ("metrics.json", "report.html", "stable.pt", "control.pt"):
        assert (runs / out / name).is_file()
    code, text = call("simulate", file)
    assert code == 0 and "stable.extxyz" in text
    assert len(read_frames(runs / out / "trajectories" / "stable.extxyz")) > 0
    code, text = call("report", out)
    assert code == 0 and "report.html" in text
    code, text = call("info", out)
    assert code == 0 and "train" in text and "finished" in text
    code, text = call("info", out / "stable.pt")
    assert code == 0 and "SchNet" in text and "n_interactions" in text
    code, text = call("info", out / "checkpoints" / "stable.pt")
    assert code == 2 and "checkpoint of a whole run" in text
    code, text = call("train", file, "--set", "stable.learning_rate=0.1", "--resume")
    assert code == 2 and "stable.learning_rate: 0.0005 -> 0.1" in text
    # The resolved configuration is a configuration of the same run.
    code, text = call("evaluate", out / "config.yaml", "--overwrite")
    assert code == 0


def test_info_about_machine_and_data(file: Path) -> None:
    code, text = call("info")
    assert code == 0 and "torch" in text and "cores" in text
    code, text = call("info", file.parent / "slice.npz")
    assert code == 0 and "C2H6O, 9 atoms" in text and "C0-C1" in text
    code, text = call("--version")
    assert code == 0 and text.startswith("stablemd ")
