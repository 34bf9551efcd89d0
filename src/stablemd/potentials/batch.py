"""Structures as one flat batch of atoms with a half list of interacting pairs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.system import System

COMPLETE_LIST_MAX_ATOMS = 48
"""Up to this many atoms every pair is listed, so that nothing is rebuilt per step."""


@dataclass(frozen=True)
class Batch:
    """Structures, possibly of different size, flattened over atoms.

    Attributes:
        numbers: atomic numbers, (n_atoms_total,) int64.
        positions: Å, (n_atoms_total, 3).
        pairs: atoms i and j of every unordered pair, (2, n_pairs) int64; a pair
            stands once, and may be farther apart than the cutoff.
        structure: index of the structure of every atom, sorted, (n_atoms_total,) int64.
        n_structures: number of structures.
    """

    numbers: Tensor
    positions: Tensor
    pairs: Tensor
    structure: Tensor
    n_structures: int

    @classmethod
    def replicas(cls, system: System, positions: Tensor, cutoff: float) -> Batch:
        """R replicas of one system; positions (R, N, 3) in Å.

        Raises:
            SystemDefinitionError: the system is periodic, or the shape does not fit.
        """
        if positions.ndim != 3 or positions.shape[1:] != (system.n_atoms, 3):
            raise SystemDefinitionError(
                f"positions must have shape (replicas, {system.n_atoms}, 3) for this system, "
                f"got {tuple(positions.shape)}"
            )
        if system.is_periodic:
            raise SystemDefinitionError(
                "periodic systems are not supported by this version; give a system with "
                "pbc = False (an isolated molecule or cluster)"
            )
        n_replicas = positions.shape[0]
        device = positions.device
        if system.n_atoms <= COMPLETE_LIST_MAX_ATOMS:
            pairs = _complete_pairs(system.n_atoms, n_replicas, device)
        else:
            pairs = _within(positions.detach(), cutoff)
        return cls(
            numbers=system.numbers.to(device).repeat(n_replicas),
            positions=positions.reshape(-1, 3),
            pairs=pairs,
            structure=_structure_index(system.n_atoms, n_replicas, device),
            n_structures=n_replicas,
        )

    @classmethod
    def concatenate(cls, batches: list[Batch]) -> Batch:
        """Several batches as one, in order."""
        atom_offset, structure_offset = 0, 0
        pairs, structure = [], []
        for batch in batches:
            pairs.append(batch.pairs + atom_offset)
            structure.append(batch.structure + structure_offset)
            atom_offset += batch.positions.shape[0]
            structure_offset += batch.n_structures
        return cls(
            numbers=torch.cat([b.numbers for b in batches]),
            positions=torch.cat([b.positions for b in batches]),
            pairs=torch.cat(pairs, dim=1),
            structure=torch.cat(structure),
            n_structures=structure_offset,
        )

    def with_positions(self, positions: Tensor) -> Batch:
        """The same batch with other positions (n_atoms_total, 3)."""
        return replace(self, positions=positions)


@lru_cache(maxsize=64)
def _half_pairs(n_atoms: int, device: torch.device) -> Tensor:
    return torch.triu_indices(n_atoms, n_atoms, offset=1, device=device)


@lru_cache(maxsize=64)
def _structure_index(n_atoms: int, n_replicas: int, device: torch.device) -> Tensor:
    return torch.arange(n_replicas, device=device).repeat_interleave(n_atoms)


@lru_cache(maxsize=16)
def _complete_pairs(n_atoms: int, n_replicas: int, device: torch.device) -> Tensor:
    one = _half_pairs(n_atoms, device)
    offsets = n_atoms * torch.arange(n_replicas, device=device)
    return (one[:, None, :] + offsets[None, :, None]).reshape(2, -1)


def _within(positions: Tensor, cutoff: float) -> Tensor:
    """Pairs of all replicas within the cutoff, ordered by replica."""
    n_replicas, n_atoms = positions.shape[:2]
    i, j = _half_pairs(n_atoms, positions.device)
    found = []
    for replica in range(n_replicas):
        d2 = (positions[replica, i] - positions[replica, j]).square().sum(dim=1)
        near = d2 < cutoff**2
        found.append(torch.stack([i[near], j[near]]) + replica * n_atoms)
    return torch.cat(found, dim=1)
