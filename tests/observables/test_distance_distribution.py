"""Laws of h(r)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.observables import DistanceDistribution
from stablemd.system import System

EXACT = 1e-12


def dimers(distances: Tensor) -> Tensor:
    """Two atoms at the given distances, (n, 2, 3)."""
    positions = torch.zeros(len(distances), 2, 3, dtype=torch.float64)
    positions[:, 1, 2] = distances
    return positions


@pytest.mark.parametrize("bandwidth", [None, 0.06])
def test_every_pair_counts_once(frames: Tensor, bandwidth: float | None) -> None:
    h = DistanceDistribution(6, r_max=10.0, n_bins=500, bandwidth=bandwidth)
    integral = h.values(frames).sum(dim=1) * h.bin_width
    torch.testing.assert_close(integral, torch.ones_like(integral), rtol=EXACT, atol=EXACT)


@pytest.mark.parametrize("bandwidth", [0.1, 0.3])
def test_kernel_is_centred_on_the_distance(bandwidth: float) -> None:
    """A B-spline of degree two reproduces linear functions: the first moment is exact."""
    distances = torch.linspace(0.6, 3.4, 57, dtype=torch.float64)
    h = DistanceDistribution(2, r_max=4.0, n_bins=40, bandwidth=bandwidth)
    first_moment = h.values(dimers(distances)) @ h.axis * h.bin_width
    torch.testing.assert_close(first_moment, distances, rtol=EXACT, atol=EXACT)


def test_second_moment_is_broadened_by_a_quarter_bandwidth_squared() -> None:
    distances = torch.linspace(0.6, 3.4, 57, dtype=torch.float64)
    h = DistanceDistribution(2, r_max=4.0, n_bins=40)
    second = h.values(dimers(distances)) @ h.axis.square() * h.bin_width
    expected = distances.square() + h.bandwidth**2 / 4
    torch.testing.assert_close(second, expected, rtol=EXACT, atol=EXACT)


def test_equals_the_sum_over_all_bins(frames: Tensor) -> None:
    """The scattered form equals the dense one, bins by pairs, of the same kernel."""
    h = DistanceDistribution(6, r_max=4.0, n_bins=80, bandwidth=0.1)
    distances = torch.stack([torch.pdist(frame) for frame in frames])
    x = ((h.axis - distances[:, :, None]) / h.bandwidth).abs()
    dense = torch.where(x < 0.5, 0.75 - x**2, 0.5 * (1.5 - x).clamp(min=0) ** 2).mean(dim=1)
    torch.testing.assert_close(h.values(frames), dense / h.bandwidth, rtol=EXACT, atol=EXACT)


def test_converges_to_the_exact_density() -> None:
    """Distances on a fine grid of the quantiles of 6 r (1 - r) give that density."""
    r = torch.linspace(0, 1, 4001, dtype=torch.float64)
    u = (torch.arange(20000, dtype=torch.float64) + 0.5) / 20000
    cdf = 3 * r**2 - 2 * r**3
    k = torch.searchsorted(cdf, u)
    quantile = r[k - 1] + (u - cdf[k - 1]) / (cdf[k] - cdf[k - 1]) * (r[k] - r[k - 1])
    h = DistanceDistribution(2, r_max=1.5, n_bins=75)
    mean = h.values(dimers(quantile)).mean(dim=0)
    inside = (h.axis > 0.05) & (h.axis < 0.95)
    exact = 6 * h.axis * (1 - h.axis)
    assert (mean - exact)[inside].abs().max() < 5e-3


def test_unchanged_by_exchange_of_identical_atoms(frames: Tensor) -> None:
    h = DistanceDistribution(6)
    exchanged = frames[:, [0, 1, 5, 3, 2, 4]]
    torch.testing.assert_close(h.values(exchanged), h.values(frames), rtol=EXACT, atol=EXACT)


def test_pairs_beyond_r_max_leave_gradually() -> None:
    h = DistanceDistribution(2, r_max=2.0, n_bins=20)
    distances = torch.linspace(1.7, 2.4, 701, dtype=torch.float64)
    weight = h.values(dimers(distances)).sum(dim=1) * h.bin_width
    stays = distances <= h.r_max - h.bandwidth
    torch.testing.assert_close(weight[stays], torch.ones_like(weight[stays]), rtol=EXACT, atol=0)
    gone = distances >= h.r_max + h.bandwidth
    assert weight[gone].abs().max() == 0
    assert (weight.diff() <= EXACT).all()
    assert weight.diff().abs().max() < 0.01  # no jump: 1 mÅ steps through a 0.2 Å ramp


def test_normalised_by_all_pairs_when_one_atom_is_far() -> None:
    positions = torch.zeros(1, 3, 3, dtype=torch.float64)
    positions[0, 1, 0], positions[0, 2, 0] = 1.0, 1e6
    h = DistanceDistribution(3)
    torch.testing.assert_close(
        (h.values(positions).sum() * h.bin_width).item(), 1 / 3, rtol=EXACT, atol=EXACT
    )


def test_gradient_is_continuous_across_bin_edges() -> None:
    """Second differences of every bin stay bounded: the derivative has no jump."""
    h = DistanceDistribution(2, r_max=1.0, n_bins=10)
    grid = torch.linspace(0.0, 1.2, 2401, dtype=torch.float64)
    positions = dimers(grid).requires_grad_(True)
    weight = torch.sin(torch.arange(10, dtype=torch.float64))
    (gradient,) = torch.autograd.grad((h.values(positions) * weight).sum(), positions)
    slope = gradient[:, 1, 2]
    largest_curvature = 3 * 2.0 / h.bandwidth**3  # three bins, |B''| <= 2
    step = float(grid[1] - grid[0])
    assert slope.diff().abs().max() < largest_curvature * step


def test_coinciding_atoms_have_finite_values_and_gradient() -> None:
    h = DistanceDistribution(2)
    positions = dimers(torch.tensor([0.0, 0.005], dtype=torch.float64)).requires_grad_(True)
    values = h.values(positions)
    (gradient,) = torch.autograd.grad(values.square().sum(), positions)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(
        (values.sum(dim=1) * h.bin_width).detach(),
        torch.ones(2, dtype=torch.float64),
        rtol=EXACT,
        atol=EXACT,
    )


def test_second_derivatives_pass_gradgradcheck() -> None:
    """Losses on h(r) can be differentiated twice inside a piece of the spline."""
    h = DistanceDistribution(3, r_max=3.0, n_bins=12)
    x = torch.tensor(
        [[[0.0, 0.0, 0.0], [0.97, 0.1, 0.0], [0.2, 1.31, 0.3]]],
        dtype=torch.float64,
        requires_grad=True,
    )
    assert torch.autograd.gradcheck(h.values, (x,))
    assert torch.autograd.gradgradcheck(h.values, (x,))


def test_chunks_do_not_change_the_numbers(frames: Tensor) -> None:
    whole = DistanceDistribution(6, chunk_size=100).values(frames)
    assert torch.equal(DistanceDistribution(6, chunk_size=3).values(frames), whole)


def test_float32_positions_give_float64_values(frames: Tensor) -> None:
    h = DistanceDistribution(6)
    values = h.values(frames.float())
    assert values.dtype == torch.float64
    # rounding of the positions (1e-7 Å) times the slope of h at 0.02 Å bins
    assert (values - h.values(frames)).abs().max() < 1e-3


def test_error_does_not_depend_on_the_number_of_bins() -> None:
    """Two separate peaks differ by an integral of two, however they are resolved."""
    for n_bins in (50, 500):
        h = DistanceDistribution(2, n_bins=n_bins)
        a, b = h.values(dimers(torch.tensor([2.0, 5.0], dtype=torch.float64)))
        assert h.mean_absolute_error(a, b).item() == pytest.approx(2.0, abs=EXACT)


def test_no_frames_give_no_values() -> None:
    assert DistanceDistribution(4, n_bins=20).values(torch.zeros(0, 4, 3)).shape == (0, 20)


def test_refuses_what_it_can_not_do() -> None:
    with pytest.raises(SystemDefinitionError, match="at least two atoms"):
        DistanceDistribution(1)
    crystal = System.create(["H", "H"], cell=5 * torch.eye(3).numpy(), pbc=True)
    with pytest.raises(SystemDefinitionError, match="periodic"):
        DistanceDistribution(crystal)
    with pytest.raises(ConfigError, match="multiple of the bin width 0.02"):
        DistanceDistribution(4, bandwidth=0.03)
    with pytest.raises(ConfigError, match="r_max=-1"):
        DistanceDistribution(4, r_max=-1.0)
    with pytest.raises(SystemDefinitionError, match=r"\(frames, 4, 3\)"):
        DistanceDistribution(4).values(torch.zeros(2, 5, 3))
