"""The slope of a loss at a sampled average, its error bar, and the trust in its gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.gradient_sum import GradientSum, merged_groups
from stablemd.estimators.losses import Loss
from stablemd.estimators.reweighting import ReweightedMean
from stablemd.estimators.trust import Trust, independent_share

MAX_LEFT_OUT = 12
"""Groups of the jackknife at most: more would cost a loss each and sharpen the error little."""


def loss_and_slope(loss: Loss, mean: Tensor) -> tuple[float, Tensor]:
    """L(<g>) and ∂L/∂<g>, (D,).

    Raises:
        DataError: one of them is not finite.
    """
    with torch.enable_grad():
        point = mean.detach().requires_grad_(True)
        value = loss(point)
        (slope,) = torch.autograd.grad(value, point)
    scalar = float(value.detach())
    if not math.isfinite(scalar) or not bool(torch.isfinite(slope).all()):
        raise DataError(
            f"the loss at the sampled average is {scalar} and its slope is "
            f"{'finite' if bool(torch.isfinite(slope).all()) else 'not finite'}; check the "
            "target and the loss for components that are not finite"
        )
    return scalar, slope


@torch.no_grad()
def loss_stderr(loss: Loss, average: ReweightedMean) -> float:
    """Standard error of the loss by leaving out one of at most 12 groups of replicas at a time."""
    group = merged_groups(average.frames.independent, MAX_LEFT_OUT)
    left_out = _left_out_means(average, group)
    if left_out is None:
        return float("nan")
    losses = torch.stack([loss(row).reshape(()) for row in left_out])
    deviations = losses - losses.mean()
    n_groups = len(left_out)
    return float((deviations.square().sum() * (n_groups - 1) / n_groups).sqrt())


def _left_out_means(average: ReweightedMean, group: Tensor) -> Tensor | None:
    """Averages (K, D) without one group each; None where they say nothing."""
    weights = average.weights
    _, index = torch.unique(group, return_inverse=True)
    n_groups = int(index.max()) + 1
    shares = weights.new_zeros(n_groups).index_add(0, index, weights)
    if n_groups < 2 or float(shares.max()) > 1.0 - 1e-12:
        return None
    members = weights.new_zeros(n_groups, len(weights))
    members[index, torch.arange(len(weights), device=weights.device)] = weights
    sums = members @ average.frames.values.to(torch.float64)
    return (average.mean - sums) / (1.0 - shares)[:, None]


def assess(
    average: ReweightedMean,
    loss: Loss,
    slope: Tensor,
    total: GradientSum,
    *,
    correlation: bool = True,
) -> Trust:
    """How far the gradient of a loss on this average can be trusted.

    Without ``correlation`` the autocorrelation time and what follows from it are NaN.
    """
    frames, weights = average.frames, average.weights
    time = share = math.nan
    if correlation:
        projected = frames.values.to(torch.float64) @ slope
        time, share = independent_share(projected, weights, frames.replica)
    return Trust(
        n_frames=len(frames),
        n_dropped=average.n_dropped,
        n_eff=average.n_eff,
        n_eff_entropy=average.n_eff_entropy,
        autocorrelation_time=time,
        n_independent=share * average.n_eff,
        n_groups=total.n_groups,
        gradient_norm=total.norm,
        gradient_noise=total.variance**0.5,
        slope_noise=_slope_noise(average, loss, slope, total.n_groups),
    )


def _slope_noise(average: ReweightedMean, loss: Loss, slope: Tensor, n_groups: int) -> float:
    """Relative noise of the coefficients through ∂L/∂<g>, by the jackknife."""
    if n_groups < 2:
        return float("nan")
    values = average.frames.values.to(torch.float64)
    group = merged_groups(average.frames.independent, n_groups)
    left_out = _left_out_means(average, group)
    if left_out is None:
        return float("nan")
    slopes = _slopes(loss, left_out) - slope
    deviations = values - average.mean
    size = average.weights @ (deviations @ slope).square()
    if not size > 0.0:
        return 0.0
    changes = average.weights @ (deviations @ slopes.T).square()
    return float((changes.sum() * (len(slopes) - 1) / len(slopes) / size).sqrt())


def _slopes(loss: Loss, means: Tensor) -> Tensor:
    """∂L/∂<g> at every one of several averages (K, D), from one backward pass."""
    with torch.enable_grad():
        points = means.detach().requires_grad_(True)
        rows = points.unbind()
        (slopes,) = torch.autograd.grad(torch.stack([loss(row) for row in rows]).sum(), points)
    if not bool(torch.isfinite(slopes).all()):
        raise DataError(
            "the slope of the loss is not finite where a group of replicas is left out; check the "
            "target and the loss for components that are not finite"
        )
    return slopes
