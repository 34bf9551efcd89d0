"""Losses between an ensemble average and its reference.

All are integrals over the observable's axis (sums times the spacing), so that
their size, and with it the learning rate, does not depend on the number of bins.
With uncertainties σ of the target, deviations count in units of σ: a target
that is known badly pulls less.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import ConfigError

Loss = Callable[[Tensor], Tensor]
"""From an ensemble average (D,) to a differentiable scalar."""

SIDES = ("both", "above", "below")


def mse(target: Tensor, spacing: float = 1.0, *, sigma: Tensor | float = 1.0) -> Loss:
    """Integrated squared error ∫ ((g - g_ref)/σ)² dr.

    Args:
        target: reference average g_ref, (D,).
        spacing: distance between neighbouring components on the axis; 1 where
            the components are separate quantities, whose squares are then summed.
        sigma: standard uncertainty of the target in its unit, one or (D,).

    Raises:
        ConfigError: ``sigma`` is not positive or does not fit the target.
    """
    scaled = _deviation(target, sigma)
    return lambda mean: scaled(mean).square().sum() * spacing


def integrated_absolute(
    target: Tensor, spacing: float = 1.0, *, sigma: Tensor | float = 1.0
) -> Loss:
    """Integrated absolute error ∫ |g - g_ref|/σ dr; arguments as in ``mse``.

    For h(r) this is the error that is reported.  Its gradient does not shrink
    near the reference, where it has a kink.
    """
    scaled = _deviation(target, sigma)
    return lambda mean: scaled(mean).abs().sum() * spacing


def huber(
    target: Tensor, spacing: float = 1.0, *, delta: float = 0.1, sigma: Tensor | float = 1.0
) -> Loss:
    """Integrated Huber error: d²/2 for a deviation d up to ``delta``, linear beyond.

    Args:
        target: reference average g_ref, (D,).
        spacing: as in ``mse``.
        delta: deviation, in the unit of g (in σ where that is given), at which
            the error becomes linear.
        sigma: as in ``mse``.

    Raises:
        ConfigError: ``delta`` or ``sigma`` is not positive.
    """
    if not delta > 0.0:
        raise ConfigError(f"the Huber loss needs delta > 0 in the observable's unit, got {delta}")
    scaled = _deviation(target, sigma)

    def loss(mean: Tensor) -> Tensor:
        deviation = scaled(mean)
        zero = torch.zeros_like(deviation)
        error = torch.nn.functional.huber_loss(deviation, zero, reduction="sum", delta=delta)
        return error * spacing

    return loss


def hinge(
    target: Tensor,
    spacing: float = 1.0,
    *,
    tolerance: float = 0.0,
    side: str = "both",
    sigma: Tensor | float = 1.0,
) -> Loss:
    """Absolute error beyond a tolerance: ∫ max(|g - g_ref|/σ - tolerance, 0) dr.

    For bounds and for experiments: what lies within the tolerance has no
    gradient at all, and is left alone.

    Args:
        target: reference average or bound, (D,).
        spacing: as in ``mse``.
        tolerance: deviation in the unit of g (in σ where that is given) that is free.
        side: ``"both"``, or ``"above"`` / ``"below"``: only averages above / below
            the reference count.
        sigma: as in ``mse``.

    Raises:
        ConfigError: negative ``tolerance``, unknown ``side``, or ``sigma`` not positive.
    """
    if not tolerance >= 0.0 or side not in SIDES:
        raise ConfigError(
            f"the hinge loss needs tolerance >= 0 and side in {SIDES}, got {tolerance} and {side!r}"
        )
    scaled = _deviation(target, sigma)

    def loss(mean: Tensor) -> Tensor:
        deviation = scaled(mean)
        size = {"both": deviation.abs(), "above": deviation, "below": -deviation}[side]
        return (size - tolerance).clamp_min(0.0).sum() * spacing

    return loss


def wasserstein(target: Tensor, spacing: float = 1.0) -> Loss:
    """First Wasserstein distance ∫ |F - F_ref| dr between two densities, in the axis' unit.

    F is the cumulative distribution.  Unlike an error bin by bin it grows with
    the distance by which a peak has moved, even if the peaks no longer overlap.
    Arguments as in ``mse``.

    Reference: Vallender, Theory Probab. Appl. 18, 784 (1974).
    """
    return lambda mean: (mean - target.to(mean)).cumsum(dim=0).abs().sum() * spacing**2


def kl(target: Tensor, spacing: float = 1.0, *, floor: float = 1e-6) -> Loss:
    """Kullback–Leibler divergence ∫ p_ref ln(p_ref/p) dr between two densities.

    Both are divided by their integrals.  It punishes an average that gives no
    weight to what the reference visits, and hardly one that visits more.

    Args:
        target: reference density, (D,), not negative.
        spacing: bin width.
        floor: added to both densities, as a share of the reference's mean, so
            that empty bins stay finite.

    Raises:
        ConfigError: a negative or empty target, or ``floor`` is not positive.
    """
    if not floor > 0.0 or bool((target < 0.0).any()) or not float(target.sum()) > 0.0:
        raise ConfigError(
            f"the KL loss compares densities: it needs a target >= 0 with a positive sum and "
            f"floor > 0; got sum {float(target.sum()):.3g}, minimum {float(target.min()):.3g}, "
            f"floor {floor}"
        )
    ground = floor * float(target.mean())

    def normalised(density: Tensor) -> Tensor:
        # Below zero there are only rounding errors of empty bins.
        raised = density.clamp_min(0.0) + ground
        return raised / (raised.sum() * spacing)

    def loss(mean: Tensor) -> Tensor:
        p_ref, p = normalised(target.to(mean)), normalised(mean)
        return (p_ref * (p_ref.log() - p.log())).sum() * spacing

    return loss


def weighted_sum(terms: Sequence[tuple[float, slice, Loss]]) -> Loss:
    """Several losses on parts of one average: ``Σ_t weight_t loss_t(mean[part_t])``.

    Args:
        terms: weight, part of the average, and loss of each term.

    Raises:
        ConfigError: there is no term, or a weight is negative or not finite.
    """
    if not terms or not all(0.0 <= weight < float("inf") for weight, _, _ in terms):
        raise ConfigError(
            f"a weighted sum needs terms with weights >= 0, got {[w for w, _, _ in terms]}"
        )
    return lambda mean: torch.stack(
        [weight * loss(mean[part]).reshape(()) for weight, part, loss in terms]
    ).sum()


def _deviation(target: Tensor, sigma: Tensor | float) -> Callable[[Tensor], Tensor]:
    """(mean - target)/σ as a function of the mean."""
    scale = torch.as_tensor(sigma, dtype=torch.float64)
    if scale.shape not in ((), target.shape) or not bool(
        (torch.isfinite(scale) & (scale > 0.0)).all()
    ):
        raise ConfigError(
            "sigma must be a positive uncertainty in the observable's unit, one or "
            f"{tuple(target.shape)}; got shape {tuple(scale.shape)} with minimum "
            f"{float(scale.min()) if scale.numel() else float('nan'):.3g}"
        )
    return lambda mean: (mean - target.to(mean)) / scale.to(mean)


LOSSES: dict[str, Callable[..., Loss]] = {
    "mse": mse,
    "integrated_absolute": integrated_absolute,
    "huber": huber,
    "hinge": hinge,
    "wasserstein": wasserstein,
    "kl": kl,
}
"""Every loss by its name; each is built as ``factory(target, spacing, **options)``."""


def make_loss(name: str, target: Tensor, spacing: float = 1.0, **options: Any) -> Loss:
    """The loss of that name.

    Args:
        name: a key of ``LOSSES``.
        target: reference average, (D,), finite.
        spacing: distance between neighbouring components on the axis.
        options: keyword arguments of the loss.

    Raises:
        ConfigError: unknown name or option, or a target that is no finite vector.
    """
    if name not in LOSSES:
        raise ConfigError(f"unknown loss {name!r}; known are {sorted(LOSSES)}")
    factory = LOSSES[name]
    accepted = [
        p.name
        for p in inspect.signature(factory).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise ConfigError(f"loss {name!r} has no option {unknown}; it takes {accepted}")
    if target.ndim != 1 or not bool(torch.isfinite(target).all()) or not spacing > 0.0:
        raise ConfigError(
            f"loss {name!r} needs a finite target of shape (D,) and a spacing > 0; got shape "
            f"{tuple(target.shape)} and spacing {spacing}"
        )
    return factory(target, spacing, **options)
