"""``stablemd report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stablemd.commands.guard import guarded
from stablemd.commands.options import Debug


@guarded
def report(
    run_dir: Annotated[Path, typer.Argument(help="Folder of a run that was evaluated.")],
    debug: Debug = False,
) -> None:
    """Write the HTML page of a run again.

    Uses what `stablemd evaluate` or `stablemd demo` saved; nothing is computed again.

    Example: `stablemd report runs/demo`

    Writes `report.html` into the folder: one file without anything to download.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.workflows.report import run_report

    ConsoleReporter().files({"report": run_report(run_dir)})
