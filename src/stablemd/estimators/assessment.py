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


def assess(
    average: ReweightedMean,
    loss: Loss,
    slope: Tensor,
    total: GradientSum,
    *,
    error_bars: bool = True,
) -> tuple[float, Trust]:
    """Standard error of a loss on this average, and how far its gradient can be trusted.

    Both the error and the noise of the slope come from one jackknife, which leaves out one
    of at most 12 groups of replicas at a time.  Without ``error_bars`` the first, and the
    autocorrelation time with what follows from it, are NaN; where the groups of ``total``
    were not compared, the second is.

    Raises:
        DataError: the slope of the loss is not finite where a group is left out.
    """
    frames, weights = average.frames, average.weights
    with_slopes = total.n_groups >= 2
    left_out = _left_out_means(average) if error_bars or with_slopes else None
    stderr = slope_noise = time = share = math.nan
    if left_out is not None:
        losses, slopes = _losses_and_slopes(loss, left_out, with_slopes=with_slopes)
        if error_bars:
            scale = (len(losses) - 1) / len(losses)
            stderr = float(((losses - losses.mean()).square().sum() * scale).sqrt())
        if slopes is not None:
            slope_noise = _slope_noise(average, slope, slopes)
    if error_bars:
        projected = frames.values.to(torch.float64) @ slope
        time, share = independent_share(projected, weights, frames.replica)
    return stderr, Trust(
        n_frames=len(frames),
        n_dropped=average.n_dropped,
        n_eff=average.n_eff,
        n_eff_entropy=average.n_eff_entropy,
        autocorrelation_time=time,
        n_independent=share * average.n_eff,
        n_groups=total.n_groups,
        gradient_norm=total.norm,
        gradient_noise=total.variance**0.5,
        slope_noise=slope_noise,
    )


def _left_out_means(average: ReweightedMean) -> Tensor | None:
    """Averages (K, D) without one group each; None where they say nothing."""
    weights = average.weights
    group = merged_groups(average.frames.independent, MAX_LEFT_OUT)
    _, index = torch.unique(group, return_inverse=True)
    n_groups = int(index.max()) + 1
    shares = weights.new_zeros(n_groups).index_add(0, index, weights)
    if n_groups < 2 or float(shares.max()) > 1.0 - 1e-12:
        return None
    members = weights.new_zeros(n_groups, len(weights))
    members[index, torch.arange(len(weights), device=weights.device)] = weights
    sums = members @ average.frames.values.to(torch.float64)
    return (average.mean - sums) / (1.0 - shares)[:, None]


def _losses_and_slopes(
    loss: Loss, means: Tensor, *, with_slopes: bool
) -> tuple[Tensor, Tensor | None]:
    """L and ∂L/∂<g> at every one of several averages (K, D), from one backward pass."""
    with torch.set_grad_enabled(with_slopes):
        points = means.detach().requires_grad_(with_slopes)
        losses = torch.stack([loss(row).reshape(()) for row in points.unbind()])
        if not with_slopes:
            return losses, None
        (slopes,) = torch.autograd.grad(losses.sum(), points)
    if not bool(torch.isfinite(slopes).all()):
        raise DataError(
            "the slope of the loss is not finite where a group of replicas is left out; check the "
            "target and the loss for components that are not finite"
        )
    return losses.detach(), slopes


def _slope_noise(average: ReweightedMean, slope: Tensor, slopes: Tensor) -> float:
    """Relative noise of the coefficients through ∂L/∂<g>, from the slopes (K, D) of a jackknife."""
    deviations = average.frames.values.to(torch.float64) - average.mean
    size = average.weights @ (deviations @ slope).square()
    if not size > 0.0:
        return 0.0
    changes = average.weights @ (deviations @ (slopes - slope).T).square()
    return float((changes.sum() * (len(slopes) - 1) / len(slopes) / size).sqrt())
