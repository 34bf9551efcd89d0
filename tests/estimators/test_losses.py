"""Laws of the losses on ensemble averages."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.estimators import LOSSES, make_loss
from stablemd.observables import DistanceDistribution


def gaussian(n_bins: int, centre: float, width: float = 0.3) -> tuple[Tensor, float]:
    """A normal density on 0 to 10, and the spacing of its bins."""
    spacing = 10.0 / n_bins
    r = (torch.arange(n_bins, dtype=torch.float64) + 0.5) * spacing
    density = torch.exp(-0.5 * ((r - centre) / width) ** 2) / (width * math.sqrt(2 * math.pi))
    return density, spacing


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_zero_at_the_reference_only(name: str) -> None:
    target, spacing = gaussian(100, 4.0)
    loss = make_loss(name, target, spacing)
    assert loss(target).item() == 0.0
    assert loss(gaussian(100, 4.1)[0]).item() > 1e-4


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_does_not_depend_on_the_number_of_bins(name: str) -> None:
    found = []
    for n_bins in (200, 1600):
        target, spacing = gaussian(n_bins, 4.0)
        found.append(make_loss(name, target, spacing)(gaussian(n_bins, 4.5)[0]).item())
    assert found[1] == pytest.approx(found[0], rel=2e-3)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradient_equals_finite_differences(name: str) -> None:
    target, spacing = gaussian(20, 4.0, width=1.0)
    point = gaussian(20, 4.6, width=1.2)[0].requires_grad_(True)
    assert torch.autograd.gradcheck(make_loss(name, target, spacing), (point,))


def test_mse_of_two_gaussians_is_the_known_integral() -> None:
    """∫(p - q)² = (1 - exp(-d²/4s²)) / (s √π) for normal densities d apart."""
    target, spacing = gaussian(500, 4.0)
    found = make_loss("mse", target, spacing)(gaussian(500, 4.5)[0]).item()
    exact = (1 - math.exp(-(0.5**2) / (4 * 0.3**2))) / (0.3 * math.sqrt(math.pi))
    assert found == pytest.approx(exact, rel=1e-9)


def test_wasserstein_is_the_distance_a_peak_has_moved() -> None:
    target, spacing = gaussian(500, 2.0)
    for shift in (0.1, 1.0, 5.0):
        loss = make_loss("wasserstein", target, spacing)
        assert loss(gaussian(500, 2.0 + shift)[0]).item() == pytest.approx(shift, rel=1e-6)


def test_integrated_absolute_is_the_reported_error() -> None:
    h = DistanceDistribution(3, n_bins=100)
    a, b = gaussian(100, 3.0)[0], gaussian(100, 3.2)[0]
    loss = make_loss("integrated_absolute", b, h.bin_width)
    assert loss(a).item() == pytest.approx(h.mean_absolute_error(a, b).item(), rel=1e-14)


def test_huber_is_half_the_square_when_close_and_linear_when_far() -> None:
    target = torch.zeros(2, dtype=torch.float64)
    loss = make_loss("huber", target, delta=0.5)
    near = torch.tensor([0.1, -0.2], dtype=torch.float64)
    assert loss(near).item() == pytest.approx(0.5 * (0.01 + 0.04))
    far = torch.tensor([10.0, 0.0], dtype=torch.float64)
    assert loss(far).item() == pytest.approx(0.5 * (10.0 - 0.25))


def test_refuses_unknown_names_options_and_targets() -> None:
    target = torch.zeros(3)
    with pytest.raises(ConfigError, match="unknown loss 'rmse'; known are"):
        make_loss("rmse", target)
    with pytest.raises(ConfigError, match=r"no option \['delta'\]"):
        make_loss("mse", target, delta=1.0)
    with pytest.raises(ConfigError, match="delta > 0"):
        make_loss("huber", target, delta=0.0)
    with pytest.raises(ConfigError, match="finite target"):
        make_loss("mse", torch.tensor([1.0, float("nan")]))
    with pytest.raises(ConfigError, match="spacing > 0"):
        make_loss("mse", target, spacing=0.0)
