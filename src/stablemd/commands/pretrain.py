"""``stablemd pretrain``."""

from __future__ import annotations

from stablemd.commands.guard import guarded
from stablemd.commands.options import Config, Debug, Device, Out, Overwrite, Resume, Seed, Set


@guarded
def pretrain(
    config: Config,
    set_: Set = None,
    out: Out = None,
    device: Device = None,
    seed: Seed = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    debug: Debug = False,
) -> None:
    """Train a force field on energies and forces.

    Reads the sections `data`, `potential` and `pretrain`. Skip it if you have a trained model:
    name it as `potential.path` and go on with `stablemd train`.

    Example: `stablemd pretrain examples/aspirin.yaml --set pretrain.max_minutes=30`

    Writes into the run directory: `pretrained.pt` (the best epoch), `log.jsonl` (one line per
    epoch), `checkpoints/pretrain.pt` (for `--resume`), and `pretrain` in `metrics.json`.
    """
    from stablemd.commands.console import ConsoleReporter
    from stablemd.config_file import load_config
    from stablemd.rundir import RunDirectory
    from stablemd.workflows.pretrain import run_pretrain

    settings = load_config(config, overrides=set_ or [], device=device, seed=seed, out=out)
    with ConsoleReporter() as reporter:
        metrics = run_pretrain(settings, resume=resume, overwrite=overwrite, reporter=reporter)
        facts = {
            f"{part} force MAE": f"{metrics[part]['force_mae_ev_per_angstrom']:.4f} eV/Å"
            for part in ("validation", "test")
            if part in metrics
        } | {
            f"{part} energy MAE": f"{metrics[part]['energy_mae_ev']:.4f} eV"
            for part in ("validation", "test")
            if part in metrics
        }
        facts |= {
            "best epoch": f"{metrics['best_epoch']} of {metrics['n_epochs']}",
            "ended": metrics["stop_reason"],
            "time": f"{metrics['wall_s']:.0f} s",
        }
        reporter.facts("Pretraining", facts)
        directory = RunDirectory(settings.out)
        reporter.files({"model": directory.model("pretrained"), "log": directory.log.path})
