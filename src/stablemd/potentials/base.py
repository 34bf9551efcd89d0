"""The contract that every potential fulfils."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.potentials.batch import Batch
from stablemd.system import System

EnergyForceFunction = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``positions (R, N, 3) Å -> energies (R,) eV, forces (R, N, 3) eV/Å``, without graph."""


class SamplingForm:
    """A frozen evaluator of energies and forces of replicas of one system.

    Attributes:
        replica_independent: whether the numbers of a replica are bit-identical
            whatever other replicas are in the call.  Where this is False the
            step loop keeps the batch shape fixed by padding.
    """

    replica_independent: bool = False

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å of positions (R, N, 3) in Å."""
        raise NotImplementedError

    def for_thread(self) -> SamplingForm:
        """This form for use in another thread at the same time; with scratch memory of its own."""
        return copy.copy(self)


class EagerSampling(SamplingForm):
    """The default sampling form: the model itself, differentiated by autograd."""

    def __init__(self, potential: Potential, system: System) -> None:
        self._potential = potential
        self._system = system

    def __call__(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        energies, forces = self._potential.energy_and_forces(self._system, positions)
        return energies.to(positions.dtype), forces.to(positions.dtype)


class Potential(nn.Module):
    """A trainable energy function of atoms; subclasses implement ``local_energies``.

    Attributes:
        cutoff: interaction range of one atomic energy's pair list in Å.
        hyperparameters: constructor arguments that rebuild this potential.
        has_local_energies: False for a potential that only knows total
            energies; it then overrides ``batch_energy`` instead.
    """

    has_local_energies: ClassVar[bool] = True
    cutoff: float = float("inf")
    hyperparameters: dict[str, Any]

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,), with graph."""
        raise NotImplementedError

    def batch_energy(self, batch: Batch) -> Tensor:
        """Total energy of each structure in eV, (n_structures,) float64, with graph."""
        local = self.local_energies(batch).double()
        total = local.new_zeros(batch.n_structures)
        return total.index_add(0, batch.structure, local)

    def batch_energy_and_forces(
        self, batch: Batch, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Energies (n_structures,) in eV and forces (n_atoms_total, 3) in eV/Å.

        With ``create_graph`` both can be differentiated again, as a force loss needs.
        """
        with torch.enable_grad():
            positions = batch.positions.detach().requires_grad_(True)
            energy = self.batch_energy(batch.with_positions(positions))
            (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=create_graph)
        return (energy if create_graph else energy.detach()), -gradient

    def batch(self, system: System, positions: Tensor) -> Batch:
        """R replicas of one system as a batch in this potential's precision."""
        return Batch.replicas(system, positions.to(self.dtype), self.cutoff)

    def energy(self, system: System, positions: Tensor) -> Tensor:
        """Total energies (R,) in eV of positions (R, N, 3) in Å, with graph."""
        return self.batch_energy(self.batch(system, positions))

    def energy_and_forces(
        self, system: System, positions: Tensor, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å of positions (R, N, 3) in Å."""
        energy, forces = self.batch_energy_and_forces(
            self.batch(system, positions), create_graph=create_graph
        )
        return energy, forces.reshape(positions.shape)

    def set_energy_scale(self, scale: float, shifts: dict[int, float]) -> None:
        """Set the unit of the network's energies (eV) and each element's constant energy (eV).

        A fresh potential is easier to train when its raw output is of order one;
        one without such constants ignores the call.
        """

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom, where the model has one to add to."""

    def require_local_energies(self) -> None:
        """Raise a clear error if this potential has no atomic energies."""
        if not self.has_local_energies:
            raise PotentialError(
                f"{type(self).__name__} gives total energies only, and the localized estimator "
                "needs atomic energies; use the global estimator, or a potential that "
                "implements local_energies"
            )

    def for_sampling(self, system: System, reference: Tensor | None = None) -> SamplingForm:
        """A frozen, fast evaluator for replicas of ``system``; rebuild it after training.

        Args:
            system: what is simulated.
            reference: structures (n, N, 3) in Å on which an approximate form
                checks its error against the exact model.
        """
        return EagerSampling(self, system)

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point precision of the parameters."""
        for tensor in itertools.chain(self.parameters(), self.buffers()):
            if tensor.is_floating_point():
                return tensor.dtype
        return torch.get_default_dtype()

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        for tensor in self.parameters():
            return tensor.device
        return torch.device("cpu")

    @property
    def n_parameters(self) -> int:
        """Number of trainable scalars."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
