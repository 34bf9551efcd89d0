"""Analytic potentials whose Boltzmann averages are known by quadrature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System


class Anharmonic(Potential):
    """One atom in E = k x²/2 + q x⁴ + s x + shift; y and z are free of energy."""

    def __init__(self, k: float = 1.0, q: float = 0.3, s: float = 0.2) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))
        self.q = nn.Parameter(torch.tensor(q, dtype=torch.float64))
        self.s = nn.Parameter(torch.tensor(s, dtype=torch.float64))
        self.shift = nn.Parameter(torch.tensor(0.0, dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        x = batch.positions[:, 0]
        return 0.5 * self.k * x**2 + self.q * x**4 + self.s * x + self.shift


class DoubleWell(Potential):
    """One atom in E = a (x² - 1)² + b y²/2 + c x y."""

    def __init__(self, a: float = 0.8, b: float = 1.5, c: float = 0.5) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))
        self.b = nn.Parameter(torch.tensor(b, dtype=torch.float64))
        self.c = nn.Parameter(torch.tensor(c, dtype=torch.float64))

    def local_energies(self, batch: Batch) -> Tensor:
        x, y = batch.positions[:, 0], batch.positions[:, 1]
        return self.a * (x**2 - 1) ** 2 + 0.5 * self.b * y**2 + self.c * x * y


class PairNetwork(Potential):
    """A small neural pair potential on a few atoms, for graphs of realistic form.

    ``atoms_per_call`` and ``energies_seen`` record how it was used.
    """

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.inner = nn.Parameter(torch.randn(width, 2, generator=generator, dtype=torch.float64))
        self.outer = nn.Parameter(torch.randn(width, generator=generator, dtype=torch.float64))
        self.atoms_per_call: list[int] = []

    def local_energies(self, batch: Batch) -> Tensor:
        self.atoms_per_call.append(len(batch.positions))
        i, j = batch.pairs
        r = (batch.positions[i] - batch.positions[j]).square().sum(dim=1).sqrt()
        hidden = torch.tanh(r[:, None] * self.inner[:, 0] + self.inner[:, 1])
        pair = hidden @ self.outer
        local = pair.new_zeros(len(batch.positions))
        return local.index_add(0, i, 0.5 * pair).index_add(0, j, 0.5 * pair)


@pytest.fixture
def atom() -> System:
    return System.create(["H"])


@pytest.fixture
def anharmonic() -> Anharmonic:
    return Anharmonic()


@pytest.fixture
def double_well() -> DoubleWell:
    return DoubleWell()


@pytest.fixture
def pair_network() -> PairNetwork:
    return PairNetwork()


@pytest.fixture
def cluster() -> System:
    return System.create(["O", "H", "H", "H"])


@pytest.fixture
def cluster_positions() -> Tensor:
    """Sixty random four-atom structures (60, 4, 3) in Å."""
    generator = torch.Generator().manual_seed(2)
    return 1.2 * torch.randn(60, 4, 3, generator=generator, dtype=torch.float64)
