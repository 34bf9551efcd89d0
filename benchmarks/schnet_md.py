"""SchNet MD on aspirin: stablemd beside other packages, with the same weights."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numba
import numpy as np

from benchmarks import contenders as names
from benchmarks.contenders import Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from stablemd.md.random_streams import NormalBlocks
from stablemd.potentials.convolution_kernels import find_pairs

FAST_STEPS = 10
"""The fast contenders make this many times more steps per call, for a time long enough."""


def build(settings: Settings) -> list[Contender]:
    """Other packages, and stablemd's two forms in its own step loop."""
    aspirin = Aspirin.build(settings.n_replicas)
    aspirin.require_same_forces()
    steps, many = settings.n_steps, settings.n_steps * FAST_STEPS
    torch_sim = aspirin.torch_sim(steps)
    return [
        aspirin.torch_geometric(steps),
        aspirin.ase(steps),
        *([torch_sim] if torch_sim else []),
        aspirin.eager(steps),
        aspirin.compiled_sums(steps),
        aspirin.tabulated(steps),
        aspirin.bare(many),
        aspirin.whole(many),
    ]


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Ratios of the whole step to the others within a turn, and the parts of a step."""
    by_name = {t.name: t for t in timings}
    whole = by_name[names.WHOLE]

    def ratio(name: str) -> float | None:
        return whole.speedup_over(by_name[name]) if name in by_name else None

    bare = whole.speedup_over(by_name[names.BARE])
    return {
        "n_replicas": settings.n_replicas,
        "cpu_ms_per_replica_step": whole.cpu_ms,
        "speedup_vs_eager": ratio(names.EAGER),
        "speedup_vs_compiled_sums": ratio(names.COMPILED),
        "speedup_vs_tabulated": ratio(names.TABULATED),
        "speedup_vs_torch_geometric": ratio(names.TORCH_GEOMETRIC),
        "speedup_vs_ase": ratio(names.ASE),
        "speedup_vs_torch_sim": ratio(names.TORCH_SIM),
        "overhead_fraction": 1.0 / bare - 1.0,
        "parts_us_per_replica_step": _parts(settings),
    }


def describe(derived: dict[str, Any]) -> str:
    """The derived numbers as a paragraph and a table."""
    ratios = {
        "the model in eager PyTorch": derived["speedup_vs_eager"],
        "the model by autograd without tables": derived.get("speedup_vs_compiled_sums"),
        "the model by autograd": derived.get("speedup_vs_tabulated"),
        "torch_geometric": derived["speedup_vs_torch_geometric"],
        "ASE": derived["speedup_vs_ase"],
        "torch-sim": derived["speedup_vs_torch_sim"],
    }
    measured = ", ".join(f"{v:.1f} × {k}" for k, v in ratios.items() if v is not None)
    parts = derived["parts_us_per_replica_step"]
    total = sum(parts.values())
    rows = [f"| {k} | {v:.2f} | {100 * v / total:.1f} % |" for k, v in parts.items()]
    return "\n".join(
        [
            f"The whole step is faster than {measured}. Everything but the model adds "
            f"{100 * derived['overhead_fraction']:.1f} % to the sampling form alone (medians of "
            "the ratios within a turn; the difference of two timings, so it may be below zero by "
            "their noise). Parts of a step, each timed by itself:",
            "",
            "| part | CPU time, µs per replica-step | share |",
            "|---|---|---|",
            *rows,
        ]
    )


def _parts(settings: Settings) -> dict[str, float]:
    """CPU time of each part of a whole step by itself, µs per replica-step."""
    aspirin = Aspirin.build(settings.n_replicas)
    n_steps = settings.n_steps * FAST_STEPS
    per = 1e6 / (settings.n_replicas * n_steps)
    run = aspirin.simulate(aspirin.form, n_steps)
    run()
    begin = time.process_time()
    result = run()
    whole = (time.process_time() - begin) * per
    total = sum(result.wall_s.values())
    inside = {part: whole * wall / total for part, wall in result.wall_s.items()}
    begin = time.process_time()
    for _ in range(n_steps):
        aspirin.form(aspirin.positions)
    model = (time.process_time() - begin) * per
    pairs = _search_for_pairs(aspirin, n_steps) * per
    noise = NormalBlocks(0, result.state.replica_ids, aspirin.positions.shape[1:], 0, n_steps)
    begin = time.process_time()
    for step in range(n_steps):
        noise.at(step)
    drawn = (time.process_time() - begin) * per
    return {
        "network": model - pairs,
        "neighbours": pairs,
        "integrator": max(0.0, inside["model"] + inside["integrate"] - model),
        "noise": drawn,
        "detectors": inside["detect"],
        "recording": inside["record"],
    }


def _search_for_pairs(aspirin: Aspirin, n_steps: int) -> float:
    """CPU seconds of the searches for pairs in ``n_steps`` steps."""
    n = aspirin.system.n_atoms
    n_pairs = n * (n - 1) // 2
    pairs = np.zeros((n_pairs, 2), dtype=np.int32)
    knots = np.zeros(n_pairs, dtype=np.int32)
    geometry = np.zeros((n_pairs, 4), dtype=np.float32)
    cutoff = aspirin.potential.cutoff

    @numba.njit
    def search(positions: Any, pairs: Any, knots: Any, geometry: Any, n_steps: int) -> None:
        for _ in range(n_steps):
            for r in range(positions.shape[0]):
                find_pairs(positions[r], 0, cutoff, 100.0, pairs, knots, geometry)

    search(aspirin.positions.numpy(), pairs, knots, geometry, 1)
    begin = time.process_time()
    search(aspirin.positions.numpy(), pairs, knots, geometry, n_steps)
    return time.process_time() - begin


SECTION = Section(
    key="schnet_md",
    title="MD of aspirin with SchNet",
    about=(
        "One MD step of every replica, in float32, on one core. The model has the paper's size "
        "(64 features, 64 filters, 6 interactions, 25 Gaussians, cutoff 5 Å) and the same random "
        "weights in every row; forces are compared before anything is timed. torch_geometric: "
        "velocity Verlet, radius graph in plain PyTorch at every step, forces by autograd. ASE and "
        "torch-sim: their own Langevin integrators, with stablemd's model by autograd. "
        "Three rows differentiate stablemd's model by autograd: in eager PyTorch, operation by "
        "operation; with the compiled sums over pairs that the model has ('without tables'); and "
        "with the filters of large batches read from tables besides, which are made in every call, "
        "as the learning pass does. "
        "stablemd: BAOAB Langevin in its own step loop with detection of failed replicas (not "
        "finite, bond length, temperature) every 10 steps and a frame kept every 100; the sampling "
        "form alone: its energies and forces, and nothing around them."
    ),
    unit="replica-step",
    build=build,
    derive=derive,
    describe=describe,
)
