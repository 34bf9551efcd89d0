"""What potentials share that give numbers and no graph."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential, SamplingForm
from stablemd.potentials.batch import Batch
from stablemd.system import System


class UntrainablePotential(Potential):
    """Energies and forces of another program: for simulation and evaluation only.

    Attributes:
        why: why it can't be trained, for messages.
    """

    has_local_energies = False
    why: str = "it gives numbers without their dependence on parameters"

    @abstractmethod
    def evaluate(
        self, system: System, positions: Tensor, cells: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å of positions (R, N, 3), float64."""

    def energy_and_forces(
        self,
        system: System,
        positions: Tensor,
        cells: Tensor | None = None,
        *,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å of positions (R, N, 3) in Å."""
        if create_graph:
            self.require_trainable()
        return self.evaluate(system, positions.detach(), cells)

    def batch_energy(self, batch: Batch) -> Tensor:
        """Raise: an energy with graph is what training needs."""
        self.require_trainable()
        raise AssertionError

    def energy(self, system: System, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Total energies (R,) in eV of positions (R, N, 3) in Å, without graph."""
        return self.evaluate(system, positions.detach(), cells)[0]

    def require_trainable(self) -> None:
        """Raise a clear error: there is nothing to train."""
        raise PotentialError(
            f"{type(self).__name__} can be simulated and evaluated, but not trained: {self.why}; "
            "to train the model, load its own file (see docs/adapters.md)"
        )

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        """The program itself."""
        return OutsideSampling(self, system)

    @property
    def dtype(self) -> torch.dtype:
        """What goes in and comes out."""
        return torch.float64


class OutsideSampling(SamplingForm):
    """A program that takes positions and gives energies and forces."""

    def __init__(self, potential: UntrainablePotential, system: System) -> None:
        self._potential = potential
        self._system = system

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces = self._potential.evaluate(self._system, positions, cells)
        return energies.to(positions.dtype), forces.to(positions.dtype)
