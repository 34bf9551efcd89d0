"""What is subtracted from an observable before it is correlated with the energy."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from stablemd.errors import ConfigError

Centring = Literal["pooled", "leave_one_out", "replica"]
"""Names of the choices of ``centred``."""

CENTRINGS: tuple[Centring, ...] = ("pooled", "leave_one_out", "replica")


def centred(values: Tensor, weights: Tensor, group: Tensor, centring: Centring) -> Tensor:
    """Deviations y whose weighted covariance ``Σ w_i y_i u_i`` is normalised.

    ``"pooled"``: from the mean of all frames, with N/(N-1); unbiased for
    independent frames, and least noisy.  ``"leave_one_out"``: from the mean of
    the *other* groups; unbiased also where the frames of a replica repeat each
    other, which pooling underestimates.  ``"replica"``: from the mean of the
    frame's own group, with N/(N-K); a control variate that removes whatever
    differs between replicas, such as conformers that a window does not change.
    It leaves out the part of the gradient that shifts weight between them.

    Args:
        values: one number per frame, (n,) float64.
        weights: summing to one, (n,).
        group: group of replicas of each frame, (n,) int64.
        centring: one of ``CENTRINGS``.

    Returns:
        (n,), with ``Σ w_i y_i = 0``.

    Raises:
        ConfigError: unknown name, or too few groups or frames for it.
    """
    if centring not in CENTRINGS:
        raise ConfigError(f"unknown centring {centring!r}; known are {list(CENTRINGS)}")
    n = len(values)
    mean = weights @ values
    if centring == "pooled":
        return (values - mean) * (n / (n - 1))
    _, index = torch.unique(group, return_inverse=True)
    n_groups = int(index.max()) + 1
    shares = weights.new_zeros(n_groups).index_add(0, index, weights)
    sums = weights.new_zeros(n_groups).index_add(0, index, weights * values)
    if centring == "replica":
        if n_groups == n:
            raise ConfigError(
                "centring 'replica' needs several frames per replica, and every frame is a "
                "replica of its own; use 'pooled'"
            )
        own = torch.where(shares > 0.0, sums / shares, mean)
        return (values - own[index]) * (n / (n - n_groups))
    if n_groups < 2 or float(shares.max()) > 1.0 - 1e-12:
        raise ConfigError(
            f"centring 'leave_one_out' compares replicas, and {n_groups} with weight was given; "
            "use 'pooled', or more replicas"
        )
    others = (mean - sums) / (1.0 - shares)
    deviations = values - others[index]
    return deviations - weights @ deviations
