"""How far bonds leave the lengths that the reference structures visit."""

from __future__ import annotations

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import frame_cells, rounded_image
from stablemd.observables.base import Observable
from stablemd.system import System


class BondExcess(Observable):
    """Squared deviation of each bond's length beyond a tolerance, divided by its square.

    ``g_b = (max(|d_b - d_b,ref| - tolerance, 0) / tolerance)²``: zero for every
    bond within its usual range, so that thermal fluctuations add no noise to the
    average, and growing quadratically where a bond begins to break.  With a
    tolerance that covers the reference structures the reference average is zero
    up to rare excursions.

    Args:
        system: with bonds and their mean lengths.
        tolerance: deviation in Å at which the excess begins, one for all bonds or (B,).

    Raises:
        SystemDefinitionError: the system has no bonds.
        ConfigError: a tolerance is not positive, or there is not one per bond.
    """

    name = "bond_excess"
    axis_label = "bond"
    value_label = "excess (dimensionless)"

    def __init__(self, system: System, tolerance: float | Tensor = 0.2) -> None:
        if not len(system.bonds):
            raise SystemDefinitionError(
                f"bond_excess needs bonds, and {system.formula} has none; give bonds and "
                "bond_lengths, or supervise with distance_distribution alone"
            )
        per_bond = torch.as_tensor(tolerance, dtype=torch.float64, device=system.device)
        n_bonds = len(system.bonds)
        fits = per_bond.ndim == 0 or per_bond.shape == (n_bonds,)
        if not fits or not bool(((per_bond > 0.0) & per_bond.isfinite()).all()):
            raise ConfigError(
                f"tolerance must be a positive length in Å, or one for each of {n_bonds} bonds, "
                f"got {tolerance}"
            )
        self.tolerance = per_bond.expand(n_bonds)
        self.axis = torch.arange(len(system.bonds), dtype=torch.float64, device=system.device)
        self.component_atoms = system.bonds
        self._system = system
        self._first, self._second = system.bonds.T
        self._lengths = system.bond_lengths

    @classmethod
    def from_reference(
        cls,
        system: System,
        positions: Tensor,
        cells: Tensor | None = None,
        *,
        margin: float = 1.1,
        smallest: float = 0.05,
    ) -> BondExcess:
        """Tolerances from structures: ``margin`` times each bond's largest deviation.

        Args:
            system: with bonds and their mean lengths.
            positions: reference structures (n, N, 3) in Å.
            cells: their cells (n, 3, 3) in Å; the system's by default.
            margin: factor on the largest deviation that the structures show.
            smallest: least tolerance in Å, for references with few structures.
        """
        probe = cls(system, 1.0)
        largest = probe._deviations(positions.to(system.device), cells).amax(dim=0)
        return cls(system, (margin * largest).clamp_min(smallest))

    def _deviations(self, positions: Tensor, cells: Tensor | None) -> Tensor:
        boxes = frame_cells(self._system, positions, cells)
        vectors = positions[:, self._second] - positions[:, self._first]
        vectors = rounded_image(vectors, boxes, self._system.pbc)
        return (torch.linalg.vector_norm(vectors, dim=-1) - self._lengths).abs()

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        excess = (self._deviations(positions, cells) - self.tolerance).clamp_min(0.0)
        return (excess / self.tolerance).square()

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """Mean over bonds of the absolute error of the average excess."""
        return (mean - reference).abs().mean()
