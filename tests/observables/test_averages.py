"""Error bars against processes whose correlation is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.observables import (
    DistanceDistribution,
    block_average,
    compare_with_reference,
    ensemble_average,
)
from stablemd.observables.comparison import jackknife


def ar1(n_series: int, length: int, phi: float, seed: int) -> Tensor:
    """Stationary AR(1) series of unit variance, (n_series, length)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_series, length, generator=generator, dtype=torch.float64)
    series = torch.empty_like(noise)
    series[:, 0] = noise[:, 0]
    for t in range(1, length):
        series[:, t] = phi * series[:, t - 1] + math.sqrt(1 - phi**2) * noise[:, t]
    return series


def exact_variance_of_mean(sizes: list[int], phi: float) -> float:
    """Variance of the mean over all frames of independent AR(1) replicas."""
    n = sum(sizes)
    total = sum(size + 2 * sum((size - t) * phi**t for t in range(1, size)) for size in sizes)
    return total / n**2


def root_mean_square(values: list[float]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_one_series_has_the_exact_standard_error(phi: float) -> None:
    series = ar1(40, 4096, phi, seed=1)
    averages = [block_average(row) for row in series]
    exact = math.sqrt(exact_variance_of_mean([4096], phi))
    # 40 series, each with at least 16 blocks: 3 % from chance, the rest from the finite block
    assert root_mean_square([a.stderr.item() for a in averages]) == pytest.approx(exact, rel=0.12)
    tau = 0.5 * (1 + phi) / (1 - phi)
    mean_tau = sum(a.autocorrelation_time for a in averages) / 40
    assert mean_tau == pytest.approx(tau, rel=0.08)
    mean_n_eff = sum(a.n_eff for a in averages) / 40
    assert mean_n_eff == pytest.approx(4096 / (2 * tau), rel=0.1)
    assert all(a.plateau for a in averages)


def test_naive_error_would_be_far_too_small() -> None:
    series = ar1(1, 4096, 0.9, seed=2)[0]
    naive = float(series.std() / math.sqrt(4096))
    assert block_average(series).stderr.item() > 3 * naive


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_replicas_of_unequal_length_have_the_exact_standard_error(phi: float) -> None:
    """Failed replicas are shorter, down to a single frame."""
    sizes = [60] * 20 + [37, 23, 11, 7, 5, 2, 1, 1]
    exact = math.sqrt(exact_variance_of_mean(sizes, phi))
    replica = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    stderrs, means, n_effs = [], [], []
    for seed in range(60):
        series = ar1(len(sizes), 60, phi, seed=100 + seed)
        values = torch.cat([row[:size] for row, size in zip(series, sizes, strict=True)])
        average = ensemble_average(values[:, None], replica)
        stderrs.append(average.stderr.item())
        means.append(average.mean.item())
        n_effs.append(average.n_eff)
    assert root_mean_square(stderrs) == pytest.approx(exact, rel=0.1)
    assert sum(n_effs) / 60 == pytest.approx(1 / exact**2, rel=0.1)
    # the means scatter by as much as the error bar says (60 samples: 9 % at one sigma)
    assert root_mean_square(means) == pytest.approx(exact, rel=0.27)


def test_frozen_replicas_count_once_each() -> None:
    """Frames that repeat within a replica add nothing: n_eff is the number of replicas."""
    generator = torch.Generator().manual_seed(4)
    levels = torch.randn(200, generator=generator, dtype=torch.float64)
    replica = torch.arange(200).repeat_interleave(16)
    average = ensemble_average(levels[replica][:, None], replica)
    assert average.n_eff == pytest.approx(200, rel=0.02)
    assert average.stderr.item() == pytest.approx(float(levels.std()) / math.sqrt(200), rel=1e-9)


def test_each_component_has_its_own_error() -> None:
    slow, fast = ar1(2, 8192, 0.95, seed=5)[0], ar1(2, 8192, 0.0, seed=6)[0]
    constant = torch.full_like(fast, 3.0)
    together = block_average(torch.stack([slow, fast, constant], dim=1))
    for k, series in enumerate([slow, fast, constant]):
        alone = block_average(series).stderr.item()
        assert together.stderr[k].item() == pytest.approx(alone, rel=1e-12)
    assert together.stderr[2] == 0
    assert together.stderr[0] > 3 * together.stderr[1] > 0


def test_order_of_replicas_is_of_no_consequence() -> None:
    series = ar1(6, 50, 0.7, seed=7)
    by_replica = ensemble_average(series.reshape(-1, 1), torch.arange(6).repeat_interleave(50))
    interleaved = ensemble_average(series.T.reshape(-1, 1), torch.arange(6).repeat(50))
    torch.testing.assert_close(interleaved.stderr, by_replica.stderr)
    assert interleaved.n_eff == pytest.approx(by_replica.n_eff)


def test_non_finite_frames_are_counted_and_left_out() -> None:
    values = ar1(4, 50, 0.3, seed=8).reshape(-1, 1).repeat(1, 2)
    replica = torch.arange(4).repeat_interleave(50)
    broken = values.clone()
    broken[40:50, 0] = float("nan")
    broken[199, 1] = float("inf")
    keep = torch.isfinite(broken).all(dim=1)
    average = ensemble_average(broken, replica)
    without = ensemble_average(values[keep], replica[keep])
    assert average.n_dropped == 11 and average.n_frames == 189
    torch.testing.assert_close(average.mean, without.mean, rtol=0, atol=0)
    torch.testing.assert_close(average.stderr, without.stderr, rtol=0, atol=0)


def test_too_short_a_series_says_so() -> None:
    average = block_average(ar1(1, 64, 0.99, seed=9)[0])
    assert not average.plateau
    single = block_average(torch.tensor([2.0]))
    assert single.mean.item() == 2.0 and math.isnan(single.stderr.item())
    assert not single.plateau


def test_nothing_finite_is_an_error() -> None:
    with pytest.raises(DataError, match="no finite frame among 2"):
        block_average(torch.tensor([float("nan"), float("inf")]))
    with pytest.raises(DataError, match=r"\(5, 2\) and \(4,\)"):
        ensemble_average(torch.zeros(5, 2), torch.zeros(4, dtype=torch.int64))


def test_jackknife_of_a_linear_function_is_the_error_of_that_component() -> None:
    series = ar1(30, 64, 0.6, seed=10).reshape(-1, 1) * torch.tensor([1.0, 0.5])
    replica = torch.arange(30).repeat_interleave(64)
    average = ensemble_average(series, replica)
    value, error = jackknife(lambda mean: 3.0 * mean[0] + 1.0, series, replica)
    assert value == pytest.approx(3.0 * average.mean[0].item() + 1.0)
    assert error == pytest.approx(3.0 * average.stderr[0].item(), rel=1e-6)


def test_error_bar_of_the_mae_is_its_scatter() -> None:
    """Over repeated experiments the MAE of h(r) scatters by its error bar."""
    h = DistanceDistribution(2, r_max=4.0, n_bins=40)
    reference = h.values(_dimers(torch.full((1,), 2.1, dtype=torch.float64)))[0]
    maes, errors = [], []
    for seed in range(50):
        r = 2.0 + 0.2 * ar1(16, 40, 0.7, seed=500 + seed).reshape(-1)
        result = compare_with_reference(
            h, h.values(_dimers(r)), torch.arange(16).repeat_interleave(40), reference
        )
        maes.append(result.mae)
        errors.append(result.stderr)
    scatter = float(torch.tensor(maes).std())
    # scatter of 50 numbers is known to 10 %, so 30 % is three standard deviations
    assert root_mean_square(errors) == pytest.approx(scatter, rel=0.3)


def test_a_sampled_reference_widens_the_error_bar() -> None:
    h = DistanceDistribution(2, r_max=4.0, n_bins=20)
    values = h.values(_dimers(2.0 + 0.2 * ar1(20, 30, 0.5, seed=20).reshape(-1)))
    other = h.values(_dimers(2.2 + 0.2 * ar1(1, 300, 0.0, seed=21).reshape(-1)))
    replica = torch.arange(20).repeat_interleave(30)
    exact = compare_with_reference(h, values, replica, other.mean(dim=0))
    sampled = compare_with_reference(h, values, replica, other)
    assert sampled.mae == pytest.approx(exact.mae, rel=1e-12)
    assert sampled.reference is not None and exact.reference is None
    swapped = compare_with_reference(
        h, other, torch.zeros(300, dtype=torch.int64), values.mean(dim=0)
    )
    assert sampled.stderr == pytest.approx(math.hypot(exact.stderr, swapped.stderr), rel=1e-9)
    with pytest.raises(DataError, match=r"average \(20,\)"):
        compare_with_reference(h, values, replica, torch.zeros(7))


def _dimers(distances: Tensor) -> Tensor:
    positions = torch.zeros(len(distances), 2, 3, dtype=torch.float64)
    positions[:, 1, 0] = distances
    return positions
