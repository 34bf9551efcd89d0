"""The distribution of dihedral angles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import frame_cells
from stablemd.geometry.bonded import dihedral_values, find_dihedrals, kind_names, of_kind
from stablemd.observables.base import Observable, only_finite_frames
from stablemd.observables.histogram import Histogram
from stablemd.system import System


class DihedralDistribution(Observable):
    """The density p(φ) of dihedral angles around bonds, in 1/degree.

    It is periodic: what the kernel puts beyond 180° counts from -180° on.  φ is
    0 for cis and positive for a clockwise turn seen along the middle bond (IUPAC).

    Args:
        system: with bonds.
        elements: symbols of the four atoms along the bonds; None for all.
        atoms: or four atom indices of the one dihedral, bonded or not, e.g. a
            backbone angle.
        n_bins: bins between -180° and 180°.
        bandwidth: of the kernel in degrees; one bin width by default.

    Raises:
        SystemDefinitionError: there is no such dihedral.
        ConfigError: a number is out of range, or both choices are given.
    """

    name = "dihedral_distribution"
    axis_label = "φ (degrees)"
    value_label = "p(φ) (1/degree)"

    def __init__(
        self,
        system: System,
        *,
        elements: Sequence[str] | None = None,
        atoms: Sequence[int] | None = None,
        n_bins: int = 180,
        bandwidth: float | None = None,
    ) -> None:
        if atoms is not None:
            self.atoms = _one_dihedral(system, atoms, elements)
            self.label = f"{self.name}_{'-'.join(map(str, atoms))}"
        else:
            every = find_dihedrals(system)
            self.atoms = of_kind(system, every, elements)
            if not len(self.atoms):
                raise SystemDefinitionError(
                    f"{system.formula} has no dihedral "
                    f"{'' if elements is None else '-'.join(elements)}; its bonds make the "
                    f"dihedrals {sorted(set(kind_names(system, every)))}"
                )
            if elements is not None:
                self.label = f"{self.name}_{'-'.join(elements)}"
        self._system = system
        self._histogram = Histogram(
            -180.0, 180.0, n_bins, bandwidth=bandwidth, ends=("periodic", "periodic"),
            unit="degrees",
        )  # fmt: skip
        self.bin_width = self._histogram.bin_width
        self.axis = self._histogram.centres.to(system.device)

    def values(self, positions: Tensor, cells: Tensor | None = None) -> Tensor:
        """p(φ) of every frame, (n, n_bins) float64 in 1/degree; arguments as in the contract."""
        boxes = frame_cells(self._system, positions, cells)
        angles = dihedral_values(positions.to(torch.float64), self.atoms, boxes, self._system.pbc)
        counts = self._histogram.counts(angles * (180.0 / math.pi))
        return only_finite_frames(counts / (len(self.atoms) * self.bin_width), positions)

    def mean_absolute_error(self, mean: Tensor, reference: Tensor) -> Tensor:
        """The integral of |<p>(φ) - p_ref(φ)| over φ (dimensionless, between 0 and 2)."""
        return (mean - reference).abs().sum() * self.bin_width


def _one_dihedral(system: System, atoms: Sequence[int], elements: Sequence[str] | None) -> Tensor:
    if elements is not None:
        raise ConfigError("a dihedral is chosen by elements or by atoms; give one of the two")
    if len(atoms) != 4 or len(set(atoms)) != 4 or not all(0 <= a < system.n_atoms for a in atoms):
        raise ConfigError(
            f"atoms must be four different indices within 0..{system.n_atoms - 1}, got "
            f"{list(atoms)}"
        )
    return torch.tensor([list(atoms)], dtype=torch.int64, device=system.device)
