"""The shortest distance between atoms of different molecules."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.geometry import PairSelection, frame_cells
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class MinimumIntermolecularDistance(Observable):
    """The shortest distance in a frame between atoms of different molecules, in Å.

    Molecules are told apart by ``molecule_ids``, so no pair within a molecule
    counts, however far it is stretched.  In a cell so small that the distance
    exceeds the inscribed radius it is an upper bound.

    Args:
        system: two molecules or more.
        pair: chemical symbols of the two atoms; None for any.

    Raises:
        SystemDefinitionError: there is no such pair.
        ConfigError: an unknown symbol.
    """

    name = "intermolecular_distance"
    axis_label = "shortest"
    value_label = "distance (Å)"

    def __init__(self, system: System, *, pair: Sequence[str] | None = None) -> None:
        self._system = system
        self.pairs = PairSelection.of(system, pair, intramolecular=False)
        if pair is not None:
            self.label = f"{self.name}_{self.pairs.name}"
        self.axis = torch.zeros(1, dtype=torch.float64, device=system.device)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Shortest distances (n, 1) float64 in Å; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        x = positions.to(torch.float64)
        shortest = x.new_full((len(x),), torch.inf)
        no_shift = torch.zeros(1, 3, dtype=torch.float64, device=x.device)
        for part in self.pairs.distance_chunks(x, boxes, self._system.pbc, no_shift):
            shortest = torch.minimum(shortest, part.flatten(1).amin(dim=1))
        return only_finite_frames(shortest[:, None], positions)
