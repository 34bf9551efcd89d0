"""What the page on water says about each run, from its run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from case_study.numbers import gather, read_run
from case_study.reproduce import commands

from stablemd.config import RunConfig
from stablemd.errors import CheckpointError
from stablemd.evaluation.figures import ObservableCurves
from stablemd.evaluation.report_text import number
from stablemd.evaluation.survival import StableTime, exponential_mean_interval
from stablemd.rundir import RunDirectory
from stablemd.stages import EVALUATE, TRAIN
from stablemd.workflows.run_log import stage_records


@dataclass(frozen=True)
class Run:
    """One run of the page.

    Attributes:
        numbers: as ``case_study.numbers.gather`` has them.
        curves: the oxygens' radial distribution function.
        stable_times: by role.
    """

    numbers: dict[str, Any]
    curves: ObservableCurves
    stable_times: Mapping[str, StableTime]


def read(path: Path, config: Path, title: str = "") -> Run:
    """One run from its directory.

    Args:
        path: run directory of a finished training and evaluation.
        config: the example that it was made with.
        title: of the run's folder; that of the example by default.

    Raises:
        CheckpointError: it is not finished.
        ConfigError: it was made with another configuration.
    """
    run, report = read_run(path)
    title = title or config.stem
    # A run that is older than a key had what is the key's default today.
    settings = RunConfig.from_values(run.read_config(), str(path)).to_values()
    lines = commands(
        settings,
        config,
        f"examples/{config.name}",
        pretrains="pretrain" in run.stages(),
        out=f"runs/{title}",
    )
    numbers = gather(run, report, title=title, commands=lines)
    numbers["median_step"] = median_step(stage_records(run, TRAIN))
    curves = next(c for c in report.observables if c.name == "rdf_O-O")
    return Run(numbers, curves, report.stable_times)


def read_long(path: Path) -> dict[str, Any]:
    """A longer evaluation of the repaired model alone, by ``stablemd evaluate --model``.

    Raises:
        CheckpointError: it is not finished, or not of a single model.
    """
    run = RunDirectory(path)
    metrics = run.read_metrics()
    if not run.is_finished(EVALUATE) or metrics.get("main") != "model":
        raise CheckpointError(
            f"{path} holds no finished evaluation of a single model; run stablemd evaluate with "
            "--model and a folder of its own as --out"
        )
    config = RunConfig.from_values(run.read_config(), str(path)).to_values()
    changed = ("n_replicas", "length_ps", "record_every_fs")
    evaluation = {key: config["evaluation"][key] for key in changed}
    name = f"{evaluation['n_replicas']} replicas of up to {number(evaluation['length_ps'])} ps"
    return {
        **model_row(name, metrics["model"]),
        "failures": metrics["model"]["failures"],
        "evaluation": evaluation,
        "seed": config["seed"],
        "title": path.name,
    }


def together(evaluations: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Failures and time at risk of several evaluations of one model, which differ in their noise.

    Args:
        evaluations: with their ``stable_time_ps``; a folder counts once.

    Raises:
        CheckpointError: one was given twice.
    """
    titles = [e["title"] for e in evaluations if "title" in e]
    if len(set(titles)) < len(titles):
        raise CheckpointError(f"an evaluation is given twice among {', '.join(titles)}")
    times = [e["stable_time_ps"] for e in evaluations]
    n_failed = sum(t["n_failed"] for t in times)
    total_ps = sum(t["total_time_ps"] for t in times)
    return {
        "n_failed": n_failed,
        "n_replicas": sum(t["n_replicas"] for t in times),
        "total_time_ps": total_ps,
        "mean_time_to_failure": total_ps / n_failed if n_failed else None,
        "mean_time_to_failure_ci95": exponential_mean_interval(total_ps, n_failed, 0.95),
    }


def median_step(records: Sequence[Mapping[str, Any]]) -> float | None:
    """Half of the optimizer's steps were taken to this share or less, limits and scaling included.

    Args:
        records: of a training, in their order.
    """
    taken: list[float] = []
    scale = 1.0
    for record in records:
        if record["phase"] == "simulate":
            scale = 1.0  # a learning phase starts with whole steps
        for step in record.get("steps", ()):
            taken.append(step["step_share"] * scale)
            scale = step["rate_scale"]
    return median(taken) if taken else None


def model_row(name: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """One model's numbers as the table has them."""
    return {
        "model": name,
        "stable_time_ps": metrics["stable_time_ps"],
        "rdf": [metrics["observables"][key] for key in metrics["observables"]],
        "diffusion": list(metrics["dynamical"].values()),
        "force_mae_ev_per_angstrom": metrics["force_mae_ev_per_angstrom"],
    }


def rows(first: Run, others: Mapping[str, Run] | None = None) -> list[dict[str, Any]]:
    """The models of one start: before, control, and after every training of it.

    Args:
        first: the run that has the start and the control.
        others: further trainings of the same start, by what the page calls them.
    """
    found = first.numbers["evaluation"]
    roles = [role for role in ("before", "control") if role in found]
    result = [model_row(role, found[role]) for role in roles]
    trainings = {"after": first} if not others else {"localized": first, **others}
    for name, run in trainings.items():
        after = name if name == "after" else f"after, {name}"
        result.append(model_row(after, run.numbers["evaluation"]["after"]))
    return result
