"""Frames whose energies, or atomic energies, are summed with given coefficients."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from stablemd.errors import DataError
from stablemd.estimators.frames import SampledFrames
from stablemd.potentials.base import Potential
from stablemd.system import System


@dataclass(frozen=True)
class WeightedEnergies:
    """The surrogate of an estimator: ``Σ_i c_i U(x_i)`` or ``Σ_i Σ_a c_ia ε_a(x_i)``.

    Attributes:
        potential: at the parameters θ.
        system: the atoms of every frame.
        positions: Å, (n, N, 3).
        coefficients: c, held fixed: (n,) on total energies, or (n, N) on atomic ones.
        cells: Å, (n, 3, 3); the system's cell by default.
        held: the energies of all frames with their graph, (n,) or (n·N,), where
            they have been computed already.
    """

    potential: Potential
    system: System
    positions: Tensor
    coefficients: Tensor
    cells: Tensor | None = None
    held: Tensor | None = None

    def __post_init__(self) -> None:
        n, n_atoms = self.positions.shape[:2]
        if self.coefficients.shape not in ((n,), (n, n_atoms)):
            raise DataError(
                f"coefficients must be ({n},), one per frame, or ({n}, {n_atoms}), one per atom, "
                f"got {tuple(self.coefficients.shape)}"
            )
        if self.coefficients.ndim == 2:
            self.potential.require_local_energies()

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    @classmethod
    def of_frames(
        cls, potential: Potential, system: System, frames: SampledFrames, coefficients: Tensor
    ) -> WeightedEnergies:
        """Sampled frames with coefficients."""
        return cls(potential, system, frames.positions, coefficients, frames.cells)

    def with_(self, coefficients: Tensor) -> WeightedEnergies:
        """The same frames with other coefficients."""
        return replace(self, coefficients=coefficients)

    def hold(self) -> WeightedEnergies:
        """The same with the graph of all energies, for several gradients from one pass."""
        if self.held is not None:
            return self
        return replace(self, held=self._energies(torch.arange(len(self))))

    def sum(self, index: Tensor) -> Tensor:
        """The part of the frames at ``index``: a scalar in eV with graph."""
        whole = self.held is not None and len(index) == len(self)
        energies = self.held if whole and self.held is not None else self._energies(index)
        weights = _part(self.coefficients, index, self.potential.device)
        with torch.enable_grad():
            return (energies * weights.reshape(-1).to(energies)).sum()

    def _energies(self, index: Tensor) -> Tensor:
        device = self.potential.device
        positions = _part(self.positions, index, device)
        cells = None if self.cells is None else _part(self.cells, index, device)
        with torch.enable_grad():
            if self.coefficients.ndim == 1:
                return self.potential.energy(self.system, positions, cells)
            batch = self.potential.batch(self.system, positions, cells)
            return self.potential.local_energies(batch).double()


def held_energies(potential: Potential, system: System, frames: SampledFrames) -> Tensor | None:
    """Energies of frames that fit into one pass, (n,) in eV with graph.

    None where a frame or its energy is not finite, since a zero weight does not
    keep what is not finite out of a gradient.
    """
    if len(frames) == 0 or not bool(frames.finite_mask().all()):
        return None
    nothing = torch.zeros(len(frames), dtype=torch.float64)
    held = WeightedEnergies.of_frames(potential, system, frames, nothing).hold().held
    return held if held is not None and bool(torch.isfinite(held).all()) else None


def _part(values: Tensor, index: Tensor, device: torch.device) -> Tensor:
    return values[index.to(values.device)].detach().to(device)
