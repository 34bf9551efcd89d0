"""The demo's story, in miniature: what it writes, and that it can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stablemd.config import RunConfig
from stablemd.errors import ConfigError
from stablemd.potentials.files import load_potential
from stablemd.rundir import RunDirectory
from stablemd.stages import DEMO
from stablemd.workflows.demo import run_demo
from stablemd.workflows.reporter import Reporter


class Listening(Reporter):
    def __init__(self) -> None:
        self.said: list[str] = []

    def begin(self, title: str, why: str = "") -> None:
        self.said.append(title)

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def config(
    tiny: Callable[..., RunConfig], model_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunConfig:
    return tiny(tmp_path_factory.mktemp("demo") / "out", f"potential.path={model_file}")


def test_the_story_and_what_it_leaves(config: RunConfig) -> None:
    listening = Listening()
    metrics = run_demo(config, reporter=listening)
    titles = " / ".join(listening.said)
    order = ["started from", "StABlE Training of", "Control", "after StABlE", "Writing"]
    positions = [titles.index(word) for word in order]
    assert positions == sorted(positions)
    assert {"before", "after", "control", "comparison"} <= set(metrics)
    wall = metrics["wall_s"]
    parts = {"evaluate_before", "train", "control", "evaluate_after", "evaluate_control", "report"}
    assert parts <= set(wall)
    assert sum(v for k, v in wall.items() if k != "total") <= 1.001 * wall["total"]
    directory = RunDirectory(config.out)
    assert directory.is_finished(DEMO) and directory.read_metrics() == metrics
    assert load_potential(directory.model("stable")).n_parameters > 0
    again = Listening()
    run_demo(config, reporter=again)
    assert "it is replaced" in again.said[0]


def test_a_folder_with_other_results_is_left_alone(config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "stable.pt").write_bytes(b"mine")
    other = config.model_copy(update={"out": tmp_path})
    with pytest.raises(ConfigError, match="left alone"):
        run_demo(other)
    assert (tmp_path / "stable.pt").read_bytes() == b"mine"
