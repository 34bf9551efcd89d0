"""Nearest neighbours at distances that the reference never shows: no chemistry needed."""

from __future__ import annotations

import math

import torch
from ase.data import chemical_symbols
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import frame_cells, inscribed_radius
from stablemd.geometry.pairs import MAX_ELEMENTS, atom_name
from stablemd.geometry.squares import squared_distances
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import ReferenceStructures, Threshold, learnt
from stablemd.system import System

Window = tuple[Threshold, Threshold | None]


class DistanceWindow(Detector):
    """Fails a replica when an atom's nearest neighbour of some element leaves its window.

    For every ordered pair of elements (A, B) the distance from each A to its
    nearest B has a lower and an upper limit: atoms that collide fall below, a
    bond that breaks or a molecule that comes apart goes above.  Neither bonds
    nor molecules need be known.  ``Detection.value`` is the distance in Å that
    is farthest outside (or nearest to a limit), ``where`` is atom × number of
    elements + element.

    Args:
        system: two atoms or more.
        windows: limits in Å by the symbols ``(A, B)``; the upper one may be None.

    Raises:
        SystemDefinitionError: there is a single atom.
        ConfigError: a pair of elements is missing, or an upper limit is too
            long for the cell.
    """

    reason = "distance_window"

    def __init__(self, system: System, *, windows: dict[tuple[str, str], Window]) -> None:
        if system.n_atoms < 2:
            raise SystemDefinitionError(
                f"distance_window needs two atoms or more, {system.formula} has one"
            )
        self._system = system
        self._elements = torch.unique(system.numbers)
        self._symbols = [chemical_symbols[int(z)] for z in self._elements]
        n, m = len(system.numbers), len(self._symbols)
        lower = torch.zeros(n, m, dtype=torch.float64)
        exists = torch.zeros(n, m, dtype=torch.bool)
        upper = torch.full((n, m), math.inf, dtype=torch.float64)
        for a, one in enumerate(self._symbols):
            of_a = (system.numbers == self._elements[a]).cpu()
            for b, other in enumerate(self._symbols):
                if a == b and int(of_a.sum()) < 2:
                    continue
                if (one, other) not in windows:
                    raise ConfigError(
                        f"distance_window has no window for the nearest {other} of {one}; give one "
                        f"for every ordered pair of {self._symbols}"
                    )
                low, high = windows[one, other]
                exists[of_a, b] = True  # a single atom has no neighbour of its own element
                lower[of_a, b] = low.value
                upper[of_a, b] = math.inf if high is None else high.value
        self._check_cell(upper)
        self.thresholds = tuple(t for window in windows.values() for t in window if t is not None)
        self._lower, self._upper = lower.to(system.device), upper.to(system.device)
        self._exists = exists.to(system.device)
        self._order = torch.argsort(system.numbers, stable=True)
        self._sizes = torch.unique(system.numbers, return_counts=True)[1].tolist()
        self._periodic = tuple(system.pbc.tolist())

    def _check_cell(self, upper: Tensor) -> None:
        finite = upper[upper.isfinite()]
        if not self._system.is_periodic or not len(finite):
            return
        radius = float(inscribed_radius(self._system.cell, self._system.pbc))
        if float(finite.max()) >= radius:
            raise ConfigError(
                f"an upper limit of distance_window is {float(finite.max()):.3g} Å, and the cell "
                f"allows less than {radius:.3g} Å, half the distance between its lattice planes; "
                "use None for that pair"
            )

    @classmethod
    def from_reference(
        cls,
        system: System,
        reference: ReferenceStructures,
        *,
        quantile: float = 0.0,
        margin: float = 0.3,
    ) -> DistanceWindow:
        """Windows that end a ``margin`` (Å) beyond what the structures show.

        Pairs of elements whose upper limit would exceed what the cell can tell
        get none.
        """
        symbols = [chemical_symbols[int(z)] for z in torch.unique(system.numbers)]
        free: dict[tuple[str, str], Window] = {
            (a, b): (Threshold("", 0.0, "Å"), None) for a in symbols for b in symbols
        }
        probe = cls(system, windows=free)
        cells = reference.cells
        nearest = torch.cat(
            [
                probe._nearest(x[None], None if cells is None else cells[f : f + 1])
                for f, x in enumerate(reference.positions)
            ]
        )
        radius = math.inf
        if system.is_periodic:
            radius = float(inscribed_radius(system.cell, system.pbc))
        windows: dict[tuple[str, str], Window] = {}
        for a, one in enumerate(symbols):
            of_a = system.numbers == probe._elements[a]
            for b, other in enumerate(symbols):
                distances = nearest[:, of_a, b]
                if not bool(distances.isfinite().all()):
                    continue  # a single atom has no neighbour of its own element
                low, high = (
                    learnt(
                        f"{end} distance from {one} to its nearest {other}",
                        distances.amax(dim=1) if upper else distances.amin(dim=1), "Å",
                        upper=upper, quantile=quantile, margin=margin, source=reference.source,
                        what=f"{end} one",
                    )
                    for upper, end in ((False, "shortest"), (True, "longest"))
                )  # fmt: skip
                windows[one, other] = (low, high if high.value < radius else None)
        return cls(system, windows=windows)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        nearest = self._nearest(positions, cells)
        outside = torch.maximum(self._lower - nearest, nearest - self._upper)
        outside = torch.where(self._exists, outside, -torch.inf)
        worst, where = outside.flatten(1).max(dim=1)
        value = nearest.flatten(1).gather(1, where[:, None])[:, 0]
        return Detection(failed=worst.lt(0.0).logical_not(), value=value, where=where)

    def _nearest(self, positions: Tensor, cells: Tensor | None) -> Tensor:
        """Distance in Å from every atom to its nearest neighbour of each element, (R, N, M)."""
        boxes = frame_cells(self._system, positions, cells)
        n_replicas, n, _ = positions.shape
        size = max(1, MAX_ELEMENTS // max(1, n_replicas * n))
        rows = []
        for start in range(0, n, size):
            stop = min(start + size, n)

            def difference(x: Tensor, start: int = start, stop: int = stop) -> Tensor:
                return x[:, start:stop, None] - x[:, None]

            squares = squared_distances(positions, boxes, self._periodic, difference)
            squares[:, :, start:stop].diagonal(dim1=1, dim2=2).fill_(torch.inf)
            # Grouped by element, so that each minimum runs over neighbouring memory.
            grouped = squares.index_select(2, self._order).split(self._sizes, dim=2)
            rows.append(torch.stack([part.amin(dim=2) for part in grouped], dim=2))
        return torch.cat(rows, dim=1).sqrt()

    def describe(self, where: int, value: float) -> str:
        atom, element = divmod(where, len(self._symbols))
        name, other = atom_name(self._system, atom), self._symbols[element]
        if not math.isfinite(value):
            return f"atom {name} has no finite distance to its nearest {other}"
        low, high = float(self._lower[atom, element]), float(self._upper[atom, element])
        return (
            f"the nearest {other} of atom {name} is {value:.2f} Å away (window {low:.2f} to "
            f"{high:.2f} Å)"
        )
