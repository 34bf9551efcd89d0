"""Averages at the present parameters from frames sampled at earlier ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import ConfigError, DataError
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.surrogate import potential_energies
from stablemd.estimators.weights import boltzmann_weights, n_eff_entropy, n_eff_kish
from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class ReweightedMean:
    """An ensemble average at θ from frames sampled at θ0.

    Attributes:
        mean: <g>_θ = Σ w_i g_i, (D,) float64.
        weights: of the kept frames, (n_kept,) float64, summing to one.
        frames: the kept frames.
        index: of the kept frames among the given ones, (n_kept,) int64.
        energies: U_θ of the kept frames in eV, (n_kept,).
        n_eff: Kish's effective sample size.
        n_eff_entropy: effective sample size from the entropy of the weights.
        n_dropped: frames left out because a number, or U_θ, was not finite.
    """

    mean: Tensor
    weights: Tensor
    frames: SampledFrames
    index: Tensor
    energies: Tensor
    n_eff: float
    n_eff_entropy: float
    n_dropped: int


def reweighted_mean(
    potential: Potential,
    system: System,
    frames: SampledFrames,
    *,
    beta: float,
    chunk_size: int = 64,
    energies: Tensor | None = None,
) -> ReweightedMean:
    """Average of the frames' observable at the potential's present parameters.

    Energies only, no gradient: the cheap question of how good a step was, and
    whether the frames can still carry the average (``n_eff``).

    Args:
        potential: at the parameters θ.
        system: the molecule.
        frames: sampled at θ0.
        beta: inverse temperature of the sampling in 1/eV.
        chunk_size: frames per call of the potential.
        energies: U_θ of all frames in eV (n,), if known; at θ = θ0 pass
            ``frames.reference_energies`` and the potential is not called.

    Raises:
        ConfigError: ``beta`` is not positive.
        DataError: no frame is finite, or shapes do not fit.

    Reference: Thaler and Zavadlav, Nat. Commun. 12, 6884 (2021), eqs. 3-6.
    """
    if not 0.0 < beta < float("inf"):
        raise ConfigError(f"beta = 1/(k_B T) must be a positive number in 1/eV, got {beta}")
    if energies is not None and energies.shape != frames.reference_energies.shape:
        raise DataError(
            f"energies must be ({len(frames)},), one for every frame, got {tuple(energies.shape)}"
        )
    keep = frames.finite_mask()
    kept = frames if bool(keep.all()) else frames.select(keep)
    present = (
        potential_energies(
            potential, system, kept.positions, cells=kept.cells, chunk_size=chunk_size
        )
        if energies is None
        else energies.detach().to(keep.device)[keep]
    )
    known = torch.isfinite(present)
    if not bool(known.all()):
        kept, present = kept.select(known), present[known]
    if len(kept) == 0:
        raise DataError(
            f"none of the {len(frames)} sampled frames has finite energies and observables; "
            "record frames before the replicas fail"
        )
    weights = boltzmann_weights(present, kept.reference_energies, beta)
    return ReweightedMean(
        mean=weights @ kept.values.to(torch.float64),
        weights=weights,
        frames=kept,
        index=torch.nonzero(keep).flatten()[known],
        energies=present,
        n_eff=n_eff_kish(weights),
        n_eff_entropy=n_eff_entropy(weights),
        n_dropped=len(frames) - len(kept),
    )
