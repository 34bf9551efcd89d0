"""A case study says what its run measured, claims no more, and can be done again."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from stablemd.config_file import load_config
from stablemd.data import read_frames, write_frames
from stablemd.demo import DATA_PATH
from stablemd.errors import CheckpointError, ConfigError
from stablemd.evaluation.rate_ratio import failure_rate_ratio
from stablemd.evaluation.report_text import number
from stablemd.rundir import RunDirectory
from stablemd.workflows import run_evaluate, run_pretrain, run_train

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from case_study.conditions import conditions
from case_study.numbers import CONTEXT
from case_study.page import FIGURES, percent, render, table
from case_study.reproduce import FREE, commands, overrides
from case_study.result import sentences, verdict
from write_case_study import main, write_case_study

CONFIG: dict[str, Any] = {
    "data": {"path": "md17/slice.npz", "n_train": 20, "n_validation": 10},
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
        "simulation_steps": 300,
        "max_windows": 2,
        "learning_steps": 40,
        "record_every": 10,
        "max_cycles": 2,
        "max_learning_epochs": 2,
        "steps_per_epoch": 2,
    },
    "evaluation": {"n_replicas": 8, "length_ps": 0.4, "discard_fs": 20.0},
}
OVERRIDES = ("dynamics.friction_per_ps=2.0", "evaluation.dynamics.dt_fs=0.4", "seed=3")


@dataclass(frozen=True)
class Study:
    """A small run, and what was written about it."""

    config: Path
    run: Path
    page: Path
    files: list[Path]

    @property
    def text(self) -> str:
        return self.page.read_text(encoding="utf-8")

    @property
    def numbers(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.page.with_suffix(".json").read_text("utf-8"))
        return content


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("secret_folder")
    (folder / "md17").mkdir()
    write_frames(folder / "md17" / "slice.npz", read_frames(DATA_PATH, index=":60"))
    source, run = folder / "ethanol.yaml", folder / "runs" / "ethanol"
    source.write_text(yaml.safe_dump(CONFIG))
    config = load_config(source, overrides=OVERRIDES, out=run)
    for workflow in (run_pretrain, run_train, run_evaluate):
        workflow(config)
    page = folder / "docs" / "small.md"
    return Study(source, run, page, write_case_study(run, page, config=source))


def test_page_has_its_json_and_its_figures(study: Study) -> None:
    assert all(path.is_file() for path in study.files)
    shown = re.findall(r'\]\(([^)]+\.png)\)|<img src="([^"]+)"', study.text)
    names = {a or b for a, b in shown}
    assert names == {path.name for path in study.files if path.suffix == ".png"}
    assert set(study.numbers["figures"]) == set(FIGURES)
    for name in names:
        assert (study.page.parent / name).read_bytes().startswith(b"\x89PNG")


def test_page_follows_from_the_json_alone(study: Study) -> None:
    assert render(study.numbers) == study.text


def test_numbers_are_those_of_the_run(study: Study) -> None:
    metrics = RunDirectory(study.run).read_metrics()
    log = RunDirectory(study.run).log.read()
    assert study.numbers["comparison"] == metrics["comparison"]
    for role in ("before", "after", "control"):
        written = study.numbers["evaluation"][role]
        for key in ("stable_time_ps", "observables", "force_mae_ev_per_angstrom", "energy_mae_ev"):
            assert written[key] == metrics[role][key]
        stable = written["stable_time_ps"]
        assert f"{stable['n_failed']} of {stable['n_replicas']}" in study.text
        assert number(written["force_mae_ev_per_angstrom"]) in study.text
    cycles = study.numbers["training"]["cycles"]
    assert sum(c["steps_in_cycle"] for c in cycles) == metrics["train"]["optimizer_steps"]
    assert sum(c["epochs"] for c in cycles) == sum(r.get("phase") == "learn" for r in log)
    assert [c["is_chosen"] for c in cycles].count(True) == 1


def test_costs_are_complete(study: Study) -> None:
    costs, metrics = study.numbers["costs"], RunDirectory(study.run).read_metrics()
    log = RunDirectory(study.run).log.read()
    counted = sum(r.get("n_force_evaluations", 0) for r in log)
    counted += sum(metrics[r]["n_force_evaluations"] for r in ("before", "after", "control"))
    assert sum(p["force_evaluations"] or 0 for p in costs["parts"]) == counted
    wall = {k: v for k, v in metrics["wall_s"].items() if k != "report"}
    assert costs["total_wall_s"] == pytest.approx(sum(wall.values()))
    learned = sum(r["wall_s"]["learn"] for r in log if r.get("phase") == "learn")
    sampled = sum(r["wall_s"]["sample"] for r in log if r.get("phase") == "learn")
    assert costs["gradients_over_learning_md"] == pytest.approx(learned / sampled)


def test_nothing_of_the_machine_but_its_hardware_is_told(study: Study) -> None:
    for text in (study.text, study.page.with_suffix(".json").read_text("utf-8")):
        assert "secret_folder" not in text
    assert "md17/slice.npz" in study.text


def test_commands_lead_back_to_the_configuration_of_the_run(study: Study) -> None:
    wanted = RunDirectory(study.run).read_config()
    found = overrides(wanted, study.config)
    assert {key for key, _ in found} == {o.split("=")[0] for o in OVERRIDES}
    (block,) = re.findall(r"```bash\n(.*?)```", study.text, re.S)
    words = shlex.split(block.split(")\n")[0].removeprefix("options=("))
    given = [word for word in words if word != "--set"]
    again = load_config(study.config, overrides=given, out=study.run).to_values()
    for key, value in wanted.items():
        assert key in FREE or again[key] == value, key
    for name in ("pretrain", "train", "evaluate"):
        assert f'stablemd {name} {study.config.name} --out runs/small "${{options[@]}}"' in block


def test_commands_of_an_own_model_do_not_pretrain_it(study: Study) -> None:
    config = RunDirectory(study.run).read_config()
    lines = commands(config, study.config, "c.yaml", pretrains=False, out="runs/x")
    assert not any("pretrain" in line for line in lines)


def test_a_file_with_keys_that_the_run_had_not_is_refused(study: Study, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    values = yaml.safe_load(study.config.read_text())
    values["potential"]["hyperparameters"]["cutoff"] = 4.0
    other.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"potential\.hyperparameters\.cutoff"):
        overrides(RunDirectory(study.run).read_config(), other)


def test_runs_that_are_not_finished_are_refused(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(study.run, copy)
    page = tmp_path / "page.md"
    assert main([str(copy), "--out", str(page)]) == 0
    assert "Do it again" not in page.read_text(), "no configuration file was given"
    status = json.loads((copy / "status.json").read_text())
    demo = {"stages": {"demo": status["stages"]["evaluate"]}}
    (copy / "status.json").write_text(json.dumps(demo))
    write_case_study(copy, page)
    (copy / "report.json").write_text("{")
    with pytest.raises(CheckpointError, match="evaluate again"):
        write_case_study(copy, page)
    status["stages"]["evaluate"]["state"] = "running"
    (copy / "status.json").write_text(json.dumps(status))
    capsys.readouterr()
    assert main([str(copy), "--out", str(page)]) == 2
    assert "no finished evaluate" in capsys.readouterr().err
    with pytest.raises(CheckpointError, match="no finished train"):
        write_case_study(tmp_path / "nothing", page)


# Words


@dataclass(frozen=True)
class Counts:
    n_failed: int
    total_time_ps: float


@pytest.mark.parametrize("after", [0, 1, 2, 5, 10, 15, 20, 40, 64])
@pytest.mark.parametrize("before", [0, 1, 4, 15, 60])
def test_a_change_is_claimed_only_where_the_interval_excludes_one(before: int, after: int) -> None:
    estimate = failure_rate_ratio(Counts(after, 150.0), Counts(before, 150.0))
    text = verdict("The time", estimate.to_json())
    assert estimate.lower is not None
    is_rise = estimate.lower > 1
    is_fall = estimate.upper is not None and estimate.upper < 1
    assert ("no significant change" in text) == (not is_rise and not is_fall)
    assert ("fell" in text) == is_fall
    assert ("times as long" in text) == is_rise
    shown = estimate.ratio if estimate.ratio is not None else estimate.lower
    assert number(shown) in text
    assert "None" not in text and "nan" not in text


def evaluation(n_failed: int, mae: float, stderr: float, force: float) -> dict[str, Any]:
    return {
        "stable_time_ps": {
            "n_failed": n_failed,
            "n_replicas": 64,
            "length_ps": 3.0,
            "total_time_ps": 150.0,
            "mean_time_to_failure": 150.0 / n_failed if n_failed else None,
            "mean_time_to_failure_ci95": [1.0, None],
        },
        "observables": {"distance_distribution": {"mae": mae, "stderr": stderr}},
        "force_mae_ev_per_angstrom": force,
    }


@pytest.mark.parametrize(
    ("mae", "words"), [(0.05, "fell from"), (0.15, "rose from"), (0.093, "no significant change")]
)
def test_an_observable_changes_by_more_than_its_error_or_not(mae: float, words: str) -> None:
    sides = {"before": evaluation(30, 0.1, 0.003, 0.1), "after": evaluation(2, mae, 0.003, 0.11)}
    ratio = failure_rate_ratio(Counts(2, 150.0), Counts(30, 150.0)).to_json()
    comparison = {
        "mean_time_to_failure_ratio": {"after_over_before": ratio},
        "force_mae_ratio": {"after_over_before": 1.1},
    }
    text = " ".join(sentences(sides, comparison))
    (found,) = re.findall(r"The MAE of h\(r\)[^:]*:?.*?\(95 %\)\.", text)
    assert words in found
    assert "0.1 to 0.11 eV/Å, 1.1 times what it was" in text
    assert "control" not in text


def test_every_condition_of_the_paper_has_its_row(study: Study) -> None:
    run = RunDirectory(study.run)
    rows = dict(conditions(run.read_config(), run.read_metrics()["pretrain"]))
    context = yaml.safe_load(CONTEXT.read_text(encoding="utf-8"))
    for molecule in context["molecules"].values():
        assert set(molecule["paper"]) <= set(rows)
    assert "600 K" in rows["temperature"]
    assert rows["time step"] == "0.5 fs in training, 0.4 fs in evaluation"
    assert "2/ps" in rows["thermostat in training"]
    n_parameters = run.read_metrics()["pretrain"]["n_parameters"]
    assert f"{n_parameters:,} parameters; " in rows["model"]
    assert "cutoff 5 Å" in rows["model"], "a default that no file states"


def test_paper_stands_beside_the_run_of_its_molecule_only(study: Study) -> None:
    assert "Beside the paper" not in study.text
    assert "| paper |" not in study.text
    known = study.numbers | {"published": "11 times at 2.0 times the force MAE."}
    known["conditions"] = [{**known["conditions"][0], "paper": "950 structures"}]
    text = render(known)
    assert "11 times at 2.0 times" in text
    assert "| here | paper |" in text


def test_tables_keep_their_columns() -> None:
    lines = table(["a", "b"], [("x|y", "1"), ("z", "2")]).splitlines()
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [3, 3, 3, 3]
    assert percent(None) == "–"
    assert (percent(0.0), percent(0.125), percent(1.0)) == ("0 %", "12 %", "100 %")
