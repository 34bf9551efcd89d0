"""Integrated autocorrelation time of replicas of unequal length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FFT_ELEMENTS = 2**22
"""Elements transformed at a time (32 MB in float64), which bounds the memory."""


@dataclass(frozen=True)
class Autocorrelation:
    """How strongly consecutive frames repeat each other.

    Attributes:
        time: integrated autocorrelation time in frames; 0.5 for independent frames.
        n_eff: number of independent frames with the same variance of the mean.
        window: lag in frames up to which the correlation was summed.
    """

    time: float
    n_eff: float
    window: int


def integrated_autocorrelation(
    values: Tensor, replica_sizes: Tensor, *, window_factor: float = 5.0
) -> Autocorrelation:
    """Integrated autocorrelation time with Sokal's automatic window, pooled over components.

    The normalised autocovariances of the components are pooled with their
    variances as weights, so that one window serves all.  Frames of different
    replicas count as independent; for a replica that is shorter than the
    window the sum ends with the replica, so that ``n_eff`` of completely
    frozen replicas is their number.

    Args:
        values: (n, D), replica after replica, each in the order of time.
        replica_sizes: number of frames of each replica, (R,), summing to n.
        window_factor: c in "the smallest lag W with W >= c tau(W)".

    Reference: Sokal, "Monte Carlo Methods in Statistical Mechanics" (1997),
    section 3; Wolff, Comput. Phys. Commun. 156, 143 (2004), eqs. 31-49.
    """
    n = values.shape[0]
    products = _autocovariance_sums(values - values.mean(dim=0), replica_sizes)
    if n < 2 or not products[0] > 0.0:
        return Autocorrelation(time=0.5, n_eff=float(n), window=0)
    lags = torch.arange(products.shape[0], dtype=torch.float64, device=values.device)
    pairs = (replica_sizes[None, :] - lags[:, None]).clamp(min=0.0).sum(dim=1)
    rho = (products / pairs) / (products[0] / n)
    tau = rho.cumsum(dim=0) - 0.5
    closed = torch.nonzero(lags >= window_factor * tau).flatten()
    window = int(closed[0]) if len(closed) else len(lags) - 1

    # The sample mean is subtracted from its own frames; Wolff's eq. 49 undoes the bias.
    bias = 1.0 + (2 * window + 1) / n
    inefficiency = (1.0 + 2.0 * products[1 : window + 1].sum() / products[0]) * bias
    n_eff = min(float(n), n / max(float(inefficiency), 1.0))
    return Autocorrelation(time=max(0.5, float(tau[window]) * bias), n_eff=n_eff, window=window)


def _autocovariance_sums(deviations: Tensor, sizes: Tensor) -> Tensor:
    """Sum over components, replicas and pairs of frames at each lag, (longest replica,)."""
    longest, n_replicas = int(sizes.max()), len(sizes)
    n_fft = 1 << (2 * longest - 1).bit_length()
    replica = torch.arange(n_replicas, device=sizes.device).repeat_interleave(sizes)
    start = sizes.cumsum(0) - sizes
    frame = torch.arange(len(deviations), device=sizes.device) - start[replica]
    total = deviations.new_zeros(longest)
    width = max(1, _FFT_ELEMENTS // (n_replicas * n_fft))
    for part in torch.split(deviations, width, dim=1):
        padded = part.new_zeros(n_replicas, part.shape[1], longest)
        padded[replica, :, frame] = part
        power = torch.fft.rfft(padded, n=n_fft).abs().square().sum(dim=(0, 1))
        total += torch.fft.irfft(power, n=n_fft)[:longest]
    return total
