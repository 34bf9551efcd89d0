"""Analytic potentials whose averages, energies and instabilities are known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from stablemd.geometry.lattice import volumes
from stablemd.potentials.base import SamplingForm
from stablemd.system import System


class _ExternalField(SamplingForm):
    """A field that does not know of the cell; its stress is that of the positions' scaling."""

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, forces = self(positions, cells)
        virial = -torch.einsum("rni,rnj->rij", positions, forces)
        return (
            energies,
            forces,
            0.5 * (virial + virial.transpose(1, 2)) / volumes(cells).reshape(-1, 1, 1),
        )


@dataclass
class HarmonicWells(_ExternalField):
    """U = sum of k x**2 / 2 over all coordinates."""

    k: float = 1.0
    replica_independent: bool = True

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return 0.5 * self.k * positions.square().sum((1, 2)), -self.k * positions


@dataclass
class AnharmonicCluster(SamplingForm):
    """Quartic wells, and springs between neighbouring atoms: coupled, confining, not harmonic."""

    k: float = 0.5
    quartic: float = 2.0
    spring: float = 1.5
    replica_independent: bool = True

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        stretch = positions[:, 1:] - positions[:, :-1]
        energies = (0.5 * self.k * positions.square() + 0.25 * self.quartic * positions**4).sum(
            (1, 2)
        ) + 0.5 * self.spring * stretch.square().sum((1, 2))
        forces = -self.k * positions - self.quartic * positions**3
        forces[:, :-1] += self.spring * stretch
        forces[:, 1:] -= self.spring * stretch
        return energies, forces


@dataclass
class Cliff(_ExternalField):
    """U = k x**2 / 2 - b x**3 / 3: bound for x < k / b, falls to minus infinity beyond.

    ``shape_factor`` makes the numbers depend on the number of replicas in the
    call, as rounding does in matrix products, but visibly.
    """

    k: float = 1.0
    b: float = 0.5
    shape_factor: float = 0.0
    replica_independent: bool = True
    calls: list[Tensor] = field(default_factory=list)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.calls.append(positions.clone())
        k = self.k * (1.0 + self.shape_factor * len(positions))
        energies = 0.5 * k * positions.square() - self.b / 3.0 * positions**3
        return energies.sum((1, 2)), self.b * positions.square() - k * positions


@pytest.fixture
def harmonic_wells() -> type[HarmonicWells]:
    return HarmonicWells


@pytest.fixture
def anharmonic_cluster() -> type[AnharmonicCluster]:
    return AnharmonicCluster


@pytest.fixture
def cliff() -> type[Cliff]:
    return Cliff


@pytest.fixture
def atoms_in_a_box() -> System:
    """The same atoms in a periodic cell that is much larger than their motion."""
    return System.create(["H", "C", "O"], cell=80.0 * np.eye(3), pbc=True)


@pytest.fixture
def atoms() -> System:
    """Three atoms of different mass, without bonds."""
    return System.create(["H", "C", "O"])
