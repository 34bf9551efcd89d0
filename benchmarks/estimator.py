"""One weight per frame beside the textbook form of the Boltzmann Estimator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.aspirin import aspirin_replicas
from benchmarks.measure import Contender, Timing
from benchmarks.memory import status_mib
from benchmarks.section import Section, Settings
from stablemd import units
from stablemd.estimators import (
    SampledFrames,
    backward_weighted_energy,
    boltzmann_gradient,
    potential_energies,
)
from stablemd.estimators.losses import Loss, mse
from stablemd.observables import DistanceDistribution
from stablemd.potentials.schnet import SchNet
from stablemd.system import System

N_FRAMES = 40
"""The paper's minibatch."""

N_MANY = 2560
"""The paper's frames of a learning epoch: 128 replicas, 20 frames each."""

N_BINS = 500

N_CALLS = 20
"""Calls of a contender in a round: one alone, of some 50 ms, would show what the textbook
form before it left of caches and memory."""

TEMPERATURE_K = 500.0
AGREEMENT = 1e-3
"""Relative difference of the gradients, both in float32, above which nothing is timed."""


def build(settings: Settings) -> list[Contender]:
    """The textbook form, ours, and the two passes over energies that ours consists of."""
    n_frames = min(N_FRAMES, settings.n_replicas)
    potential, system, frames, loss = setting(n_frames)
    beta = units.beta(TEMPERATURE_K)
    textbook = partial(textbook_gradient, potential, system, frames, loss, beta)
    ours = partial(our_gradient, potential, system, frames, loss, beta)
    expected = textbook()
    difference = (expected - ours()).norm() / expected.norm()
    if not difference < AGREEMENT:
        raise RuntimeError(f"the two forms differ by {difference:.1e}: nothing is timed")
    passes = partial(_two_passes, potential, system, frames)
    without_noise = partial(our_gradient, potential, system, frames, loss, beta, noise_groups=0)
    n_each = N_CALLS * n_frames
    return [
        Contender("textbook: gradients per frame, frames × bins × parameters", textbook, n_frames),
        Contender("stablemd: one weight per frame", _repeated(ours), n_each),
        Contender(
            "two passes: energies without a graph, energies with backward",
            _repeated(passes),
            n_each,
        ),
        Contender("stablemd without the noise of the gradient", _repeated(without_noise), n_each),
    ]


def _repeated(call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(N_CALLS):
            call()

    return run


def setting(n_frames: int) -> tuple[SchNet, System, SampledFrames, Loss]:
    """SchNet of the paper's size, aspirin, h(r) with 500 bins, and a loss on its average."""
    torch.manual_seed(0)
    system, positions = aspirin_replicas(n_frames)
    potential = SchNet()
    values = DistanceDistribution(system, r_max=10.0, n_bins=N_BINS).values(positions)
    energies = potential_energies(potential, system, positions)
    frames = SampledFrames(positions, energies, values, torch.arange(n_frames) % 8)
    return potential, system, frames, mse(0.9 * values.mean(dim=0), spacing=10.0 / N_BINS)


def textbook_gradient(
    potential: SchNet, system: System, frames: SampledFrames, loss: Loss, beta: float
) -> Tensor:
    """Covariance of bins and parameters from the gradients of every frame."""
    parameters = list(potential.parameters())
    rows = []
    for x in frames.positions:
        (energy,) = potential.energy(system, x[None])
        gradient = torch.autograd.grad(energy, parameters, allow_unused=True)
        rows.append(
            torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten()
                    for p, g in zip(parameters, gradient, strict=True)
                ]
            )
        )
    u = torch.stack(rows)
    g = frames.values.to(u)
    products = g[:, :, None] * u[:, None, :]
    mean = frames.values.mean(dim=0).requires_grad_(True)
    (slope,) = torch.autograd.grad(loss(mean), mean)
    n = len(u)
    covariance = (products.mean(dim=0) - g.mean(dim=0)[:, None] * u.mean(dim=0)) * (n / (n - 1))
    return -beta * (slope.to(u) @ covariance)


