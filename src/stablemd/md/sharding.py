"""One simulation as several threads or processes, each with replicas of its own.

Replicas never exchange anything, so each thread and each worker process runs its
share from the first step to the last without waiting for the others: cores that
are busy with something else cost their share of the speed and no more, where
splitting each single step would make every step wait for the slowest.  Replicas
are shared out in the blocks in which the form evaluates them, so that the result
does not depend, to the bit, on the number of threads and processes.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

import torch
from torch import Tensor

from stablemd.md.blocks import BlockedForm, shares_of_blocks
from stablemd.md.integrators import Integrator
from stablemd.md.joint_progress import JointProgress
from stablemd.md.joint_result import join_results
from stablemd.md.placement import get_placement, get_threads, set_placement, set_threads
from stablemd.md.result import SimulationResult
from stablemd.md.simulate import ProgressCallback, check_state
from stablemd.md.simulate import simulate as simulate_one
from stablemd.md.state import State
from stablemd.md.worker_choice import worth_processes
from stablemd.md.worker_pool import POOL, NotTransferableError
from stablemd.md.worker_process import Job, Surroundings
from stablemd.potentials.base import SamplingForm
from stablemd.stability.base import Detector
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System

__all__ = ["atomic_energies", "energies", "get_threads", "set_placement", "set_threads", "simulate"]

logger = logging.getLogger(__name__)

MIN_REPLICAS_PER_SHARE = 2
MIN_FRAMES_PER_THREAD = 32


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
    """``stablemd.md.simulate.simulate`` with replicas placed as ``set_placement`` says.

    The result is the same, to the bit, on any number of processes and threads.  A form
    that is not replica-independent is evaluated in blocks of its ``block_size``.
    """
    options: dict[str, Any] = {
        "n_steps": n_steps,
        "seed": seed,
        "check_every": check_every,
        "record_every": record_every,
        "record_momenta": record_momenta,
        "rewind_steps": rewind_steps,
        "stop_when_all_failed": stop_when_all_failed,
    }
    size = form.block_size(state.n_replicas)
    if size is None or state.positions.device.type != "cpu":
        return simulate_one(
            form, state, integrator, detectors, system, on_progress=on_progress, **options
        )
    # Here, where replicas still have the numbers that an error can name.
    check_state(state, system)
    processes, threads = get_placement().counts(holds_gil=form.holds_gil)
    shares = _shares(form, state, size, processes)
    if len(shares) > 1:
        chosen = get_placement().processes is not None
        if chosen or worth_processes(form, state, size, n_steps, len(shares)):
            jobs = [
                Job(
                    state.select(share),
                    integrator,
                    detectors if isinstance(detectors, DetectorSet) else list(detectors),
                    system,
                    options,
                    size,
                    threads,
                    Surroundings.here(),
                )
                for share in shares
            ]
            progress = JointProgress([len(s) for s in shares], on_progress, threading.Event())
            reports = [progress.of(k) for k in range(len(shares))]
            try:
                return join_results(state, shares, POOL.run(form, jobs, reports))
            except NotTransferableError as error:
                threads = max(threads, processes)
                logger.warning(
                    "replicas are not shared among processes but among %d threads, since a part "
                    "of the simulation can't be sent to another process: %s",
                    threads,
                    error,
                )
    return run_in_threads(
        form,
        state,
        integrator,
        detectors,
        system,
        block_size=size,
        threads=threads,
        on_progress=on_progress,
        **options,
    )


def run_in_threads(
    form: SamplingForm,
    state: State,
    integrator: Integrator,
    detectors: DetectorSet | Sequence[Detector],
    system: System,
    *,
    block_size: int,
    threads: int,
    on_progress: ProgressCallback | None,
    **options: Any,
) -> SimulationResult:
    """A simulation in this process, with the replicas of each block evaluated together.

    Args:
        form: evaluator of energies and forces.
        state: where to start.
        integrator: the dynamics.
        detectors: what counts as a failure.
        system: the atoms.
        block_size: replicas of a block.
        threads: that share the blocks.
        on_progress: as for ``simulate``.
        **options: further arguments of ``stablemd.md.simulate.simulate``.
    """

    def run(
        own_form: SamplingForm, own_state: State, report: ProgressCallback | None
    ) -> SimulationResult:
        return simulate_one(
            own_form if form.replica_independent else BlockedForm(own_form, block_size),
            own_state,
            copy.deepcopy(integrator) if own_form is not form else integrator,
            detectors,
            system,
            on_progress=report,
            **options,
        )

    shares = _shares(form, state, block_size, threads)
    forms = _forms_of_threads(form, len(shares))
    if not forms:
        return run(form, state, on_progress)
    cancelled = threading.Event()
    progress = JointProgress([len(share) for share in shares], on_progress, cancelled)
    with ThreadPoolExecutor(len(shares)) as pool:
        futures = [
            pool.submit(run, own_form, state.select(share), progress.of(k))
            for k, (own_form, share) in enumerate(zip(forms, shares, strict=True))
        ]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()  # raises what ended it
            results = [future.result() for future in futures]
        except BaseException:
            cancelled.set()
            raise
    return join_results(state, shares, results)


def energies(form: SamplingForm, positions: Tensor, cells: Tensor | None = None) -> Tensor:
    """``form.energies`` of frames (n, N, 3) on up to ``get_threads()`` threads; same numbers."""
    return _of_frames(form, "energies", positions, cells)


def atomic_energies(form: SamplingForm, positions: Tensor, cells: Tensor | None = None) -> Tensor:
    """``form.atomic_energies`` of frames in the same way, (n, N)."""
    return _of_frames(form, "atomic_energies", positions, cells)


def _of_frames(form: SamplingForm, what: str, positions: Tensor, cells: Tensor | None) -> Tensor:
    n_shards = min(get_threads(), len(positions) // MIN_FRAMES_PER_THREAD)
    if n_shards < 2 or not form.replica_independent or positions.device.type != "cpu":
        result: Tensor = getattr(form, what)(positions, cells)
        return result
    boxes = [None] * n_shards if cells is None else cells.tensor_split(n_shards)
    with ThreadPoolExecutor(n_shards) as pool:
        futures = [
            pool.submit(getattr(form.for_thread(), what), x, h)
            for x, h in zip(positions.tensor_split(n_shards), boxes, strict=True)
        ]
        return torch.cat([future.result() for future in futures])


def _shares(form: SamplingForm, state: State, size: int, n_shares: int) -> list[Tensor]:
    """Replicas of each share, with enough of them in each to be worth it."""
    fewest = 1 if form.holds_gil else MIN_REPLICAS_PER_SHARE
    n_shares = min(n_shares, int(state.alive.sum()) // fewest)
    return shares_of_blocks(state.alive, size, n_shares) if n_shares > 1 else []


def _forms_of_threads(form: SamplingForm, n: int) -> list[SamplingForm]:
    """A form for each of ``n`` threads; none where this thread is to do it alone."""
    if n < 2:
        return []
    if not form.holds_gil:
        return [form.for_thread() for _ in range(n)]
    try:  # what runs in Python might keep things in the model itself
        return [copy.deepcopy(form) for _ in range(n)]
    except Exception as error:
        logger.warning("one thread, since the potential can't be copied for others: %s", error)
        return []
