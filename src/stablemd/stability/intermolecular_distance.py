"""Atoms of different molecules that come too close."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stablemd.errors import ConfigError
from stablemd.geometry import PairSelection, frame_cells, inscribed_radius
from stablemd.geometry.lattice import reciprocal_rows
from stablemd.geometry.pair_search import DENSE_MAX_ATOMS, list_replica_pairs
from stablemd.geometry.pairs import MAX_ELEMENTS
from stablemd.geometry.shortest_kernel import shortest_squares
from stablemd.geometry.squares import squared_distances
from stablemd.stability.base import Detection, Detector
from stablemd.stability.thresholds import ReferenceStructures, Threshold, given, learnt
from stablemd.system import System

SHORTEST_REACH, LONGEST_REACH = 2.0, 10.0
"""Reaches in Å between which a search for near pairs takes less than a look at all pairs."""


class IntermolecularDistance(Detector):
    """Fails a replica when two atoms of different molecules are closer than a limit.

    Molecules are told apart by ``molecule_ids``: no pair within a molecule
    counts.  ``Detection.value`` is the shortest such distance in Å, ``where`` the
    index of its pair.  A replica fails too when its cell has become so small
    that an atom meets its own image within twice the limit.

    Args:
        system: two molecules or more.
        min_distance: the limit in Å.

    Raises:
        SystemDefinitionError: there is one molecule only.
        ConfigError: the limit is not positive, or too long for the cell.

    Source: the criterion for water of the StABlE paper, arXiv 2402.13984, with
    1.2 Å, where pairs within a molecule counted too.
    """

    reason = "intermolecular_distance"

    def __init__(self, system: System, *, min_distance: float | Threshold) -> None:
        limit = min_distance
        if not isinstance(limit, Threshold):
            limit = given("min_distance", limit, "Å")
        self.thresholds = (limit,)
        self._limit = limit.value
        self._system = system
        self._periodic = tuple(system.pbc.tolist())
        self._pairs = PairSelection.of(system, intramolecular=False)
        if system.is_periodic:
            radius = float(inscribed_radius(system.cell, system.pbc))
            if self._limit >= radius:
                raise ConfigError(
                    f"min_distance is {self._limit:g} Å, and the cell allows less than "
                    f"{radius:.3g} Å, half the distance between its lattice planes; use a "
                    "smaller one or a larger cell"
                )

    @classmethod
    def from_reference(
        cls,
        system: System,
        reference: ReferenceStructures,
        *,
        quantile: float = 0.0,
        margin: float = 0.3,
    ) -> IntermolecularDistance:
        """The limit a ``margin`` (Å) below the shortest distances of reference structures."""
        probe = cls(system, min_distance=1e-6)
        shortest = [
            probe._shortest(x[None], None if h is None else h[None])[0]
            for x, h in _frames(reference)
        ]
        limit = learnt(
            "min_distance", torch.cat(shortest), "Å", upper=False, quantile=quantile,
            margin=margin, source=reference.source, what="shortest intermolecular distance",
        )  # fmt: skip
        return cls(system, min_distance=limit)

    def detect(
        self,
        positions: Tensor,
        momenta: Tensor,
        energies: Tensor,
        cells: Tensor | None = None,
    ) -> Detection:
        distance, where = self._shortest(positions, cells)
        safe = distance >= self._limit
        boxes = frame_cells(self._system, positions, cells)
        if boxes is not None:
            wide = inscribed_radius(boxes, self._system.pbc) >= self._limit
            safe, where = safe & wide, torch.where(wide, where, -1)
        return Detection(failed=safe.logical_not(), value=distance, where=where)

    def _shortest(self, positions: Tensor, cells: Tensor | None) -> tuple[Tensor, Tensor]:
        """Shortest distance (R,) in Å and the index of its pair (R,)."""
        boxes = frame_cells(self._system, positions, cells)
        if positions.device.type == "cpu":
            return self._shortest_on_cpu(positions.detach(), boxes)
        return self._shortest_in_pieces(positions, boxes)

    def _shortest_in_pieces(self, positions: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same by tensors over parts of the pairs, on any device."""
        size = max(1, MAX_ELEMENTS // max(1, len(positions)))
        squares, places = [], []
        for start in range(0, len(self._pairs), size):
            first = self._pairs.first[start : start + size]
            second = self._pairs.second[start : start + size]

            def difference(x: Tensor, first: Tensor = first, second: Tensor = second) -> Tensor:
                return x.index_select(1, first).sub_(x.index_select(1, second))

            piece = squared_distances(positions, boxes, self._periodic, difference)
            square, place = piece.min(dim=1)
            squares.append(square)
            places.append(place + start)
        smallest, nearest = torch.stack(squares).min(dim=0)
        return smallest.sqrt(), torch.stack(places).gather(0, nearest[None])[0]

    def _shortest_on_cpu(self, positions: Tensor, boxes: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same by loops that keep no array over the pairs."""
        if self._system.n_atoms > DENSE_MAX_ATOMS:
            parts = [
                self._shortest_among_near(x[None], None if boxes is None else boxes[r : r + 1])
                for r, x in enumerate(positions)
            ]
            distances, places = zip(*parts, strict=True)
            return torch.cat(distances), torch.cat(places)
        return self._shortest_of(positions, boxes, self._pairs.first, self._pairs.second)

    def _shortest_among_near(self, x: Tensor, box: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same for one replica, from the pairs within a reach that grows until it has one."""
        ids = self._system.molecule_ids
        first, second = self._pairs.first, self._pairs.second
        cell = torch.eye(3) if box is None else box[0]
        widest = float("inf") if box is None else float(inscribed_radius(box, self._system.pbc))
        reach = max(2.0 * self._limit, SHORTEST_REACH)
        usable = bool(x.isfinite().all()) and bool(cell.isfinite().all())
        while usable and reach < min(widest, LONGEST_REACH):
            rows = list_replica_pairs(
                x[0].double().contiguous().numpy(),
                cell.double().contiguous().numpy(),
                self._system.pbc.numpy(),
                reach,
            )
            near = torch.from_numpy(rows[:, :2]).long()
            near = near[ids[near[:, 0]] != ids[near[:, 1]]]
            if len(near):
                distance, which = self._shortest_of(x, box, *near.T.contiguous())
                if bool(distance < reach * (1.0 - 1e-6)):
                    # Pairs stand in ascending order.
                    i, j = near[which].T.contiguous()
                    begin = torch.searchsorted(first, i)
                    end = torch.searchsorted(first, i, right=True)
                    return distance, begin + torch.searchsorted(second[begin:end], j)
            reach *= 2.0
        return self._shortest_of(x, box, first, second)

    def _shortest_of(
        self, positions: Tensor, boxes: Tensor | None, first: Tensor, second: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shortest distance (R,) in Å of some pairs, and which of them it is (R,)."""
        n = len(positions)
        x = positions.double()
        metric = torch.eye(3, dtype=torch.float64).expand(n, 3, 3)
        if boxes is not None:
            h = boxes.double()
            x, metric = x @ reciprocal_rows(h).transpose(1, 2), h @ h.transpose(1, 2)
        squares = torch.empty(n, dtype=torch.float64)
        places = torch.empty(n, dtype=torch.int64)
        shortest_squares(
            x.contiguous().numpy(),
            metric.contiguous().numpy(),
            np.array(self._periodic),
            first.numpy(),
            second.numpy(),
            squares.numpy(),
            places.numpy(),
        )
        return squares.sqrt().to(positions.dtype), places

    def describe(self, where: int, value: float) -> str:
        if where < 0:
            return (
                "the cell has shrunk so far that atoms nearly meet their own images (less than "
                f"{2 * self._limit:.2f} Å)"
            )
        pair = self._pairs.describe(where, self._system)
        return (
            f"atoms {pair} of different molecules are {value:.2f} Å apart (limit "
            f"{self._limit:.2f} Å)"
        )


def _frames(reference: ReferenceStructures) -> list[tuple[Tensor, Tensor | None]]:
    cells = reference.cells
    return [(x, None if cells is None else cells[f]) for f, x in enumerate(reference.positions)]
