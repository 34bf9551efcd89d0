"""What each way of reducing the variance of a gradient buys."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scripts.estimators.chain import Chain, bonds_of
from scripts.estimators.oscillator import Oscillator
from stablemd.estimators import (
    SampledFrames,
    backward_weighted_energy,
    boltzmann_gradient,
    frame_coefficients,
    potential_energies,
    thin_coefficients,
)
from stablemd.system import System

REPEATS = 200


def measure() -> list[dict[str, float | str]]:
    """Bias and standard deviation of a gradient over its exact value, in each way."""
    rows: list[dict[str, float | str]] = []
    for name, run, exact in (*_centring(), *_slow_replicas(), *_thinning(), *_frozen()):
        found = torch.stack([run(seed) for seed in range(REPEATS)])
        size = float(exact.norm())
        rows.append(
            {
                "way": name,
                "bias": float((found.mean(dim=0) - exact).norm()) / size,
                "bias_stderr": float(found.var(dim=0).sum().sqrt()) / size / REPEATS**0.5,
                "noise": float(found.var(dim=0).sum().sqrt()) / size,
            }
        )
    return rows


Way = tuple[str, Callable[[int], Tensor], Tensor]
BETA = 1.0


def _oscillator_frames(seed: int, n_replicas: int, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """x of a unit oscillator, a slow coordinate that a window does not change, the replica."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_frames, n_replicas, generator=generator, dtype=torch.float64)
    slow = torch.randn(n_replicas, generator=generator, dtype=torch.float64)
    replica = torch.arange(n_replicas).repeat(n_frames)
    positions = torch.zeros(n_frames * n_replicas, 1, 3, dtype=torch.float64)
    positions[:, 0, 0] = x.flatten()
    return positions, slow[replica], replica


def _centring() -> list[Way]:
    """d<x²>/dk = -1 of a unit oscillator; the average of ∂U/∂k is known exactly here."""

    def run(seed: int, centre: bool) -> Tensor:
        positions, _, _ = _oscillator_frames(seed, 8, 25)
        g = positions[:, 0, 0].square()
        c = -BETA * (g - g.mean() if centre else g - 5.0) / (len(g) - 1)
        slopes = 0.5 * g - (0.0 if centre else 0.5)  # ∂U/∂k, with its mean known exactly
        return (c @ slopes)[None]

    exact = torch.tensor([-1.0], dtype=torch.float64)
    return [
        ("observable x² counted from 5 instead of its mean 1", lambda s: run(s, False), exact),
        ("observable x² centred at its mean", lambda s: run(s, True), exact),
    ]


def _slow_replicas() -> list[Way]:
    """The observable x² + 3 y, in which y differs between replicas and not within them."""
    oscillator, atom = Oscillator(1.0), System.create(["H"])
    exact = torch.tensor([-1.0], dtype=torch.float64)

    def run(seed: int, centring: str) -> Tensor:
        positions, slow, replica = _oscillator_frames(seed, 8, 25)
        energies = potential_energies(oscillator, atom, positions, chunk_size=10_000)
        values = (positions[:, 0, 0].square() + 3.0 * slow)[:, None]
        frames = SampledFrames(positions, energies, values, replica)
        oscillator.zero_grad()
        boltzmann_gradient(
            oscillator,
            atom,
            frames,
            lambda mean: mean[0],
            beta=BETA,
            chunk_size=10_000,
            energies=energies,
            centring=centring,  # type: ignore[arg-type]
            noise_groups=0,
        )
        assert oscillator.k.grad is not None
        return oscillator.k.grad.clone()[None]

    return [
        (f"slow difference between replicas, centring {c!r}", lambda s, c=c: run(s, c), exact)
        for c in ("pooled", "leave_one_out", "replica")
    ]


def _thinning() -> list[Way]:
    """All of 1280 frames, 64 of them by systematic sampling on |c|, and the first 64."""
    chain = Chain(10)
    system, beta = chain.system(), 20.0
    exact_mean = chain.covariance(beta)[chain.weak, chain.weak]
    exact = torch.stack(torch.autograd.grad(exact_mean, list(chain.parameters())))

    def run(seed: int, how: str) -> Tensor:
        positions = chain.sample(1280, beta, seed=seed)
        if how == "first":
            positions = positions[:64]
        values = bonds_of(positions).square()[:, chain.weak, None]
        weights = torch.full((len(positions),), 1.0 / len(positions), dtype=torch.float64)
        slope = torch.ones(1, dtype=torch.float64)
        c = frame_coefficients(values, weights, slope, beta=beta)
        if how == "thinned":
            index, c = thin_coefficients(c, 64, seed=seed)
            positions = positions[index]
        chain.zero_grad()
        backward_weighted_energy(chain, system, positions, c, chunk_size=2000)
        return torch.stack([p.grad for p in chain.parameters()])  # type: ignore[misc]

    names = {
        "all": "all of 1280 frames in the backward pass",
        "thinned": "64 of 1280 frames, drawn with probability ∝ |c|",
        "first": "only 64 frames",
    }
    return [(name, lambda s, h=how: run(s, h), exact) for how, name in names.items()]


def _frozen() -> list[Way]:
    """Gradients of the weak bond's spread in a chain of 300 atoms, 128 frames."""
    chain = Chain(300)
    system, beta = chain.system(), 20.0
    exact_mean = chain.covariance(beta)[chain.weak, chain.weak]
    full = torch.stack(torch.autograd.grad(exact_mean, list(chain.parameters())))

    def run(seed: int, trained: list[str]) -> Tensor:
        positions = chain.sample(128, beta, seed=seed)
        values = bonds_of(positions).square()[:, chain.weak, None]
        energies = potential_energies(chain, system, positions, chunk_size=128)
        frames = SampledFrames(positions, energies, values, torch.arange(128) % 8)
        for name, parameter in chain.named_parameters():
            parameter.requires_grad_(name in trained)
        chain.zero_grad(set_to_none=True)
        boltzmann_gradient(
            chain,
            system,
            frames,
            lambda mean: mean[0],
            beta=beta,
            energies=energies,
            noise_groups=0,
        )
        return torch.stack([p.grad for p in chain.parameters() if p.grad is not None])

    return [
        ("all parameters trained", lambda s: run(s, ["k", "kappa", "delta"]), full),
        ("parameters of the stiff bonds frozen", lambda s: run(s, ["delta"]), full[2:]),
    ]


def table(rows: list[dict[str, float | str]]) -> str:
    """The numbers as a Markdown table."""
    lines = [
        "| | bias | noise |",
        "|---|---|---|",
        *(
            f"| {r['way']} | {r['bias']:.2f} ± {float(r['bias_stderr']):.2f} | {r['noise']:.2f} |"
            for r in rows
        ),
    ]
    return "\n".join(lines)
