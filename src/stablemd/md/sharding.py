"""One simulation as several threads, each with replicas of its own.

Replicas never exchange anything, so a thread runs its share from the first
step to the last without waiting for the others: cores that are busy with
something else cost their share of the speed and no more, where splitting each
single step would make every step wait for the slowest.  It applies to forms
whose replicas are independent bit for bit, and then the result does not depend
on the number of threads.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.md.integrators import Integrator
from stablemd.md.recording import RecordedFrames
from stablemd.md.result import SimulationResult
from stablemd.md.simulate import ProgressCallback, check_state
from stablemd.md.simulate import simulate as simulate_one
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.stability.base import Detector
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System

MIN_REPLICAS_PER_THREAD = 2
MIN_FRAMES_PER_THREAD = 32

_threads = 1


def set_threads(threads: int) -> None:
    """Set how many threads ``simulate`` may use on the CPU (1 at the start of a process).

    Raises:
        ConfigError: the number is not from 1 to the number of cores.
    """
    global _threads
    limit = os.cpu_count() or 1
    if not 1 <= threads <= limit:
        raise ConfigError(
            f"threads is {threads!r}; expected 1 to {limit}, the cores of this machine"
        )
    _threads = threads


def get_threads() -> int:
    """The number that ``set_threads`` set."""
    return _threads


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
    """``stablemd.md.simulate.simulate`` on up to ``get_threads()`` threads; same numbers."""

    def run(
        own_form: SamplingForm, own_state: State, report: ProgressCallback | None
    ) -> SimulationResult:
        return simulate_one(
            own_form,
            own_state,
            copy.deepcopy(integrator) if own_form is not form else integrator,
            detectors,
            system,
            n_steps=n_steps,
            seed=seed,
            check_every=check_every,
            record_every=record_every,
            record_momenta=record_momenta,
            rewind_steps=rewind_steps,
            on_progress=report,
            stop_when_all_failed=stop_when_all_failed,
        )

    alive = torch.nonzero(state.alive).flatten()
    n_shards = min(_threads, len(alive) // MIN_REPLICAS_PER_THREAD)
    if n_shards < 2 or not form.replica_independent or state.positions.device.type != "cpu":
        return run(form, state, on_progress)
    # Here, where replicas still have the numbers that an error can name.
    check_state(state, system)
    # Dealt out in turn, so that replicas of one kind do not end up in one thread.
    shares = [alive[k::n_shards] for k in range(n_shards)]
    cancelled = threading.Event()
    progress = _JointProgress([len(share) for share in shares], on_progress, cancelled)
    with ThreadPoolExecutor(n_shards) as pool:
        futures = [
            pool.submit(run, form.for_thread(), state.select(share), progress.of(k))
            for k, share in enumerate(shares)
        ]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises what ended it
            results = [future.result() for future in futures]
        except BaseException:
            cancelled.set()
            raise
    return _join(state, shares, results)


def energies(form: SamplingForm, positions: Tensor, cells: Tensor | None = None) -> Tensor:
    """``form.energies`` of frames (n, N, 3) on up to ``get_threads()`` threads; same numbers."""
    n_shards = min(_threads, len(positions) // MIN_FRAMES_PER_THREAD)
    if n_shards < 2 or not form.replica_independent or positions.device.type != "cpu":
        return form.energies(positions, cells)
    boxes = [None] * n_shards if cells is None else cells.tensor_split(n_shards)
    with ThreadPoolExecutor(n_shards) as pool:
        futures = [
            pool.submit(form.for_thread().energies, x, h)
            for x, h in zip(positions.tensor_split(n_shards), boxes, strict=True)
        ]
        return torch.cat([future.result() for future in futures])


class _CancelledError(Exception):
    """Another thread failed, or the user interrupted."""


class _JointProgress:
    """Progress of all threads: the slowest one's steps, and everyone's running replicas.

    A thread whose replicas have all failed ends early and holds nothing up.

    Args:
        sizes: replicas of each thread.
        report: called with steps and running replicas, one call at a time.
        cancelled: once set, the next report of every thread ends it.
    """

    def __init__(
        self, sizes: list[int], report: ProgressCallback | None, cancelled: threading.Event
    ) -> None:
        self._steps = [0] * len(sizes)
        self._running = list(sizes)
        self._report = report
        self._cancelled = cancelled
        self._lock = threading.Lock()

    def of(self, shard: int) -> Callable[[int, int], None]:
        def call(step: int, n_running: int) -> None:
            if self._cancelled.is_set():
                raise _CancelledError
            with self._lock:
                self._steps[shard], self._running[shard] = step, n_running
                if self._report is not None:
                    pairs = zip(self._steps, self._running, strict=True)
                    slowest = min((s for s, n in pairs if n), default=step)
                    self._report(slowest, sum(self._running))

        return call


def _join(state: State, shares: list[Tensor], results: list[SimulationResult]) -> SimulationResult:
    """One result with the replicas in their places."""
    final = _with_thermostat(state, results[0].state)
    rewound = None if results[0].rewind_state is None else final
    failed_step = torch.full((state.n_replicas,), -1, dtype=torch.int64)
    reasons: list[str | None] = [None] * state.n_replicas
    details: list[str | None] = [None] * state.n_replicas
    frames = []
    for share, result in zip(shares, results, strict=True):
        final = final.scatter(share, result.state)
        if rewound is not None and result.rewind_state is not None:
            rewound = rewound.scatter(share, result.rewind_state)
        failed_step[share] = result.failed_step
        for index, reason, detail in zip(
            share.tolist(), result.reasons, result.details, strict=True
        ):
            reasons[index], details[index] = reason, detail
        frames.append(replace(result.frames, replica=share[result.frames.replica]))
    if rewound is not None:
        rewound = replace(rewound, alive=torch.ones_like(rewound.alive))
    joined = RecordedFrames.concatenate(frames)
    order = torch.argsort(joined.step * state.n_replicas + joined.replica)
    return SimulationResult(
        state=final,
        rewind_state=rewound,
        failed_step=failed_step,
        reasons=reasons,
        details=details,
        frames=joined.select(order),
        n_force_evaluations=sum(r.n_force_evaluations for r in results),
        wall_s={k: sum(r.wall_s[k] for r in results) for k in results[0].wall_s},
    )


def _with_thermostat(state: State, like: State) -> State:
    """``state`` with room for the thermostat variables that ``like`` has."""
    n = state.n_replicas
    missing = {
        name: value.new_zeros((n, *value.shape[1:]))
        for name, value in like.thermostat.items()
        if name not in state.thermostat
    }
    return replace(state, thermostat={**state.thermostat, **missing}) if missing else state
