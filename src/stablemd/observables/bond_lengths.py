"""Mean lengths of bonds."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry import frame_cells
from stablemd.geometry.bonded import kind_names
from stablemd.geometry.lattice import rounded_image
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class BondLengths(Observable):
    """The length of every bond, or its mean over the bonds of the same elements, in Å.

    Args:
        system: with bonds.
        by_elements: one component per pair of elements instead of one per bond.

    Raises:
        SystemDefinitionError: the system has no bonds.
    """

    name = "bond_lengths"
    axis_label = "bond"
    value_label = "length (Å)"

    def __init__(self, system: System, *, by_elements: bool = False) -> None:
        if not len(system.bonds):
            raise SystemDefinitionError(
                f"bond_lengths needs bonds, and {system.formula} has none; give bonds and "
                "bond_lengths, or use rdf or distance_distribution"
            )
        self._system = system
        self._first, self._second = system.bonds.T
        names = kind_names(system, system.bonds)
        self.kinds: list[str] = sorted(set(names))
        """Pairs of elements, in the order of the components with ``by_elements``."""
        self._kind: Tensor | None = None
        if by_elements:
            self.label = "bond_lengths_by_elements"
            self.axis_label = f"kind of bond ({', '.join(self.kinds)})"
            self._kind = torch.tensor([self.kinds.index(n) for n in names], device=system.device)
        else:
            self.component_atoms = system.bonds
        n = len(self.kinds) if by_elements else len(names)
        self.axis = torch.arange(n, dtype=torch.float64, device=system.device)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Lengths (n, D) float64 in Å; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        x = positions.to(torch.float64)
        vectors = x.index_select(1, self._second) - x.index_select(1, self._first)
        lengths = torch.linalg.vector_norm(rounded_image(vectors, boxes, self._system.pbc), dim=-1)
        if self._kind is not None:
            sums = lengths.new_zeros(len(lengths), len(self.kinds))
            lengths = sums.index_add(1, self._kind, lengths) / self._kind.bincount()
        return only_finite_frames(lengths, positions)
