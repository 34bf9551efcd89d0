"""The reported noise of a gradient is the scatter that repeated sampling shows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from stablemd.estimators import (
    SampledFrames,
    Trust,
    backward_weighted_energy,
    boltzmann_gradient,
    gradient_cosine,
    localized_gradient,
    make_neighbourhoods,
    potential_energies,
)
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System

BETA = 1.0


class Oscillators(Potential):
    """Independent oscillators ½ k_a x² + offset, one per atom and direction."""

    def __init__(self, n_atoms: int) -> None:
        super().__init__()
        self.cutoff = 0.1  # there are no pairs to find
        self.k = nn.Parameter(torch.ones(n_atoms, 3, dtype=torch.float64))
        self.offset = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        x = batch.positions.reshape(batch.n_structures, -1, 3)
        return (0.5 * self.k * x.square()).sum(dim=2).flatten() + self.offset


def sample(
    n_replicas: int, n_frames: int, n_atoms: int, *, seed: int, rho: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Standard normal coordinates with correlation ``rho`` between consecutive frames."""
    generator = torch.Generator().manual_seed(seed)
    shape = (n_frames, n_replicas, n_atoms, 3)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    for t in range(1, n_frames):
        x[t] = rho * x[t - 1] + math.sqrt(1 - rho**2) * x[t]
    return x.reshape(-1, n_atoms, 3), torch.arange(n_replicas).repeat(n_frames)


def run(
    potential: Oscillators,
    positions: Tensor,
    replica: Tensor,
    *,
    group: Tensor | None = None,
    local: bool = False,
    target: float | None = None,
    chunk_size: int = 10_000,
) -> tuple[Tensor, Trust]:
    """The gradient for <x²> of the first atom, and what is said about it."""
    n_atoms = positions.shape[1]
    system = System.create(["H"] * n_atoms)
    energies = potential_energies(potential, system, positions, chunk_size=10_000)
    values = positions[:, :, 0].square()
    frames = SampledFrames(positions, energies, values, replica, group=group)

    def loss(mean: Tensor) -> Tensor:
        return mean[0] if target is None else (mean[0] - target).square()

    potential.zero_grad()
    common = dict(beta=BETA, energies=energies, chunk_size=chunk_size)
    if local:
        rule = make_neighbourhoods("given", system, groups=[[a] for a in range(n_atoms)])
        trust = localized_gradient(
            potential, system, frames, loss, neighbourhoods=rule, **common
        ).trust
    else:
        trust = boltzmann_gradient(potential, system, frames, loss, **common).trust
    gradient = torch.cat([p.grad.flatten() for p in potential.parameters()])  # type: ignore[union-attr]
    return gradient, trust


@pytest.mark.parametrize("chunk_size", [64, 10_000])
@pytest.mark.parametrize(("rho", "local"), [(0.0, False), (0.8, False), (0.0, True)])
def test_noise_is_the_scatter_between_repetitions(rho: float, local: bool, chunk_size: int) -> None:
    """From groups, and from one contrast where all frames fit into one pass.

    Also with correlated frames, and though the energies have a large common offset.
    """
    potential = Oscillators(2)
    gradients, variances = [], []
    for seed in range(100):
        positions, replica = sample(8, 40, 2, seed=seed, rho=rho)
        gradient, trust = run(potential, positions, replica, local=local, chunk_size=chunk_size)
        gradients.append(gradient)
        variances.append(trust.gradient_noise**2)
    deviations = torch.stack(gradients) - torch.stack(gradients).mean(dim=0)
    squares = deviations.square().sum(dim=1) * (100 / 99)
    reported = torch.tensor(variances, dtype=torch.float64)
    error = math.hypot(float(squares.std()), float(reported.std())) / 10
    # Taken for independent, frames with rho = 0.8 would report less than a quarter.
    assert error < 0.4 * float(squares.mean())
    assert abs(float(reported.mean() - squares.mean())) < 3 * error


def test_copies_of_one_replica_are_not_independent() -> None:
    potential = Oscillators(2)
    ratios = []
    for seed in range(12):
        positions, replica = sample(8, 50, 2, seed=seed)
        copies = positions.repeat(4, 1, 1)
        ids = torch.cat([replica + 8 * c for c in range(4)])
        _, alone = run(potential, positions, replica)
        _, blind = run(potential, copies, ids)
        _, told = run(potential, copies, ids, group=ids % 8)
        assert told.gradient_noise == pytest.approx(alone.gradient_noise, rel=1e-2)
        assert told.n_groups == alone.n_groups == 8
        ratios.append((blind.gradient_noise / alone.gradient_noise) ** 2)
    assert sum(ratios) / 12 < 0.6  # a quarter in the long run


