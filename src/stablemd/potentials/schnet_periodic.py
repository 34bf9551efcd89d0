"""SchNet's sampling form for periodic systems: kept pair lists, compiled message passing."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from stablemd.geometry.lattice import cells_of, volumes
from stablemd.potentials.base import SKIN, SamplingForm
from stablemd.potentials.schnet_arrays import copy_workspace, make_workspace, pack_model
from stablemd.potentials.schnet_periodic_kernels import evaluate_listed_replicas
from stablemd.potentials.verlet_list import VerletList
from stablemd.system import System

if TYPE_CHECKING:
    from stablemd.potentials.schnet import SchNet


class PeriodicSchNetSampling(SamplingForm):
    """Energies, forces and stress of replicas of a periodic system with a frozen SchNet.

    As :class:`~stablemd.potentials.schnet_sampling.SchNetSampling`, with pairs
    from lists that are rebuilt for each replica when its atoms have moved by
    half a skin; all images within the cutoff count, however small the cell.
    The order of a replica's pairs, and so its every bit, depends neither on the
    other replicas nor on when its list was built.

    Args:
        potential: a SchNet in float32 on the CPU.
        system: the atoms.
        n_knots: intervals of the table on [0, cutoff].
        skin: Å.
    """

    replica_independent = True

    def __init__(
        self, potential: SchNet, system: System, n_knots: int = 1024, skin: float = SKIN
    ) -> None:
        self.n_knots = n_knots
        self._cell = system.cell
        self._scale = float(potential.energy_scale)
        self._shifts = potential.atomic_shift[system.numbers]
        self._lists = VerletList(system.pbc, potential.cutoff, skin)
        with torch.no_grad():
            self._model = pack_model(potential, system, n_knots)
        self._make_workspace = lambda n_pairs: make_workspace(potential, system, n_pairs)
        self._work = self._make_workspace(system.n_atoms)

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces, _, _ = self._evaluate(positions, cells)
        return energies, forces

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, forces, _, virial = self._evaluate(positions, cells)
        return energies, forces, virial / volumes(cells.to(virial))[:, None, None]

    def atomic_energies(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        _, _, local, _ = self._evaluate(positions, cells)
        return local * self._scale + self._shifts

    def for_thread(self) -> PeriodicSchNetSampling:
        """The same model and tables with lists and a workspace of its own."""
        other = copy.copy(self)
        other._lists = self._lists.like()
        other._work = copy_workspace(self._work)
        return other

    def _evaluate(
        self, positions: Tensor, cells: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = positions.detach().to(torch.float64).contiguous()
        h = cells_of(self._cell, len(x), cells).detach().to(torch.float64).contiguous()
        self._lists.update(x.numpy(), h.numpy())
        needed = self._lists.table.shape[1]
        if self._work[1].shape[1] < needed:
            self._work = self._make_workspace(needed)
        forces, virial = torch.empty_like(x), torch.empty_like(h)
        local = torch.empty(x.shape[:2], dtype=torch.float64)
        energies = torch.empty(x.shape[0], dtype=torch.float64)
        evaluate_listed_replicas(
            x.numpy(),
            h.numpy(),
            self._lists.table,
            self._lists.counts,
            self._model,
            self._work,
            energies.numpy(),
            forces.numpy(),
            local.numpy(),
            virial.numpy(),
        )
        return energies, forces, local, virial
