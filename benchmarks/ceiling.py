"""How far the sampling form is from the machine's own rates, measured in the same run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.contenders import Aspirin
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings

FILTERS, FEATURES, INTERACTIONS, HALF = 64, 64, 6, 32
MATRIX = 512
STREAM_BYTES = 1 << 28
CACHE_BYTES = 1 << 19

# Operations per filter and pair: interpolation (4 products, 3 sums), and its use.
_FORWARD = 7 + 4
_BACKWARD = 7 + 7 + 5 + 4
_BACKWARD_FIRST = 7 + 5
_ACTIVATION = 45

ARITHMETIC = "matrix product of PyTorch, 10⁹ operations"
MEMORY = "reading memory, 10⁹ bytes"
CACHE = "reading half a MiB again and again, 10⁹ bytes"
FORM = "sampling form, 1000 replicas"


def count(n_atoms: int, n_pairs: float) -> dict[str, float]:
    """Floating-point operations and bytes of one replica's energies and forces.

    Args:
        n_atoms: atoms.
        n_pairs: mean number of pairs within the cutoff.

    Returns:
        Operations of the products, of the convolutions and of the activations;
        bytes of table rows that are read (each pair of each interaction reads
        four rows in each direction), which come from the cache.
    """
    square = 2.0 * n_atoms * FEATURES * FILTERS
    dense = 2.0 * (3 * INTERACTIONS - 1) * square + 2.0 * 2.0 * n_atoms * FEATURES * HALF
    per_pair = INTERACTIONS * _FORWARD + (INTERACTIONS - 1) * _BACKWARD + _BACKWARD_FIRST
    return {
        "products": dense,
        "convolutions": n_pairs * FILTERS * per_pair,
        "activations": n_atoms * (INTERACTIONS * FEATURES + HALF) * float(_ACTIVATION),
        "table_bytes": n_pairs * 2 * INTERACTIONS * 4 * 4 * FILTERS,
    }


def build(settings: Settings) -> list[Contender]:
    """The machine's rates and the sampling form."""
    aspirin = Aspirin.build(settings.n_replicas)
    a, b = torch.rand(MATRIX, MATRIX), torch.rand(MATRIX, MATRIX)
    out = torch.empty(MATRIX, MATRIX)
    large, small = torch.rand(STREAM_BYTES // 4), torch.rand(CACHE_BYTES // 4)
    n_small = STREAM_BYTES // CACHE_BYTES

    def multiply() -> None:
        for _ in range(10):
            torch.mm(a, b, out=out)

    def read_again() -> None:
        for _ in range(n_small):
            small.sum()

    bare = aspirin.bare(settings.n_steps)
    return [
        Contender(ARITHMETIC, multiply, 10 * 2.0 * MATRIX**3 / 1e9),
        Contender(MEMORY, large.sum, STREAM_BYTES / 1e9),
        Contender(CACHE, read_again, STREAM_BYTES / 1e9),
        Contender(FORM, bare.run, bare.units / 1e3),
    ]


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Counts, rates and the fraction reached."""
    aspirin = Aspirin.build(settings.n_replicas)
    distances = torch.cdist(aspirin.positions, aspirin.positions)
    within = (distances < aspirin.potential.cutoff).sum() - distances.shape[0] * distances.shape[1]
    counts = count(aspirin.system.n_atoms, float(within) / 2 / settings.n_replicas)
    time_of = {t.name: 1e-3 * t.cpu_ms for t in timings}
    seconds = time_of[FORM] / 1e3
    operations = counts["products"] + counts["convolutions"] + counts["activations"]
    peak = 1e9 / time_of[ARITHMETIC]
    cache = 1e9 / time_of[CACHE]
    return {
        "counts_per_replica_step": counts,
        "operations_per_replica_step": operations,
        "machine_gflops": peak / 1e9,
        "machine_memory_gb_per_s": 1.0 / time_of[MEMORY],
        "machine_cache_gb_per_s": cache / 1e9,
        "form_gflops": operations / seconds / 1e9,
        "fraction_of_arithmetic": operations / seconds / peak,
        "fraction_of_cache_rate": counts["table_bytes"] / seconds / cache,
        "least_ms_by_arithmetic": 1e3 * operations / peak,
        "least_ms_by_tables": 1e3 * counts["table_bytes"] / cache,
        "ms_per_replica_step": 1e3 * seconds,
    }


def describe(derived: dict[str, Any]) -> str:
    """The fractions in words."""
    counts, d = derived["counts_per_replica_step"], derived
    return (
        f"One replica-step takes {d['operations_per_replica_step'] / 1e6:.1f} million "
        f"floating-point operations ({counts['products'] / 1e6:.1f} in products, "
        f"{counts['convolutions'] / 1e6:.1f} in convolutions, {counts['activations'] / 1e6:.1f} in "
        f"activations) and reads {counts['table_bytes'] / 1e6:.1f} MB of filter tables. In the "
        f"same run PyTorch's matrix product of {MATRIX} × {MATRIX} did "
        f"{d['machine_gflops']:.0f} GFLOP/s, memory was read at "
        f"{d['machine_memory_gb_per_s']:.1f} GB/s and half a MiB in the cache at "
        f"{d['machine_cache_gb_per_s']:.0f} GB/s. The sampling form ran at "
        f"{d['form_gflops']:.0f} GFLOP/s, {100 * d['fraction_of_arithmetic']:.0f} % of that "
        f"arithmetic. Of its {d['ms_per_replica_step']:.3f} ms per replica-step, the operations "
        f"alone would take {d['least_ms_by_arithmetic']:.3f} ms, and reading the tables alone "
        f"{d['least_ms_by_tables']:.3f} ms at that cache rate. Next would be to read fewer bytes "
        "per pair: a narrower table, or both directions of the convolution in one pass over it."
    )


SECTION = Section(
    key="ceiling",
    title="The ceiling",
    about=(
        "Operations and bytes of the sampling form, counted, beside the machine's own rates. "
        "Times are ms per 10⁹ operations or bytes, and per 1000 replicas."
    ),
    unit="unit of the row",
    build=build,
    derive=derive,
    describe=describe,
)
