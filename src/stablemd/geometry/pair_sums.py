"""Sums over the pairs of a selection that are closer than some distance."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from stablemd.geometry.lattice import image_shifts, inscribed_radius
from stablemd.geometry.pair_search import list_replica_pairs
from stablemd.geometry.pairs import MAX_ELEMENTS, PairSelection

LISTED_MIN_PAIRS = 2**17
"""With fewer pairs every distance is computed, which is faster there."""

LISTED_MIN_CELLS = 1.5
"""Lists pay where the inscribed radius of the cell is this many times the distance."""


def sum_within(
    pairs: PairSelection,
    positions: Tensor,
    cells: Tensor | None,
    pbc: Tensor,
    reach: float,
    function: Callable[[Tensor], Tensor],
) -> Tensor:
    """The sum over pairs of a function of their distances, all periodic images included.

    In large systems on a CPU the pairs within reach are searched for, and the cost is linear
    in the number of atoms; elsewhere every distance is computed.

    Args:
        pairs: which pairs count.
        positions: (n, N, 3) in Å, one frame or more; differentiable.
        cells: (n, 3, 3) in Å, or None; differentiable.
        pbc: periodic directions, (3,) bool.
        reach: Å; distances beyond it may be there or not.
        function: from distances (n', P) to sums over them (n', D), zero for a distance beyond
            ``reach`` and for an infinite one.

    Returns:
        (n, D); for a frame with a position that is not finite, anything.
    """
    if not _lists_pay(pairs, positions, cells, pbc, reach):
        shifts = image_shifts(cells, pbc, reach).to(positions.device)
        total: Tensor | None = None
        for distances in pairs.distance_chunks(positions, cells, pbc, shifts):
            part = function(distances.flatten(1))
            total = part if total is None else total + part
        assert total is not None  # a selection is not empty
        return total
    chosen = torch.zeros(positions.shape[1], positions.shape[1], dtype=torch.bool)
    chosen[pairs.first, pairs.second] = True
    rows = [_rows(positions, cells, pbc, reach, frame, chosen) for frame in range(len(positions))]
    size = max(1, MAX_ELEMENTS // max(1, *(len(r) for r in rows)))
    parts = []
    for start in range(0, len(rows), size):
        frames = slice(start, start + size)
        of_these = None if cells is None else cells[frames]
        parts.append(function(_distances(positions[frames], of_these, rows[frames])))
    return torch.cat(parts)


def _lists_pay(
    pairs: PairSelection, positions: Tensor, cells: Tensor | None, pbc: Tensor, reach: float
) -> bool:
    if positions.device.type != "cpu" or len(pairs) < LISTED_MIN_PAIRS:
        return False
    if cells is None:
        return True
    radius = inscribed_radius(cells.detach(), pbc)
    return bool((radius >= LISTED_MIN_CELLS * reach).all())


def _rows(
    positions: Tensor, cells: Tensor | None, pbc: Tensor, reach: float, frame: int, chosen: Tensor
) -> Tensor:
    """Chosen pairs of one frame within reach, (P, 5): i, j and the cell shift of j."""
    x = positions[frame].detach().to(torch.float64).contiguous()
    cell, periodic = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.bool)
    if cells is not None:
        cell, periodic = cells[frame].detach().to(torch.float64).contiguous(), pbc.cpu()
    if not bool(x.isfinite().all() and cell.isfinite().all()):
        return torch.zeros(0, 5, dtype=torch.int64)
    found = list_replica_pairs(x.numpy(), cell.numpy(), periodic.numpy(), reach)
    table = torch.from_numpy(found).long()
    return table[chosen[table[:, 0], table[:, 1]]]


def _distances(positions: Tensor, cells: Tensor | None, rows: list[Tensor]) -> Tensor:
    """Distances (n, P) of the rows of each frame; infinite where a frame has fewer rows."""
    n_frames, n_atoms = positions.shape[:2]
    length = max(1, *(len(r) for r in rows))
    table = torch.zeros(n_frames, length, 5, dtype=torch.int64)
    real = torch.zeros(n_frames, length, dtype=torch.bool)
    for frame, row in enumerate(rows):
        table[frame, : len(row)], real[frame, : len(row)] = row, True
    flat = positions.reshape(-1, 3)
    start = n_atoms * torch.arange(n_frames)[:, None]
    first, second = ((table[..., k] + start).reshape(-1) for k in (0, 1))
    vectors = (flat.index_select(0, second) - flat.index_select(0, first)).reshape(n_frames, -1, 3)
    if cells is not None:
        vectors = vectors + table[..., 2:].to(positions.dtype) @ cells.to(positions.dtype)
    distances: Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return torch.where(real, distances, torch.inf)
