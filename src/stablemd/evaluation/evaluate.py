"""How long a potential's dynamics stays stable, and how right it is until then."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.data import Frames
from stablemd.errors import DataError
from stablemd.evaluation.curves import ComparedCurve, Curve
from stablemd.evaluation.dynamical import check_dynamical, evaluate_dynamical
from stablemd.evaluation.keys import unused
from stablemd.evaluation.metrics import EvaluationMetrics, ObservableError
from stablemd.evaluation.run_store import RunStore
from stablemd.evaluation.settings import EvaluationSettings
from stablemd.evaluation.survival import StableTime, stable_time
from stablemd.evaluation.thermodynamic import check_thermodynamic, evaluate_thermodynamic
from stablemd.md import RecordedFrames, initial_state
from stablemd.md.long_run import FIRST_FRAMES, LongRun, paced
from stablemd.observables import compare_with_reference, ensemble_average
from stablemd.observables.base import Observable
from stablemd.potentials.base import Potential
from stablemd.system import System
from stablemd.training.label_errors import energy_and_force_mae
from stablemd.training.reference_structures import reference_structures

OnProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class Evaluation:
    """One potential's evaluation.

    Attributes:
        metrics: the numbers of metrics.json.
        stable_time: first-passage statistics with the survival curve.
        curves: averages over the stable part beside their references, by the keys of the
            metrics: observables, then dynamical ones.
        frames: recorded valid frames of all replicas.
        failed_step: step of each replica's failure, -1 if it did not fail, (R,) int64.
        details: one sentence per replica, None if it did not fail.
    """

    metrics: EvaluationMetrics
    stable_time: StableTime
    curves: dict[str, ComparedCurve]
    frames: RecordedFrames
    failed_step: Tensor
    details: list[str | None]


def evaluate(
    potential: Potential,
    system: System,
    test: Frames,
    reference: Frames,
    settings: EvaluationSettings,
    *,
    label_frames: Frames | None = None,
    store: RunStore | None = None,
    on_progress: OnProgress | None = None,
) -> Evaluation:
    """Run replicas from the first test structures and measure.

    Args:
        potential: what is evaluated.
        system: the molecule, with bonds for the bond-length criterion.
        test: structures that no training has seen; the replicas start from the
            first ones, which are used again where there are fewer than replicas.
        reference: structures that define the observable's reference.
        settings: see ``EvaluationSettings``.
        label_frames: labelled structures for energy and force errors; ``test`` by default.
        store: keeps the simulation while it runs, and gives what an earlier call with the
            same arguments left there.
        on_progress: called with a description and the share done.

    Raises:
        CheckpointError: what the store holds can't be continued.
        DataError: frames hold other atoms than the system, or labels are missing.
    """
    labelled = test if label_frames is None else label_frames
    for frames in (test, reference, labelled):
        if not torch.equal(frames.numbers, system.numbers.cpu()):
            raise DataError(
                f"frames of {frames.source} hold other atoms than the system {system.formula}; "
                "give the same atoms in the same order"
            )
    wall: dict[str, float] = {}
    begin = time.perf_counter()
    errors = energy_and_force_mae(potential, system, labelled)
    wall["label_errors"] = time.perf_counter() - begin

    device = potential.device
    system = system.to(device)
    dynamics = settings.dynamics
    detectors = dynamics.make_detectors(system, reference_structures(reference, device))
    form = potential.for_sampling(system, test.positions[:8].to(device))
    starts = torch.arange(settings.n_replicas) % len(test)
    positions, cells = test.select(starts).geometry(device)
    record_every = max(1, round(settings.record_every_fs / dynamics.dt_fs))
    # Whatever does not fit shows before the simulation, not after it.
    observables = [c.build(system, *reference.geometry(device)) for c in settings.observables]
    check_dynamical(
        settings.dynamical, system, record_every * dynamics.dt_fs, dynamics.temperature_k
    )
    check_thermodynamic(settings.thermodynamic, system, form, positions, cells)
    begin = time.perf_counter()
    n_steps = max(1, round(settings.length_ps * 1000.0 / dynamics.dt_fs))
    earlier = None if store is None else store.load(device)
    if earlier is None:
        state = initial_state(
            system,
            positions,
            form,
            cells=cells,
            temperature_k=dynamics.temperature_k,
            seed=settings.seed,
        )
        run = LongRun.begin(state)
        parts: list[RecordedFrames] = []
    else:
        run, parts, earlier_s = earlier
        begin -= earlier_s

    def report(step: int, n_running: int) -> None:
        if on_progress is not None:
            on_progress(f"evaluating, {n_running} running", step / n_steps)

    integrator = dynamics.make_integrator()
    n_frames = FIRST_FRAMES
    while not run.is_over(n_steps):
        window_begin = time.perf_counter()
        run, recorded = run.advance(
            form,
            integrator,
            detectors,
            system,
            n_steps=n_steps,
            seed=settings.seed,
            check_every=dynamics.check_every,
            record_every=record_every,
            record_momenta=any(choice.needs_velocities for choice in settings.dynamical),
            n_frames=n_frames,
            on_progress=report,
        )
        n_frames = paced(n_frames, time.perf_counter() - window_begin)
        parts.append(recorded)
        if store is not None:
            store.add(run, recorded, time.perf_counter() - begin, at_end=run.is_over(n_steps))
    sampled = RecordedFrames.concatenate(parts)
    wall["simulate"] = time.perf_counter() - begin
    failed = run.failed
    steps_alive = torch.where(failed, run.failed_step, n_steps)
    survival = stable_time(
        (steps_alive.double() * dynamics.dt_fs * 1e-3).numpy(),
        failed.numpy(),
        n_steps * dynamics.dt_fs * 1e-3,
    )
    begin = time.perf_counter()
    kept = sampled.select(sampled.step.to(torch.float64) * dynamics.dt_fs > settings.discard_fs)
    observable_errors: dict[str, ObservableError] = {}
    curves: dict[str, ComparedCurve] = {}
    for observable in observables:
        key = unused(observable.key, observable_errors)
        observable_errors[key], curves[key] = _compare(observable, kept, reference)
    dynamical, paths = evaluate_dynamical(
        settings.dynamical, system, kept, dynamics.dt_fs, dynamics.temperature_k
    )
    thermodynamic = evaluate_thermodynamic(
        settings.thermodynamic, system, form, kept, dynamics.temperature_k
    )
    wall["observables"] = time.perf_counter() - begin
    metrics = EvaluationMetrics(
        stable_time=survival,
        observables=observable_errors,
        force_mae_ev_per_angstrom=errors.force_mae_ev_per_angstrom,
        energy_mae_ev=errors.energy_mae_ev,
        wall_s=wall,
        extra={
            "failures": [d for d in run.details if d][:20],
            "n_force_evaluations": run.n_force_evaluations,
            "detectors": detectors.thresholds,
            "dynamical": dynamical,
            "thermodynamic": thermodynamic,
        },
    )
    return Evaluation(
        metrics=metrics,
        stable_time=survival,
        curves=curves | paths,
        frames=sampled,
        failed_step=run.failed_step,
        details=run.details,
    )


def _compare(
    observable: Observable, kept: RecordedFrames, reference: Frames
) -> tuple[ObservableError, ComparedCurve]:
    """The observable's error (unknown without frames), and its curves."""
    labels = observable.axis_label, observable.value_label
    axis = observable.axis.cpu()
    given = observable.reference
    if given is None:
        values = observable.values(*reference.geometry(observable.axis.device)).cpu()
        average = ensemble_average(values, torch.arange(len(reference)))
        target = Curve(axis, average.mean, average.stderr)
    else:
        values = given.mean
        target = Curve(
            axis, values, torch.zeros_like(axis) if given.stderr is None else given.stderr
        )
    if len(kept) < 2:
        unknown = torch.full_like(axis, float("nan"))
        sampled = Curve(axis, unknown, unknown)
        return ObservableError(None, None), ComparedCurve(sampled, target, *labels)
    compared = compare_with_reference(
        observable,
        observable.values(kept.positions, kept.cells).cpu(),
        kept.replica.cpu(),
        values,
        torch.arange(len(reference)) if given is None else None,
        reference_stderr=None if given is None else given.stderr,
    )
    error = ObservableError(compared.mae, compared.stderr)
    sampled = Curve(axis, compared.prediction.mean, compared.prediction.stderr)
    return error, ComparedCurve(sampled, target, *labels)
