"""Directed edges of a batch, in the layout that GemNet's layers work in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DirectedEdges:
    """Both directions of every unordered pair.

    An array over edges has shape (P, 2, ...): entry 0 of a pair is the edge from
    its first to its second atom, entry 1 the edge back.  What depends on a pair
    alone is kept once, and the edge back is a flip.  A pair of an atom with its
    own periodic image is two edges like any other.

    Attributes:
        pairs: first and second atom, (2, P).
        target: atom that an edge points to, (2 P,).
        n_atoms: number of atoms.
        width: largest number of edges that point to one atom.
        slot: place of every edge in an array (n_atoms, width) of the edges of
            each target, flattened, (2 P,).
    """

    pairs: Tensor
    target: Tensor
    n_atoms: int
    width: int
    slot: Tensor

    @classmethod
    def of_pairs(cls, pairs: Tensor, n_atoms: int) -> DirectedEdges:
        """Edges of a half list of pairs (2, P)."""
        target = pairs.flip(0).T.reshape(-1)
        counts = torch.bincount(target, minlength=n_atoms)
        width = int(counts.max()) if len(target) else 0
        order = torch.argsort(target, stable=True)
        starts = torch.cumsum(counts, dim=0) - counts
        rank = torch.arange(len(target), device=target.device) - starts[target[order]]
        slot = torch.empty_like(target)
        slot[order] = target[order] * width + rank
        return cls(pairs, target, n_atoms, width, slot)

    @property
    def n_pairs(self) -> int:
        return self.pairs.shape[1]

    def by_target(self, x: Tensor) -> Tensor:
        """(P, 2, F) as (n_atoms, width, F), filled up with zeros."""
        flat = x.reshape(2 * self.n_pairs, x.shape[2])
        padded = flat.new_zeros(self.n_atoms * self.width, flat.shape[1])
        return padded.index_copy(0, self.slot, flat).view(self.n_atoms, self.width, flat.shape[1])

    def from_target(self, x: Tensor) -> Tensor:
        """(n_atoms width, F) as (P, 2, F): the inverse of ``by_target``."""
        return x.index_select(0, self.slot).view(self.n_pairs, 2, x.shape[1])

    def sum_at_target(self, x: Tensor) -> Tensor:
        """Sums (n_atoms, F) of (P, 2, F) over the edges that point to each atom."""
        flat = x.reshape(2 * self.n_pairs, x.shape[2])
        return flat.new_zeros(self.n_atoms, flat.shape[1]).index_add(0, self.target, flat)

    def spread(self, at_source: Tensor, at_target: Tensor) -> Tensor:
        """(P, 2, F): of every edge the sum of ``at_source`` and ``at_target``, (n_atoms, F)."""
        first, second = self.pairs
        x = torch.cat([at_source, at_target], dim=1).index_select(0, first)
        x = x + torch.cat([at_target, at_source], dim=1).index_select(0, second)
        return x.view(self.n_pairs, 2, at_source.shape[1])
