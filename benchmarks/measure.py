"""Timing several ways of doing the same work side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stablemd.md.worker_pool import POOL


@dataclass(frozen=True)
class Contender:
    """One way of doing the work.

    Attributes:
        name: row title.
        run: does a fixed amount of work.
        units: how many units of work (say, replica-steps) one call does.
    """

    name: str
    run: Callable[[], object]
    units: float


@dataclass(frozen=True)
class Timing:
    """Time per unit of work of one contender over all repeats, in ms.

    Attributes:
        name: of the contender.
        cpu_ms: median CPU time of this process and its workers (all their threads).
        cpu_ms_min: least CPU time.
        cpu_ms_max: largest CPU time.
        wall_ms: median wall time; above the CPU time where the machine was shared.
        ratio: median over the repeats of the baseline's CPU time over this one's:
            how many times less CPU time is needed.
        rounds: CPU time of each round.
    """

    name: str
    cpu_ms: float
    cpu_ms_min: float
    cpu_ms_max: float
    wall_ms: float
    ratio: float
    rounds: tuple[float, ...]

    def speedup_over(self, other: Timing) -> float:
        """How many times less CPU time this needs than ``other``: median over the rounds."""
        pairs = zip(other.rounds, self.rounds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)


def compare(contenders: Sequence[Contender], repeats: int, *, warm_up: bool = True) -> list[Timing]:
    """Time contenders in turn, ``repeats`` rounds, after one untimed call of each (``warm_up``).

    Taking turns lets a change in the machine's speed hit all of them alike; the
    ratio is formed within a round.  The first contender is the baseline.
    """
    for contender in contenders if warm_up else ():
        contender.run()
    rounds = [[_once(c) for c in contenders] for _ in range(repeats)]
    timings = []
    for i, contender in enumerate(contenders):
        cpu = [r[i][0] for r in rounds]
        timings.append(
            Timing(
                name=contender.name,
                cpu_ms=statistics.median(cpu),
                cpu_ms_min=min(cpu),
                cpu_ms_max=max(cpu),
                wall_ms=statistics.median(r[i][1] for r in rounds),
                ratio=statistics.median(r[0][0] / r[i][0] for r in rounds),
                rounds=tuple(cpu),
            )
        )
    return timings


def processor_s() -> float:
    """Processor time of this process and its workers so far, in s."""
    return time.process_time() + POOL.cpu_s


def _once(contender: Contender) -> tuple[float, float]:
    """CPU and wall time per unit in ms."""
    cpu, wall = processor_s(), time.perf_counter()
    contender.run()
    cpu, wall = processor_s() - cpu, time.perf_counter() - wall
    return 1e3 * cpu / contender.units, 1e3 * wall / contender.units
