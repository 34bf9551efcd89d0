"""Peak memory of MD by number of replicas."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.aspirin import aspirin_replicas
from benchmarks.measure import Contender, Timing
from benchmarks.section import Section, Settings
from stablemd.md import initial_state, sharding
from stablemd.md.integrators import BAOAB
from stablemd.md.simulate import simulate as simulate_in_one_batch
from stablemd.potentials import make_potential
from stablemd.potentials.base import EagerSampling
from stablemd.stability import make_detectors

REPLICAS = (32, 128, 512, 1024, 4096)

COMPILED = "compiled form"
BLOCKS = "by autograd, in blocks"
WHOLE = "by autograd, all replicas in one batch"

LARGEST = {COMPILED: REPLICAS[-1], BLOCKS: 1024, WHOLE: 512}
"""More replicas than that would take minutes, or more memory than a laptop has."""

N_STEPS = {COMPILED: 20, BLOCKS: 2, WHOLE: 2}


def build(settings: Settings) -> list[Contender]:
    """Nothing is timed."""
    return []


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """Peaks in MiB by form and number of replicas, and how they grow."""
    peaks: dict[str, dict[str, float]] = {}
    most = REPLICAS[-1] if settings.full else 8 * settings.n_replicas
    for name, bound in LARGEST.items():
        sizes = [n for n in REPLICAS if n <= min(most, bound)]
        if not sizes:
            continue  # a trial run of few replicas
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", name, *map(str, sizes)],
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks[name] = json.loads(run.stdout)
    return {"peak_mib": peaks, "exponent": {name: _exponent(p) for name, p in peaks.items()}}


def _exponent(peaks: dict[str, float]) -> float:
    """Power of the number of replicas with which the peak grows: 1 is linear."""
    sizes = np.log([float(n) for n in peaks])
    return float(np.polyfit(sizes, np.log(np.maximum(list(peaks.values()), 0.1)), 1)[0])


def describe(derived: dict[str, Any]) -> str:
    """A table of the peaks."""
    peaks = derived["peak_mib"]
    sizes = sorted({int(n) for values in peaks.values() for n in values})
    lines = ["| | " + " | ".join(f"{n} replicas" for n in sizes) + " | grows with the power |"]
    lines.append("|---" * (len(sizes) + 2) + "|")
    for name, values in peaks.items():
        cells = [f"{values[str(n)]:.1f}" if str(n) in values else "" for n in sizes]
        lines.append(f"| {name} | {' | '.join(cells)} | {derived['exponent'][name]:.2f} |")
    return "\n".join(lines)


def measure(name: str, sizes: Sequence[int]) -> dict[str, float]:
    """Peaks of this process in MiB beyond what it holds after a run of two replicas.

    Args:
        name: of the form.
        sizes: numbers of replicas in ascending order; memory that stays allocated counts again.
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    potential = make_potential("schnet")
    simulate = simulate_in_one_batch if name == WHOLE else sharding.simulate
    before, peaks = 0.0, {}
    for n in (2, *sizes):
        system, positions = aspirin_replicas(n)
        detectors = make_detectors(
            {"nonfinite": {}, "temperature": {"max_temperature_k": 1e9}}, system
        )
        eager = EagerSampling(potential, system)
        form = potential.for_sampling(system) if name == COMPILED else eager
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        # The energies that a state begins with, in batches that show nothing of their own.
        state = initial_state(
            system, positions, potential.for_sampling(system), temperature_k=300.0, seed=0
        )
        simulate(
            form,
            state,
            BAOAB(dt_fs=0.5, temperature_k=300.0),
            detectors,
            system,
            n_steps=N_STEPS[name],
            seed=0,
            record_every=N_STEPS[name],
        )
        if n == 2:
            before = status_mib("VmRSS")
        else:
            peaks[str(n)] = status_mib("VmHWM") - before
    return peaks


def status_mib(key: str) -> float:
    """A number of this process's memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return float(line.split()[1]) / 1024.0
    raise RuntimeError(f"/proc/self/status has no {key}: memory is measured on Linux only")


def why_not() -> str | None:
    """Linux alone tells the peak of a process from a given moment on."""
    return None if Path("/proc/self/clear_refs").exists() else "it needs Linux's /proc"


SECTION = Section(
    key="memory",
    title="Memory by number of replicas",
    about=(
        "Peak memory of MD of aspirin with SchNet of the paper's size in one process, in MiB "
        "beyond what it holds after a run of two replicas; state, noise, one recorded frame of "
        "every replica and the model's own. The compiled form works through a few replicas at a "
        "time. By autograd replicas are evaluated in blocks of at most 1400 atoms (66 aspirins), "
        "here beside one batch of all of them, as a plain loop over a batch would do it."
    ),
    unit="replica",
    build=build,
    derive=derive,
    describe=describe,
    why_not=why_not,
)

if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], [int(n) for n in sys.argv[2:]])))
