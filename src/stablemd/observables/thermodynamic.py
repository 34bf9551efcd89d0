"""Thermodynamic observables: from energies, volumes and stress, not from positions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.observables.averages import ensemble_average
from stablemd.observables.comparison import jackknife


@dataclass(frozen=True)
class ThermodynamicSamples:
    """What was measured at n frames of a simulation in equilibrium.

    Attributes:
        potential_energies: (n,) in eV.
        temperature_k: of the ensemble, in K.
        n_atoms: atoms of the system.
        replica: replica of each frame, (n,) int64, each in the order of time; one by default.
        kinetic_energies: (n,) in eV, or None: replaced by its average.
        volumes: (n,) in Å³, or None.
        stress: static part (1/V) ∂U/∂ε, (n, 3, 3) in eV/Å³ as potentials give it, or None.
    """

    potential_energies: Tensor
    temperature_k: float
    n_atoms: int
    replica: Tensor | None = None
    kinetic_energies: Tensor | None = None
    volumes: Tensor | None = None
    stress: Tensor | None = None

    def require(self, *names: str) -> None:
        """Raise DataError where a quantity is missing."""
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            raise DataError(f"samples have no {' and no '.join(missing)}; give them")


@dataclass(frozen=True)
class Estimate:
    """A number with its error.

    Attributes:
        value: the estimate.
        stderr: standard error by the block jackknife; NaN with too little data.
        n_eff: number of independent frames.
        unit: of value and error.
    """

    value: float
    stderr: float
    n_eff: float
    unit: str


class ThermodynamicObservable(ABC):
    """A function of averages, e.g. of ⟨E⟩ and ⟨E²⟩."""

    name: str
    """Key in the registry, e.g. ``"heat_capacity"``."""

    unit: str

    @abstractmethod
    def moments(self, samples: ThermodynamicSamples) -> Tensor:
        """What is averaged, (n, K) float64.

        Raises:
            DataError: a quantity is missing.
        """

    @abstractmethod
    def of_moments(self, mean: Tensor, samples: ThermodynamicSamples) -> Tensor:
        """The observable (scalar) from averages (K,); differentiable."""

    def estimate(self, samples: ThermodynamicSamples) -> Estimate:
        """The observable with its error from blocks of frames."""
        moments = self.moments(samples)
        replica = samples.replica
        if replica is None:
            replica = torch.zeros(len(moments), dtype=torch.int64)
        value, stderr = jackknife(lambda mean: self.of_moments(mean, samples), moments, replica)
        n_eff = ensemble_average(moments, replica).n_eff
        return Estimate(value, stderr, n_eff, self.unit)
