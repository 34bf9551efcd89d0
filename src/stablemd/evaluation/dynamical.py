"""Dynamical observables of an evaluation: displacements, diffusion, velocity correlations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.evaluation.curves import ComparedCurve, Curve
from stablemd.evaluation.keys import unused
from stablemd.md import RecordedFrames
from stablemd.observables import (
    Average,
    Trajectory,
    TrajectoryObservable,
    yeh_hummer_correction,
)
from stablemd.observables.comparison import jackknife
from stablemd.observables.trajectory_settings import (
    DiffusionSettings,
    TrajectoryObservableSettings,
)
from stablemd.system import System
from stablemd.units import FS


def check_dynamical(
    choices: Sequence[TrajectoryObservableSettings],
    system: System,
    interval_fs: float,
    temperature_k: float,
) -> None:
    """Find out before a simulation whether everything can be had after it.

    Args:
        choices: what will be measured.
        system: the atoms.
        interval_fs: time between recorded frames in fs.
        temperature_k: of the simulation in K.

    Raises:
        ConfigError: times do not fit together.
        DataError: the file of a reference does not fit.
        SystemDefinitionError: there is no such atom, or the finite-size correction is asked for
            in a cell that is not cubic.
    """
    for choice in choices:
        observable = choice.build(system, interval_fs)
        if isinstance(choice, DiffusionSettings):
            _finite_size_correction(choice, system, temperature_k)
        elif choice.reference is not None:
            choice.reference.at(observable.axis.tolist())


def evaluate_dynamical(
    choices: Sequence[TrajectoryObservableSettings],
    system: System,
    frames: RecordedFrames,
    dt_fs: float,
    temperature_k: float,
) -> tuple[dict[str, Any], dict[str, ComparedCurve]]:
    """Every dynamical observable by name, or why it could not be had.

    Too short a life of the replicas is a result here, not an error.

    Args:
        choices: what to measure.
        system: the atoms.
        frames: recorded frames, equally spaced in time, with momenta where velocities are needed.
        dt_fs: time of one step in fs.
        temperature_k: of the simulation in K, for the finite-size correction.

    Returns:
        JSON by key, and the curves among them by the same keys.

    Raises:
        StablemdError: what ``check_dynamical`` would have told.
    """
    system = system.to(frames.positions.device)
    found: dict[str, Any] = {}
    curves: dict[str, ComparedCurve] = {}
    for choice in choices:
        name = choice.name if choice.element is None else f"{choice.name}_{choice.element}"
        key = unused(name, found)
        try:
            observable, trajectory = _paths(choice, system, frames, dt_fs)
            average = observable.average(trajectory)
        except DataError as error:
            found[key] = {"value": None, "stderr": None, "why": str(error)}
            continue
        if isinstance(choice, DiffusionSettings):
            found[key] = _number(choice, average, system, temperature_k)
        else:
            found[key], curves[key] = _curve(choice, observable, trajectory, average)
    return found, curves


def _paths(
    choice: TrajectoryObservableSettings, system: System, frames: RecordedFrames, dt_fs: float
) -> tuple[TrajectoryObservable, Trajectory]:
    """The observable, and the frames as paths of ``path_ps``.

    Raises:
        DataError: no replica lasted for that long, or frames are not equally spaced.
    """
    steps = frames.step.unique()
    interval = (int(steps.diff()[0]) if len(steps) > 1 else 1) * dt_fs
    velocities = None
    if choice.needs_velocities and frames.momenta is not None:
        velocities = frames.momenta / system.masses[:, None] * FS
    trajectory = Trajectory.from_frames(
        frames.positions,
        frames.replica,
        frames.step,
        dt_fs,
        n_frames=round(1000.0 * choice.path_ps / interval) + 1,
        velocities=velocities,
    )
    return choice.build(system, interval), trajectory


def _number(
    choice: DiffusionSettings, average: Average, system: System, temperature_k: float
) -> dict[str, Any]:
    correction = _finite_size_correction(choice, system, temperature_k)
    return {
        "value": float(average.mean) + correction,
        "stderr": float(average.stderr),
        "n_eff": average.n_eff,
        "n_paths": average.n_frames,
        "finite_size_correction": correction,
        "reference": choice.reference,
        "unit": "Å²/ps",
    }


def _finite_size_correction(
    choice: DiffusionSettings, system: System, temperature_k: float
) -> float:
    if choice.viscosity_pa_s is None:
        return 0.0
    return yeh_hummer_correction(
        system, temperature_k=temperature_k, viscosity_pa_s=choice.viscosity_pa_s
    )


def _curve(
    choice: TrajectoryObservableSettings,
    observable: TrajectoryObservable,
    trajectory: Trajectory,
    average: Average,
) -> tuple[dict[str, Any], ComparedCurve]:
    axis = observable.axis.cpu()
    sampled = Curve(axis, average.mean.cpu(), average.stderr.cpu())
    content: dict[str, Any] = {
        "axis": axis.tolist(),
        "axis_label": observable.axis_label,
        "value": sampled.mean.tolist(),
        "stderr": sampled.stderr.tolist(),
        "value_label": observable.value_label,
        "n_eff": average.n_eff,
        "n_paths": average.n_frames,
        "mae": None,
        "mae_stderr": None,
    }
    reference = None
    assert not isinstance(choice, DiffusionSettings)
    if choice.reference is not None:
        given = choice.reference.at(axis.tolist())
        error = torch.zeros_like(given.mean) if given.stderr is None else given.stderr
        reference = Curve(axis, given.mean, error)

        def distance(mean: Tensor) -> Tensor:
            return (mean - given.mean.to(mean)).abs().mean()

        paths = torch.arange(average.n_frames) if trajectory.path is None else trajectory.path
        content["mae"], content["mae_stderr"] = jackknife(
            distance, observable.values(trajectory).cpu(), paths.cpu()
        )
    return content, ComparedCurve(sampled, reference, observable.axis_label, observable.value_label)
