"""``stablemd demo``: the whole story on data that the package brings along."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stablemd.config import RunConfig
from stablemd.config_file import load_config
from stablemd.demo import CONFIG_PATH
from stablemd.rundir import RunDirectory
from stablemd.stages import DEMO, EVALUATE, TRAIN
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.workflows.evaluate import conclude, evaluate_model, training_wall_s
from stablemd.workflows.experiment import prepare
from stablemd.workflows.models import load_model, models_by_role, save_model
from stablemd.workflows.reporter import SILENT, Reporter
from stablemd.workflows.run_log import stage_records
from stablemd.workflows.train import train_in


def demo_config(
    *,
    out: str | Path = "runs/demo",
    seed: int = 0,
    device: str | None = None,
    overrides: Sequence[str] = (),
) -> RunConfig:
    """The packaged configuration of the demo.

    Args:
        out: folder of the results.
        seed: of replicas, velocities, noise and data order.
        device: cpu or cuda.
        overrides: ``"a.b.c=value"``.
    """
    return load_config(CONFIG_PATH, overrides=overrides, device=device, seed=seed, out=out)


def run_demo(config: RunConfig, *, reporter: Reporter = SILENT) -> dict[str, Any]:
    """Show that a model's MD fails, train it, and show what changed.

    A folder that holds an earlier demo is used again.

    Args:
        config: of ``demo_config``.
        reporter: told of progress.

    Returns:
        The content of metrics.json: ``before``, ``after``, ``control``, their
        ``comparison``, and ``wall_s`` by part.

    Raises:
        ConfigError: the folder holds something else.
    """
    assert config.potential.path is not None
    begin = time.perf_counter()
    experiment = prepare(config)
    potential = load_model(config.potential.path, config, experiment.system.n_atoms)
    directory = RunDirectory(config.out)
    if DEMO.name in directory.stages():
        reporter.note(f"{config.out} holds an earlier demo; it is replaced.")
    directory.start(config.to_values(), DEMO, overwrite=True)
    mae = energy_and_force_mae(
        potential, experiment.system, experiment.validation
    ).force_mae_ev_per_angstrom
    reporter.note(
        f"A SchNet of {potential.n_parameters:,} parameters was trained on "
        f"{len(experiment.train)} structures of {experiment.system.formula}: too few, as happens "
        f"where labels are expensive. Its force MAE on others is {mae:.3f} eV/Å. Is its dynamics "
        "stable?"
    )
    save_model(potential, directory, "start")
    wall: dict[str, float] = {"prepare": time.perf_counter() - begin}
    evaluations = {"before": evaluate_model(experiment, "before", potential, wall, reporter)}

    training = train_in(directory, experiment, potential, resume=False, reporter=reporter)
    directory.write_metrics(training, TRAIN)
    wall |= training_wall_s({"train": training})
    models = models_by_role(directory)
    for role in ("after", "control"):
        model = load_model(models[role], config, experiment.system.n_atoms)
        evaluations[role] = evaluate_model(experiment, role, model, wall, reporter)
    history = stage_records(directory, TRAIN)
    metrics = conclude(directory, experiment, models, evaluations, wall, reporter, history=history)
    metrics["wall_s"]["total"] = time.perf_counter() - begin
    directory.write_metrics(metrics, EVALUATE)
    directory.finish(DEMO)
    return directory.read_metrics()
