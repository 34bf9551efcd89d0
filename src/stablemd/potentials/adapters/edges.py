"""The half list of pairs as the directed edges that graph networks expect."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stablemd.potentials.batch import Batch


@dataclass(frozen=True)
class Edges:
    """Both directions of every pair within a cutoff.

    Attributes:
        index: first and second atom, (2, E) int64.
        vectors: from the first to the second atom's image in Å, (E, 3), with graph.
        shifts: whole-number cell shift of the second atom, (E, 3); zeros where nothing
            is periodic.
    """

    index: Tensor
    vectors: Tensor
    shifts: Tensor

    def displacements(self, batch: Batch) -> Tensor:
        """What the periodic images add to ``x_j - x_i``, (E, 3) in Å, with graph to the cells."""
        if batch.cells is None:
            return torch.zeros_like(self.vectors)
        cells = batch.cells[batch.structure[self.index[0]]]
        return torch.einsum("ei,eij->ej", self.shifts, cells)


def directed_edges(batch: Batch, cutoff: float) -> Edges:
    """Both directions of every pair within the cutoff in Å.

    Pairs whose distance is not a number are kept, so that a broken structure shows
    in its energy.
    """
    vectors = batch.pair_vectors()
    near = ~(vectors.detach().square().sum(dim=1) >= cutoff**2)
    kept = torch.nonzero(near).flatten()
    pairs = batch.pairs.index_select(1, kept)
    vectors = vectors.index_select(0, kept)
    if batch.shifts is None:
        shifts = vectors.new_zeros(len(kept), 3)
    else:
        shifts = batch.shifts.index_select(0, kept).to(vectors)
    return Edges(
        index=torch.cat([pairs, pairs.flip(0)], dim=1),
        vectors=torch.cat([vectors, -vectors]),
        shifts=torch.cat([shifts, -shifts]),
    )
