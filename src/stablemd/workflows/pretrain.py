"""``stablemd pretrain``: a fresh model on energies and forces."""

from __future__ import annotations

from typing import Any

from stablemd.config import RunConfig
from stablemd.errors import ConfigError
from stablemd.rundir import RunDirectory
from stablemd.stages import PRETRAIN
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.pretrain import pretrain
from stablemd.workflows.experiment import prepare
from stablemd.workflows.models import fresh_potential, save_model
from stablemd.workflows.reporter import SILENT, Reporter
from stablemd.workflows.run_log import RunLog


def run_pretrain(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Train a fresh model and write ``pretrained.pt`` into the run directory.

    Args:
        config: sections ``data``, ``potential`` and ``pretrain`` are read.
        resume: continue from the checkpoint, if there is one.
        overwrite: begin anew.
        reporter: told of progress.

    Returns:
        The part ``pretrain`` of metrics.json.

    Raises:
        ConfigError: a trained model is configured already, or the run directory is taken.
        DataError: the data do not fit.
    """
    if config.potential.has_model:
        named = config.potential.path or config.potential.options
        raise ConfigError(
            f"potential names {named}, which is a trained model, so there is nothing to pretrain; "
            "remove potential.path and potential.format to train a fresh one"
        )
    experiment = prepare(config)
    potential = fresh_potential(config, experiment.train)
    directory = RunDirectory(config.out)
    continued = directory.start(config.to_values(), PRETRAIN, resume=resume, overwrite=overwrite)
    settings = config.pretrain
    reporter.begin(
        f"Pretraining {config.potential.name} ({potential.n_parameters:,} parameters) on "
        f"{len(experiment.train)} structures of {experiment.system.formula}",
        f"Energies and forces; {len(experiment.validation)} validation structures choose the best "
        "epoch.",
    )
    with RunLog(directory, PRETRAIN, reporter) as log:

        def on_epoch(record: dict[str, Any]) -> None:
            log.append(record)
            shares = [record["epoch"] / settings.max_epochs]
            if settings.max_minutes is not None:
                shares.append(record["wall_s"] / (60.0 * settings.max_minutes))
            mae = record["force_mae_ev_per_angstrom"]
            reporter.progress(f"force MAE {mae:.4f} eV/Å", min(max(shares), 1.0))

        result = pretrain(
            potential,
            experiment.train,
            experiment.validation,
            settings,
            checkpoint=directory.checkpoint("pretrain"),
            resume=continued,
            on_epoch=on_epoch,
        )
    reporter.end()
    save_model(potential, directory, "pretrained")
    errors = {"validation": result.errors}
    if experiment.test is not None:
        errors["test"] = energy_and_force_mae(potential, experiment.system, experiment.test)
    metrics = {
        **{part: value._asdict() for part, value in errors.items()},
        "best_epoch": result.best_epoch,
        "n_epochs": result.n_epochs,
        "stop_reason": result.stop_reason,
        "n_parameters": potential.n_parameters,
        "n_train": len(experiment.train),
        "n_validation": len(experiment.validation),
        "wall_s": result.wall_s,
    }
    directory.write_metrics(metrics, PRETRAIN)
    directory.finish(PRETRAIN)
    return metrics
