"""A run in windows, saved and read in between, is one run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stablemd.md import RecordedFrames, initial_state, make_integrator, simulate
from stablemd.md.integrators import INTEGRATORS
from stablemd.md.long_run import WINDOW_S, LongRun, paced
from stablemd.stability import make_detectors
from stablemd.training.checkpoint import load_checkpoint, save_checkpoint

N_STEPS = 70
RUN = {"seed": 4, "check_every": 4, "record_every": 6, "record_momenta": True}


def start(form, system):
    """Three replicas near the bottom of the cliff's well, one at its edge, one beyond it."""
    generator = torch.Generator().manual_seed(0)
    positions = 0.1 * torch.randn(5, 3, 3, generator=generator, dtype=torch.float64)
    positions[3, 1] = 2.6
    positions[1, 1] = 1.9
    return initial_state(system, positions, form, temperature_k=50.0, seed=4)


def integrator_named(name: str):
    options = {"tau_fs": 5000.0} if name in ("nose_hoover", "csvr", "cell_rescaling") else {}
    return make_integrator(name, dt_fs=2.0, temperature_k=50.0, **options)


def in_windows(form, system, name: str, detectors, folder: Path) -> tuple[LongRun, RecordedFrames]:
    run, parts = LongRun.begin(start(form, system)), []
    while not run.is_over(N_STEPS):
        file = save_checkpoint(folder / "run.pt", run.payload(), kind="run")
        run = LongRun.from_payload(load_checkpoint(file, kind="run"), "cpu")
        run, frames = run.advance(
            form, integrator_named(name), detectors, system, n_steps=N_STEPS, **RUN
        )
        parts.append(frames)
    return run, RecordedFrames.concatenate(parts)


@pytest.mark.parametrize(
    ("name", "drift"),
    [*((name, False) for name in sorted(INTEGRATORS)), ("nve", True), ("nose_hoover", True)],
)
def test_windows_are_one_run(
    cliff, atoms, atoms_in_a_box, name: str, drift: bool, tmp_path: Path, monkeypatch
) -> None:
    """With a detector that remembers the start of its run, too."""
    monkeypatch.setattr("stablemd.md.long_run.FRAMES_PER_WINDOW", 3)
    system = atoms if INTEGRATORS[name].constant_volume else atoms_in_a_box
    form = cliff()
    settings = {"nonfinite": {}, "temperature": {"max_temperature_k": 1e6}}
    if drift:
        settings["energy_drift"] = {"max_drift": 1e-3}
    detectors = make_detectors(settings, system)
    whole = simulate(
        form, start(form, system), integrator_named(name), detectors, system,
        n_steps=N_STEPS, **RUN,
    )  # fmt: skip
    assert 0 < whole.n_failed < 5
    run, frames = in_windows(form, system, name, detectors, tmp_path)
    assert run.failed_step.tolist() == whole.failed_step.tolist()
    assert run.details == whole.details
    assert run.n_done == N_STEPS and run.state.step == whole.state.step
    for part in ("positions", "momenta", "energies", "alive"):
        assert torch.equal(getattr(run.state, part), getattr(whole.state, part)), part
    for part in ("positions", "momenta", "energies", "replica", "step"):
        assert torch.equal(getattr(frames, part), getattr(whole.frames, part)), part


def test_a_run_is_over_when_no_replica_is_left(cliff, atoms, monkeypatch) -> None:
    monkeypatch.setattr("stablemd.md.long_run.FRAMES_PER_WINDOW", 1)
    form = cliff()
    detectors = make_detectors({"temperature": {"max_temperature_k": 1e-6}}, atoms)
    run, frames = LongRun.begin(start(form, atoms)).advance(
        form, integrator_named("nve"), detectors, atoms, n_steps=N_STEPS, **RUN
    )
    assert run.is_over(N_STEPS) and bool(run.failed.all()) and len(frames) == 0
    assert run.n_done < N_STEPS


def test_windows_approach_their_time() -> None:
    """Whatever a frame takes, from a first guess that is far off."""
    for frame_s in (1e-4, 0.03, 0.7, 300.0):
        n_frames = 4
        for _ in range(12):
            n_frames = paced(n_frames, n_frames * frame_s)
        assert n_frames == 1 or WINDOW_S / 2 < n_frames * frame_s <= WINDOW_S
        assert n_frames * frame_s <= max(WINDOW_S, frame_s)
