"""GemNet-T's sampling form: frozen weights, and large systems one replica at a time."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stablemd.potentials.base import EagerSampling
from stablemd.potentials.batch import COMPLETE_LIST_MAX_ATOMS
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
    ) -> Iterable[tuple[Tensor, Tensor | None]]:
        """What is evaluated in one go: all replicas, or one after the other."""
        if not self.replica_independent or len(positions) < 2:
            return [(positions, cells)]
        boxes = [None] * len(positions) if cells is None else cells.split(1)
        return zip(positions.split(1), boxes, strict=True)
