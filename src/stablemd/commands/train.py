"""``stablemd train``."""

from __future__ import annotations

from stablemd.commands.guard import guarded
from stablemd.commands.options import Config, Debug, Device, Out, Overwrite, Resume, Seed, Set


@guarded
def train(
    config: Config,
    set_: Set = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Make a trained force field stable: StABlE Training.

    Starts from `potential.path`, or from the `pretrained.pt` of the same run directory. Reads
    the sections `data`, `potential`, `stable`, `state_points` and `control`. The error of the
    forces stays within `stable.force_mae_budget` at every state point; the most stable model
    inside the budget is kept.

    Example: `stablemd train examples/aspirin.yaml --set stable.max_cycles=2`

    Writes into the run directory: `start.pt` (a copy of the start), `stable.pt`, `control.pt`
    (as many steps on energies and forces alone), `log.jsonl`, `checkpoints/stable.pt` (for
    `--resume`, which goes on bit for bit), and `train` in `metrics.json`.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.config_file import load_config
    from stablemd.rundir import RunDirectory
    from stablemd.workflows.train import run_train

    settings = load_config(config, overrides=set_ or [], device=device, seed=seed, out=out)
    with ConsoleReporter() as reporter:
        metrics = run_train(settings, resume=resume, overwrite=overwrite, reporter=reporter)
        chosen = metrics["chosen_cycle"]
        n_replicas = settings.stable.n_replicas * (1 + len(settings.state_points))
        facts = {
            f"simulation {c['cycle']}": f"{c['n_failed']} of {n_replicas} failed "
            f"in {c['time_ps']:.1f} ps, {c['steps']} steps"
            + ("" if c["within_budget"] else ", over the budget")
            + (" (chosen)" if c["cycle"] == chosen else "")
            for c in metrics["candidates"]
        }
        facts["ended"] = metrics["stop_reason"]
        facts["time"] = f"{sum(metrics['wall_s'].values()):.0f} s"
        reporter.facts("StABlE Training", facts)
        directory = RunDirectory(settings.out)
        files = {"stable model": directory.model("stable"), "log": directory.log.path}
        if settings.control:
            files["control"] = directory.model("control")
        reporter.files(files)
        reporter.note(f"\nNext: stablemd evaluate {config}")
        for name in settings.state_point_names:
            reporter.note(f"      stablemd evaluate {config} --at {name}")
