"""The global Boltzmann Estimator, which with reweighting is DiffTRe: one code path."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.assessment import assess, loss_and_slope
from stablemd.estimators.centring import Centring, centred
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.gradient_sum import frames_gradient, trained_parameters
from stablemd.estimators.losses import Loss
from stablemd.estimators.reweighting import reweighted_mean
from stablemd.estimators.thinning import thin_coefficients
from stablemd.estimators.trust import Trust
from stablemd.estimators.weighted_energies import WeightedEnergies, held_energies
from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class EstimatorResult:
    """What an estimator saw while it added its gradient.

    Attributes:
        loss: L(<g>_θ).
        loss_stderr: its standard error from the jackknife over groups of
            replicas; NaN with fewer than two.
        mean: <g>_θ, (D,) float64.
        n_eff: Kish's effective sample size of the weights; correlation in time
            is not part of it.
        n_eff_entropy: effective sample size from the entropy of the weights.
        n_frames: frames that were used.
        n_dropped: frames left out because a number was not finite.
        gradient_norm: norm of the gradient that was added to the parameters.
        trust: how far the gradient can be trusted.
    """

    loss: float
    loss_stderr: float
    mean: Tensor
    n_eff: float
    n_eff_entropy: float
    n_frames: int
    n_dropped: int
    gradient_norm: float
    trust: Trust


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
    centring: Centring = "pooled",
    noise_groups: int = 8,
    error_bars: bool = True,
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
        centring: what is subtracted from g (:func:`stablemd.estimators.centred`).
        noise_groups: groups of replicas that are compared for the noise of the
            gradient; 0 leaves it unknown and saves a small part of a pass.
        error_bars: whether to form the standard error of the loss and the correlation of
            the frames in time; NaN without.

    Raises:
        ConfigError: ``beta`` or ``chunk_size`` is not positive, or ``centring``
            does not fit the frames.
        DataError: fewer than two frames are finite, or the loss is not finite.
        PotentialError: no parameter requires a gradient.

    Reference: Raja et al., TMLR 2025, arXiv 2402.13984, eq. 3; Thaler and
    Zavadlav, Nat. Commun. 12, 6884 (2021), eqs. 3-8.
    """
    held = None
    if energies is None and len(frames) <= chunk_size:
        held = held_energies(potential, system, frames)
    average = reweighted_mean(
        potential,
        system,
        frames,
        beta=beta,
        chunk_size=chunk_size,
        energies=energies if held is None else held.detach(),
    )
    kept = average.frames
    if len(kept) < 2:
        raise DataError(
            f"a covariance needs at least two finite frames, got {len(kept)} of {len(frames)}; "
            "sample more frames"
        )
    parameters = trained_parameters(potential)
    value, slope = loss_and_slope(loss, average.mean)
    coefficients = frame_coefficients(
        kept.values, average.weights, slope, beta=beta, group=kept.independent, centring=centring
    )
    used, weights = kept, average.weights
    if max_backward_frames is not None and len(kept) > max_backward_frames:
        index, coefficients = thin_coefficients(coefficients, max_backward_frames, seed=seed)
        used, weights = kept.select(index), weights[index]
    surrogate = WeightedEnergies.of_frames(potential, system, used, coefficients)
    if held is not None and len(used) == len(frames):
        surrogate = replace(surrogate, held=held)
    total = frames_gradient(
        parameters,
        surrogate,
        used,
        weights,
        kept,
        average.weights,
        chunk_size=chunk_size,
        noise_groups=noise_groups,
    )
    total.add_to(parameters)
    stderr, trust = assess(average, loss, slope, total, error_bars=error_bars)
    return EstimatorResult(
        loss=value,
        loss_stderr=stderr,
        mean=average.mean,
        n_eff=average.n_eff,
        n_eff_entropy=average.n_eff_entropy,
        n_frames=len(kept),
        n_dropped=average.n_dropped,
        gradient_norm=total.norm,
        trust=trust,
    )


def frame_coefficients(
    values: Tensor,
    weights: Tensor,
    slope: Tensor,
    *,
    beta: float,
    group: Tensor | None = None,
    centring: Centring = "pooled",
) -> Tensor:
    """Weight of each frame's energy in the surrogate of the Boltzmann Estimator.

    Args:
        values: observable of every frame, (n, D).
        weights: normalised weights, (n,).
        slope: v = ∂L/∂<g> at the weighted average, (D,).
        beta: inverse temperature in 1/eV.
        group: group of replicas of each frame, (n,); not needed for pooling.
        centring: what is subtracted from g (:func:`centred`).

    Returns:
        c_i = -β w_i (g_i - <g>)·v N/(N-1) (pooled), (n,) float64, summing to zero.
    """
    projected = values.to(torch.float64) @ slope.to(torch.float64)
    group = torch.arange(len(weights), device=weights.device) if group is None else group
    return -beta * weights * centred(projected, weights, group, centring)
