"""GemNet-T's sampling form: frozen weights, and large systems one replica at a time."""

from __future__ import annotations

import copy
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
        if not self.replica_independent or len(positions) < 2:
            return super().__call__(positions, cells)
        parts = [
            super(GemNetSampling, self).__call__(*one) for one in _one_by_one(positions, cells)
        ]
        energies, forces = zip(*parts, strict=True)
        return torch.cat(energies), torch.cat(forces)

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not self.replica_independent or len(positions) < 2:
            return super().with_stress(positions, cells)
        parts = [
            super(GemNetSampling, self).with_stress(x, cell)
            for x, cell in zip(positions.split(1), cells.split(1), strict=True)
        ]
        energies, forces, stress = zip(*parts, strict=True)
        return torch.cat(energies), torch.cat(forces), torch.cat(stress)


def _one_by_one(positions: Tensor, cells: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
    boxes = [None] * len(positions) if cells is None else list(cells.split(1))
    return list(zip(positions.split(1), boxes, strict=True))
