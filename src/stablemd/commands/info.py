"""``stablemd info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stablemd.commands.guard import guarded
from stablemd.commands.options import Debug


@guarded
def info(
    path: Annotated[
        Path | None,
        typer.Argument(help="A model, a file of reference structures, or the folder of a run."),
    ] = None,
    energy_unit: Annotated[
        str | None, typer.Option(help="Of the structures' energies, where the file does not say.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Show versions and hardware, or what a file or folder is.

    Examples: `stablemd info`, `stablemd info runs/demo`, `stablemd info runs/demo/stable.pt`,
    `stablemd info md17.npz --energy-unit kcal/mol`

    Writes nothing.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.workflows.describe import describe, describe_machine

    if path is None:
        title, facts = "stablemd on this machine", describe_machine()
    else:
        title, facts = describe(path, energy_unit=energy_unit)
    ConsoleReporter().facts(title, facts)
