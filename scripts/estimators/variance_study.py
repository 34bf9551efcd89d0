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
RHO = 0.9
"""Correlation of x between consecutive frames of a replica."""

SLOW = 10.0
"""Size of the slow coordinate in the observable, where x² has the mean 1."""


def _oscillator_frames(seed: int, n_replicas: int, n_frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """x of a unit oscillator, a slow coordinate that a window does not change, the replica."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_frames, n_replicas, generator=generator, dtype=torch.float64)
    for t in range(1, n_frames):
        x[t] = RHO * x[t - 1] + (1.0 - RHO**2) ** 0.5 * x[t]
    slow = torch.randn(n_replicas, generator=generator, dtype=torch.float64)
    replica = torch.arange(n_replicas).repeat(n_frames)
    positions = torch.zeros(n_frames * n_replicas, 1, 3, dtype=torch.float64)
    positions[:, 0, 0] = x.flatten()
    return positions, slow[replica], replica


def _centring() -> list[Way]:
    """d<x²>/dk = -1 of a unit oscillator from independent frames."""

    def run(seed: int, minibatch: int | None) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        g = torch.randn(200, generator=generator, dtype=torch.float64).square()
        batches = g.split(minibatch or len(g))
        n = [len(b) - (0 if minibatch else 1) for b in batches]
        covariances = [
            ((b - b.mean()) * 0.5 * b).sum() / m for b, m in zip(batches, n, strict=True)
        ]
        return -BETA * torch.stack(covariances).mean()[None]

    exact = torch.tensor([-1.0], dtype=torch.float64)
    return [
        ("200 frames, centred in minibatches of 8, divided by 8", lambda s: run(s, 8), exact),
        ("200 frames, centred together, divided by N − 1", lambda s: run(s, None), exact),
    ]


def _slow_replicas() -> list[Way]:
    """The observable x² + 10 y, in which y differs between replicas and not within them."""
    oscillator, atom = Oscillator(1.0), System.create(["H"])
    exact = torch.tensor([-1.0], dtype=torch.float64)

    def run(seed: int, centring: str) -> Tensor:
        positions, slow, replica = _oscillator_frames(seed, 16, 25)
        energies = potential_energies(oscillator, atom, positions, chunk_size=10_000)
        values = (positions[:, 0, 0].square() + SLOW * slow)[:, None]
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
        (
            f"correlated frames, replicas differ slowly, centring {c!r}",
            lambda s, c=c: run(s, c),
            exact,
        )
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
        "thinned": "64 of 1280 frames, drawn in proportion to the size of their coefficients",
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
