"""The report of a run, from what its commands left."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stablemd.errors import CheckpointError
from stablemd.evaluation.curves import ComparedCurve
from stablemd.evaluation.evaluate import Evaluation
from stablemd.evaluation.figures import ObservableCurves
from stablemd.evaluation.movie import Movie
from stablemd.evaluation.report import ReportInput, write_report
from stablemd.md.settings import DynamicsSettings
from stablemd.rundir import RunDirectory
from stablemd.workflows.experiment import Experiment


def run_report(path: Path) -> Path:
    """Write ``report.html`` again from the ``report.json`` that an evaluation left.

    Args:
        path: the run directory.

    Returns:
        The page's path.

    Raises:
        CheckpointError: there is no such file, or it is damaged.
    """
    directory = RunDirectory(path)
    source = directory.report_data_path
    if not source.is_file():
        raise CheckpointError(
            f"{source} does not exist; give the folder of a run that stablemd evaluate or "
            "stablemd demo has finished"
        )
    try:
        content = ReportInput.from_json(json.loads(source.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{source} is damaged or from another version ({error}); evaluate again with "
            "stablemd evaluate --overwrite"
        ) from error
    return write_report(directory.report_path, content)


def report_input(
    directory: RunDirectory,
    experiment: Experiment,
    evaluations: Mapping[str, Evaluation],
    metrics: Mapping[str, Mapping[str, Any]],
    movies: Sequence[Sequence[Movie]],
    wall_s: Mapping[str, float],
    *,
    history: Sequence[Mapping[str, Any]],
) -> ReportInput:
    """Everything that the report of a run shows.

    Args:
        directory: for versions and configuration.
        experiment: data and configuration.
        evaluations: by role.
        metrics: their JSON by role.
        movies: groups of movies.
        wall_s: seconds by part.
        history: records of the training at the evaluated state point, in order.
    """
    config = experiment.config
    if "after" not in metrics:
        history = []
    budget = config.stable.force_mae_budget
    start = next((r["force_mae_ev_per_angstrom"] for r in history), None)
    dynamics = config.evaluation.dynamics
    formula = experiment.system.formula
    return ReportInput(
        title=f"{formula}: stability of molecular dynamics",
        formula=formula,
        metrics=metrics,
        stable_times={role: e.stable_time for role, e in evaluations.items()},
        observables=_curves(evaluations),
        history=history,
        force_mae_budget=None if budget is None or start is None else budget * start,
        movies=movies,
        config_text=directory.config_path.read_text(encoding="utf-8"),
        versions=directory.read_versions(),
        wall_s=wall_s,
        description=(
            f"{config.evaluation.n_replicas} replicas of up to {config.evaluation.length_ps:g} ps "
            f"at {dynamics.temperature_k:g} K ({dynamics.integrator}, {dynamics.dt_fs:g} fs); "
            f"{_failure(dynamics)}. Start structures, velocities and noise are the same for every "
            "model."
        ),
    )


def _failure(dynamics: DynamicsSettings) -> str:
    """What counts as a failure, in words; the limits stand in metrics.json."""
    if dynamics.detectors is None:
        return f"a bond {dynamics.bond_threshold:g} Å from its mean length counts as a failure"
    names = ", ".join(choice.name.replace("_", " ") for choice in dynamics.detectors)
    return f"failures are found by {names or 'numbers that are not finite'}"


def _curves(evaluations: Mapping[str, Evaluation]) -> list[ObservableCurves]:
    """Every observable that one of the evaluations has, in their order."""
    found: dict[str, ComparedCurve] = {}
    for evaluation in evaluations.values():
        for key, curve in evaluation.curves.items():
            found.setdefault(key, curve)
    return [_with_all_roles(key, curve, evaluations) for key, curve in found.items()]


def _with_all_roles(
    key: str, one: ComparedCurve, evaluations: Mapping[str, Evaluation]
) -> ObservableCurves:
    sampled = {role: e.curves[key].sampled for role, e in evaluations.items() if key in e.curves}
    return ObservableCurves(
        name=key,
        axis=one.sampled.axis.tolist(),
        axis_label=one.axis_label,
        value_label=one.value_label,
        reference=None if one.reference is None else one.reference.mean.tolist(),
        reference_stderr=None if one.reference is None else one.reference.stderr.tolist(),
        curves={
            role: (curve.mean.tolist(), curve.stderr.tolist())
            for role, curve in sampled.items()
            if bool(curve.mean.isfinite().all())
        },
    )
