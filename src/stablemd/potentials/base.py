"""The contract that every potential fulfils."""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from stablemd.errors import PotentialError
from stablemd.geometry.lattice import cells_of, lattice_offsets, volumes
from stablemd.potentials.batch import Batch
from stablemd.potentials.neighbours import PairList
from stablemd.potentials.replica_batches import ReplicaBatches
from stablemd.potentials.sampling_form import SamplingForm
from stablemd.potentials.verlet_list import VerletList
from stablemd.system import System

__all__ = ["SKIN", "EagerSampling", "Potential", "SamplingForm"]

SKIN = 0.8
"""Skin of the pair lists in Å: rebuilt every few dozen steps in a liquid."""

ATOMS_PER_BLOCK_AND_BLOCK = 80
"""n blocks of replicas have n times so many atoms each, or more.

With fewer atoms in a block, calling an operation costs more than its arithmetic;
with fewer blocks, there is less to share among processes."""

MOST_BLOCK_ATOMS = 1400
"""With more atoms in a block, a replica hardly gets cheaper."""


class EagerSampling(SamplingForm):
    """The default sampling form: the model itself, differentiated by autograd.

    More replicas than fit into memory are evaluated in several batches.  Pairs
    of a periodic system come from lists with a skin on a CPU (built anew in
    every call where there are several batches), and are searched in every call
    elsewhere.  ``largest_batch``: replicas in a batch at most, where that is given.
    """

    def __init__(
        self, potential: Potential, system: System, largest_batch: int | None = None
    ) -> None:
        self._potential = potential
        self._system = system
        self._largest_batch = largest_batch
        self._batches = ReplicaBatches(largest_batch)
        keeps = system.is_periodic and potential.device.type == "cpu"
        self._lists = VerletList(system.pbc, potential.cutoff, SKIN) if keeps else None

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        def evaluate(x: Tensor, h: Tensor | None) -> tuple[Tensor, ...]:
            energies, forces = self._potential.batch_energy_and_forces(self._batch(x, h))
            return energies, forces.reshape(x.shape)

        energies, forces = self._batches(evaluate, positions, cells)
        return energies.to(positions.dtype), forces.to(positions.dtype)

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def evaluate(x: Tensor, h: Tensor | None) -> tuple[Tensor, ...]:
            energies, forces, stress = self._potential.batch_energy_forces_and_stress(
                self._batch(x, h)
            )
            return energies, forces.reshape(x.shape), stress

        energies, forces, stress = self._batches(evaluate, positions, cells)
        dtype = positions.dtype
        return energies.to(dtype), forces.to(dtype), stress.to(dtype)

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        self._potential.require_local_energies()

        def evaluate(x: Tensor, h: Tensor | None) -> tuple[Tensor, ...]:
            local = self._potential.local_energies(self._batch(x, h)).to(torch.float64)
            return (local.reshape(x.shape[:2]),)

        with torch.no_grad():
            (local,) = self._batches(evaluate, positions, cells)
        return local

    holds_gil = True

    def block_size(self, n_replicas: int) -> int | None:
        if self.replica_independent:
            return 1
        n_atoms = self._system.n_atoms
        n_blocks = 1
        while 4 * n_blocks**2 * ATOMS_PER_BLOCK_AND_BLOCK <= n_replicas * n_atoms:
            n_blocks *= 2
        most = self._largest_batch or max(1, MOST_BLOCK_ATOMS // n_atoms)
        return max(1, min(math.ceil(n_replicas / n_blocks), most))

    def for_thread(self) -> EagerSampling:
        other = copy.copy(self)
        other._batches = self._batches.like()
        other._lists = None if self._lists is None else self._lists.like()
        return other

    def _batch(self, positions: Tensor, cells: Tensor | None) -> Batch:
        return self._potential.batch(self._system, positions, cells, self._lists)


class Potential(nn.Module):
    """A trainable energy function of atoms; subclasses implement ``local_energies``.

    Attributes:
        cutoff: interaction range of one atomic energy's pair list in Å.
        hyperparameters: constructor arguments that rebuild this potential.
        file_suffix: how the name of its file ends.
        has_local_energies: False for a potential that only knows total
            energies; it then overrides ``batch_energy`` instead.
        is_transferable: False for a potential of one numbering of atoms, which
            other systems can't be given to.
    """

    has_local_energies: bool = True
    is_transferable: bool = True
    file_suffix: str = ".pt"
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
            (gradient,) = _gradients(energy, (positions,), create_graph)
        return (energy if create_graph else energy.detach()), -gradient

    def batch_energy_forces_and_stress(
        self, batch: Batch, *, create_graph: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies and forces as ``batch_energy_and_forces``, and stress (n_structures, 3, 3).

        The stress in eV/Å³ is dE/d(strain) over the volume, symmetric, with
        ASE's sign: positive where the cell would rather shrink, so that the
        potential part of the pressure is minus a third of its trace.

        Raises:
            SystemDefinitionError: the batch has no cells.
        """
        with torch.enable_grad():
            positions = batch.positions.detach().requires_grad_(True)
            strain = positions.new_zeros(batch.n_structures, 3, 3).requires_grad_(True)
            symmetric = 0.5 * (strain + strain.transpose(1, 2))
            energy = self.batch_energy(batch.with_positions(positions).strained(symmetric))
            gradient, virial = _gradients(energy, (positions, strain), create_graph)
        assert batch.cells is not None
        stress = virial / volumes(batch.cells.detach())[:, None, None]
        return (energy if create_graph else energy.detach()), -gradient, stress

    def batch(
        self,
        system: System,
        positions: Tensor,
        cells: Tensor | None = None,
        lists: VerletList | None = None,
    ) -> Batch:
        """R replicas of one system as a batch in this potential's precision.

        Atoms of a periodic system stand in the home cell there, so that single
        precision is as good after a long diffusion as before.

        Args:
            system: the atoms.
            positions: Å, (R, N, 3).
            cells: Å, (R, 3, 3); the system's cell by default.
            lists: where pairs of a periodic system are kept between calls.
        """
        dtype = self.position_dtype
        if not system.is_periodic:
            return Batch.replicas(system, positions.to(dtype), self.cutoff)
        boxes = cells_of(system.cell, len(positions), cells).to(positions)
        offsets = lattice_offsets(positions, boxes, system.pbc)
        found = None
        if lists is not None:
            pairs, shifts, counts = lists.pairs(positions, boxes)
            turns = offsets.reshape(-1, 3).long()
            assert shifts is not None
            found = PairList(pairs, shifts + turns[pairs[1]] - turns[pairs[0]], counts)
        home = (positions - offsets @ boxes).to(dtype)
        return Batch.replicas(system, home, self.cutoff, boxes.to(dtype), found)

    def energy(self, system: System, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Total energies (R,) in eV of positions (R, N, 3) in Å, with graph.

        Cells (R, 3, 3) in Å default to the system's cell here and below.
        """
        return self.batch_energy(self.batch(system, positions, cells))

    def energy_and_forces(
        self,
        system: System,
        positions: Tensor,
        cells: Tensor | None = None,
        *,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Energies (R,) in eV and forces (R, N, 3) in eV/Å of positions (R, N, 3) in Å."""
        energy, forces = self.batch_energy_and_forces(
            self.batch(system, positions, cells), create_graph=create_graph
        )
        return energy, forces.reshape(positions.shape)

    def energy_forces_and_stress(
        self,
        system: System,
        positions: Tensor,
        cells: Tensor | None = None,
        *,
        create_graph: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Energies (R,) eV, forces (R, N, 3) eV/Å and stress (R, 3, 3) eV/Å³ (ASE's sign).

        Raises:
            SystemDefinitionError: the system is not periodic.
        """
        energy, forces, stress = self.batch_energy_forces_and_stress(
            self.batch(system, positions, cells), create_graph=create_graph
        )
        return energy, forces.reshape(positions.shape), stress

    def set_energy_scale(self, scale: float, shifts: dict[int, float]) -> None:
        """Set the unit of the network's energies (eV) and each element's constant energy (eV).

        A fresh potential is easier to train when its raw output is of order one;
        one without such constants ignores the call.
        """

    def fit_scale_factors(self, batch: Batch) -> None:
        """Fit constants of a fresh network that depend on the data, on typical structures.

        One without such constants ignores the call.
        """

    @classmethod
    def fitted_hyperparameters(
        cls, numbers: Tensor, positions: Tensor, given: dict[str, Any]
    ) -> dict[str, Any]:
        """The given hyper-parameters, and those that follow from the training structures.

        Args:
            numbers: atomic numbers, (N,).
            positions: Å, (n, N, 3).
            given: what the user chose, which stays.
        """
        return given

    def shift_energies(self, shift: float) -> None:
        """Add a constant (eV) to the energy of every atom, where the model has one to add to."""

    def __add__(self, other: Potential) -> Potential:
        """The sum of two potentials; frozen and trainable parameters stay what they are."""
        from stablemd.potentials.composition import SumPotential

        return SumPotential([self, other])

    def calculator(self) -> Any:
        """This potential as an ASE calculator of energy, forces, atomic energies and stress."""
        from stablemd.potentials.ase_calculator import PotentialCalculator

        return PotentialCalculator(self)

    def require_trainable(self) -> None:
        """Raise a clear error if this potential has nothing to train."""
        if not self.n_parameters:
            raise PotentialError(
                f"{type(self).__name__} has no trainable parameters; it can be simulated and "
                "evaluated, and training needs a model whose parameters are at hand"
            )

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
    def position_dtype(self) -> torch.dtype:
        """Floating-point precision in which positions reach ``local_energies``."""
        return self.dtype

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


def _gradients(
    energy: Tensor, inputs: tuple[Tensor, ...], create_graph: bool
) -> tuple[Tensor, ...]:
    """Derivatives of the summed energy; zeros where it does not depend on an input."""
    if not energy.requires_grad:
        return tuple(torch.zeros_like(value) for value in inputs)
    return torch.autograd.grad(
        energy.sum(), inputs, create_graph=create_graph, materialize_grads=True
    )