def our_gradient(
    potential: SchNet,
    system: System,
    frames: SampledFrames,
    loss: Loss,
    beta: float,
    *,
    noise_groups: int = 8,
) -> Tensor:
    """The same from one weighted sum of energies, with N_eff and error bars."""
    potential.zero_grad(set_to_none=True)
    boltzmann_gradient(potential, system, frames, loss, beta=beta, noise_groups=noise_groups)
    return torch.cat(
        [
            (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
            for p in potential.parameters()
        ]
    )


def _two_passes(potential: SchNet, system: System, frames: SampledFrames) -> None:
    potential_energies(potential, system, frames.positions)
    potential.zero_grad(set_to_none=True)
    weights = torch.full((len(frames),), 1.0 / len(frames), dtype=torch.float64)
    backward_weighted_energy(potential, system, frames.positions, weights)


def derive(settings: Settings, timings: Sequence[Timing]) -> dict[str, Any]:
    """The three ratios of the estimator, and its memory for a whole learning epoch."""
    _, ours, passes, without_noise = timings
    n_frames = min(N_FRAMES, settings.n_replicas)
    many = min(N_MANY, 20 * settings.n_replicas)
    memory = peak_memory(n_frames, many)
    return {
        "n_frames": n_frames,
        "speedup_vs_per_frame": ours.ratio,
        "peak_memory_ratio": memory["textbook"] / memory["stablemd"],
        "cost_over_energy_passes": passes.speedup_over(ours),
        "cost_without_noise_over_energy_passes": passes.speedup_over(without_noise),
        "peak_memory_mib": memory["stablemd"],
        "peak_memory_textbook_mib": memory["textbook"],
        "n_frames_many": many,
        "peak_memory_many_mib": memory["many"],
    }


def describe(derived: dict[str, Any]) -> str:
    """The same in words."""
    return (
        f"With {derived['n_frames']} frames one weight per frame is "
        f"{derived['speedup_vs_per_frame']:.0f} times faster than the textbook form and takes "
        f"{derived['peak_memory_ratio']:.0f} times less memory at its peak "
        f"({derived['peak_memory_mib']:.0f} against {derived['peak_memory_textbook_mib']:.0f} MiB "
        f"beyond what the process held). It costs "
        f"{derived['cost_over_energy_passes']:.2f} times as much as one pass over the energies "
        f"without a graph and one with backward, and "
        f"{derived['cost_without_noise_over_energy_passes']:.2f} times without the noise of the "
        f"gradient, which training asks for once in ten epochs. "
        f"{derived['n_frames_many']} frames take "
        f"{derived['peak_memory_many_mib']:.0f} MiB."
    )


def peak_memory(n_frames: int, n_many: int) -> dict[str, float]:
    """Peak memory in MiB beyond what was held before, in a fresh process.

    ``stablemd`` and ``textbook`` for ``n_frames``, ``many`` for ours with ``n_many``.
    """
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.estimator", str(n_frames), str(n_many)],
        cwd=Path(__file__).resolve().parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    measured: dict[str, float] = json.loads(run.stdout)
    return measured


def _measure_peaks(n_frames: int, n_many: int) -> dict[str, float]:
    """One after the other, the largest last; memory that stays allocated counts again."""
    torch.set_num_threads(1)
    beta = units.beta(TEMPERATURE_K)
    potential, system, frames, loss = setting(n_many)
    few = frames.select(torch.arange(n_frames))
    run: dict[str, Callable[[], Tensor]] = {
        "stablemd": partial(our_gradient, potential, system, few, loss, beta),
        "many": partial(our_gradient, potential, system, frames, loss, beta),
        "textbook": partial(textbook_gradient, potential, system, few, loss, beta),
    }
    our_gradient(potential, system, frames.select(torch.arange(2)), loss, beta)  # loads code
    before = status_mib("VmRSS")
    peaks = {}
    for name, call in run.items():
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
        call()
        peaks[name] = status_mib("VmHWM") - before
    return peaks


SECTION = Section(
    key="estimator",
    title="Boltzmann Estimator: one weight per frame",
    about=(
        "The gradient of a loss on h(r) with 500 bins, from 40 frames of aspirin (the paper's "
        "minibatch) with SchNet of its size, 117,953 parameters, float32, one core. Textbook "
        "form: the parameter gradient of every frame, and their covariance with every bin from "
        "the frames × bins × parameters product. stablemd: energies without a graph, then the "
        "backward pass of one weighted sum, with N_eff, error bars and the noise of the gradient "
        "between groups of replicas; called 20 times in a round. Both gradients are compared "
        "before anything is timed."
    ),
    unit="frame",
    build=build,
    derive=derive,
    describe=describe,
)

if __name__ == "__main__":
    print(json.dumps(_measure_peaks(int(sys.argv[1]), int(sys.argv[2]))))
