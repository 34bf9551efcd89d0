"""``stablemd train``: StABlE Training, and the control beside it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stablemd.config import RunConfig
from stablemd.potentials import Potential
from stablemd.rundir import RunDirectory
from stablemd.stages import TRAIN
from stablemd.training.control import train_control
from stablemd.training.stable import StableResult, train_stable
from stablemd.training.stable_settings import StableSettings
from stablemd.training.training_point import (
    MAIN_POINT,
    TrainingPoint,
    require_trainable_together,
)
from stablemd.workflows.experiment import Experiment, further_points, prepare
from stablemd.workflows.models import load_model, save_model, start_model_path
from stablemd.workflows.reporter import SILENT, Reporter
from stablemd.workflows.run_log import RunLog


def run_train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Make a trained model stable; writes ``start.pt``, ``stable.pt`` and ``control.pt``.

    Args:
        config: sections ``data``, ``potential``, ``stable``, ``state_points`` and ``control``
            are read.
        resume: continue from the checkpoint, if there is one.
        overwrite: begin anew.
        reporter: told of progress.

    Returns:
        The part ``train`` of metrics.json.

    Raises:
        ConfigError: there is no model to start from, or the run directory is taken.
        DataError: the data do not fit.
    """
    experiment = prepare(config)
    further = further_points(config)
    directory = RunDirectory(config.out)
    is_begun = resume and directory.model("start").is_file()
    path = directory.model("start") if is_begun else start_model_path(config)
    potential = load_model(path, config, experiment.system.n_atoms)
    potential.require_trainable()
    main = experiment.as_training_point(MAIN_POINT)
    require_trainable_together(potential, [main, *further])
    continued = directory.start(config.to_values(), TRAIN, resume=resume, overwrite=overwrite)
    if not (continued and is_begun):
        save_model(potential, directory, "start")
    metrics = train_in(
        directory, experiment, potential, further=further, resume=continued, reporter=reporter
    )
    directory.write_metrics(metrics, TRAIN)
    directory.finish(TRAIN)
    return metrics


def train_in(
    directory: RunDirectory,
    experiment: Experiment,
    potential: Potential,
    *,
    further: Sequence[TrainingPoint] = (),
    resume: bool,
    reporter: Reporter,
) -> dict[str, Any]:
    """Train in a run directory that holds ``start.pt``; see ``run_train``.

    Args:
        directory: the run directory, started.
        experiment: data and configuration.
        potential: the start model, trained in place.
        further: state points beside that of the experiment.
        resume: continue from the checkpoint, if there is one.
        reporter: told of progress.

    Returns:
        Numbers of the training and the control.
    """
    config = experiment.config
    result = _train(directory, experiment, potential, further, resume, reporter)
    save_model(potential, directory, "stable")
    metrics: dict[str, Any] = {
        "candidates": [asdict(candidate) for candidate in result.candidates],
        "chosen_cycle": result.chosen_cycle,
        "chosen_steps": result.chosen_steps,
        "optimizer_steps": result.optimizer_steps,
        "stop_reason": result.stop_reason,
        "wall_s": dict(result.wall_s),
    }
    if config.control:
        n_steps = result.chosen_steps or result.optimizer_steps
        begin = time.perf_counter()
        _train_control(directory, experiment, further, n_steps, reporter)
        metrics["control_steps"] = n_steps
        metrics["wall_s"]["control"] = time.perf_counter() - begin
    return metrics


def _train(
    directory: RunDirectory,
    experiment: Experiment,
    potential: Potential,
    further: Sequence[TrainingPoint],
    resume: bool,
    reporter: Reporter,
) -> StableResult:
    settings = experiment.config.stable
    others = "".join(f", and at {point.name} of {point.system.formula}" for point in further)
    n_replicas = settings.n_replicas * (1 + len(further))
    reporter.begin(
        f"StABlE Training of {experiment.system.formula}{others} with {n_replicas} replicas",
        "Simulate until replicas fail, set them back to shortly before their failures, and change "
        "the force field until its averages there are those of the reference. Repeat.",
    )
    position = _Position(settings, [MAIN_POINT, *(point.name for point in further)])
    with RunLog(directory, TRAIN, reporter) as log:

        def on_record(record: dict[str, Any]) -> None:
            position.take(record)
            log.append(record)

        def on_progress(text: str, share: float) -> None:
            reporter.progress(text, share, position.overall(share))

        result = train_stable(
            potential,
            experiment.system,
            experiment.train,
            experiment.validation,
            experiment.training_reference,
            settings,
            further=further,
            checkpoint=directory.checkpoint("stable"),
            resume=resume,
            on_record=on_record,
            on_progress=on_progress,
        )
    reporter.end()
    chosen = next(c for c in result.candidates if c.cycle == result.chosen_cycle)
    reporter.note(
        f"Ended: {result.stop_reason}. Best model: after {result.chosen_steps} of "
        f"{result.optimizer_steps} steps, {chosen.n_failed} of {n_replicas} replicas "
        f"failed in {chosen.time_ps:.1f} ps."
    )
    return result


def _train_control(
    directory: RunDirectory,
    experiment: Experiment,
    further: Sequence[TrainingPoint],
    n_steps: int,
    reporter: Reporter,
) -> None:
    config = experiment.config
    reporter.begin(
        f"Control: {n_steps} steps on energies and forces alone",
        "From the same start, to see whether more training by itself would have done it.",
    )
    potential = load_model(directory.model("start"), config, experiment.system.n_atoms)
    if n_steps:
        train_control(
            potential,
            experiment.system,
            experiment.train,
            config.stable,
            n_steps,
            further=further,
            on_progress=reporter.progress,
        )
    save_model(potential, directory, "control")
    reporter.end()


class _Position:
    """Where in the cycles a training is, to bound what may still come.

    Units are the simulation phase of a state point, and a learning epoch.
    """

    def __init__(self, settings: StableSettings, points: Sequence[str]) -> None:
        self._points = list(points)
        self._epochs = settings.max_learning_epochs
        self._per_cycle = self._epochs + len(points)
        self._n_units = len(points) + settings.max_cycles * self._per_cycle
        self._done = 0

    def take(self, record: dict[str, Any]) -> None:
        """A unit is done; a learning phase that ended early leaves out its other epochs."""
        start = len(self._points) + (record["cycle"] - 1) * self._per_cycle
        if record["phase"] == "simulate":
            point = self._points.index(record.get("state_point", self._points[0]))
            self._done = start + self._epochs + point + 1
        else:
            ended = record.get("end_of_phase") is not None
            self._done = start + (self._epochs if ended else record["epoch"])

    def overall(self, share: float) -> float:
        """Part of all units that are done, at most."""
        return min((self._done + share) / self._n_units, 1.0)
