"""Radius of gyration of molecules."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry import MoleculeUnfolding, frame_cells
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System


class RadiusOfGyration(Observable):
    """The mass-weighted radius of gyration, averaged over the molecules of a frame, in Å.

    Molecules are made whole along their bonds first; single atoms do not count.

    Args:
        system: with a molecule of two atoms or more.

    Raises:
        SystemDefinitionError: there is none.
    """

    name = "radius_of_gyration"
    axis_label = "mean over molecules"
    value_label = "R_g (Å)"

    def __init__(self, system: System) -> None:
        _, ids, sizes = torch.unique(system.molecule_ids, return_inverse=True, return_counts=True)
        if int(sizes.max()) < 2:
            raise SystemDefinitionError(
                f"radius_of_gyration needs a molecule of two atoms or more, and {system.formula} "
                "has single atoms only; give bonds or molecule ids"
            )
        self._system = system
        self._ids, self._counted = ids, sizes > 1
        self._masses = system.masses[:, None]
        self._molecule_masses = self._sums(self._masses[None])
        self._unfold = MoleculeUnfolding(system)
        self.axis = torch.zeros(1, dtype=torch.float64, device=system.device)

    def _sums(self, per_atom: Tensor) -> Tensor:
        """Sums over the atoms of each molecule, (n, M, k), of values (n, N, k)."""
        n, _, k = per_atom.shape
        return per_atom.new_zeros(n, len(self._counted), k).index_add(1, self._ids, per_atom)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Mean radii (n, 1) float64 in Å; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        x = self._unfold(positions.to(torch.float64), boxes)
        centres = self._sums(self._masses * x) / self._molecule_masses
        arms = x - centres.index_select(1, self._ids)
        squares = self._sums(self._masses * arms.square()) / self._molecule_masses
        radii = squares.sum(dim=2)[:, self._counted].sqrt()
        return only_finite_frames(radii.mean(dim=1, keepdim=True), positions)
