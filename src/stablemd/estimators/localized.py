"""The localized Boltzmann Estimator: local observables against local energies."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.assessment import assess, loss_and_slope
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.gradient_sum import frames_gradient, trained_parameters
from stablemd.estimators.local_average import LocalAverage, local_average
from stablemd.estimators.losses import Loss
from stablemd.estimators.neighbourhoods import NeighbourhoodRule
from stablemd.estimators.stratified import stratified_coefficients
from stablemd.estimators.trust import Trust
from stablemd.estimators.weighted_energies import WeightedEnergies
from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class StratifiedSampling:
    """How many pairs of frame and neighbourhood enter the backward pass.

    Attributes:
        n_max: samples at most.
        n_strata: strata over the deviation.
        importance: weight every sample by what it stands for; without it, the
            flattened distribution of the paper.
        seed: of the choice.
    """

    n_max: int
    n_strata: int = 10
    importance: bool = True
    seed: int = 0


@dataclass(frozen=True)
class LocalizedResult:
    """What the localized estimator saw while it added its gradient.

    Attributes:
        loss: L(<g>_θ).
        loss_stderr: its standard error from the jackknife over groups of replicas.
        mean: <g>_θ of every kind of neighbourhood, (n_kinds, D) float64.
        n_neighbourhoods: neighbourhoods per frame.
        n_samples: pairs of frame and neighbourhood with a coefficient.
        n_backward_frames: frames in the backward pass.
        gradient_norm: norm of the gradient that was added to the parameters.
        trust: how far the gradient can be trusted, apart from the covariance
            with the rest of the system that the local form neglects.
    """

    loss: float
    loss_stderr: float
    mean: Tensor
    n_neighbourhoods: int
    n_samples: int
    n_backward_frames: int
    gradient_norm: float
    trust: Trust


def localized_gradient(
    potential: Potential,
    system: System,
    frames: SampledFrames,
    loss: Loss,
    *,
    beta: float,
    neighbourhoods: NeighbourhoodRule,
    cov_exact: bool = False,
    chunk_size: int = 64,
    energies: Tensor | None = None,
    sampling: StratifiedSampling | None = None,
    noise_groups: int = 8,
    error_bars: bool = True,
) -> LocalizedResult:
    """Add the gradient of a loss on averages of local observables to ``.grad``.

    For neighbourhood k of frame i with observable g_ik and energy
    ``u_ik = Σ_{a in k} ε_a(x_i)`` the gradient of an average is taken as
    ``-β Cov(g, ∂u/∂θ)`` over all (i, k) of one kind.  It is formed as the
    gradient of ``Σ_i Σ_a c_ia ε_a(x_i)``: every atom collects the coefficients of
    its neighbourhoods, so that a frame costs one forward and one backward pass
    whatever the number of neighbourhoods.

    The exact gradient has the total energy in place of u: what the rest of the
    system contributes on average is neglected, and with it the noise that the
    rest adds.  ``cov_exact=True`` keeps it.

    Away from θ0 frames are weighed as a whole by their change of energy; if they know
    their atomic energies at θ0, every neighbourhood is weighed by the change of its own
    (``neighbourhood_weights``), which is of the same kind: the gradient is then that of the
    loss on the averages so weighed, and N_eff does not fall with the size of the system.

    Args:
        potential: at the parameters θ, with atomic energies unless ``cov_exact``.
        system: the atoms.
        frames: sampled at θ0; ``values`` (n, K·D) holds the D numbers of each of
            the K neighbourhoods, one after the other.
        loss: from the averages of all kinds, one after the other (n_kinds·D,),
            to a differentiable scalar.
        beta: inverse temperature of the sampling in 1/eV.
        neighbourhoods: the K groups of atoms of given frames.
        cov_exact: use the total energy in place of the local one.
        chunk_size: frames per forward and backward pass.
        energies: U_θ of all frames in eV (n,), if known; atomic ones (n, N) where
            neighbourhoods are weighed by their own.
        sampling: use a stratified sample of the pairs (i, k) only.
        noise_groups: groups of replicas that are compared for the noise; 0 for none.
        error_bars: whether to form the standard error of the loss and the correlation of
            the frames in time; NaN without.

    Raises:
        ConfigError: an argument is out of range.
        DataError: fewer than two frames are finite, or the values do not fit
            the neighbourhoods.
        PotentialError: no atomic energies, or nothing to train.

    Reference: Raja et al., TMLR 2025, arXiv 2402.13984, localized Boltzmann
    Estimator.
    """
    if not cov_exact:
        potential.require_local_energies()
    parameters = trained_parameters(potential)
    found = local_average(
        potential,
        system,
        frames,
        neighbourhoods(frames.positions, frames.cells),
        beta=beta,
        chunk_size=chunk_size,
        whole_frames=cov_exact or frames.reference_atomic_energies is None,
        energies=energies,
    )
    average, around = found.by_frame, found.around
    kept, weights = average.frames, average.weights
    if len(kept) < 2:
        raise DataError(
            f"a covariance needs at least two finite frames, got {len(kept)} of {len(frames)}; "
            "sample more frames"
        )
    value, slope = loss_and_slope(loss, average.mean)
    pairs = _pair_coefficients(found, average.mean, slope, beta, len(kept) if cov_exact else None)
    if sampling is not None:
        pairs = stratified_coefficients(
            pairs.flatten(),
            sampling.n_max,
            n_strata=sampling.n_strata,
            seed=sampling.seed,
            importance=sampling.importance,
        ).reshape(pairs.shape)
    used = torch.nonzero((pairs != 0.0).any(dim=1)).flatten()
    n_atoms = kept.positions.shape[1]
    coefficients = pairs.sum(dim=1) if cov_exact else around.spread_to_atoms(pairs, n_atoms)
    chosen, coefficients = kept.select(used), coefficients[used]
    if not cov_exact and frames.reference_atomic_energies is not None and len(used):
        # Weights know energies up to a constant per atom (``energy_changes``), which counts
        # where neighbourhoods differ in size.
        sizes = around.sum_atoms(torch.ones_like(kept.positions[..., 0]))
        coefficients = coefficients - (pairs * sizes).sum() / coefficients.numel()
    total = frames_gradient(
        parameters,
        WeightedEnergies.of_frames(potential, system, chosen, coefficients),
        chosen,
        weights[used],
        kept,
        weights,
        chunk_size=chunk_size,
        noise_groups=noise_groups,
    )
    total.add_to(parameters)
    stderr, trust = assess(average, loss, slope, total, error_bars=error_bars)
    return LocalizedResult(
        loss=value,
        loss_stderr=stderr,
        mean=average.mean.reshape(around.n_kinds, -1),
        n_neighbourhoods=len(around),
        n_samples=int((pairs != 0.0).sum()),
        n_backward_frames=len(used),
        gradient_norm=total.norm,
        trust=trust,
    )


def _pair_coefficients(
    found: LocalAverage, mean: Tensor, slope: Tensor, beta: float, n_independent: int | None
) -> Tensor:
    """c_ik = -β w_ik (g_ik - <g>)·v M / (M - 1), (n, K), summing to zero for every kind.

    M counts the pairs of a kind, or the frames where energies are total ones.
    """
    local, around = found.values, found.around
    kind = around.kind.to(local.device)
    by_kind = (around.n_kinds, -1)
    deviations = local - mean.reshape(by_kind)[kind]
    projected = torch.einsum("nkd,kd->nk", deviations, slope.reshape(by_kind)[kind])
    alike = kind.bincount()[kind].to(local)
    m = alike * len(local) if n_independent is None else torch.full_like(alike, n_independent)
    factor: Tensor = -beta * m / (m - 1.0)
    return factor * found.pair_weights * projected
