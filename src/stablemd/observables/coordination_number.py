"""Coordination numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.geometry import PairSelection, frame_cells
from stablemd.geometry.pair_sums import sum_within
from stablemd.geometry.pairs import element_numbers
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class CoordinationNumber(Observable):
    """The mean number of atoms B within a cutoff of an atom A.

    A neighbour counts with ``1 - smoothstep((r - r_cut + width/2) / width)``: one
    inside, zero outside, twice continuously differentiable between.  All
    periodic images count.

    Args:
        system: the atoms.
        pair: symbols of the atom A and of its neighbours B; None for all atoms.
        cutoff: distance in Å at which a neighbour counts half.
        width: of the transition in Å.
        intramolecular: whether atoms of the same molecule count.

    Raises:
        SystemDefinitionError: there is no such pair.
        ConfigError: an unknown symbol, or a length out of range.
    """

    name = "coordination_number"
    axis_label = "mean"
    value_label = "neighbours"

    def __init__(
        self,
        system: System,
        *,
        pair: Sequence[str] | None = None,
        cutoff: float = 3.5,
        width: float = 0.2,
        intramolecular: bool = True,
    ) -> None:
        if not 0.0 < width < cutoff < float("inf"):
            raise ConfigError(
                f"coordination_number needs 0 < width < cutoff in Å, got width = {width} and "
                f"cutoff = {cutoff}"
            )
        self._system = system
        self.pairs = PairSelection.of(system, pair, intramolecular=intramolecular)
        self.cutoff, self.width = float(cutoff), float(width)
        self._n_central, self._per_pair = system.n_atoms, 2.0
        if pair is not None:
            central, other = element_numbers(pair, 2)
            self._n_central = int((system.numbers == central).sum())
            self._per_pair = 2.0 if central == other else 1.0
            self.label = f"{self.name}_{'-'.join(pair)}"
        self.axis = torch.zeros(1, dtype=torch.float64, device=system.device)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Mean coordination numbers (n, 1) float64; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        x, pbc = positions.to(torch.float64), self._system.pbc
        reach = self.cutoff + 0.5 * self.width
        total = sum_within(self.pairs, x, boxes, pbc, reach, self._neighbours)
        return only_finite_frames(total * (self._per_pair / self._n_central), positions)

    def _neighbours(self, distances: Tensor) -> Tensor:
        """How many of the distances (n, P) count, (n, 1)."""
        t = ((distances - self.cutoff) / self.width + 0.5).clamp(0.0, 1.0)
        return (1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2)).sum(dim=1, keepdim=True)
