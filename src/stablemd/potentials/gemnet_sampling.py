"""GemNet-T's sampling form: frozen weights, and large systems one replica at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stablemd.potentials.base import EagerSampling
from stablemd.potentials.batch import COMPLETE_LIST_MAX_ATOMS
from stablemd.potentials.verlet_list import VerletList
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.gemnet_t import GemNetT


class GemNetSampling(EagerSampling):
    """Energies and forces of replicas of one system with a frozen GemNet-T.

    Small molecules are evaluated together, since calls into PyTorch cost more
    than their arithmetic.  On a CPU larger systems are evaluated one replica
    after the other: that is no slower, bounds the memory by one replica, and
    makes a replica's numbers independent of the others'.

    Args:
        potential: copied as it is now.
        system: what is simulated.
    """

    def __init__(self, potential: GemNetT, system: System) -> None:
        super().__init__(copy.deepcopy(potential).requires_grad_(False), system)
        large = system.is_periodic or system.n_atoms > COMPLETE_LIST_MAX_ATOMS
        self.replica_independent = large and potential.device.type == "cpu"
        self._lists_of: list[VerletList] = []

    def for_thread(self) -> GemNetSampling:
        other = super().for_thread()
        assert isinstance(other, GemNetSampling)
        other._lists_of = []
        return other

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        evaluate = super().__call__
        parts = [evaluate(x, cell) for x, cell in self._parts(positions, cells)]
        energies, forces = zip(*parts, strict=True)
        return torch.cat(energies), torch.cat(forces)

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        evaluate = super().with_stress
        parts = [evaluate(x, cell) for x, cell in self._parts(positions, cells) if cell is not None]
        energies, forces, stress = zip(*parts, strict=True)
        return torch.cat(energies), torch.cat(forces), torch.cat(stress)

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        evaluate = super().atomic_energies
        return torch.cat([evaluate(x, cell) for x, cell in self._parts(positions, cells)])

    def _parts(
        self, positions: Tensor, cells: Tensor | None
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """What is evaluated in one go: all replicas, or each with its own list of pairs."""
        if not self.replica_independent:
            yield positions, cells
            return
        for r in range(len(positions)):
            if self._lists is not None:
                if r == len(self._lists_of):
                    self._lists_of.append(self._lists.like())
                self._lists = self._lists_of[r]
            yield positions[r : r + 1], None if cells is None else cells[r : r + 1]
