"""MD with torch_geometric's SchNet as it is commonly written.

All replicas are one batch; every step builds the radius graph anew, evaluates the
model, and takes forces by autograd.  The graph is built in plain PyTorch (all
distances within a molecule, then a mask), so torch_cluster is not needed.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor
from torch_geometric.nn.models import SchNet

from benchmarks.aspirin import aspirin_replicas
from stablemd import units
from stablemd.system import System

CUTOFF = 5.0
"""Å."""

DT_FS = 0.5


def radius_graph(n_atoms: int, positions: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Directed edges (2, E) within the cutoff and their lengths (E,), block diagonal.

    Args:
        n_atoms: atoms of each replica.
        positions: (R * n_atoms, 3) in Å.
        cutoff: Å.
    """
    blocks = positions.reshape(-1, n_atoms, 3)
    near = torch.cdist(blocks.detach(), blocks.detach()) < cutoff
    near.diagonal(dim1=1, dim2=2).fill_(False)
    replica, i, j = near.nonzero(as_tuple=True)
    edges = torch.stack([replica * n_atoms + i, replica * n_atoms + j])
    return edges, (positions[edges[0]] - positions[edges[1]]).norm(dim=1)


def make_model(n_atoms: int, seed: int = 0) -> SchNet:
    """The aspirin model's size: 64 features, 64 filters, 6 interactions, 25 Gaussians."""
    torch.manual_seed(seed)
    model = SchNet(
        hidden_channels=64,
        num_filters=64,
        num_interactions=6,
        num_gaussians=25,
        cutoff=CUTOFF,
        interaction_graph=lambda positions, _: radius_graph(n_atoms, positions, CUTOFF),
    )
    return model.eval()


class TorchGeometricMD:
    """Velocity Verlet of R replicas in float32.

    Args:
        model: from ``make_model``.
        system: the molecule.
        positions: (R, N, 3) in Å.
    """

    def __init__(self, model: SchNet, system: System, positions: Tensor) -> None:
        n_replicas = positions.shape[0]
        self._model = model
        self._numbers = system.numbers.repeat(n_replicas)
        self._batch = torch.arange(n_replicas).repeat_interleave(system.n_atoms)
        self._masses = system.masses.float().repeat(n_replicas)[:, None]
        self._dt = DT_FS * units.FS
        self._positions = positions.float().reshape(-1, 3)
        self._momenta = torch.zeros_like(self._positions)
        self._forces = self.forces(self._positions)

    def forces(self, positions: Tensor) -> Tensor:
        """Forces (R * N, 3) in eV/Å."""
        positions = positions.detach().requires_grad_(True)
        energy = self._model(self._numbers, positions, self._batch)
        (gradient,) = torch.autograd.grad(energy.sum(), positions)
        return -gradient

    def run(self, n_steps: int) -> None:
        """Advance all replicas by ``n_steps``."""
        for _ in range(n_steps):
            self._momenta = self._momenta + 0.5 * self._dt * self._forces
            self._positions = self._positions + self._dt * self._momenta / self._masses
            self._forces = self.forces(self._positions)
            self._momenta = self._momenta + 0.5 * self._dt * self._forces


def time_torch_geometric(n_replicas: int, n_steps: int) -> float:
    """CPU seconds per replica-step of ``n_steps`` after one untimed step."""
    system, positions = aspirin_replicas(n_replicas)
    dynamics = TorchGeometricMD(make_model(system.n_atoms), system, positions)
    dynamics.run(1)
    start = time.process_time()
    dynamics.run(n_steps)
    return (time.process_time() - start) / (n_replicas * n_steps)
