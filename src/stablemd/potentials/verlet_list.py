"""Pair lists of replicas that are kept while atoms move less than a skin allows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stablemd.errors import PotentialError
from stablemd.geometry.pair_search import farthest_moves, list_replica_pairs
from stablemd.potentials.neighbours import PairList


class VerletList:
    """Half lists with a skin, one per replica, on the CPU.

    A list holds all pairs closer than ``cutoff + skin`` and is rebuilt for those
    replicas alone in which an atom has moved by half the skin (a changed cell
    uses up part of it).  Positions may be wrapped or not: an atom that is
    wrapped has moved far.  Rows are ordered, so that the pairs within the
    cutoff, and their order, do not depend on when a list was built.

    Args:
        pbc: periodic directions, (3,) bool.
        cutoff: Å.
        skin: Å, more than zero.

    Attributes:
        table: rows (i, j, shift) of every replica, (R, capacity, 5) int32.
        counts: rows in use, (R,) int64; -1 where positions are not finite.
        n_rebuilt: lists built so far.
    """

    def __init__(self, pbc: Tensor, cutoff: float, skin: float) -> None:
        if not skin > 0:
            raise PotentialError(f"a Verlet list needs a skin of more than 0 Å, got {skin}")
        self.cutoff = cutoff
        self.skin = skin
        self._pbc = pbc.cpu().numpy()
        self._x = np.zeros((0, 0, 3))
        self._cells = np.zeros((0, 3, 3))
        self.table = np.zeros((0, 0, 5), dtype=np.int32)
        self.counts = np.zeros(0, dtype=np.int64)
        self.n_rebuilt = 0

    def update(self, positions: np.ndarray, cells: np.ndarray) -> None:
        """Make the lists right for positions (R, N, 3) and cells (R, 3, 3), float64, Å."""
        if self._x.shape != positions.shape:
            self._x = np.full(positions.shape, np.nan)
            self._cells = np.full(cells.shape, np.nan)
            self.counts = np.zeros(len(positions), dtype=np.int64)
            capacity = self.table.shape[1]
            self.table = np.zeros((len(positions), capacity, 5), dtype=np.int32)
        for r in self._stale(positions, cells):
            self._x[r], self._cells[r] = positions[r], cells[r]
            self.n_rebuilt += 1
            if not (np.isfinite(positions[r]).all() and np.isfinite(cells[r]).all()):
                self.counts[r] = -1
                continue
            rows = list_replica_pairs(positions[r], cells[r], self._pbc, self.cutoff + self.skin)
            self._make_room(len(rows))
            self.table[r, : len(rows)] = rows
            self.counts[r] = len(rows)

    def _stale(self, positions: np.ndarray, cells: np.ndarray) -> list[int]:
        """Replicas whose list may lack a pair.

        A pair that is not listed was ``cutoff + skin`` apart or more.  Since then
        the cell has been deformed by F and atoms have moved by u on top of it; the
        pair is still outside the cutoff while ``(1 - |F - 1|) (cutoff + skin) -
        2 max|u| >= cutoff``.
        """
        change = np.broadcast_to(np.eye(3), cells.shape)
        deformed = (cells != self._cells).any(axis=(1, 2))
        if deformed.any():
            usable = (
                deformed & np.isfinite(cells).all((1, 2)) & np.isfinite(self._cells).all((1, 2))
            )
            change = np.where(deformed[:, None, None], np.nan, change)
            change[usable] = np.linalg.inv(self._cells[usable]) @ cells[usable]
        moves = np.empty(len(positions))
        farthest_moves(positions, self._x, np.ascontiguousarray(change), moves)
        scale = 1.0 - np.sqrt(((change - np.eye(3)) ** 2).sum(axis=(1, 2)))
        fresh = 2.0 * moves <= scale * (self.cutoff + self.skin) - self.cutoff
        return [int(r) for r in np.flatnonzero(~fresh)]

    def _make_room(self, n_rows: int) -> None:
        n_replicas, capacity, _ = self.table.shape
        if n_rows > capacity:
            larger = np.zeros((n_replicas, n_rows + n_rows // 8, 5), dtype=np.int32)
            larger[:, :capacity] = self.table
            self.table = larger

    def pairs(self, positions: Tensor, cells: Tensor) -> PairList:
        """The pairs closer than the cutoff, as ``find_pairs`` gives them.

        Args:
            positions: Å, (R, N, 3).
            cells: Å, (R, 3, 3).
        """
        x = positions.detach().to("cpu", torch.float64).contiguous()
        h = cells.detach().to("cpu", torch.float64).contiguous()
        self.update(x.numpy(), h.numpy())
        n_atoms = x.shape[1]
        found, shifts, counts = [], [], []
        for r, count in enumerate(self.counts.tolist()):
            rows = torch.from_numpy(self.table[r, : max(count, 0)]).long()
            if count < 0:
                rows = _not_finite(x[r])
            vectors = x[r, rows[:, 1]] - x[r, rows[:, 0]] + rows[:, 2:].to(h) @ h[r]
            near = ~(vectors.square().sum(dim=1) >= self.cutoff**2)
            rows = rows[near]
            found.append(rows[:, :2].T + r * n_atoms)
            shifts.append(rows[:, 2:])
            counts.append(len(rows))
        return PairList(torch.cat(found, dim=1), torch.cat(shifts), torch.tensor(counts))

    def like(self) -> VerletList:
        """An empty list of the same kind, for use in another thread."""
        return VerletList(torch.from_numpy(self._pbc), self.cutoff, self.skin)


def _not_finite(x: Tensor) -> Tensor:
    """One pair (1, 5) with an atom that is not finite, so that the energy is not either."""
    bad = torch.nonzero(~x.isfinite().all(dim=1)).flatten()
    first = int(bad[0]) if len(bad) else 0
    pair = sorted((first, 0 if first else 1)) if len(x) > 1 else []
    return torch.tensor([[*pair, 0, 0, 0]] if pair else [], dtype=torch.int64).reshape(-1, 5)
