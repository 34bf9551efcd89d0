"""``stablemd evaluate``."""

from __future__ import annotations

from stablemd.commands.guard import guarded
from stablemd.commands.options import (
    Config,
    Debug,
    Device,
    Model,
    Out,
    Overwrite,
    Resume,
    Seed,
    Set,
)


@guarded
def evaluate(
    config: Config,
    model: Model = None,
    set_: Set = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Measure stable times and errors, with error bars, and write a report.

    Evaluates the models of the run directory, those that exist: before (`start.pt` or
    `pretrained.pt`), after (`stable.pt`) and control (`control.pt`); with `--model` that
    model alone. All run from the same test structures with the same velocities and noise.
    Reads the sections `data` and `evaluation`.

    Example: `stablemd evaluate examples/aspirin.yaml --set evaluation.length_ps=20`

    Writes into the run directory: `metrics.json`, `report.html` and `report.json` (its content,
    for `stablemd report`). While it runs, `checkpoints/evaluate` holds what the simulations have
    come to; an interrupted evaluation goes on from there with `--resume`, bit for bit.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.config_file import load_config
    from stablemd.rundir import RunDirectory
    from stablemd.workflows.evaluate import run_evaluate

    settings = load_config(config, overrides=set_ or [], device=device, seed=seed, out=out)
    with ConsoleReporter() as reporter:
        metrics = run_evaluate(
            settings, model=model, resume=resume, overwrite=overwrite, reporter=reporter
        )
        reporter.evaluation(metrics)
        directory = RunDirectory(settings.out)
        reporter.files({"report": directory.report_path, "numbers": directory.metrics_path})
