"""A chain of coupled bonds with one weak spot, in which every average is known."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from stablemd.potentials.base import Potential
from stablemd.potentials.batch import Batch
from stablemd.system import System

R0 = 1.5
"""Length of a bond at rest in Å."""


class Chain(Potential):
    """Atoms in a row; ``U = Σ_b k/2 x_b² + (κ/2) Σ_b x_b x_{b+1} + δ/2 x_w²``, x_b = r_b - r0.

    k is common to all bonds, κ couples neighbouring bonds and δ acts on the weak
    bond w alone, so that U is a quadratic form in the bonds and the Boltzmann
    distribution a multivariate normal one, at any length of the chain.  A bond's
    energy belongs half to each of its atoms, a coupling to the atom between.

    Args:
        n_atoms: atoms in the row.
        k: stiffness in eV/Å².
        kappa: coupling in eV/Å².
        delta: change of stiffness of the weak bond, in the middle, in eV/Å².
    """

    def __init__(
        self, n_atoms: int, *, k: float = 30.0, kappa: float = 15.0, delta: float = -12.0
    ) -> None:
        super().__init__()
        self.n_atoms = n_atoms
        self.k = nn.Parameter(torch.tensor(k, dtype=torch.float64))
        self.kappa = nn.Parameter(torch.tensor(kappa, dtype=torch.float64))
        self.delta = nn.Parameter(torch.tensor(delta, dtype=torch.float64))

    @property
    def weak(self) -> int:
        """Index of the weak bond."""
        return (self.n_atoms - 1) // 2

    def system(self) -> System:
        """Carbon atoms joined in a row."""
        n = self.n_atoms
        bonds = [(a, a + 1) for a in range(n - 1)]
        return System.create(["C"] * n, bonds=bonds, bond_lengths=[R0] * (n - 1))

    def batch(self, system: System, positions: Tensor, cells: Tensor | None = None) -> Batch:
        """Frames with the bonds as their pairs: no search is needed."""
        n_frames = len(positions)
        start = self.n_atoms * torch.arange(n_frames)[:, None]
        return Batch(
            numbers=system.numbers.repeat(n_frames),
            positions=positions.reshape(-1, 3),
            pairs=(system.bonds.T[:, None, :] + start[None]).reshape(2, -1),
            structure=torch.arange(n_frames).repeat_interleave(self.n_atoms),
            n_structures=n_frames,
        )

    def local_energies(self, batch: Batch) -> Tensor:
        """(n_atoms_total,) in eV."""
        x = bonds_of(batch.positions.reshape(batch.n_structures, -1, 3))
        stiffness = self.k + self.delta * (torch.arange(x.shape[1]) == self.weak)
        energy = 0.5 * stiffness * x.square()
        coupling = 0.5 * self.kappa * x[:, 1:] * x[:, :-1]
        end = torch.zeros_like(x[:, :1])
        halves = 0.5 * (torch.cat([energy, end], dim=1) + torch.cat([end, energy], dim=1))
        return (halves + torch.cat([end, coupling, end], dim=1)).flatten()

    def precision(self) -> Tensor:
        """A in U = x·A·x/2, (B, B), with graph to the parameters."""
        n_bonds = self.n_atoms - 1
        weak = torch.zeros(n_bonds, dtype=torch.float64)
        weak[self.weak] = 1.0
        off = torch.diag(torch.ones(n_bonds - 1, dtype=torch.float64), 1)
        diagonal = torch.diag(self.k + self.delta * weak)
        return diagonal + 0.5 * self.kappa * (off + off.T)

    def covariance(self, beta: float) -> Tensor:
        """<x x^T> in Å², (B, B), exactly, with graph to the parameters."""
        return torch.linalg.inv(self.precision()) / beta

    @torch.no_grad()
    def sample(self, n_frames: int, beta: float, *, seed: int) -> Tensor:
        """Independent frames of the Boltzmann distribution, (n, N, 3) in Å."""
        generator = torch.Generator().manual_seed(seed)
        factor = _cholesky(self.n_atoms, *(float(p) for p in self.parameters())) * beta**0.5
        normals = torch.randn(self.n_atoms - 1, n_frames, generator=generator, dtype=torch.float64)
        x = torch.linalg.solve_triangular(factor.T, normals, upper=True).T
        positions = torch.zeros(n_frames, self.n_atoms, 3, dtype=torch.float64)
        positions[:, 1:, 0] = (x + R0).cumsum(dim=1)
        return positions


@lru_cache
def _cholesky(n_atoms: int, k: float, kappa: float, delta: float) -> Tensor:
    """Lower factor of the precision matrix."""
    with torch.no_grad():
        precision = Chain(n_atoms, k=k, kappa=kappa, delta=delta).precision()
    return torch.linalg.cholesky(precision)


def bonds_of(positions: Tensor) -> Tensor:
    """x_b = r_b - r0 of frames (n, N, 3): (n, N - 1) in Å."""
    along: Tensor = positions[..., 0]
    return along[:, 1:] - along[:, :-1] - R0
