"""``stablemd data``: reference data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

import typer

from stablemd.commands.guard import guarded
from stablemd.commands.options import Debug

data = typer.Typer(
    name="data", help="Reference data: `stablemd data generate`.", no_args_is_help=True
)

Start = Annotated[
    str,
    typer.Argument(
        help="File of start structures that ASE reads, a molecule's name, e.g. CH3CH2OH, or "
        "`water` for the liquid."
    ),
]
Target = Annotated[Path, typer.Option("--out", help="File of frames: .npz, .h5 or .extxyz.")]
Temperature = Annotated[
    float | None, typer.Option(help="Temperature in K; 500 for a molecule, 300 for water.")
]
Molecules = Annotated[int, typer.Option("--molecules", help="Of liquid water, 58 or more.")]
NFrames = Annotated[int, typer.Option("--frames", help="Structures in all.")]
Trajectories = Annotated[
    int, typer.Option(help="Independent trajectories, from start structures spread over the file.")
]
Stride = Annotated[
    int | None,
    typer.Option(help="Steps between two recorded structures; 50, or 200 for water."),
]
Dt = Annotated[float, typer.Option("--dt-fs", help="Time step in fs.")]
Friction = Annotated[
    float | None,
    typer.Option("--friction-per-ps", help="Langevin friction in 1/ps; 10, or 1 for water."),
]
Equilibration = Annotated[
    int | None,
    typer.Option(
        "--equilibration-steps",
        help="Steps discarded of each trajectory; 4000, or 100000 for water.",
    ),
]
GeneratorSeed = Annotated[int, typer.Option(help="Of velocities and noise.")]
Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after this time with the structures at hand; call again to go on."),
]


@data.callback()
def _data() -> None: ...


Number = TypeVar("Number", int, float)


def _given_or(value: Number | None, default: Number) -> Number:
    return default if value is None else value


@data.command(no_args_is_help=True)
@guarded
def generate(
    start: Start,
    out: Target,
    temperature_k: Temperature = None,
    frames: NFrames = 1000,
    trajectories: Trajectories = 1,
    stride: Stride = None,
    dt_fs: Dt = 0.5,
    friction_per_ps: Friction = None,
    equilibration_steps: Equilibration = None,
    seed: GeneratorSeed = 0,
    max_minutes: Minutes = None,
    molecules: Molecules = 64,
    debug: Debug = False,
) -> None:
    """Sample a molecule with GFN2-xTB or liquid water with SPC/Fw; keep energies and forces.

    Langevin dynamics of one isolated molecule (needs the extra `tblite`) or of a periodic box of
    flexible water (needs the extra `openmm`). The same command continues a run that was
    interrupted or whose time was used up, with the same result as an uninterrupted one.

    Example: `stablemd data generate CH3CH2OH --out ethanol.npz --frames 2000 --max-minutes 10`

    Example: `stablemd data generate water --out water.npz --frames 1000`

    Writes the frames so far to `--out`, and `<out>.partial` until all are there.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.workflows.generate import WATER, GenerateRequest, run_generate

    liquid = start == WATER
    request = GenerateRequest(
        start=start,
        out=out,
        temperature_k=_given_or(temperature_k, 300.0 if liquid else 500.0),
        n_frames=frames,
        n_trajectories=trajectories,
        stride=_given_or(stride, 200 if liquid else 50),
        dt_fs=dt_fs,
        friction_per_ps=_given_or(friction_per_ps, 1.0 if liquid else 10.0),
        equilibration_steps=_given_or(equilibration_steps, 100_000 if liquid else 4000),
        seed=seed,
        max_minutes=max_minutes,
        n_molecules=molecules,
    )
    with ConsoleReporter() as reporter:
        facts = run_generate(request, reporter=reporter)
        reporter.facts("Generated frames", facts)
