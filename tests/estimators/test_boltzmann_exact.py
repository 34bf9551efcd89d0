"""The Boltzmann Estimator against exact low-dimensional Boltzmann averages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stablemd.estimators import (
    SampledFrames,
    boltzmann_gradient,
    potential_energies,
    reweighted_mean,
)
from stablemd.potentials.base import Potential
from stablemd.system import System


def place(*coordinates: Tensor) -> Tensor:
    """One atom at the given x (and y), (n, 1, 3)."""
    positions = torch.zeros(len(coordinates[0]), 1, 3, dtype=torch.float64)
    for axis, coordinate in enumerate(coordinates):
        positions[:, 0, axis] = coordinate
    return positions


def observable(positions: Tensor) -> Tensor:
    """Three smooth functions of the atom's position, (n, 3)."""
    x, y = positions[:, 0, 0], positions[:, 0, 1]
    return torch.stack([x**2, torch.cos(2 * x + y), torch.tanh(x) * (1 + y)], dim=1)


def loss(mean: Tensor) -> Tensor:
    target = torch.tensor([0.3, 0.1, -0.4], dtype=torch.float64)
    return (mean - target).square().sum() + mean[0] * mean[2]


def line() -> Tensor:
    return place(torch.linspace(-5.0, 5.0, 2001, dtype=torch.float64))


def plane() -> Tensor:
    axis = torch.linspace(-5.0, 5.0, 161, dtype=torch.float64)
    x, y = torch.meshgrid(axis, axis, indexing="ij")
    return place(x.reshape(-1), y.reshape(-1))


def quadrature_mean(potential: Potential, system: System, grid: Tensor, beta: float) -> Tensor:
    """<g> by the trapezoid rule, whose error is exponentially small here; with graph."""
    energies = potential.energy(system, grid)
    density = torch.exp(-beta * (energies - energies.min().detach()))
    return (density[:, None] * observable(grid)).sum(dim=0) / density.sum()


def gradients(potential: Potential) -> Tensor:
    return torch.stack(
        [torch.zeros(()) if p.grad is None else p.grad for p in potential.parameters()]
    )


def sampled(potential: Potential, system: System, positions: Tensor) -> SampledFrames:
    return SampledFrames(
        positions=positions,
        reference_energies=potential_energies(potential, system, positions),
        values=observable(positions),
        replica=torch.arange(len(positions)) % 4,
    )


def inverse_cdf(potential: Potential, system: System, beta: float, uniform: Tensor) -> Tensor:
    """Positions along x with the Boltzmann density, one per number in (0, 1)."""
    grid = line()
    density = torch.exp(-beta * potential_energies(potential, system, grid, chunk_size=4096))
    cdf = torch.cat([torch.zeros(1, dtype=torch.float64), torch.cumulative_trapezoid(density)])
    cdf = cdf / cdf[-1]
    upper = torch.searchsorted(cdf, uniform).clamp(1, len(cdf) - 1)
    x = grid[:, 0, 0]
    fraction = (uniform - cdf[upper - 1]) / (cdf[upper] - cdf[upper - 1])
    return place(x[upper - 1] + fraction * (x[upper] - x[upper - 1]))


@pytest.mark.parametrize("beta", [0.7, 4.0])
@pytest.mark.parametrize("dimension", [1, 2])
def test_gradient_equals_quadrature_and_finite_differences(
    request: pytest.FixtureRequest, atom: System, dimension: int, beta: float
) -> None:
    """Frames on a uniform grid, "sampled" with a constant energy, are a quadrature rule."""
    potential = request.getfixturevalue("anharmonic" if dimension == 1 else "double_well")
    grid = line() if dimension == 1 else plane()
    n = len(grid)
    frames = SampledFrames(
        grid, torch.zeros(n, dtype=torch.float64), observable(grid), torch.zeros(n).long()
    )
    result = boltzmann_gradient(potential, atom, frames, loss, beta=beta, chunk_size=4096)
    ours = gradients(potential) * (n - 1) / n

    exact_loss = loss(quadrature_mean(potential, atom, grid, beta))
    exact = torch.autograd.grad(exact_loss, list(potential.parameters()))
    assert result.loss == pytest.approx(exact_loss.item(), rel=1e-12)
    torch.testing.assert_close(ours, torch.stack(exact), rtol=1e-9, atol=1e-11)

    step = 1e-5
    for parameter, gradient in zip(potential.parameters(), ours, strict=True):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step
                ends.append(loss(quadrature_mean(potential, atom, grid, beta)).item())
                parameter -= sign * step
        assert gradient.item() == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-8)


