"""All numbers and facts of a case study, gathered from a finished run directory."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from case_study.conditions import conditions, short_path
from case_study.reproduce import FILES
from case_study.result import sentences
from stablemd.errors import CheckpointError
from stablemd.evaluation.report import ReportInput
from stablemd.rundir import RunDirectory
from stablemd.stages import DEMO, EVALUATE, PRETRAIN, TRAIN
from stablemd.strict_json import plain
from stablemd.workflows.run_log import stage_records

CONTEXT = Path(__file__).with_name("context.yaml")
Metrics = Mapping[str, Any]
Record = Mapping[str, Any]


def read_run(path: Path) -> tuple[RunDirectory, ReportInput]:
    """A run directory with a training and its evaluation (or a demo), and its report's content.

    Raises:
        CheckpointError: one of them is missing, not finished or damaged.
    """
    run = RunDirectory(path)
    for stage in (TRAIN, EVALUATE):
        if not (run.is_finished(stage) or run.is_finished(DEMO)):
            raise CheckpointError(
                f"{path} holds no finished {stage.name}; a case study needs a run directory in "
                "which stablemd train and then stablemd evaluate came to their end"
            )
    metrics = run.read_metrics()
    if not {"before", "after"} <= set(metrics):
        raise CheckpointError(
            f"{path} was evaluated with a single model; evaluate the run's own models, with "
            "stablemd evaluate --overwrite and without --model"
        )
    source = run.report_data_path
    try:
        return run, ReportInput.from_json(json.loads(source.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source} is missing, damaged or from another version ({error}); evaluate again with "
            "stablemd evaluate --overwrite"
        ) from error


def gather(
    run: RunDirectory, report: ReportInput, *, title: str, commands: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything that stands on the page, as plain values.

    Args:
        run: of ``read_run``.
        report: of ``read_run``.
        title: of the page.
        commands: shell commands that make the run again.
    """
    config, metrics = run.read_config(), run.read_metrics()
    history = stage_records(run, TRAIN)
    context = yaml.safe_load(CONTEXT.read_text(encoding="utf-8"))
    molecule = context["molecules"].get(report.formula, {})
    paper = molecule.get("paper", {})
    roles = {role: _without_text(metrics[role]) for role in report.metrics}
    result = {
        "title": title,
        "formula": report.formula,
        "result": sentences(roles, metrics["comparison"]),
        "published": molecule.get("published"),
        "conditions": [
            {"name": name, "here": here, "paper": paper.get(name)}
            for name, here in conditions(config, metrics.get("pretrain"))
        ],
        "evaluation": roles,
        "comparison": metrics["comparison"],
        "what_broke": {role: _what_broke(metrics[role]) for role in roles},
        "pretraining": metrics.get("pretrain"),
        "training": _training(metrics["train"], history, config["stable"]["n_replicas"]),
        "costs": _costs(metrics, history, roles),
        "data_notes": context["data"].get(short_path(config["data"]["path"]), []),
        "versions": run.read_versions(),
        "threads": config["threads"] or run.read_versions().get("cores"),
        "date": max(stage["updated"] for stage in run.stages().values())[:10],
        "commands": list(commands),
        "config": _portable(config),
    }
    return dict(plain(result))


def _without_text(metrics: Metrics) -> dict[str, Any]:
    return {key: value for key, value in metrics.items() if key != "failures"}


def _what_broke(metrics: Metrics) -> dict[str, int]:
    """How often each bond is named in the failures that were kept, most frequent first."""
    found: Counter[str] = Counter()
    for detail in metrics.get("failures") or []:
        bond = re.match(r"bond (\S+)", detail)
        found[bond.group(1) if bond else detail] += 1
    return dict(found.most_common())


def _training(train: Metrics, history: Sequence[Record], n_replicas: int) -> dict[str, Any]:
    rows = []
    for candidate in train["candidates"]:
        cycle = candidate["cycle"]
        learned = [r for r in history if r["phase"] == "learn" and r["cycle"] == cycle]
        measured = [r for r in history if r["phase"] == "simulate" and r["cycle"] == cycle][-1]
        steps = [step for record in learned for step in record["steps"]]
        rows.append(
            {
                **candidate,
                "n_replicas": n_replicas,
                "is_chosen": cycle == train["chosen_cycle"],
                "epochs": len(learned),
                "steps_in_cycle": len(steps),
                "n_rejected": sum(step["step_share"] == 0.0 for step in steps),
                "failed_first_epoch": learned[0]["failed_fraction"] if learned else None,
                "failed_last_epoch": learned[-1]["failed_fraction"] if learned else None,
                "end_of_phase": learned[-1]["end_of_phase"] if learned else None,
                "force_mae_ev_per_angstrom": measured["force_mae_ev_per_angstrom"],
                "energy_mae_ev": measured["energy_mae_ev"],
            }
        )
    kept = ("chosen_cycle", "chosen_steps", "optimizer_steps", "stop_reason", "control_steps")
    return {**{key: train.get(key) for key in kept}, "cycles": rows}


def _costs(
    metrics: Metrics, history: Sequence[Record], roles: Mapping[str, Metrics]
) -> dict[str, Any]:
    wall = metrics["train"]["wall_s"]

    def evaluations(phase: str) -> int:
        return sum(r["n_force_evaluations"] for r in history if r["phase"] == phase)

    parts: list[tuple[str, float | None, int | None]] = [
        ("pretraining", metrics["wall_s"].get(PRETRAIN.name), None),
        ("training: simulation phases", wall["simulate"], evaluations("simulate")),
        ("training: MD of the learning epochs", wall["sample"], evaluations("learn")),
        ("training: gradients and steps", wall["learn"], None),
        ("control", wall.get("control"), None),
        *(
            (f"evaluation, {role}", metrics["wall_s"].get(f"evaluate_{role}"), count)
            for role, m in roles.items()
            if (count := m.get("n_force_evaluations")) is not None
        ),
    ]
    shown = [
        {"part": part, "wall_s": seconds, "force_evaluations": count}
        for part, seconds, count in parts
        if seconds is not None
    ]
    simulated = sum(m["wall_s"]["simulate"] for m in roles.values())
    steps = sum(m["n_force_evaluations"] for m in roles.values())
    training = wall["simulate"] + wall["sample"] + wall["learn"]
    return {
        "parts": shown,
        "training_wall_s": training,
        "control_wall_s": wall.get("control"),
        "total_wall_s": sum(part["wall_s"] for part in shown),
        "evaluation_ms_per_replica_step": 1e3 * simulated / steps if steps else None,
        "gradient_share_of_training": wall["learn"] / training,
        "gradients_over_learning_md": wall["learn"] / wall["sample"] if wall["sample"] else None,
    }


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without the folders of the machine it ran on."""
    result = deepcopy(dict(config))
    for key in FILES:
        section, name = key.split(".")
        if result[section][name] is not None:
            result[section][name] = short_path(result[section][name])
    result["out"] = short_path(str(result["out"]))
    return result
