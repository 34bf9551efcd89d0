"""Estimators: the gradient of a loss on ensemble averages, one weight per frame."""

from __future__ import annotations

from stablemd.estimators.boltzmann import (
    EstimatorResult,
    boltzmann_gradient,
    frame_coefficients,
)
from stablemd.estimators.centring import CENTRINGS, Centring, centred
from stablemd.estimators.ensemble import Ensemble
from stablemd.estimators.frames import SampledFrames
from stablemd.estimators.localized import (
    LocalizedResult,
    StratifiedSampling,
    localized_gradient,
)
from stablemd.estimators.losses import LOSSES, Loss, make_loss, weighted_sum
from stablemd.estimators.neighbourhoods import (
    NEIGHBOURHOODS,
    NeighbourhoodRule,
    Neighbourhoods,
    make_neighbourhoods,
)
from stablemd.estimators.path_score import LangevinPaths, PathResult, path_gradient
from stablemd.estimators.reweighting import ReweightedMean, reweighted_mean
from stablemd.estimators.state_points import EnsembleResult, StatePoint, ensemble_gradient
from stablemd.estimators.step_limit import LimitedStep, Weighing, limit_step
from stablemd.estimators.stratified import stratified_coefficients
from stablemd.estimators.surrogate import (
    backward_weighted_energy,
    potential_atomic_energies,
    potential_energies,
)
from stablemd.estimators.thinning import thin_coefficients
from stablemd.estimators.trust import Trust, gradient_cosine
from stablemd.estimators.weights import (
    boltzmann_weights,
    n_eff_entropy,
    n_eff_kish,
    neighbourhood_weights,
)

__all__ = [
    "CENTRINGS",
    "LOSSES",
    "NEIGHBOURHOODS",
    "Centring",
    "Ensemble",
    "EnsembleResult",
    "EstimatorResult",
    "LangevinPaths",
    "LimitedStep",
    "LocalizedResult",
    "Loss",
    "NeighbourhoodRule",
    "Neighbourhoods",
    "PathResult",
    "ReweightedMean",
    "SampledFrames",
    "StatePoint",
    "StratifiedSampling",
    "Trust",
    "Weighing",
    "backward_weighted_energy",
    "boltzmann_gradient",
    "boltzmann_weights",
    "centred",
    "ensemble_gradient",
    "frame_coefficients",
    "gradient_cosine",
    "limit_step",
    "localized_gradient",
    "make_loss",
    "make_neighbourhoods",
    "n_eff_entropy",
    "n_eff_kish",
    "neighbourhood_weights",
    "path_gradient",
    "potential_atomic_energies",
    "potential_energies",
    "reweighted_mean",
    "stratified_coefficients",
    "thin_coefficients",
    "weighted_sum",
]
