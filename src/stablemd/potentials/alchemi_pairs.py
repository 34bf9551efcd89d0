"""Pairs of large periodic systems on a GPU, by NVIDIA's nvalchemi-toolkit-ops."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor

MIN_ATOMS = 500
"""With fewer atoms every pair is tested, which is one operation on a GPU."""


@cache
def is_installed() -> bool:
    """Whether the package is there; it is an optional one."""
    return importlib.util.find_spec("nvalchemiops") is not None


def list_pairs(
    positions: Tensor, cells: Tensor, pbc: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """The half list of all replicas from one search in cells, in no particular order.

    Args:
        positions: finite, Å, (R, N, 3), wrapped or not, on any device.
        cells: rows in Å, (R, 3, 3).
        pbc: periodic directions, (3,) bool.
        cutoff: Å.

    Returns:
        Pairs of atoms counted through all replicas (2, P) and whole-number shifts of the
        second atom's cell (P, 3), both int64; every unordered pair once, as
        ``neighbours.find_pairs`` has it.
    """
    pairs, shifts = _every_neighbour(positions, cells, pbc, cutoff)
    first, second = pairs
    nonzero = shifts.ne(0).long().argmax(dim=1, keepdim=True)
    leading = shifts.gather(1, nonzero)[:, 0]
    once = (first < second) | ((first == second) & (leading > 0))
    return pairs[:, once], shifts[once]


def _every_neighbour(
    positions: Tensor, cells: Tensor, pbc: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Atoms counted through all replicas (2, P) and shifts (P, 3) in both directions, int64."""
    from nvalchemiops.torch.neighbors import NeighborOverflowError, neighbor_list

    n_replicas, n_atoms = positions.shape[:2]
    device = positions.device
    ends = n_atoms * torch.arange(n_replicas + 1, dtype=torch.int32, device=device)
    replica = torch.arange(n_replicas, dtype=torch.int32, device=device)
    capacity: dict[str, int] = {}
    while True:
        try:
            rows, _, shifts = neighbor_list(
                positions.reshape(-1, 3).contiguous(),
                cutoff,
                cell=cells.contiguous(),
                pbc=pbc.to(device).expand(n_replicas, 3).contiguous(),
                batch_idx=replica.repeat_interleave(n_atoms),
                batch_ptr=ends,
                return_neighbor_list=True,
                method="batch_cell_list",
                **capacity,
            )
        except NeighborOverflowError as error:  # it has counted them: no neighbour is left out
            capacity = {"max_neighbors": int(error.num_neighbors)}
        else:
            return rows.long(), shifts.long()
