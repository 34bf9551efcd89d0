"""Laws of Boltzmann weights and effective sample sizes."""

from __future__ import annotations

import math

import pytest
import torch

from stablemd.estimators import boltzmann_weights, n_eff_entropy, n_eff_kish


def test_uniform_where_the_energies_are_those_of_the_sampling() -> None:
    energies = -1e5 + torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
    weights = boltzmann_weights(energies, energies, beta=23.0)
    assert weights.dtype == torch.float64
    torch.testing.assert_close(weights, torch.full_like(weights, 0.01), rtol=1e-14, atol=0)
    assert n_eff_kish(weights) == pytest.approx(100.0, rel=1e-13)
    assert n_eff_entropy(weights) == pytest.approx(100.0, rel=1e-13)


def test_ratio_of_two_weights_is_the_boltzmann_factor() -> None:
    weights = boltzmann_weights(torch.tensor([0.1, 0.4]), torch.tensor([0.0, 0.2]), beta=5.0)
    assert (weights[1] / weights[0]).item() == pytest.approx(math.exp(-5.0 * 0.1), rel=1e-6)


def test_a_common_shift_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(50, generator=generator, dtype=torch.float64)
    b = torch.randn(50, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        boltzmann_weights(a, b, 2.0), boltzmann_weights(a - 1e5, b + 3e4, 2.0), rtol=1e-9, atol=0
    )


def test_enormous_differences_do_not_overflow() -> None:
    weights = boltzmann_weights(torch.tensor([0.0, -1e6, 1e6]), torch.zeros(3), beta=40.0)
    assert weights.tolist() == [0.0, 1.0, 0.0]
    assert n_eff_kish(weights) == 1.0
    assert n_eff_entropy(weights) == 1.0


def test_equal_weights_on_some_frames_count_these_frames() -> None:
    weights = torch.zeros(40, dtype=torch.float64)
    weights[:8] = 1 / 8
    assert n_eff_kish(weights) == pytest.approx(8.0)
    assert n_eff_entropy(weights) == pytest.approx(8.0)


def test_kish_of_a_gaussian_shift_is_the_known_exponential() -> None:
    """For normally distributed energy differences of variance s², n_eff/n = exp(-β² s²)."""
    n, beta, s = 200_000, 2.0, 0.25
    quantiles = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    differences = s * math.sqrt(2) * torch.erfinv(2 * quantiles - 1)
    weights = boltzmann_weights(differences, torch.zeros(n), beta)
    assert n_eff_kish(weights) / n == pytest.approx(math.exp(-((beta * s) ** 2)), rel=1e-3)
    assert n_eff_entropy(weights) / n == pytest.approx(math.exp(-((beta * s) ** 2) / 2), rel=1e-3)
