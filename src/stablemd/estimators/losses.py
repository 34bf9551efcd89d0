"""Losses between an ensemble average and its reference.

All are integrals over the observable's axis (sums times the spacing), so that
their size, and with it the learning rate, does not depend on the number of bins.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from stablemd.errors import ConfigError

Loss = Callable[[Tensor], Tensor]
"""From an ensemble average (D,) to a differentiable scalar."""


def mse(target: Tensor, spacing: float = 1.0) -> Loss:
    """Integrated squared error ∫ (g - g_ref)² dr.

    Args:
        target: reference average g_ref, (D,).
        spacing: distance between neighbouring components on the axis; 1 where
            the components are separate quantities, whose squares are then summed.
    """
    return lambda mean: (mean - target.to(mean)).square().sum() * spacing


def integrated_absolute(target: Tensor, spacing: float = 1.0) -> Loss:
    """Integrated absolute error ∫ |g - g_ref| dr; arguments as in ``mse``.

    For h(r) this is the error that is reported.  Its gradient does not shrink
    near the reference, where it has a kink.
    """
    return lambda mean: (mean - target.to(mean)).abs().sum() * spacing


def huber(target: Tensor, spacing: float = 1.0, *, delta: float = 0.1) -> Loss:
    """Integrated Huber error: d²/2 for a deviation d up to ``delta``, linear beyond.

    Args:
        target: reference average g_ref, (D,).
        spacing: as in ``mse``.
        delta: deviation, in the unit of g, at which the error becomes linear.

    Raises:
        ConfigError: ``delta`` is not positive.
    """
    if not delta > 0.0:
        raise ConfigError(f"the Huber loss needs delta > 0 in the observable's unit, got {delta}")
    return lambda mean: (
        torch.nn.functional.huber_loss(mean, target.to(mean), reduction="sum", delta=delta)
        * spacing
    )


def wasserstein(target: Tensor, spacing: float = 1.0) -> Loss:
    """First Wasserstein distance ∫ |F - F_ref| dr between two densities, in the axis' unit.

    F is the cumulative distribution.  Unlike an error bin by bin it grows with
    the distance by which a peak has moved, even if the peaks no longer overlap.
    Arguments as in ``mse``.

    Reference: Vallender, Theory Probab. Appl. 18, 784 (1974).
    """
    return lambda mean: (mean - target.to(mean)).cumsum(dim=0).abs().sum() * spacing**2


LOSSES: dict[str, Callable[..., Loss]] = {
    "mse": mse,
    "integrated_absolute": integrated_absolute,
    "huber": huber,
    "wasserstein": wasserstein,
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
