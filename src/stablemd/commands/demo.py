"""``stablemd demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stablemd.commands.guard import guarded
from stablemd.commands.options import Debug, Device, Set


@guarded
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("runs/demo"),
    seed: Annotated[
        int, typer.Option(min=0, help="Of start structures, velocities, noise and data order.")
    ] = 0,
    set_: Set = None,
    device: Device = None,
    debug: Debug = False,
) -> None:
    """Make an unstable force field stable: the whole story in a few minutes.

    The package brings an ethanol force field that was trained on 25 structures. The demo
    shows how often its MD fails, makes it stable with StABlE Training, and evaluates again,
    next to a control that got as many optimizer steps on energies and forces alone.

    Example: `stablemd demo --out runs/demo --seed 1`

    Writes `report.html` (open it in a browser), `metrics.json`, and the models `start.pt`,
    `stable.pt` and `control.pt`. An earlier demo in the same folder is replaced.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.rundir import RunDirectory
    from stablemd.workflows.demo import demo_config, run_demo

    config = demo_config(out=out, seed=seed, device=device, overrides=set_ or [])
    with ConsoleReporter() as reporter:
        metrics = run_demo(config, reporter=reporter)
        reporter.evaluation(metrics)
        directory = RunDirectory(config.out)
        reporter.files(
            {
                "report": directory.report_path,
                "numbers": directory.metrics_path,
                "trained model": directory.model("stable"),
            }
        )
