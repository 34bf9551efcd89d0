"""Arguments and options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="YAML file; see docs/configuration.md.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key, e.g. `--set stable.n_replicas=64`. May be given several times.",
    ),
]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")]
Seed = Annotated[int | None, typer.Option(help="Of every section that has no seed of its own.")]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the results; `runs/<name of CONFIG>` by default."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue where an earlier run stopped.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Remove the results of an earlier run, and begin anew.")
]
Model = Annotated[Path | None, typer.Option(help="Model file (.pt).")]
Debug = Annotated[bool, typer.Option("--debug", help="Show where in the program an error arose.")]