def test_signal_is_told_from_noise() -> None:
    """One atom's average against hundreds of spectators: noise grows, the signal does not."""
    few, replica = sample(16, 100, 1, seed=2)
    _, clear = run(Oscillators(1), few, replica)
    assert clear.signal_to_noise > 5.0 and clear.warnings() == []
    many, replica = sample(16, 4, 200, seed=2)
    gradient, lost = run(Oscillators(200), many, replica)
    assert lost.is_noise
    assert any(text.startswith("gradient is noise: its norm is") for text in lost.warnings())
    true = torch.zeros_like(gradient)
    true[0] = -1.0  # ∂<x²>/∂k = -<x²>²/... points along the atom's own k alone
    cosine = gradient_cosine([gradient], [true])
    assert cosine < 0.6 and lost.expected_cosine < 0.6


def test_expected_cosine_is_the_cosine_with_the_truth() -> None:
    found, expected = [], []
    for seed in range(60):
        positions, replica = sample(16, 20, 30, seed=seed)
        gradient, trust = run(Oscillators(30), positions, replica)
        true = torch.zeros_like(gradient)
        true[0] = -1.0
        found.append(gradient_cosine([gradient], [true]))
        expected.append(trust.expected_cosine)
    assert sum(expected) / 60 == pytest.approx(sum(found) / 60, abs=0.05)


def test_slope_is_noise_close_to_the_target() -> None:
    positions, replica = sample(16, 100, 1, seed=3)
    mean = float(positions[:, 0, 0].square().mean())
    _, far = run(Oscillators(1), positions, replica, target=0.0)
    _, near = run(Oscillators(1), positions, replica, target=mean - 0.01)
    assert far.slope_noise < 0.2 < 1.0 < near.slope_noise
    assert near.is_noise and not far.is_noise


def test_autocorrelation_time_of_the_frames() -> None:
    """A squared AR(1) process has correlation rho^2t: 1/2 + Σ = (1 + rho²)/(2 (1 - rho²))."""
    positions, replica = sample(64, 2000, 1, seed=4, rho=0.8)
    _, trust = run(Oscillators(1), positions, replica)
    # With a window of 11 frames the relative error is sqrt(2 (2·11 + 1) / 128000) = 1.9 %.
    exact = 0.5 * (1 + 0.64) / (1 - 0.64)
    assert trust.autocorrelation_time == pytest.approx(exact, rel=0.06)
    assert trust.n_independent == pytest.approx(len(positions) / (2 * exact), rel=0.06)


def test_words_for_every_reason_to_doubt() -> None:
    good = Trust(1000, 0, 1000.0, 1000.0, 0.5, 1000.0, 8, 10.0, 1.0, 0.0)
    assert good.warnings() == []
    cases = {
        "unknown quality": replace(good, gradient_noise=float("nan")),
        "is noise": replace(good, gradient_noise=9.0),
        "is weak": replace(good, gradient_noise=5.0),
        "worn out: 50.0 of 1000": replace(good, n_eff=50.0, n_independent=50.0),
        "few independent frames: 10.0": replace(good, n_independent=10.0),
        "3 of 1003 frames were left out": replace(good, n_dropped=3),
        "against energies and forces: cosine -0.40": good.with_label_cosine(-0.4),
    }
    for words, trust in cases.items():
        (sentence,) = trust.warnings()
        assert words in sentence
    assert cases["unknown quality"].to_json()["gradient_noise"] is None
    assert math.isnan(cases["unknown quality"].signal_to_noise)


def test_one_replica_can_not_tell() -> None:
    positions, replica = sample(1, 100, 1, seed=5)
    _, trust = run(Oscillators(1), positions, replica)
    assert math.isnan(trust.gradient_noise) and "unknown quality" in trust.warnings()[0]


def test_comparing_groups_does_not_change_the_gradient(
    pair_network: Potential, cluster: System, cluster_positions: Tensor
) -> None:
    energies = potential_energies(pair_network, cluster, cluster_positions)
    values = cluster_positions[:, 0].square()
    frames = SampledFrames(cluster_positions, energies, values, torch.arange(60) // 5)
    found = []
    for noise_groups in (0, 3, 12):
        pair_network.zero_grad()
        boltzmann_gradient(
            pair_network,
            cluster,
            frames,
            lambda mean: mean.sum(),
            beta=BETA,
            noise_groups=noise_groups,
        )
        found.append([p.grad.clone() for p in pair_network.parameters() if p.grad is not None])
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)
    coefficients = torch.ones(60, dtype=torch.float64)
    assert backward_weighted_energy(pair_network, cluster, cluster_positions, coefficients) > 0.0
