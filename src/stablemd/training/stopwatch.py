"""Wall time and processor time of the parts of a training."""

from __future__ import annotations

import time
from types import TracebackType

from stablemd.md.worker_pool import POOL


class Stopwatch:
    """Adds up the time of ``with`` blocks: on the wall, and of all threads and worker processes.

    Attributes:
        wall_s: wall time in s.
        cpu_s: processor time in s; it grows by two seconds a second where two threads
            or processes compute, and is the smaller one where the processor is shared with others.
    """

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0
        self._begin = (0.0, 0.0)

    def reset(self) -> None:
        """Begin at zero again."""
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> Stopwatch:
        self._begin = (time.perf_counter(), _processor_s())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wall_s += time.perf_counter() - self._begin[0]
        self.cpu_s += _processor_s() - self._begin[1]


def _processor_s() -> float:
    return time.process_time() + POOL.cpu_s


def times_by_part(**watches: Stopwatch) -> dict[str, dict[str, float]]:
    """``wall_s`` and ``cpu_s`` of each part, for a log record."""
    return {
        "wall_s": {part: watch.wall_s for part, watch in watches.items()},
        "cpu_s": {part: watch.cpu_s for part, watch in watches.items()},
    }
