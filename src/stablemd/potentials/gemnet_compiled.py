"""GemNet-T's compiled sampling form for a CPU: kept pair lists, folded weights, no autograd."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stablemd.geometry.lattice import cells_of, volumes
from stablemd.potentials.base import SKIN, SamplingForm
from stablemd.potentials.gemnet.arrays import pack_model
from stablemd.potentials.gemnet.network import CompiledNetwork
from stablemd.potentials.verlet_list import VerletList
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.gemnet_t import GemNetT


class CompiledGemNetSampling(SamplingForm):
    """Energies, forces and stress of replicas of one system with a frozen GemNet-T.

    The same sums as in the model, without tables: what depends on one distance
    alone is one product of a constant matrix with the radial basis, atoms'
    embeddings are constants, and the gradient is written out.  Pairs come from
    lists that are rebuilt for each replica when its atoms have moved by half a skin.

    Args:
        potential: a GemNet-T in float32 on the CPU, taken as it is now.
        system: the atoms.
        skin: Å.
    """

    replica_independent = True

    def __init__(self, potential: GemNetT, system: System, skin: float = SKIN) -> None:
        self._cell = system.cell if system.is_periodic else torch.eye(3, dtype=torch.float64)
        self._periodic = system.is_periodic
        self._scale = float(potential.energy_scale)
        self._shifts = potential.atomic_shift[system.numbers]
        self._lists = VerletList(system.pbc, potential.cutoff, skin)
        with torch.no_grad():
            self._network = CompiledNetwork(pack_model(potential, system), 8 * system.n_atoms)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces, _, _ = self._evaluate(positions, cells)
        return energies, forces

    def energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        energies, _, _, _ = self._evaluate(positions, cells, with_forces=False)
        return energies

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, forces, _, virial = self._evaluate(positions, cells)
        return energies, forces, virial / volumes(cells.to(virial))[:, None, None]

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        _, _, local, _ = self._evaluate(positions, cells, with_forces=False)
        return local * self._scale + self._shifts

    def for_thread(self) -> CompiledGemNetSampling:
        """The same weights with lists and scratch memory of its own."""
        other = copy.copy(self)
        other._lists = self._lists.like()
        other._network = self._network.for_thread()
        return other

    def _evaluate(
        self, positions: Tensor, cells: Tensor | None, *, with_forces: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = positions.detach().to(torch.float64).contiguous()
        given = cells if self._periodic else None
        h = cells_of(self._cell, len(x), given).detach().to(torch.float64).contiguous()
        self._lists.update(x.numpy(), h.numpy())
        self._network = self._network.make_room(self._lists.table.shape[1])
        forces, virial = torch.empty_like(x), torch.empty_like(h)
        local = torch.empty(x.shape[:2], dtype=torch.float64)
        for r, n_rows in enumerate(self._lists.counts.tolist()):
            self._network(
                x[r].numpy(),
                h[r].numpy(),
                self._lists.table[r],
                n_rows,
                local[r].numpy(),
                forces[r].numpy() if with_forces else None,
                virial[r].numpy() if with_forces else None,
            )
        energies = local.sum(dim=1) * self._scale + self._shifts.sum()
        return energies, forces, local, virial
