"""Estimators: the gradient of a loss on ensemble averages, one weight per frame."""

from __future__ import annotations

from stablemd.estimators.boltzmann import (
    EstimatorResult,
    boltzmann_gradient,
    frame_coefficients,
)
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.losses import LOSSES, Loss, make_loss
from stablemd.estimators.reweighting import ReweightedMean, reweighted_mean
from stablemd.estimators.surrogate import backward_weighted_energy, potential_energies
from stablemd.estimators.thinning import thin_coefficients
from stablemd.estimators.weights import boltzmann_weights, n_eff_entropy, n_eff_kish

__all__ = [
    "LOSSES",
    "EstimatorResult",
    "Loss",
    "ReweightedMean",
    "SampledFrames",
    "backward_weighted_energy",
    "boltzmann_gradient",
    "boltzmann_weights",
    "frame_coefficients",
    "make_loss",
    "n_eff_entropy",
    "n_eff_kish",
    "potential_energies",
    "reweighted_mean",
    "thin_coefficients",
]
