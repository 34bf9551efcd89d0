"""Whether a simulation is long enough for worker processes to be started for it."""

from __future__ import annotations

import logging
import time

from stablemd.md.state import State
from stablemd.md.worker_pool import POOL
from stablemd.potentials.base import SamplingForm

logger = logging.getLogger(__name__)

START_S = 5.0
"""About what starting workers takes: importing PyTorch, once a process."""

SEND_S = 0.05
"""About what sending a job and its result takes."""

_spent_s = 0.0


def worth_processes(
    form: SamplingForm, state: State, block_size: int, n_steps: int, n_processes: int
) -> bool:
    """Whether processes finish sooner than this one alone.

    One evaluation of a block tells how long the simulation takes.  Simulations that were
    too short one by one count together, so that workers are started once it is seen that
    there are many.  Forms that are not held by Python's lock never need processes.

    Args:
        form: evaluator of energies and forces.
        state: where the simulation starts.
        block_size: replicas evaluated together.
        n_steps: steps of the simulation.
        n_processes: workers that would share it.
    """
    global _spent_s
    if not form.holds_gil:
        return False
    block = slice(0, block_size)
    cells = None if state.cells is None else state.cells[block]
    own = form.for_thread()
    seconds, are_running = float("inf"), POOL.n_running >= n_processes
    for _ in range(1 if are_running else 2):  # the first call may set things up
        begin = time.perf_counter()
        own(state.positions[block], cells)
        seconds = min(seconds, time.perf_counter() - begin)
        if seconds * n_steps < SEND_S:
            break
    total = seconds * n_steps * -(-state.n_replicas // block_size)
    gain = total * (1.0 - 1.0 / n_processes)
    if are_running:
        return gain > SEND_S
    _spent_s += gain
    if _spent_s <= START_S:
        logger.debug("one process: %.1f s of dynamics are not worth starting others", total)
        return False
    logger.info("starting %d processes that share the replicas", n_processes)
    return True
