"""Fewer frames in the backward pass, without bias."""

from __future__ import annotations

import torch
from torch import Tensor


def thin_coefficients(coefficients: Tensor, n_max: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Choose at most ``n_max`` frames that stand for all of them.

    The surrogate ``Σ c_i U(x_i)`` is a sum in which few frames matter much (those
    near an instability) and many matter little.  The large ones are kept as
    they are; of the small ones a systematic random sample is kept with
    probability proportional to ``|c_i|``, each with the weight of those it
    stands for.  Every ``c_i`` is right on average over seeds.  Positive and
    negative coefficients are treated apart, so that both sums, and with them
    the cancellation of everything that all energies have in common, are exact.

    Args:
        coefficients: c_i, (n,).
        n_max: frames to keep at most, at least 2.
        seed: of the random choice.

    Returns:
        Index of the kept frames (m,) int64, sorted, and their coefficients (m,).

    Reference: systematic sampling with unequal probabilities, Madow,
    Ann. Math. Stat. 20, 333 (1949).
    """
    n = len(coefficients)
    if n <= n_max:
        return torch.arange(n, device=coefficients.device), coefficients
    generator = torch.Generator().manual_seed(seed)
    values = coefficients.detach().to("cpu", torch.float64)
    positive = torch.nonzero(values > 0.0).flatten()
    negative = torch.nonzero(values < 0.0).flatten()
    n_positive = _allot(n_max, len(positive), len(negative))
    kept, weights = [], []
    for index, size in ((positive, n_positive), (negative, n_max - n_positive)):
        chosen, magnitude = thin_one_sign(values[index].abs(), size, generator)
        kept.append(index[chosen])
        weights.append(magnitude * values[index[chosen]].sign())
    index, order = torch.cat(kept).sort()
    return index.to(coefficients.device), torch.cat(weights)[order].to(coefficients)


def _allot(n_max: int, n_positive: int, n_negative: int) -> int:
    """Places for the positive ones: half, or what the negative ones leave free."""
    half = n_max // 2
    if n_positive <= half:
        return n_positive
    return max(half, n_max - n_negative)


def thin_one_sign(
    magnitudes: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """At most ``size`` of positive numbers: their index, and weights with the same sum."""
    if len(magnitudes) <= size:
        return torch.arange(len(magnitudes)), magnitudes
    ordered, order = magnitudes.sort(descending=True)
    n_certain = 0
    rest = float(ordered.sum())
    while n_certain < size and float(ordered[n_certain]) * (size - n_certain) >= rest:
        rest -= float(ordered[n_certain])
        n_certain += 1
    n_sampled = size - n_certain
    if n_sampled == 0 or rest <= 0.0:
        return order[:n_certain], ordered[:n_certain]
    share = float(ordered[n_certain:].sum()) / n_sampled
    marks = (torch.rand(1, generator=generator) + torch.arange(n_sampled)).double() * share
    sampled = torch.searchsorted(ordered[n_certain:].cumsum(0), marks)
    sampled = sampled.clamp_max(len(ordered) - n_certain - 1) + n_certain
    chosen = torch.cat([order[:n_certain], order[sampled]])
    return chosen, torch.cat(
        [ordered[:n_certain], torch.full((n_sampled,), share, dtype=torch.float64)]
    )
