"""What energies that are sums over pairs of atoms share."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch


class PairTerm(Potential):
    """A sum over pairs within a cutoff, half of each pair's energy to either atom.

    The energy is taken to zero at the cutoff by an envelope whose first two
    derivatives vanish there.

    Args:
        cutoff: Å.
        trainable: whether the parameters take part in training.
    """

    def __init__(self, cutoff: float, trainable: bool) -> None:
        super().__init__()
        if not cutoff > 0:
            raise PotentialError(f"{type(self).__name__}: cutoff = {cutoff} Å must be positive")
        self.cutoff = float(cutoff)
        self._trainable = trainable

    @abstractmethod
    def pair_energies(self, first: Tensor, second: Tensor, distances: Tensor) -> Tensor:
        """Energies (n_pairs,) in eV of pairs.

        Args:
            first: atomic numbers of the first atoms, (n_pairs,).
            second: of the second ones.
            distances: Å, (n_pairs,), all within the cutoff.
        """

    def local_energies(self, batch: Batch) -> Tensor:
        """Atomic energies in eV, (n_atoms_total,), with graph."""
        vectors = batch.pair_vectors().to(self.dtype)
        near = torch.nonzero(~(vectors.detach().square().sum(dim=1) >= self.cutoff**2)).flatten()
        pairs = batch.pairs.index_select(1, near)
        distances = torch.linalg.vector_norm(vectors.index_select(0, near), dim=1)
        first, second = batch.numbers[pairs[0]], batch.numbers[pairs[1]]
        energies = self.pair_energies(first, second, distances) * envelope(distances / self.cutoff)
        halves = 0.5 * torch.cat([energies, energies])
        total = halves.new_zeros(len(batch.numbers))
        return total.index_add(0, pairs.flatten(), halves)

    def _freeze_unless_trainable(self) -> None:
        for parameter in self.parameters():
            parameter.requires_grad_(self._trainable)


def envelope(x: Tensor) -> Tensor:
    """1 at 0 and 0 from 1 on, with two derivatives that vanish at both ends.

    ``1 - 10 x³ + 15 x⁴ - 6 x⁵``.
    """
    inside = 1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x.square())
    return torch.where(x < 1.0, inside, torch.where(x >= 1.0, torch.zeros_like(x), x))
