"""Laws that every observable in the registry obeys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.observables import OBSERVABLES, Observable, make_observable
from stablemd.system import System

EXACT = 1e-12
"""Rounding of float64 sums over a few dozen terms of order one."""


@pytest.fixture(params=sorted(OBSERVABLES))
def observable(request: pytest.FixtureRequest, methanol: System) -> Observable:
    return make_observable(request.param, methanol)


def test_describes_itself(observable: Observable, frames: Tensor) -> None:
    values = observable.values(frames)
    assert OBSERVABLES[observable.name] is type(observable)
    assert observable.axis.dtype == torch.float64
    assert values.shape == (len(frames), len(observable.axis))
    assert values.dtype == torch.float64
    assert torch.isfinite(values).all()
    assert observable.axis_label and observable.value_label


def test_unchanged_by_rigid_motion(observable: Observable, frames: Tensor) -> None:
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    rotation, _ = torch.linalg.qr(matrix)
    if torch.linalg.det(rotation) < 0:
        rotation = -rotation
    moved = frames @ rotation.T + torch.tensor([3.0, -7.0, 40.0], dtype=torch.float64)
    largest = observable.values(frames).abs().max()
    assert (observable.values(moved) - observable.values(frames)).abs().max() < 1e-9 * largest


def test_frames_do_not_see_each_other(observable: Observable, frames: Tensor) -> None:
    together = observable.values(frames)
    alone = torch.cat([observable.values(frame[None]) for frame in frames])
    torch.testing.assert_close(together, alone, rtol=EXACT, atol=EXACT)


def test_a_broken_frame_is_not_finite_and_alone(observable: Observable, frames: Tensor) -> None:
    broken = frames.clone()
    broken[2, 1, 0] = float("nan")
    broken[4, 0, 2] = float("inf")
    values = observable.values(broken)
    lost = ~torch.isfinite(values).all(dim=1)
    assert lost.nonzero().flatten().tolist() == [2, 4]
    torch.testing.assert_close(
        values[~lost], observable.values(frames)[~lost], rtol=EXACT, atol=EXACT
    )


def test_gradient_equals_finite_differences(observable: Observable, frames: Tensor) -> None:
    generator = torch.Generator().manual_seed(5)
    x = frames[:2]
    weight = torch.randn(observable.values(x).shape, generator=generator, dtype=torch.float64)
    direction = torch.randn(x.shape, generator=generator, dtype=torch.float64)

    def scalar(positions: Tensor) -> Tensor:
        return (observable.values(positions) * weight).sum()

    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(scalar(leaf), leaf)
    step = 1e-6
    numeric = (scalar(x + step * direction) - scalar(x - step * direction)) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), numeric, rtol=1e-5, atol=1e-5)
    assert gradient.abs().max() > 0


def test_error_is_zero_only_at_the_reference(observable: Observable, frames: Tensor) -> None:
    reference = observable.values(frames).mean(dim=0)
    other = observable.values(1.05 * frames).mean(dim=0)
    assert observable.mean_absolute_error(reference, reference) == 0
    assert observable.mean_absolute_error(other, reference) > 0


def test_unknown_name_lists_the_known(methanol: System) -> None:
    with pytest.raises(ConfigError, match="did you mean 'distance_distribution'"):
        make_observable("distance_distributions", methanol)


def test_unknown_option_lists_the_accepted(methanol: System) -> None:
    with pytest.raises(ConfigError, match=r"no option \['bins'\].*n_bins"):
        make_observable("distance_distribution", methanol, bins=3)
