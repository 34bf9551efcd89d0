"""Laws of Boltzmann weights and effective sample sizes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from stablemd.estimators import (
    SampledFrames,
    boltzmann_weights,
    n_eff_entropy,
    n_eff_kish,
    reweighted_mean,
)
from stablemd.potentials.base import Potential
from stablemd.system import System


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


class Pressed(Potential):
    """U = p V, of the volume of every frame's own cell."""

    def __init__(self) -> None:
        super().__init__()
        self.p = torch.nn.Parameter(torch.tensor(0.02, dtype=torch.float64))

    def energy(self, system: System, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        assert cells is not None and len(cells) == len(positions)
        return self.p * torch.linalg.det(cells)


def test_frames_are_reweighted_in_their_own_cells() -> None:
    cells = torch.diag_embed(torch.linspace(3.0, 4.0, 15, dtype=torch.float64).reshape(5, 3))
    system = System.create(["H"], cell=cells[0], pbc=True)
    volumes = torch.linalg.det(cells)
    zero = torch.zeros(5, 1, 3, dtype=torch.float64)
    frames = SampledFrames(zero, 0.01 * volumes, volumes[:, None], torch.arange(5), cells=cells)
    found = reweighted_mean(Pressed(), system, frames, beta=20.0, chunk_size=2)
    expected = torch.softmax(-20.0 * 0.01 * volumes, dim=0)
    torch.testing.assert_close(found.weights, expected)
    assert float(found.mean) == pytest.approx(float(expected @ volumes), rel=1e-12)
