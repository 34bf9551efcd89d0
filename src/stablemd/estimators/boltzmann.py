"""The global Boltzmann Estimator, which with reweighting is DiffTRe: one code path."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.losses import Loss
from stablemd.estimators.reweighting import reweighted_mean
from stablemd.estimators.surrogate import backward_weighted_energy
from stablemd.estimators.thinning import thin_coefficients
from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class EstimatorResult:
    """What an estimator saw while it added its gradient.

    Attributes:
        loss: L(<g>_θ).
        loss_stderr: its standard error from the jackknife over replicas; NaN
            with fewer than two replicas.
        mean: <g>_θ, (D,) float64.
        n_eff: Kish's effective sample size of the weights; correlation in time
            is not part of it.
        n_eff_entropy: effective sample size from the entropy of the weights.
        n_frames: frames that were used.
        n_dropped: frames left out because a number was not finite.
        gradient_norm: norm of the gradient that was added to the parameters.
    """

    loss: float
    loss_stderr: float
    mean: Tensor
    n_eff: float
    n_eff_entropy: float
    n_frames: int
    n_dropped: int
    gradient_norm: float


def boltzmann_gradient(
    potential: Potential,
    system: System,
    frames: SampledFrames,
    loss: Loss,
    *,
    beta: float,
    chunk_size: int = 64,
    energies: Tensor | None = None,
    max_backward_frames: int | None = None,
    seed: int = 0,
) -> EstimatorResult:
    """Add the gradient of a loss on an ensemble average to the parameters' ``.grad``.

    The gradient of the average is ``-β Cov(g, ∂U/∂θ)`` over the frames, weighted
    by ``w_i ∝ exp(-β (U_θ - U_θ0))``.  It is formed as the gradient of
    ``Σ_i c_i U_θ(x_i)`` with ``c_i = -β w_i (g_i - <g>)·v N/(N-1)`` held fixed and
    ``v = ∂L/∂<g>``: a pass over the energies without a graph, then a chunked
    backward pass.  N/(N-1) makes the covariance unbiased where the weights are
    uniform, i.e. at θ = θ0, where this is the Boltzmann Estimator; elsewhere it
    is the DiffTRe gradient times that factor.  Observables depend on θ through
    the sampled distribution only: an explicit ∂g/∂θ is not supported.

    The caller clears the gradients beforehand.  Memory is bounded by the chunk.

    Args:
        potential: at the parameters θ.
        system: the molecule.
        frames: sampled at θ0, with the observable's values.
        loss: from the average (D,) to a differentiable scalar.
        beta: inverse temperature of the sampling in 1/eV.
        chunk_size: frames per forward and backward pass.
        energies: U_θ of all frames in eV (n,), if known; at θ = θ0 pass
            ``frames.reference_energies`` and the first pass is saved.
        max_backward_frames: frames in the backward pass at most; more are
            represented by an unbiased sample (``thin_coefficients``).
        seed: of that sample.

    Raises:
        ConfigError: ``beta`` or ``chunk_size`` is not positive.
        DataError: fewer than two frames are finite, or the loss is not finite.
        PotentialError: no parameter requires a gradient.

    Reference: Raja et al., TMLR 2025, arXiv 2402.13984, eq. 3; Thaler and
    Zavadlav, Nat. Commun. 12, 6884 (2021), eqs. 3-8.
    """
    average = reweighted_mean(
        potential, system, frames, beta=beta, chunk_size=chunk_size, energies=energies
    )
    kept = average.frames
    if len(kept) < 2:
        raise DataError(
            f"a covariance needs at least two finite frames, got {len(kept)} of {len(frames)}; "
            "sample more frames"
        )
    value, slope = _loss_and_slope(loss, average.mean)
    coefficients = frame_coefficients(kept.values, average.weights, slope, beta=beta)
    positions, cells = kept.positions, kept.cells
    if max_backward_frames is not None and len(kept) > max_backward_frames:
        index, coefficients = thin_coefficients(coefficients, max_backward_frames, seed=seed)
        positions = positions[index]
        cells = None if cells is None else cells[index]
    gradient_norm = backward_weighted_energy(
        potential, system, positions, coefficients, cells=cells, chunk_size=chunk_size
    )
    return EstimatorResult(
        loss=value,
        loss_stderr=_loss_stderr(loss, kept, average.weights, average.mean),
        mean=average.mean,
        n_eff=average.n_eff,
        n_eff_entropy=average.n_eff_entropy,
        n_frames=len(kept),
        n_dropped=average.n_dropped,
        gradient_norm=gradient_norm,
    )


def frame_coefficients(values: Tensor, weights: Tensor, slope: Tensor, *, beta: float) -> Tensor:
    """Weight of each frame's energy in the surrogate of the Boltzmann Estimator.

    Args:
        values: observable of every frame, (n, D).
        weights: normalised weights, (n,).
        slope: v = ∂L/∂<g> at the weighted average, (D,).
        beta: inverse temperature in 1/eV.

    Returns:
        c_i = -β w_i (g_i - <g>)·v N/(N-1), (n,) float64, summing to zero.
    """
    n = len(weights)
    projected = values.to(torch.float64) @ slope.to(torch.float64)
    return (-beta * n / (n - 1)) * weights * (projected - weights @ projected)


def _loss_and_slope(loss: Loss, mean: Tensor) -> tuple[float, Tensor]:
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
def _loss_stderr(loss: Loss, frames: SampledFrames, weights: Tensor, mean: Tensor) -> float:
    """Standard error of the loss by leaving out one replica at a time."""
    _, replica = torch.unique(frames.replica, return_inverse=True)
    n_replicas = int(replica.max()) + 1
    shares = weights.new_zeros(n_replicas).index_add(0, replica, weights)
    if n_replicas < 2 or float(shares.max()) > 1.0 - 1e-12:
        return float("nan")
    weighted = weights[:, None] * frames.values.to(torch.float64)
    sums = weighted.new_zeros(n_replicas, weighted.shape[1]).index_add(0, replica, weighted)
    left_out = (mean - sums) / (1.0 - shares)[:, None]
    losses = torch.stack([loss(row).reshape(()) for row in left_out])
    deviations = losses - losses.mean()
    return float((deviations.square().sum() * (n_replicas - 1) / n_replicas).sqrt())
