"""Mass density."""

from __future__ import annotations

import torch
from ase import units as ase_units
from torch import Tensor

from stablemd.errors import SystemDefinitionError
from stablemd.geometry import frame_cells
from stablemd.geometry.lattice import volumes
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.system import System

GRAM_PER_CM3 = 1e27 * float(ase_units._amu)
"""One amu/Å³ in g/cm³."""


class Density(Observable):
    """The mass per volume in g/cm³; it varies in simulations at constant pressure alone.

    Args:
        system: periodic in all directions.

    Raises:
        SystemDefinitionError: it has no volume.
    """

    name = "density"
    axis_label = "mass density"
    value_label = "ρ (g/cm³)"

    def __init__(self, system: System) -> None:
        if not bool(system.pbc.all()):
            raise SystemDefinitionError(
                f"the density needs a volume, but {system.formula} has pbc = "
                f"{system.pbc.tolist()}; give a system that is periodic in three directions"
            )
        self._system = system
        self.axis = torch.zeros(1, dtype=torch.float64, device=system.device)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """Densities (n, 1) float64 in g/cm³; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        assert boxes is not None
        mass = float(self._system.masses.sum()) * GRAM_PER_CM3
        return only_finite_frames(mass / volumes(boxes)[:, None], positions)
