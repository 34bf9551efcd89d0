"""The same MD on one core and on all: threads, worker processes, and what is chosen."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from benchmarks.contenders import DT_FS, Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.schnet_md import FAST_STEPS
from benchmarks.section import Section, Settings
from stablemd.md import State, initial_state, sharding
from stablemd.md.integrators import BAOAB
from stablemd.md.worker_pool import POOL
from stablemd.potentials import GemNetT, SamplingForm
from stablemd.potentials.base import EagerSampling
from stablemd.potentials.gemnet_sampling import GemNetSampling
from stablemd.stability import make_detectors
from stablemd.versions import available_cores

COMPILED = "SchNet, compiled form"
AUTOGRAD = "SchNet by autograd"
GEMNET = "GemNet-T (small) by autograd"

FEWER = 4
"""Models by autograd run so many times fewer replicas."""

MIN_REPLICAS = 32
"""With fewer no model by autograd is shared, and no worker started."""

Placement = tuple[int | None, int | None]


def build(settings: Settings) -> list[Contender]:
    """Whole steps of each model on one core, in threads, in processes, and as it comes."""
    cores = available_cores()
    aspirin = Aspirin.build(settings.n_replicas)
    few = Aspirin.build(max(2, settings.n_replicas // FEWER))
    torch.manual_seed(0)
    gemnet = GemNetSampling(GemNetT(preset="small"), few.system)
    n_fast, n_slow = settings.n_steps * FAST_STEPS, 2 * settings.n_steps
    placements: dict[str, Placement] = {
        "1 thread": (1, 1),
        f"{cores} threads": (1, cores),
        f"{cores} processes": (cores, 1),
        "as it comes": (None, None),
    }
    eager = EagerSampling(few.potential, few.system)
    models = {
        COMPILED: (aspirin, aspirin.form, n_fast),
        AUTOGRAD: (few, eager, n_slow),
        GEMNET: (few, gemnet, n_slow),
    }
    return [
        Contender(f"{model}, {name}", _dynamics(case, form, placement, n), units)
        for model, (case, form, n) in models.items()
        for units in [len(case.positions) * n]
        for name, placement in placements.items()
    ]


def _dynamics(
    aspirin: Aspirin, form: SamplingForm, placement: Placement, n_steps: int
) -> Callable[[], State]:
    state = initial_state(aspirin.system, aspirin.positions, form, temperature_k=500.0, seed=0)
    # Weights are random: what is hot goes on, so that every call does the same work.
    detectors = make_detectors(
        {"nonfinite": {}, "temperature": {"max_temperature_k": 1e9}}, aspirin.system
    )

    def run() -> State:
        sharding.set_placement(*placement)
        try:
            return sharding.simulate(
                form,
                state,
                BAOAB(dt_fs=DT_FS, temperature_k=500.0),
                detectors,
                aspirin.system,
                n_steps=n_steps,
                seed=0,
            ).state
        finally:
            sharding.set_placement(1, 1)

    return run


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Wall time gained and CPU time lost by model and placement; what starting workers takes."""
    gains: dict[str, dict[str, dict[str, float]]] = {}
    alone: dict[str, Timing] = {}
    for timing in timings:
        model, placement = timing.name.rsplit(", ", 1)
        one = alone.setdefault(model, timing)
        if timing is not one:
            gains.setdefault(model, {})[placement] = {
                "wall_speedup": one.wall_ms / timing.wall_ms,
                "cpu_time_ratio": timing.cpu_ms / one.cpu_ms,
            }
    first = timings[0]
    return {
        "cores": available_cores(),
        "gains": gains,
        "start_s": _start_s() if settings.n_replicas >= MIN_REPLICAS else None,
        "one_thread_share_of_a_core": first.cpu_ms / first.wall_ms,
        "load_average": os.getloadavg()[0],
    }


def _start_s() -> float:
    """Wall time of a short simulation in workers that have to be started, in s."""
    POOL.end()
    few = Aspirin.build(MIN_REPLICAS)
    begin = time.perf_counter()
    _dynamics(few, EagerSampling(few.potential, few.system), (available_cores(), 1), 1)()
    return time.perf_counter() - begin


def describe(derived: dict[str, Any]) -> str:
    """The gains as a table, and whether the measurement says something about them."""
    lines = [
        f"| on {derived['cores']} cores | × as fast by wall time | × the CPU time |",
        "|---|---|---|",
    ]
    for model, placements in derived["gains"].items():
        for name, gain in placements.items():
            lines.append(
                f"| {model}, {name} | {gain['wall_speedup']:.2f} | {gain['cpu_time_ratio']:.2f} |"
            )
    text = ""
    if derived["start_s"] is not None:
        text = (
            f"Starting the worker processes takes {derived['start_s']:.1f} s, once a program; the "
            "rows above do not contain it."
        )
    share = derived["one_thread_share_of_a_core"]
    if share < 0.95:
        text += (
            f" One thread had {100 * share:.0f} % of a core (load average "
            f"{derived['load_average']:.1f}): other work was running, so these wall times are not "
            "the gain on a machine that is free."
        )
    return "\n".join(lines) + "\n\n" + text


SECTION = Section(
    key="cores",
    title="All cores",
    about=(
        "Whole steps with the replicas shared among threads of one process, among worker "
        'processes, and as stablemd chooses where nothing is set ("as it comes"); trajectories '
        "are the same to the bit. The models by autograd run a quarter of the replicas. A model's "
        "first row is one core; the last column of the first table compares all rows with the "
        "first of all."
    ),
    unit="replica-step",
    build=build,
    derive=derive,
    describe=describe,
)
