"""Boltzmann weights that carry averages from the sampled to the present parameters."""

from __future__ import annotations

import torch
from torch import Tensor


def boltzmann_weights(energies: Tensor, reference_energies: Tensor, beta: float) -> Tensor:
    """Normalised weights w_i ∝ exp(-β (U_θ(x_i) - U_θ0(x_i))) of frames sampled at θ0.

    Only differences of energies enter, so a constant shift of either set of
    energies changes nothing; at θ = θ0 the weights are uniform.

    Args:
        energies: U_θ in eV, (n,).
        reference_energies: U_θ0 in eV, (n,).
        beta: inverse temperature of the sampling in 1/eV.

    Returns:
        (n,) float64, summing to one.

    Reference: Zwanzig, J. Chem. Phys. 22, 1420 (1954); Thaler and Zavadlav,
    Nat. Commun. 12, 6884 (2021), eq. 4.
    """
    difference = energies.to(torch.float64) - reference_energies.to(energies.device, torch.float64)
    return torch.softmax(-beta * difference, dim=0)


def neighbourhood_weights(changes: Tensor, kind: Tensor, beta: float) -> Tensor:
    """Weights w_ik ∝ exp(-β Δu_ik) of neighbourhood k in frame i, one for every kind in all.

    The frames of a large system lose their weight with the sum of all its changes of
    energy; what a neighbourhood is like depends on its own surroundings, and so each is
    weighed by the change of its own energy.  The gradient of an average with these weights
    is the localized estimator, -β Cov(g, ∂u/∂θ).

    Args:
        changes: Δu_ik = u_θ - u_θ0 in eV, (n, K).
        kind: of every neighbourhood, (K,).
        beta: inverse temperature of the sampling in 1/eV.

    Returns:
        (n, K) float64; the weights of each kind sum to one.
    """
    weights = torch.empty_like(changes, dtype=torch.float64)
    for label in kind.unique():
        alike = kind == label
        exponents = -beta * changes[:, alike].to(torch.float64)
        weights[:, alike] = torch.softmax(exponents.flatten(), dim=0).reshape(exponents.shape)
    return weights


def n_eff_kish(weights: Tensor) -> float:
    """Kish's effective sample size (Σw)² / Σw², between 1 and n.

    Reference: Kish, "Survey Sampling" (1965).
    """
    return float(weights.sum().square() / weights.square().sum())


def n_eff_entropy(weights: Tensor) -> float:
    """Effective sample size exp(-Σ w ln w) of normalised weights, between 1 and n.

    Reference: Thaler and Zavadlav, Nat. Commun. 12, 6884 (2021), eq. 6.
    """
    return float(torch.special.entr(weights).sum().exp())
