"""The step loop: many replicas, detection inside, failed replicas frozen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from stablemd.errors import SimulationError
from stablemd.md.initial import initial_state, require_finite
from stablemd.md.integrators.base import Integrator
from stablemd.md.replica_run import ReplicaRun
from stablemd.md.result import SimulationResult
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.stability.base import Detector
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System

__all__ = ["ProgressCallback", "SimulationResult", "initial_state", "simulate"]

ProgressCallback = Callable[[int, int], None]
"""Called after every check with (steps done, replicas still running)."""


def simulate(
    form: SamplingForm,
    state: State,
    integrator: Integrator,
    detectors: DetectorSet | Sequence[Detector],
    system: System,
    *,
    n_steps: int,
    seed: int,
    check_every: int = 10,
    record_every: int = 0,
    record_momenta: bool = False,
    rewind_steps: int = 0,
    on_progress: ProgressCallback | None = None,
    stop_when_all_failed: bool = True,
) -> SimulationResult:
    """Run R replicas for ``n_steps`` steps, freezing each one that fails.

    Detectors run at the start, every ``check_every`` steps, at every recorded
    step and at the end.  A failed replica is frozen at its last state that
    passed; the numbers of the others are bit-identical to a run without it.
    With a replica-independent form failed replicas leave the batch; otherwise
    the form is called with the full batch, frozen replicas at their last valid
    positions.  The host waits for the device once per check.

    Args:
        form: evaluator of energies and forces of the replicas.
        state: where to start; replicas that are not alive stay as they are,
            and do not count as failed in this run.
        integrator: the dynamics.
        detectors: what counts as a failure, tested in order.
        system: the atoms.
        n_steps: number of time steps, at least 1.  ``state.step`` advances by
            this number even if all replicas fail, so that no random number is
            used twice.
        seed: seed of the random streams.
        check_every: steps between checks, at least 1.
        record_every: steps between recorded frames, 0 for none; the start is
            not recorded.
        record_momenta: keep the momenta of recorded frames as well.
        rewind_steps: how far to rewind failed replicas, 0 for no rewinding;
            resolved to the checks.
        on_progress: called after every check with the steps done and the
            number of replicas still running.
        stop_when_all_failed: return as soon as no replica is left; otherwise
            the remaining checks still call ``on_progress``.

    Returns:
        The result; wall times on an accelerator are launch times, except for
        ``detect``, which waits for it.

    Raises:
        SimulationError: an argument is out of range, or the start state does
            not fit the system or is not finite.
    """
    detector_set = detectors if isinstance(detectors, DetectorSet) else DetectorSet(detectors)
    check_arguments(n_steps, check_every, record_every, rewind_steps)
    check_state(state, system)
    with torch.no_grad():
        start = integrator.init(state, system, seed)
        run = ReplicaRun(
            form, start, integrator, detector_set, seed, n_steps, rewind_steps, system,
            record_momenta=record_momenta,
        )  # fmt: skip
        done = 0
        run.check(done)
        while done < n_steps and (run.n_active or not stop_when_all_failed):
            target = _next_stop(done, n_steps, check_every, record_every)
            run.advance(target - done)
            done = target
            run.check(done)
            if record_every and done % record_every == 0:
                run.record(done)
            if on_progress is not None:
                on_progress(done, run.n_active)
        return run.result(n_steps)


def _next_stop(done: int, n_steps: int, check_every: int, record_every: int) -> int:
    stops = [n_steps, (done // check_every + 1) * check_every]
    if record_every:
        stops.append((done // record_every + 1) * record_every)
    return min(stops)


def check_arguments(n_steps: int, check_every: int, record_every: int, rewind_steps: int) -> None:
    """Raise SimulationError for a number of steps that is out of range."""
    lowest = {"n_steps": 1, "check_every": 1, "record_every": 0, "rewind_steps": 0}
    given: dict[str, object] = {
        "n_steps": n_steps,
        "check_every": check_every,
        "record_every": record_every,
        "rewind_steps": rewind_steps,
    }
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest[name]:
            raise SimulationError(
                f"{name} must be an integer of {lowest[name]} or more (in steps), got {value!r}"
            )


def check_state(state: State, system: System) -> None:
    """Raise SimulationError for a state that does not fit the system or is not finite."""
    expected = (state.n_replicas, system.n_atoms, 3)
    for name in ("positions", "momenta", "forces"):
        value = getattr(state, name)
        if tuple(value.shape) != expected or value.dtype != torch.float64:
            raise SimulationError(
                f"state.{name} must be float64 of shape (replicas, {system.n_atoms}, 3) for "
                f"{system.formula}, got {value.dtype} of shape {tuple(value.shape)}; make the "
                "state with initial_state"
            )
    alive = torch.nonzero(state.alive).flatten()
    require_finite(
        {n: getattr(state, n)[alive] for n in ("positions", "momenta", "energies", "forces")},
        alive,
    )
