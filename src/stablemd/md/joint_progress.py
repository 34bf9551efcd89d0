"""Progress of shares of the replicas as that of one simulation."""

from __future__ import annotations

import threading
from collections.abc import Callable

ProgressCallback = Callable[[int, int], None]


class CancelledError(Exception):
    """Another thread failed, or the user interrupted."""


class JointProgress:
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
                raise CancelledError
            with self._lock:
                self._steps[shard], self._running[shard] = step, n_running
                if self._report is not None:
                    pairs = zip(self._steps, self._running, strict=True)
                    slowest = min((s for s, n in pairs if n), default=step)
                    self._report(slowest, sum(self._running))

        return call
