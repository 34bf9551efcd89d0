"""SchNet MD on a GPU from few replicas to many, with CUDA graphs and without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.aspirin import aspirin_replicas
from benchmarks.contenders import Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from benchmarks.torch_geometric_schnet import CUTOFF
from stablemd.potentials.base import EagerSampling, SamplingForm
from stablemd.potentials.device_graph import set_cuda_graphs

REPLICAS = (32, 128, 1024, 8192)

STREAM_BYTES = 1 << 30

COPY = "copying within the device's memory, 10⁹ bytes"
GRAPHS = "whole step, CUDA graphs"
KERNELS = "whole step, kernel by kernel"
BARE = "energies and forces alone, CUDA graphs"
EAGER = "whole step, model by autograd"

_WORK = 1 << 16
"""Replica-steps per call of the fast contenders."""


def why_not() -> str | None:
    """Why there is nothing to measure here."""
    if not torch.cuda.is_available():
        return "no NVIDIA GPU is at hand"
    return None


def count_bytes(
    n_atoms: int,
    n_pairs: float,
    n_features: int = 64,
    n_filters: int = 64,
    n_interactions: int = 6,
    n_hidden: int = 32,
) -> float:
    """Bytes of one replica's energies and forces between the kernels and the device's memory.

    Every kernel reads and writes each of its arrays once; weights, tables and
    what a neighbour's atom shares with others come from a cache.

    Args:
        n_atoms: atoms.
        n_pairs: mean number of pairs within the cutoff.
        n_features: width of the features.
        n_filters: width of the filters.
        n_interactions: number of interactions.
        n_hidden: width of the readout.
    """
    F, W, H, K = n_features, n_filters, n_hidden, n_interactions
    forward = K * (2 * W + (W + F) + 3 * F + 3 * F) + (K - 1) * (F + W)
    readout = F + (F + H) + 3 * H + H + 2 * H + (H + F)
    backward = K * (2 * F + 3 * F + (F + W) + 2 * W) + (K - 1) * (W + W + 2 * F)
    entries = 3 + 3 * K + 3 * K + (2 * K - 1) + 2  # numbers per neighbour of an atom
    return 4.0 * n_atoms * (forward + readout + backward) + 4.0 * 2.0 * n_pairs * entries


def build(settings: Settings) -> list[Contender]:
    """The rate of the memory, and per number of replicas the step in its forms."""
    reason = why_not()
    if reason:
        raise RuntimeError(f"the section 'cuda' can't be measured: {reason}")
    source = torch.empty(STREAM_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    copying = Contender(COPY, _finished(lambda: target.copy_(source)), 2 * STREAM_BYTES / 1e9)
    found = [copying]
    few = Aspirin.build(8)
    aspirin = replace(few, potential=few.potential.cuda(), system=few.system.to("cuda"))
    for n in REPLICAS:
        here = replace(aspirin, positions=aspirin_replicas(n)[1].cuda())
        found += _contenders(here, n, max(settings.n_steps, _WORK // n))
    return found


def _contenders(aspirin: Aspirin, n_replicas: int, n_steps: int) -> list[Contender]:
    potential, system = aspirin.potential, aspirin.system

    def form() -> SamplingForm:
        made = potential.for_sampling(system, aspirin.positions[:8])
        if isinstance(made, EagerSampling):
            raise RuntimeError("SchNet has no compiled form here; the log says why")
        return made

    def whole(name: str, chosen: SamplingForm, graphs: bool, steps: int) -> Contender:
        run = aspirin.simulate(chosen, steps)
        return Contender(f"{name}, {n_replicas}", _finished(run, graphs), n_replicas * steps)

    bare = form()
    few = max(2, n_steps // 16)
    return [
        whole(GRAPHS, form(), True, n_steps),
        whole(KERNELS, form(), False, n_steps),
        Contender(
            f"{BARE}, {n_replicas}",
            _finished(lambda: [bare(aspirin.positions) for _ in range(n_steps)]),
            n_replicas * n_steps,
        ),
        whole(EAGER, EagerSampling(potential, system), False, few),
    ]


def _finished(work: Callable[[], object], graphs: bool = True) -> Callable[[], None]:
    """``work``, and a wait until the device has done it."""

    def run() -> None:
        set_cuda_graphs(graphs)
        try:
            work()
            torch.cuda.synchronize()
        finally:
            set_cuda_graphs(True)

    return run


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Rates by wall time, what graphs gain, and the fraction of the memory's rate."""
    system, positions = aspirin_replicas(128)
    n_pairs = mean_pairs(positions, CUTOFF)
    needed = count_bytes(system.n_atoms, n_pairs)
    ms = {t.name: t.wall_ms for t in timings}
    sizes = {}
    for n in REPLICAS:
        whole, kernels, bare, eager = (ms[f"{k}, {n}"] for k in (GRAPHS, KERNELS, BARE, EAGER))
        sizes[str(n)] = {
            "us_per_replica_step": 1e3 * whole,
            "us_per_replica_step_without_graphs": 1e3 * kernels,
            "speedup_by_graphs": kernels / whole,
            "speedup_vs_eager": eager / whole,
            "overhead_fraction": whole / bare - 1.0,
            "fraction_of_bandwidth": needed / (1e-3 * bare) / (1e9 / (1e-3 * ms[COPY])),
        }
    return {
        "memory_gb_per_s": 1e3 / ms[COPY],
        "bytes_per_replica_step": needed,
        "gpu": torch.cuda.get_device_name(),
        "replicas": sizes,
    }


def mean_pairs(positions: Tensor, cutoff: float) -> float:
    """Pairs within the cutoff (Å) in structures (n, N, 3), on average."""
    distances = torch.cdist(positions, positions)
    n, n_atoms = positions.shape[:2]
    return float((distances < cutoff).sum() - n * n_atoms) / (2 * n)


def describe(derived: dict[str, Any]) -> str:
    """The rates as a table."""
    lines = [
        "| replicas | µs per replica-step | without graphs | gain | over autograd | step loop adds "
        "| of the memory's rate |",
        "|---|---|---|---|---|---|---|",
    ]
    for n, d in derived["replicas"].items():
        lines.append(
            f"| {n} | {d['us_per_replica_step']:.2f} "
            f"| {d['us_per_replica_step_without_graphs']:.2f} | {d['speedup_by_graphs']:.2f} × "
            f"| {d['speedup_vs_eager']:.1f} × | {100 * d['overhead_fraction']:.0f} % "
            f"| {100 * d['fraction_of_bandwidth']:.0f} % |"
        )
    return "\n".join(lines) + (
        f"\n\n{derived['gpu']}, wall time. Energies and forces of one replica move "
        f"{derived['bytes_per_replica_step'] / 1e6:.2f} MB, counted kernel by kernel, and the "
        f"device copied {derived['memory_gb_per_s']:.0f} GB/s within its memory in the same run; "
        "the last column is the rate of energies and forces alone as a share of that."
    )


SECTION = Section(
    key="cuda",
    title="On a GPU",
    about=(
        "SchNet of the paper's size, aspirin, Langevin dynamics with all detectors; the last "
        "number of each row is that of the replicas. The host waits for the device at the end of "
        "every call, so wall time is what counts."
    ),
    unit="unit of the row",
    build=build,
    derive=derive,
    describe=describe,
    why_not=why_not,
)
