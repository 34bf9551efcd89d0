"""``stablemd evaluate``: stable times and errors of the models of a run, with a report."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stablemd.config import RunConfig
from stablemd.errors import CheckpointError, ConfigError
from stablemd.evaluation.evaluate import Evaluation, evaluate
from stablemd.evaluation.metrics import compare
from stablemd.evaluation.report import write_report
from stablemd.evaluation.run_store import RunStore
from stablemd.rundir import RunDirectory
from stablemd.stages import EVALUATE, TRAIN
from stablemd.strict_json import plain, write_json
from stablemd.training.training_point import MAIN_POINT
from stablemd.workflows.experiment import Experiment, prepare
from stablemd.workflows.models import configured_model, load_model, models_by_role
from stablemd.workflows.movies import movies
from stablemd.workflows.report import report_input
from stablemd.workflows.reporter import SILENT, Reporter
from stablemd.workflows.run_log import point_records, stage_records

MAIN_ROLES = ("after", "model", "before", "control")
"""Whose numbers stand at the top of metrics.json: the first of these that there is."""

PURPOSES = {
    "before": "the model that training started from",
    "after": "the model after StABlE Training",
    "control": "the model with as many steps on energies and forces alone",
    "model": "the given model",
}


def run_evaluate(
    config: RunConfig,
    *,
    model: Path | None = None,
    at: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Evaluate what the run directory holds, or one model; writes metrics.json and report.html.

    Every model runs from the same structures with the same velocities and noise.

    Args:
        config: sections ``data`` and ``evaluation`` are read.
        model: a model file; without it, the run's models before and after training
            and the control, those that exist.
        at: a further state point, where the same models are evaluated, into a folder of
            the run directory; without it the main one.
        resume: continue an evaluation that was interrupted, from what its simulations
            had come to (saved every half a minute).
        overwrite: replace an earlier evaluation.
        reporter: told of progress.

    Returns:
        The content of metrics.json.

    Raises:
        CheckpointError: the evaluation to continue, or one that is finished, is one of
            other models.
        ConfigError: there is no model or no such state point, or an earlier evaluation is
            in the way.
        DataError: the data do not fit.
    """
    run = RunDirectory(config.out)
    models = {"model": model} if model is not None else models_by_role(run)
    if at is not None:
        config = config.at(at)
    directory = RunDirectory(config.out)
    configured = configured_model(config)
    if not models and configured is not None:
        models = {"model": configured}
    if not models:
        raise ConfigError(
            f"{run.path} holds no model (pretrained.pt, start.pt, stable.pt or control.pt); run "
            "stablemd pretrain or stablemd train first, or give a model with --model"
        )
    experiment = prepare(config)
    experiment.require_test()
    potentials = {
        role: load_model(path, config, experiment.system.n_atoms) for role, path in models.items()
    }
    identities = {role: _identity(path, config) for role, path in models.items()}
    kept = directory.checkpoints / EVALUATE.name
    done = directory.is_finished(EVALUATE)
    if done and resume and directory.read_metrics().get("identities") != identities:
        raise CheckpointError(
            f"{config.out} holds a finished evaluation of other models than there are now; "
            "replace it with --overwrite, or give another folder with --out"
        )
    if directory.start(config.to_values(), EVALUATE, resume=resume, overwrite=overwrite) and done:
        shutil.rmtree(kept, ignore_errors=True)
        directory.finish(EVALUATE)
        return directory.read_metrics()
    wall = training_wall_s(run.read_metrics()) if model is None else {}
    evaluations = {
        role: evaluate_model(
            experiment,
            role,
            potential,
            wall,
            reporter,
            store=RunStore(kept / role, model=identities[role]),
        )
        for role, potential in potentials.items()
    }
    history = point_records(stage_records(run, TRAIN), at or MAIN_POINT)
    metrics = conclude(directory, experiment, models, evaluations, wall, reporter, history=history)
    directory.write_metrics({**metrics, "identities": identities}, EVALUATE)
    directory.finish(EVALUATE)
    shutil.rmtree(kept)
    return directory.read_metrics()


def _identity(model: Path, config: RunConfig) -> str:
    """A check sum that tells a model, with the options that it is read with, from others."""
    own = model.read_bytes() if model.is_file() else str(model).encode()
    how = repr((config.potential.format, config.potential.options)).encode()
    return hashlib.sha256(own + how).hexdigest()


def training_wall_s(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Seconds of pretraining, training and control from their parts of metrics.json."""
    wall: dict[str, float] = {}
    if "pretrain" in metrics:
        wall["pretrain"] = metrics["pretrain"]["wall_s"]
    if "train" in metrics:
        parts = dict(metrics["train"]["wall_s"])
        control = parts.pop("control", None)
        wall["train"] = sum(parts.values())
        if control is not None:
            wall["control"] = control
    return wall


def evaluate_model(
    experiment: Experiment,
    role: str,
    potential: Any,
    wall: dict[str, float],
    reporter: Reporter,
    *,
    store: RunStore | None = None,
) -> Evaluation:
    """Evaluate one potential; its wall time goes into ``wall`` as ``evaluate_<role>``.

    With a ``store`` its simulation is saved there on the way, and continued from there.
    """
    settings = experiment.config.evaluation
    reporter.begin(
        f"Evaluating {PURPOSES[role]}",
        f"{settings.n_replicas} fresh replicas of up to {settings.length_ps:g} ps at "
        f"{settings.dynamics.temperature_k:g} K from structures that no training has seen.",
    )
    result = evaluate(
        potential,
        experiment.system,
        experiment.require_test(),
        experiment.evaluation_reference,
        settings,
        store=store,
        on_progress=reporter.progress,
    )
    wall[f"evaluate_{role}"] = sum(result.metrics.wall_s.values())
    stable = result.stable_time
    reporter.end()
    for limit in result.metrics.extra["detectors"]:
        reporter.note(f"failure: {limit}")
    reporter.note(f"{stable.n_failed} of {stable.n_replicas} replicas failed.")
    return result


def conclude(
    directory: RunDirectory,
    experiment: Experiment,
    models: Mapping[str, Path],
    evaluations: Mapping[str, Evaluation],
    wall: dict[str, float],
    reporter: Reporter,
    *,
    history: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Compare the evaluations and write the report.

    Args:
        directory: where ``report.html`` and ``report.json`` go.
        experiment: data and configuration.
        models: file of every model by role.
        evaluations: their evaluations by role.
        wall: seconds by part so far; the report's are added.
        reporter: told of progress.
        history: records of the training at this state point.

    Returns:
        The evaluation's content of metrics.json.
    """
    reporter.begin("Writing the report")
    begin = time.perf_counter()
    parts = {role: e.metrics.to_json() for role, e in evaluations.items()}
    scenes = movies(experiment, models, evaluations)
    wall["report"] = time.perf_counter() - begin
    content = report_input(directory, experiment, evaluations, parts, scenes, wall, history=history)
    write_json(directory.report_data_path, content.to_json())
    write_report(directory.report_path, content)
    wall["report"] = time.perf_counter() - begin
    reporter.end()
    main = next(role for role in MAIN_ROLES if role in parts)
    metrics: dict[str, Any] = {**parts[main], **parts}
    if "before" in parts and "after" in parts:
        metrics["comparison"] = compare(parts["before"], parts["after"], parts.get("control"))
    metrics["main"] = main
    metrics["models"] = {role: str(path) for role, path in models.items()}
    metrics["wall_s"] = dict(wall)
    result: dict[str, Any] = plain(metrics)
    return result
