"""Structures as one flat batch of atoms with a half list of interacting pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry.lattice import cells_of
from stablemd.potentials.neighbours import PairList, find_pairs
from stablemd.system import System

COMPLETE_LIST_MAX_ATOMS = 48
"""Up to this many atoms of an isolated system every pair is listed, so that nothing is
rebuilt per step."""


@dataclass(frozen=True)
class Batch:
    """Structures, possibly of different size, flattened over atoms.

    Attributes:
        numbers: atomic numbers, (n_atoms_total,) int64.
        positions: Å, (n_atoms_total, 3).
        pairs: atoms i and j of every unordered pair, (2, n_pairs) int64.  A pair
            (i, j, image) stands once, an atom and its own images once for the
            two opposite ones; a pair may be farther apart than the cutoff.
        structure: index of the structure of every atom, sorted, (n_atoms_total,) int64.
        n_structures: number of structures.
        shifts: whole-number cell shift of the second atom of every pair,
            (n_pairs, 3) int64; None where nothing is periodic.
        cells: cell vectors as rows in Å, (n_structures, 3, 3); None where
            nothing is periodic.
    """

    numbers: Tensor
    positions: Tensor
    pairs: Tensor
    structure: Tensor
    n_structures: int
    shifts: Tensor | None = None
    cells: Tensor | None = None

    @classmethod
    def replicas(
        cls,
        system: System,
        positions: Tensor,
        cutoff: float,
        cells: Tensor | None = None,
        found: PairList | None = None,
    ) -> Batch:
        """R replicas of one system.

        Args:
            system: the atoms; its ``pbc`` says which directions are periodic.
            positions: Å, (R, N, 3), wrapped or not.
            cutoff: longest pair in Å; with a cell it may be longer than the cell.
            cells: (R, 3, 3) in Å; the system's cell by default.  Ignored for a
                system that is not periodic.
            found: the pairs of a periodic system, where they are known already.

        Raises:
            SystemDefinitionError: a shape does not fit.
        """
        if positions.ndim != 3 or positions.shape[1:] != (system.n_atoms, 3):
            raise SystemDefinitionError(
                f"positions must have shape (replicas, {system.n_atoms}, 3) for this system, "
                f"got {tuple(positions.shape)}"
            )
        n_replicas = positions.shape[0]
        device = positions.device
        boxes = shifts = None
        if system.is_periodic:
            boxes = cells_of(system.cell, n_replicas, cells).to(positions)
            pairs, shifts, _ = found or find_pairs(positions, boxes, system.pbc, cutoff)
        elif system.n_atoms <= COMPLETE_LIST_MAX_ATOMS:
            pairs = _complete_pairs(system.n_atoms, n_replicas, device)
        else:
            pairs, _, _ = find_pairs(positions, None, system.pbc, cutoff)
        return cls(
            numbers=system.numbers.to(device).repeat(n_replicas),
            positions=positions.reshape(-1, 3),
            pairs=pairs,
            structure=structure_index(system.n_atoms, n_replicas, device),
            n_structures=n_replicas,
            shifts=shifts,
            cells=boxes,
        )

    @classmethod
    def concatenate(cls, batches: list[Batch]) -> Batch:
        """Several batches as one, in order; periodic ones and others may be mixed."""
        atom_offset, structure_offset = 0, 0
        pairs, structure = [], []
        for batch in batches:
            pairs.append(batch.pairs + atom_offset)
            structure.append(batch.structure + structure_offset)
            atom_offset += batch.positions.shape[0]
            structure_offset += batch.n_structures
        periodic = any(b.shifts is not None for b in batches)
        return cls(
            numbers=torch.cat([b.numbers for b in batches]),
            positions=torch.cat([b.positions for b in batches]),
            pairs=torch.cat(pairs, dim=1),
            structure=torch.cat(structure),
            n_structures=structure_offset,
            shifts=torch.cat([b._shifts_or_zeros() for b in batches]) if periodic else None,
            cells=torch.cat([b._cells_or_zeros() for b in batches]) if periodic else None,
        )

    def pair_vectors(self) -> Tensor:
        """From the first to the second atom of every pair, its image included, (n_pairs, 3) in Å.

        ``x_j + shift @ cell - x_i``, with graph to positions and cells.
        """
        first, second = self.pairs
        vectors = self.positions.index_select(0, second) - self.positions.index_select(0, first)
        if self.shifts is None or self.cells is None:
            return vectors
        shifts = self.shifts.to(vectors)
        if self.n_structures == 1:
            return vectors + shifts @ self.cells[0]
        rows = self.cells.index_select(0, self.structure.index_select(0, first))
        return vectors + torch.einsum("pi,pij->pj", shifts, rows)

    def with_positions(self, positions: Tensor) -> Batch:
        """The same batch with other positions (n_atoms_total, 3)."""
        return replace(self, positions=positions)

    def strained(self, strain: Tensor) -> Batch:
        """Positions and cells deformed homogeneously, ``x -> x (1 + strain)``.

        Args:
            strain: (n_structures, 3, 3); differentiable.

        Raises:
            SystemDefinitionError: the batch has no cells.
        """
        if self.cells is None:
            raise SystemDefinitionError(
                "stress is defined for periodic systems only, and this one has no cell; give "
                "a system with cell and pbc"
            )
        moved = torch.einsum("ai,aij->aj", self.positions, strain.index_select(0, self.structure))
        return replace(
            self, positions=self.positions + moved, cells=self.cells + self.cells @ strain
        )

    def _shifts_or_zeros(self) -> Tensor:
        return self.pairs.new_zeros(self.pairs.shape[1], 3) if self.shifts is None else self.shifts

    def _cells_or_zeros(self) -> Tensor:
        return (
            self.positions.new_zeros(self.n_structures, 3, 3) if self.cells is None else self.cells
        )


@lru_cache(maxsize=64)
def _half_pairs(n_atoms: int, device: torch.device) -> Tensor:
    return torch.triu_indices(n_atoms, n_atoms, offset=1, device=device)


@lru_cache(maxsize=64)
def structure_index(n_atoms: int, n_replicas: int, device: torch.device) -> Tensor:
    """Structure of every atom of R structures of N atoms, (R N,) int64."""
    return torch.arange(n_replicas, device=device).repeat_interleave(n_atoms)


@lru_cache(maxsize=16)
def _complete_pairs(n_atoms: int, n_replicas: int, device: torch.device) -> Tensor:
    one = _half_pairs(n_atoms, device)
    offsets = n_atoms * torch.arange(n_replicas, device=device)
    return (one[:, None, :] + offsets[None, :, None]).reshape(2, -1)
