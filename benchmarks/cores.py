"""The same MD on one thread and on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.contenders import DT_FS, Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.schnet_md import FAST_STEPS
from benchmarks.section import Section, Settings
from stablemd.md import initial_state, sharding
from stablemd.md.integrators import BAOAB
from stablemd.stability import make_detectors


def build(settings: Settings) -> list[Contender]:
    """Whole steps on one thread, and on as many as there are cores."""
    n_steps = settings.n_steps * FAST_STEPS
    aspirin = Aspirin.build(settings.n_replicas)
    state = initial_state(
        aspirin.system, aspirin.positions, aspirin.form, temperature_k=500.0, seed=0
    )
    detectors = make_detectors({"nonfinite": {}, "temperature": {}}, aspirin.system)

    def on(threads: int) -> Callable[[], None]:
        def run() -> None:
            before = sharding.get_threads()
            sharding.set_threads(threads)
            try:
                sharding.simulate(
                    aspirin.form,
                    state,
                    BAOAB(dt_fs=DT_FS, temperature_k=500.0),
                    detectors,
                    aspirin.system,
                    n_steps=n_steps,
                    seed=0,
                )
            finally:
                sharding.set_threads(before)

        return run

    units = settings.n_replicas * n_steps
    counts = sorted({1, os.cpu_count() or 1})
    return [Contender(f"{n} thread(s)", on(n), units) for n in counts]


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Wall time gained, CPU time lost, and how busy the machine was with other work."""
    one, all_cores = timings[0], timings[-1]
    return {
        "cores": os.cpu_count(),
        "wall_speedup": one.wall_ms / all_cores.wall_ms,
        "cpu_time_ratio": all_cores.cpu_ms / one.cpu_ms,
        "one_thread_share_of_a_core": one.cpu_ms / one.wall_ms,
        "load_average": os.getloadavg()[0],
    }


def describe(derived: dict[str, Any]) -> str:
    """The gain, and whether the measurement says something about it."""
    share = derived["one_thread_share_of_a_core"]
    text = (
        f"All {derived['cores']} cores: {derived['wall_speedup']:.2f} × as fast by wall time, with "
        f"{derived['cpu_time_ratio']:.2f} × the CPU time per replica-step."
    )
    if share < 0.95:
        text += (
            f" One thread had {100 * share:.0f} % of a core (load average "
            f"{derived['load_average']:.1f}): other work was running, so this wall time is not "
            "the gain on a machine that is free."
        )
    return text


SECTION = Section(
    key="cores",
    title="All cores",
    about=(
        "Whole steps of the sampling form, replicas shared among threads. The last column compares "
        "CPU time: 1.0 says that threads cost nothing."
    ),
    unit="replica-step",
    build=build,
    derive=derive,
    describe=describe,
)
