"""MD of periodic water with SchNet: stablemd beside ASE's loop, and how its cost grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from torch import Tensor

from benchmarks.ase_md import AseMD
from benchmarks.figure import growth_figure
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from benchmarks.water import water_box, water_model
from stablemd.md import initial_state, make_integrator
from stablemd.md.simulate import simulate
from stablemd.potentials import Potential, SamplingForm
from stablemd.potentials.base import SKIN, EagerSampling
from stablemd.potentials.verlet_list import VerletList
from stablemd.stability import make_detectors
from stablemd.system import System

N_REPLICAS = 8
TEMPERATURE_K = 300.0
DETECTORS: dict[str, dict[str, Any]] = {
    "nonfinite": {}, "bond_length": {"threshold": 1e3}, "temperature": {"max_temperature_k": 1e9},
    "intermolecular_distance": {"min_distance": 1e-6},
}  # fmt: skip
"""With limits that nothing reaches: every replica has to run, also with random weights."""


@lru_cache(maxsize=1)
def _model() -> tuple[Potential, bool]:
    return water_model()


def _runner(
    form: SamplingForm,
    system: System,
    positions: Tensor,
    n_steps: int,
    *,
    record_every: int = 0,
) -> Callable[[], Any]:
    state = initial_state(system, positions, form, temperature_k=TEMPERATURE_K, seed=0)
    detectors = make_detectors(DETECTORS, system)

    def run() -> Any:
        return simulate(
            form,
            state,
            make_integrator("csvr", dt_fs=0.5, temperature_k=TEMPERATURE_K),
            detectors,
            system,
            n_steps=n_steps,
            seed=0,
            check_every=10,
            record_every=record_every,
        )

    return run


def build(settings: Settings) -> list[Contender]:
    """ASE's loop, and stablemd with the model by autograd and with the compiled form."""
    potential, _ = _model()
    system, positions = water_box(4, N_REPLICAS)
    form = potential.for_sampling(system)
    exact, sampled = potential.energy_and_forces(system, positions)[1], form(positions)[1]
    if not float((exact - sampled).abs().max()) < 2e-4:
        raise SystemExit("the compiled form's forces are not those of the model")
    n, many = max(1, settings.n_steps // 5), 10 * settings.n_steps
    ase = AseMD(potential, system, positions[:2])
    eager = _runner(EagerSampling(potential, system), system, positions, n)
    return [
        Contender("ASE, one replica after the other", lambda: ase.run(n), 2 * n),
        Contender("stablemd, model by autograd", eager, n * N_REPLICAS),
        Contender(
            "stablemd, sampling form", _runner(form, system, positions, many), many * N_REPLICAS
        ),
    ]


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Ratios, the parts of a step, and CPU time by replicas and by atoms."""
    whole = timings[-1]
    return {
        "n_replicas": N_REPLICAS,
        "trained_weights": _model()[1],
        "cpu_ms_per_replica_step": whole.cpu_ms,
        "speedup_vs_ase": whole.speedup_over(timings[0]),
        "speedup_vs_eager": whole.speedup_over(timings[1]),
        "parts": _parts(),
        "ms_per_step_by_replicas": {str(r): _ms_per_step(4, r) for r in (1, 2, 4, 8)},
        "ms_per_step_by_molecules": {str(s**3): _ms_per_step(s, 1) for s in (4, 6, 8, 10)},
    }


def _parts(n_steps: int = 100) -> dict[str, float]:
    """Share of the wall time of a run that each part of a step takes."""
    potential, _ = _model()
    system, positions = water_box(4, N_REPLICAS)
    form = potential.for_sampling(system)
    run = _runner(form, system, positions, n_steps)
    run()
    wall_s = run().wall_s
    # A recorded step is checked too, so what the lists see comes from a run of its own.
    result = _runner(form, system, positions, n_steps, record_every=1)()
    total = sum(wall_s.values())
    lists = VerletList(system.pbc, potential.cutoff, SKIN)
    path = result.frames.positions.reshape(n_steps, N_REPLICAS, -1, 3)
    cells = system.cell.repeat(N_REPLICAS, 1, 1).numpy()
    begin = time.perf_counter()
    for frame in path.unbind():
        lists.update(frame.numpy(), cells)
    pairs = time.perf_counter() - begin
    parts = {
        "network": wall_s["model"] - pairs,
        "neighbours": pairs,
        "integrator and noise": wall_s["integrate"] + wall_s["noise"],
        "detectors": wall_s["detect"],
    }
    return {
        **{name: seconds / total for name, seconds in parts.items()},
        "steps between rebuilds": n_steps * N_REPLICAS / lists.n_rebuilt,
    }


def _ms_per_step(n_side: int, n_replicas: int) -> float:
    """CPU time of one step of all replicas, the best of three runs."""
    potential, _ = _model()
    system, positions = water_box(n_side, n_replicas)
    n_steps = max(3, 640 // (n_side**3 * n_replicas))
    run = _runner(potential.for_sampling(system), system, positions, n_steps)
    run()
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        run()
        best = min(best, time.process_time() - begin)
    return 1e3 * best / n_steps


def describe(derived: dict[str, Any]) -> str:
    """The derived numbers as text and tables."""
    parts = dict(derived["parts"])
    by_replicas, by_molecules = (
        _sizes(derived[f"ms_per_step_by_{what}"]) for what in ("replicas", "molecules")
    )
    interval = parts.pop("steps between rebuilds")
    weights = "trained" if derived["trained_weights"] else "random"

    around = sum(share for name, share in parts.items() if name != "network")
    largest = max(by_molecules)

    def table(head: str, unit: str, values: dict[str, float], scale: float) -> list[str]:
        rows = [f"| {k} | {v * scale:.1f} |" for k, v in values.items()]
        return ["", f"| {head} | {unit} |", "|---|---|", *rows]

    return "\n".join(
        [
            f"The whole step needs {derived['speedup_vs_ase']:.1f} times less CPU time than ASE's "
            f"and {derived['speedup_vs_eager']:.1f} times less than with the model by autograd "
            f"(weights: {weights}). A list of pairs serves {interval:.0f} steps on average. Pairs, "
            f"integrator and detectors together take {100 * around:.1f} % of a step.",
            "",
            f"The time grows with the number of replicas to the power "
            f"{_exponent(by_replicas):.2f} and with that of molecules to the power "
            f"{_exponent(by_molecules):.2f} (1 is linear; {largest} molecules cost "
            f"{by_molecules[largest] / by_molecules[min(by_molecules)]:.1f} times what "
            f"{min(by_molecules)} do, {largest / min(by_molecules):.1f} times as many).",
            *table("part of a step", "share, %", parts, 100.0),
            *table(
                "replicas of 64 molecules", "ms per step", derived["ms_per_step_by_replicas"], 1
            ),
            *table("molecules, one replica", "ms per step", derived["ms_per_step_by_molecules"], 1),
        ]
    )


def _sizes(times: dict[str, float]) -> dict[int, float]:
    return {int(n): ms for n, ms in times.items()}


def _exponent(times: dict[int, float]) -> float:
    """Slope between the smallest and the largest size, both logarithmic."""
    first, last = min(times), max(times)
    return math.log(times[last] / times[first]) / math.log(last / first)


def draw(derived: dict[str, Any]) -> bytes:
    """CPU time per step by replicas and by molecules, as PNG."""
    return growth_figure(
        {
            "replicas of 64 molecules": _sizes(derived["ms_per_step_by_replicas"]),
            "molecules, one replica": _sizes(derived["ms_per_step_by_molecules"]),
        }
    )


SECTION = Section(
    key="water_md",
    title="MD of water with SchNet",
    about=(
        "One MD step of 64 flexible water molecules in a periodic box (64 features, 64 filters, 6 "
        "interactions, 25 Gaussians, cutoff 6 Å), in float32, on one core; forces are compared "
        "before anything is timed. ASE: its Langevin integrator with stablemd's model by autograd "
        "and stablemd's pair search in every step. stablemd: CSVR in its own step loop, 8 "
        "replicas, detection of failures every 10 steps (not finite, bond length, temperature, "
        "and the distance between molecules)."
    ),
    unit="replica-step",
    replicas=N_REPLICAS,
    build=build,
    derive=derive,
    describe=describe,
    draw=draw,
)
