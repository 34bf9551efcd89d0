"""Laws of time."""

from __future__ import annotations

import threading
import time

from stablemd.training.stopwatch import Stopwatch, times_by_part


def busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_blocks_add_up_and_sleep_costs_no_processor_time() -> None:
    watch = Stopwatch()
    for _ in range(2):
        with watch:
            time.sleep(0.05)
    assert watch.wall_s >= 0.1
    assert watch.cpu_s < 0.5 * watch.wall_s
    before = watch.wall_s
    busy(0.01)
    assert watch.wall_s == before


def test_processor_time_counts_all_threads() -> None:
    watch = Stopwatch()
    with watch:
        threads = [threading.Thread(target=busy, args=(0.1,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert watch.cpu_s >= 0.2
    assert times_by_part(a=watch) == {"wall_s": {"a": watch.wall_s}, "cpu_s": {"a": watch.cpu_s}}
