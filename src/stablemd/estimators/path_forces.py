"""Frames whose forces and energies are summed with given coefficients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class WeightedForces:
    """``Σ_i a_i · F_θ(x_i) + c_i U_θ(x_i)``, the surrogate of the path-score estimator.

    Attributes:
        potential: at the parameters θ.
        system: the atoms of every frame.
        positions: Å, (n, N, 3).
        on_forces: a, (n, N, 3).
        coefficients: c, (n,).
    """

    potential: Potential
    system: System
    positions: Tensor
    on_forces: Tensor
    coefficients: Tensor

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def sum(self, index: Tensor) -> Tensor:
        """The part of the frames at ``index``: a scalar with graph."""
        device = self.potential.device
        energies, forces = self.potential.energy_and_forces(
            self.system, self.positions[index].to(device), create_graph=True
        )
        a, c = self.on_forces[index].to(forces), self.coefficients[index].to(energies)
        with torch.enable_grad():
            return (a * forces).sum() + (c * energies).sum()
