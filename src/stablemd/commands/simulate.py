"""``stablemd simulate``."""

from __future__ import annotations

from stablemd.commands.guard import guarded
from stablemd.commands.options import Config, Debug, Device, Model, Out, Overwrite, Seed, Set


@guarded
def simulate(
    config: Config,
    model: Model = None,
    set_: Set = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Run replica MD with a model and keep the trajectory.

    Uses `--model`, or the run's `stable.pt`, or the model that training starts from. Replicas
    start from the first test structures; one that fails is frozen there, and the others go
    on. Reads the sections `data` and `simulation`.

    Example: `stablemd simulate examples/aspirin.yaml --model runs/aspirin/stable.pt --set
    simulation.format=hdf5`

    Writes into `trajectories/` of the run directory: `<model>.extxyz` or `<model>.h5`, and
    `<model>.json` with the stable times.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.config_file import load_config
    from stablemd.evaluation.report_text import headline
    from stablemd.workflows.simulate import run_simulate

    settings = load_config(config, overrides=set_ or [], device=device, seed=seed, out=out)
    with ConsoleReporter() as reporter:
        summary = run_simulate(settings, model=model, overwrite=overwrite, reporter=reporter)
        for sentence in headline({"model": summary}):
            reporter.note(sentence)
        for replica, detail in enumerate(summary["failures"]):
            if detail is not None:
                time_ps = summary["failed_after_ps"][replica]
                reporter.note(f"replica {replica}, {time_ps:.2f} ps: {detail}")
        reporter.files({"trajectory": summary["trajectory"]})
