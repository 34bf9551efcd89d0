"""Atoms with more or fewer neighbours than the reference shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from stablemd.errors import ConfigError, SystemDefinitionError
from stablemd.geometry import frame_cells, inscribed_radius
from stablemd.geometry.pairs import MAX_ELEMENTS, atom_name, element_numbers
from stablemd.geometry.squares import squared_distances
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import ReferenceStructures, Threshold, learnt
from stablemd.system import System


class Coordination(Detector):
    """Fails a replica when an atom has too few or too many neighbours within a cutoff.

    ``Detection.value`` is the number of neighbours that is farthest outside the
    limits (or nearest to one), ``where`` its atom.  Neighbours are counted at
    their nearest image.

    Args:
        system: the atoms.
        cutoff: Å; in a periodic system below half the distance of its lattice planes.
        lowest: fewest neighbours allowed.
        highest: most neighbours allowed.
        pair: symbols of the atom and of its neighbours; None for all atoms.

    Raises:
        SystemDefinitionError: an element is absent.
        ConfigError: a limit or the cutoff is out of range.
    """

    reason = "coordination"

    def __init__(
        self,
        system: System,
        *,
        cutoff: float,
        lowest: float | Threshold,
        highest: float | Threshold,
        pair: Sequence[str] | None = None,
    ) -> None:
        low = lowest if isinstance(lowest, Threshold) else Threshold("lowest", lowest, "neighbours")
        high = highest
        if not isinstance(high, Threshold):
            high = Threshold("highest", high, "neighbours")
        if not 0.0 < cutoff < float("inf") or not 0.0 <= max(low.value, 0.0) <= high.value:
            raise ConfigError(
                "coordination needs cutoff > 0 Å and lowest <= highest, got "
                f"cutoff = {cutoff}, lowest = {low.value} and highest = {high.value}"
            )
        if system.is_periodic and cutoff >= float(inscribed_radius(system.cell, system.pbc)):
            raise ConfigError(
                f"the cutoff of coordination is {cutoff:g} Å; this cell allows less than "
                f"{float(inscribed_radius(system.cell, system.pbc)):.3g} Å, half the distance "
                "between its lattice planes"
            )
        self.thresholds = (low, high)
        self._low, self._high, self._square = low.value, high.value, float(cutoff) ** 2
        self.cutoff = float(cutoff)
        self._system = system
        every = torch.arange(system.n_atoms, device=system.device)
        self._central = self._other = every
        self._periodic = tuple(system.pbc.tolist())
        self._kind = "atoms"
        if pair is not None:
            one, other = element_numbers(pair, 2)
            self._central = every[system.numbers == one]
            self._other = every[system.numbers == other]
            self._kind = pair[1]
        if not len(self._central) or not len(self._other):
            raise SystemDefinitionError(
                f"{system.formula} has no atoms {'-'.join(pair or ())} for coordination"
            )

    @classmethod
    def from_reference(
        cls,
        system: System,
        reference: ReferenceStructures,
        *,
        cutoff: float,
        pair: Sequence[str] | None = None,
        quantile: float = 0.0,
        margin: float = 1.0,
    ) -> Coordination:
        """Limits a ``margin`` (neighbours) beyond what the structures show."""
        probe = cls(system, cutoff=cutoff, lowest=0, highest=system.n_atoms, pair=pair)
        cells = reference.cells
        counts = torch.cat(
            [
                probe._counts(x[None], None if cells is None else cells[f : f + 1])
                for f, x in enumerate(reference.positions)
            ]
        )
        low, high = (
            learnt(
                name, counts.amax(dim=1) if upper else counts.amin(dim=1), "neighbours",
                upper=upper, quantile=quantile, margin=margin, source=reference.source,
                what=f"{name} number within {cutoff:g} Å",
            )
            for upper, name in ((False, "lowest"), (True, "highest"))
        )  # fmt: skip
        return cls(system, cutoff=cutoff, lowest=low, highest=high, pair=pair)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        counts = self._counts(positions, cells)
        outside = torch.maximum(self._low - counts, counts - self._high)
        worst, place = outside.max(dim=1)
        value = counts.gather(1, place[:, None])[:, 0]
        return Detection(
            failed=worst.le(0.0).logical_not(), value=value, where=self._central[place]
        )

    def _counts(self, positions: Tensor, cells: Tensor | None) -> Tensor:
        """Neighbours of every central atom, (R, A) float64; NaN where a position is not finite."""
        boxes = frame_cells(self._system, positions, cells)
        size = max(1, MAX_ELEMENTS // max(1, len(positions) * len(self._other)))
        rows = []
        for central in self._central.split(size):

            def difference(x: Tensor, central: Tensor = central) -> Tensor:
                return (
                    x.index_select(1, central)[:, :, None] - x.index_select(1, self._other)[:, None]
                )

            squares = squared_distances(positions, boxes, self._periodic, difference)
            near = (squares < self._square) & (self._other != central[:, None])
            # Zero times a number that is not finite is NaN.
            rows.append(near.sum(dim=2) + 0.0 * squares.amax(dim=2))
        return torch.cat(rows, dim=1)

    def describe(self, where: int, value: float) -> str:
        name = atom_name(self._system, where)
        return (
            f"atom {name} has {value:.0f} {self._kind} within {self.cutoff:.2f} Å (limits "
            f"{self._low:g} to {self._high:g})"
        )
