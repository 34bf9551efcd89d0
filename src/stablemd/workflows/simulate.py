"""``stablemd simulate``: plain replica MD with a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stablemd.config import RunConfig
from stablemd.evaluation.survival import stable_time
from stablemd.md import initial_state
from stablemd.md.long_run import LongRun
from stablemd.md.trajectory import open_trajectory
from stablemd.rundir import RunDirectory
from stablemd.stages import SIMULATE
from stablemd.strict_json import plain, write_json
from stablemd.training.reference_structures import reference_structures
from stablemd.workflows.experiment import prepare
from stablemd.workflows.models import best_model, load_model
from stablemd.workflows.reporter import SILENT, Reporter

SUFFIXES = {"extxyz": ".extxyz", "hdf5": ".h5"}


def run_simulate(
    config: RunConfig,
    *,
    model: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> dict[str, Any]:
    """Run replicas from the first test structures and write their trajectory.

    Args:
        config: sections ``data`` and ``simulation`` are read.
        model: a model file; without it, the run's stable model, or the one that
            training starts from.
        overwrite: replace an earlier simulation.
        reporter: told of progress.

    Returns:
        What the ``.json`` beside the trajectory holds: stable time and failures.

    Raises:
        ConfigError: there is no model, or an earlier simulation is in the way.
        DataError: the data do not fit.
    """
    path = best_model(config) if model is None else model
    experiment = prepare(config)
    test, settings = experiment.require_test(), config.simulation
    dynamics = settings.dynamics
    potential = load_model(path, config, experiment.system.n_atoms)
    directory = RunDirectory(config.out)
    directory.start(config.to_values(), SIMULATE, overwrite=overwrite)
    target = directory.trajectories / f"{path.stem}{SUFFIXES[settings.format]}"
    reporter.begin(
        f"Simulating {settings.n_replicas} replicas of {experiment.system.formula} with {path}",
        f"Up to {settings.length_ps:g} ps at {dynamics.temperature_k:g} K; frames go to {target}.",
    )
    device = potential.device
    system = experiment.system.to(device)
    form = potential.for_sampling(system, test.positions[:8].to(device))
    starts = torch.arange(settings.n_replicas) % len(test)
    positions, cells = test.select(starts).geometry(device)
    state = initial_state(
        system,
        positions,
        form,
        cells=cells,
        temperature_k=dynamics.temperature_k,
        seed=settings.seed,
    )
    integrator = dynamics.make_integrator()
    detectors = dynamics.make_detectors(
        system, reference_structures(experiment.training_reference, device)
    )
    for limit in detectors.thresholds:
        reporter.note(f"failure: {limit}")
    if detectors.has_memory:
        reporter.note(
            "A detector compares with earlier checks, so that the trajectory is held in memory "
            "and written at the end."
        )

    n_steps = max(1, round(settings.length_ps * 1000.0 / dynamics.dt_fs))
    record_every = max(1, round(settings.record_every_fs / dynamics.dt_fs))

    def on_progress(step: int, n_running: int) -> None:
        reporter.progress(f"{n_running} running", step / n_steps)

    run = LongRun.begin(state)
    with open_trajectory(target, experiment.system, dynamics.dt_fs) as writer:
        while not run.is_over(n_steps):
            run, frames = run.advance(
                form,
                integrator,
                detectors,
                system,
                n_steps=n_steps,
                seed=settings.seed,
                check_every=dynamics.check_every,
                record_every=record_every,
                on_progress=on_progress,
            )
            writer.write(frames)
    reporter.end()
    failed = run.failed
    steps_alive = torch.where(failed, run.failed_step, n_steps)
    length_ps = n_steps * dynamics.dt_fs * 1e-3
    times = (steps_alive.double() * dynamics.dt_fs * 1e-3).numpy()
    summary: dict[str, Any] = plain(
        {
            "model": path,
            "trajectory": target,
            "stable_time_ps": stable_time(times, failed.numpy(), length_ps).to_json(),
            "failed_after_ps": [
                float(t) if f else None for t, f in zip(times, failed, strict=True)
            ],
            "failures": run.details,
            "detectors": detectors.thresholds,
        }
    )
    write_json(target.with_suffix(".json"), summary)
    directory.finish(SIMULATE)
    return summary
