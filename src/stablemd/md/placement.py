"""How many processes and threads share the replicas of a simulation on the CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

from stablemd.errors import ConfigError
from stablemd.versions import available_cores


@dataclass(frozen=True)
class Placement:
    """Processes × threads; ``None`` leaves the choice to each simulation.

    Attributes:
        processes: worker processes; None: as many as there are cores for a form that is
            held by Python's lock, and this process alone for others.
        threads: of each process; None: those cores that processes leave.
    """

    processes: int | None = 1
    threads: int | None = 1

    def counts(self, *, holds_gil: bool) -> tuple[int, int]:
        """Processes and threads of each for a form."""
        cores = available_cores()
        processes, threads = self.processes, self.threads
        if processes is None:
            processes = cores if holds_gil and threads is None else 1
        if threads is None:
            threads = max(1, cores // processes) if self.processes is None else 1
        return processes, threads


_placement = Placement()


def set_placement(processes: int | None = None, threads: int | None = None) -> None:
    """Set how ``simulate`` may use the cores; one process and one thread at the start.

    The numbers of a simulation do not depend on it.

    Args:
        processes: worker processes, 1 to the number of cores; None: 1 where ``threads`` is
            given, otherwise what suits each potential.
        threads: of each process, 1 to the number of cores; None: 1 where ``processes`` is
            given, otherwise what suits each potential.

    Raises:
        ConfigError: a number is out of range, or there are fewer cores than
            processes × threads.
    """
    global _placement
    limit = os.cpu_count() or 1
    for name, value in (("processes", processes), ("threads", threads)):
        if value is not None and not 1 <= value <= limit:
            raise ConfigError(
                f"{name} is {value!r}; expected 1 to {limit}, the cores of this machine"
            )
    if (processes or 1) * (threads or 1) > limit:
        raise ConfigError(
            f"processes × threads is {processes} × {threads}, and this machine has {limit} cores; "
            "make one of them smaller"
        )
    _placement = Placement(processes, threads)


def get_placement() -> Placement:
    """What ``set_placement`` set."""
    return _placement


def set_threads(threads: int) -> None:
    """One process with this number of threads; ``set_placement(threads=threads)``.

    Raises:
        ConfigError: the number is not from 1 to the number of cores.
    """
    set_placement(threads=threads)


def get_threads() -> int:
    """Threads of a process for a form that does not hold Python's lock."""
    return _placement.counts(holds_gil=False)[1]
