"""A failing replica before training, and the same replica after it, for the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from stablemd.evaluation.evaluate import Evaluation
from stablemd.evaluation.movie import Movie
from stablemd.md import RecordedFrames, initial_state, simulate
from stablemd.potentials.base import Potential
from stablemd.stability import make_detectors
from stablemd.system import System
from stablemd.workflows.experiment import Experiment
from stablemd.workflows.models import load_model

WINDOW_FS = 150.0
"""How much of the motion before a failure a movie shows."""

EARLIEST_FS = 100.0
"""Failures before this show little but the start; others are preferred."""


def movies(
    experiment: Experiment, models: Mapping[str, Path], evaluations: Mapping[str, Evaluation]
) -> list[list[Movie]]:
    """One group of movies: one replica in the same window of time, before and after training.

    The replica runs again alone, from its own structure with its own velocities
    and noise, so that every few steps of its last moments can be recorded.

    Args:
        experiment: data and configuration.
        models: file of every model by role.
        evaluations: their evaluations by role.

    Returns:
        Groups for the report; empty where no model's replica can be shown.
    """
    roles = [role for role in ("before", "after", "model") if role in evaluations]
    if not roles:
        return []
    replica = choose_replica(
        evaluations[roles[0]],
        evaluations.get("after") if roles[0] == "before" else None,
        experiment.config.evaluation.dynamics.dt_fs,
    )
    failed_step = int(evaluations[roles[0]].failed_step[replica])
    last_step = failed_step if failed_step > 0 else _window(experiment)
    group = []
    for role in roles:
        potential = load_model(models[role], experiment.config, experiment.system.n_atoms)
        movie = _movie(experiment, potential, evaluations[role], role, replica, last_step)
        if movie is not None:
            group.append(movie)
    return [group] if group else []


def choose_replica(before: Evaluation, after: Evaluation | None, dt_fs: float) -> int:
    """The replica to show: one that fails before, soon but not at once, and not after.

    Without any failure, replica 0.
    """
    steps = before.failed_step
    failed = torch.nonzero(steps > 0).flatten().tolist()
    if not failed:
        return 0

    def preference(replica: int) -> tuple[bool, bool, int]:
        survives = after is None or int(after.failed_step[replica]) < 0
        step = int(steps[replica])
        return (not survives, step * dt_fs < EARLIEST_FS, step)

    return min(failed, key=preference)


def replay(
    experiment: Experiment, potential: Potential, replica: int, last_step: int
) -> RecordedFrames | None:
    """One replica of the evaluation alone, densely recorded up to ``last_step``.

    Args:
        experiment: data and configuration.
        potential: the evaluated model.
        replica: its index in the evaluation.
        last_step: last step to run.

    Returns:
        Frames of the last ``WINDOW_FS``, the same numbers as in the evaluation; None
        where a replica's numbers depend on the others, so that it can't run alone.
    """
    settings = experiment.config.evaluation
    dynamics, test = settings.dynamics, experiment.require_test()
    device = potential.device
    system = experiment.system.to(device)
    form = potential.for_sampling(system, test.positions[:8].to(device))
    if not form.replica_independent:
        return None
    start, cells = test.select(torch.tensor([replica % len(test)])).geometry(device)
    state = initial_state(
        system,
        start,
        form,
        cells=cells,
        temperature_k=dynamics.temperature_k,
        seed=settings.seed,
        replica_ids=torch.tensor([replica]),
    )
    result = simulate(
        form,
        state,
        dynamics.make_integrator(),
        # The failure itself shall be seen, so only a loss of all meaning ends the replay.
        make_detectors({"nonfinite": {}}, system),
        system,
        n_steps=last_step,
        seed=settings.seed,
        check_every=last_step,
        record_every=_spacing(last_step, _window(experiment), settings.max_movie_frames),
    )
    return result.frames.select(result.frames.step >= last_step - _window(experiment))


def _movie(
    experiment: Experiment,
    potential: Potential,
    evaluation: Evaluation,
    role: str,
    replica: int,
    last_step: int,
) -> Movie | None:
    dynamics = experiment.config.evaluation.dynamics
    system = experiment.system
    own_step = int(evaluation.failed_step[replica])
    last_step = min(last_step, own_step) if own_step > 0 else last_step
    frames = replay(experiment, potential, replica, last_step)
    if frames is None:
        mine = evaluation.frames.select(evaluation.frames.replica == replica)
        begin = last_step - _window(experiment)
        frames = mine.select((mine.step >= begin) & (mine.step <= last_step))
    if len(frames) == 0:
        return None
    failed = own_step == last_step
    positions = frames.positions.cpu()
    return Movie.of_replica(
        system,
        positions.numpy(),
        (frames.step.double() * dynamics.dt_fs * 1e-3).cpu().numpy(),
        dynamics.bond_threshold,
        role=role,
        title=f"replica {replica}",
        caption=_caption(evaluation, replica, failed, dynamics.dt_fs),
        failed=failed,
        failed_bond=_worst_bond(system, positions[-1], dynamics.bond_threshold) if failed else -1,
        max_frames=experiment.config.evaluation.max_movie_frames,
    )


def _caption(evaluation: Evaluation, replica: int, failed: bool, dt_fs: float) -> str:
    step = int(evaluation.failed_step[replica])
    if failed:
        detail = evaluation.details[replica] or "it failed"
        return f"failed after {step * dt_fs * 1e-3:.2f} ps: {detail}"
    if step > 0:
        return f"stable here; failed after {step * dt_fs * 1e-3:.2f} ps"
    return f"stable to the end, {evaluation.stable_time.length_ps:g} ps"


def _worst_bond(system: System, positions: Tensor, threshold: float) -> int:
    """Index of the bond farthest from its reference length, -1 if it is within the threshold."""
    if not len(system.bonds):
        return -1
    i, j = system.bonds.T
    deviation = ((positions[i] - positions[j]).norm(dim=-1) - system.bond_lengths).abs()
    worst = int(deviation.argmax())
    return worst if float(deviation[worst]) >= threshold else -1


def _window(experiment: Experiment) -> int:
    return max(1, round(WINDOW_FS / experiment.config.evaluation.dynamics.dt_fs))


def _spacing(last_step: int, window: int, max_frames: int) -> int:
    """Steps between frames: a divisor of ``last_step``, so that it is recorded itself."""
    wanted = min(window, last_step) / max_frames
    divisors = [d for d in range(1, min(window, last_step) + 1) if last_step % d == 0]
    fine = [d for d in divisors if d >= wanted and d <= max(window // 10, 1)]
    return fine[0] if fine else 1
