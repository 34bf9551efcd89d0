"""``stablemd evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

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

At = Annotated[
    str | None,
    typer.Option(
        "--at", metavar="NAME", help="A further state point of `state_points`, instead of the main."
    ),
]


@guarded
def evaluate(
    config: Config,
    model: Model = None,
    at: At = None,
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

    Example: `stablemd evaluate examples/ethanol_two_temperatures.yaml --at hot`

    Writes into the run directory: `metrics.json`, `report.html` and `report.json` (its content,
    for `stablemd report`). While it runs, `checkpoints/evaluate` holds what the simulations have
    come to; an interrupted evaluation goes on from there with `--resume`, bit for bit. With `--at`
    all of this is in the folder `at/NAME` of the run directory.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.config_file import load_config
    from stablemd.rundir import RunDirectory
    from stablemd.workflows.evaluate import run_evaluate

    settings = load_config(config, overrides=set_ or [], device=device, seed=seed, out=out)
    with ConsoleReporter() as reporter:
        metrics = run_evaluate(
            settings, model=model, at=at, resume=resume, overwrite=overwrite, reporter=reporter
        )
        reporter.evaluation(metrics)
        directory = RunDirectory((settings if at is None else settings.at(at)).out)
        reporter.files({"report": directory.report_path, "numbers": directory.metrics_path})
