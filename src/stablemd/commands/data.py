"""``stablemd data``: reference data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stablemd.commands.guard import guarded
from stablemd.commands.options import Debug

data = typer.Typer(
    name="data", help="Reference data: `stablemd data generate`.", no_args_is_help=True
)

Start = Annotated[
    str,
    typer.Argument(
        help="File of start structures that ASE reads, or a molecule's name, e.g. CH3CH2OH."
    ),
]
Target = Annotated[Path, typer.Option("--out", help="File of frames: .npz, .h5 or .extxyz.")]
Temperature = Annotated[float, typer.Option(help="Temperature in K.")]
NFrames = Annotated[int, typer.Option("--frames", help="Structures in all.")]
Trajectories = Annotated[
    int, typer.Option(help="Independent trajectories, from start structures spread over the file.")
]
Stride = Annotated[int, typer.Option(help="Steps between two recorded structures.")]
Dt = Annotated[float, typer.Option("--dt-fs", help="Time step in fs.")]
Friction = Annotated[float, typer.Option("--friction-per-ps", help="Langevin friction in 1/ps.")]
Equilibration = Annotated[
    int, typer.Option("--equilibration-steps", help="Steps discarded of each trajectory.")
]
GeneratorSeed = Annotated[int, typer.Option(help="Of velocities and noise.")]
Minutes = Annotated[
    float | None,
    typer.Option(help="Stop after this time with the structures at hand; call again to go on."),
]


@data.callback()
def _data() -> None: ...


@data.command(no_args_is_help=True)
@guarded
def generate(
    start: Start,
    out: Target,
    temperature_k: Temperature = 500.0,
    frames: NFrames = 1000,
    trajectories: Trajectories = 1,
    stride: Stride = 50,
    dt_fs: Dt = 0.5,
    friction_per_ps: Friction = 10.0,
    equilibration_steps: Equilibration = 4000,
    seed: GeneratorSeed = 0,
    max_minutes: Minutes = None,
    debug: Debug = False,
) -> None:
    """Sample a molecule by molecular dynamics with GFN2-xTB, and keep energies and forces.

    Langevin dynamics of one isolated molecule; needs the extra `tblite`. The same command
    continues a run that was interrupted or whose time was used up, with the same result as an
    uninterrupted one.

    Example: `stablemd data generate CH3CH2OH --out ethanol.npz --frames 2000 --max-minutes 10`

    Writes the frames so far to `--out`, and `<out>.partial` until all are there.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.workflows.generate import GenerateRequest, run_generate

    request = GenerateRequest(
        start=start,
        out=out,
        temperature_k=temperature_k,
        n_frames=frames,
        n_trajectories=trajectories,
        stride=stride,
        dt_fs=dt_fs,
        friction_per_ps=friction_per_ps,
        equilibration_steps=equilibration_steps,
        seed=seed,
        max_minutes=max_minutes,
    )
    with ConsoleReporter() as reporter:
        facts = run_generate(request, reporter=reporter)
        reporter.facts("Generated frames", facts)