def test_unbiased_already_for_three_frames(anharmonic: Potential, atom: System) -> None:
    """N - 1, not N: for N = 3 the other normalisation is 33 % off."""
    beta, n, repeats = 2.0, 3, 1000
    generator = torch.Generator().manual_seed(0)
    exact = torch.autograd.grad(quadrature_mean(anharmonic, atom, line(), beta)[0], anharmonic.k)[
        0
    ].item()
    uniform = torch.rand(repeats, n, generator=generator, dtype=torch.float64)
    everything = inverse_cdf(anharmonic, atom, beta, uniform.reshape(-1))
    found = []
    for positions in everything.reshape(repeats, n, 1, 3):
        anharmonic.zero_grad()
        frames = sampled(anharmonic, atom, positions)
        boltzmann_gradient(
            anharmonic,
            atom,
            frames,
            lambda mean: mean[0],
            beta=beta,
            energies=frames.reference_energies,
            noise_groups=0,
        )
        assert anharmonic.k.grad is not None
        found.append(anharmonic.k.grad.item())
    estimates = torch.tensor(found, dtype=torch.float64)
    stderr = float(estimates.std()) / math.sqrt(repeats)
    assert stderr < 0.1 * abs(exact)  # three of them resolve the 33 %
    assert abs(float(estimates.mean()) - exact) < 3 * stderr


def test_error_shrinks_with_the_square_root_of_the_frames(
    anharmonic: Potential, atom: System
) -> None:
    """A linear loss has a fixed slope: the estimator is unbiased at every number of frames."""
    beta, repeats = 2.0, 100
    generator = torch.Generator().manual_seed(1)
    slope = torch.tensor([0.7, -1.0, 0.4], dtype=torch.float64)
    parameters = [anharmonic.k, anharmonic.q, anharmonic.s]
    exact_loss = quadrature_mean(anharmonic, atom, line(), beta) @ slope
    exact = torch.stack(torch.autograd.grad(exact_loss, parameters))
    rms = []
    for n in (200, 3200):
        uniform = torch.rand(repeats * n, generator=generator, dtype=torch.float64)
        errors = []
        for positions in inverse_cdf(anharmonic, atom, beta, uniform).split(n):
            anharmonic.zero_grad()
            frames = sampled(anharmonic, atom, positions)
            boltzmann_gradient(
                anharmonic,
                atom,
                frames,
                lambda mean: mean @ slope,
                beta=beta,
                chunk_size=n,
                noise_groups=0,
            )
            errors.append(gradients(anharmonic)[:3] - exact)
        per_repeat = torch.stack(errors)
        stderr = per_repeat.std(dim=0) / math.sqrt(repeats)
        assert (per_repeat.mean(dim=0).abs() < 3 * stderr).all()
        rms.append((per_repeat / exact).square().mean().sqrt().item())
    # An rms of 100 values is known to 7 %, the ratio to 10 %: three standard deviations.
    assert rms[0] / rms[1] == pytest.approx(4.0, rel=0.3)


def test_reweighted_equals_quadrature_at_other_parameters(
    anharmonic: Potential, atom: System
) -> None:
    """Frames from θ0 carry mean and gradient at θ; energies alone give the same mean."""
    beta, n = 2.0, 20000
    quantiles = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    frames = sampled(anharmonic, atom, inverse_cdf(anharmonic, atom, beta, quantiles))
    before = reweighted_mean(anharmonic, atom, frames, beta=beta, chunk_size=n).mean
    with torch.no_grad():
        anharmonic.k += 0.4
        anharmonic.s -= 0.3
        anharmonic.shift -= 1.0e5
    result = boltzmann_gradient(anharmonic, atom, frames, loss, beta=beta, chunk_size=n)
    exact_mean = quadrature_mean(anharmonic, atom, line(), beta)
    exact = torch.autograd.grad(loss(exact_mean), list(anharmonic.parameters()))
    torch.testing.assert_close(result.mean, exact_mean.detach(), rtol=0, atol=2e-4)
    torch.testing.assert_close(gradients(anharmonic), torch.stack(exact), rtol=0, atol=2e-3)
    assert (before - result.mean).abs().max() > 0.02
    assert 0.5 * n < result.n_eff < 0.99 * n
    back = reweighted_mean(anharmonic, atom, frames, beta=beta, chunk_size=n)
    assert torch.equal(back.mean, result.mean) and back.n_eff == result.n_eff
