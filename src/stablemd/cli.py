"""The command line: ``stablemd demo | pretrain | train | evaluate | simulate | report |
info | data``.

Commands are one file each in ``stablemd.commands``; they import PyTorch only when
they run, so that help is there at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from stablemd.commands.data import data
from stablemd.commands.demo import demo
from stablemd.commands.evaluate import evaluate
from stablemd.commands.info import info
from stablemd.commands.pretrain import pretrain
from stablemd.commands.report import report
from stablemd.commands.simulate import simulate
from stablemd.commands.train import train

app = typer.Typer(
    name="stablemd",
    help="Train machine-learned force fields until molecular dynamics with them is stable.\n\n"
    "Start with `stablemd demo`. With your own data, write a configuration (see `examples/`) and "
    "run `stablemd pretrain`, `train` and `evaluate` with it.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _command in (demo, pretrain, train, evaluate, simulate, report, info):
    app.command(no_args_is_help=_command in (pretrain, train, evaluate, simulate, report))(_command)
app.add_typer(data)


def _print_version(wanted: bool) -> None:
    if wanted:
        from stablemd.versions import package_version

        typer.echo(f"stablemd {package_version('stablemd')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None: ...


def main() -> None:
    """Entry point of the installed command."""
    app()
