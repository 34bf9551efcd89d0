"""Half lists of interacting pairs, with all periodic images, for any cell.

A half list holds every unordered pair (i, j, image) once; an atom and its own
image stand once for the two opposite images.  Nothing is capped, and the
cutoff may be longer than the cell.  Pairs are ordered by replica, i, j and
image, so that a list is the same however it was found.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stablemd.geometry.lattice import heights
from stablemd.geometry.pair_search import list_replica_pairs
from stablemd.potentials import alchemi_pairs

MARGIN = 1e-9
"""Relative margin of the image ranges against rounding; distances decide, not the ranges."""


class PairList(NamedTuple):
    """A half list over R replicas of N atoms.

    Attributes:
        pairs: atoms i and j counted through all replicas, (2, P) int64.
        shifts: whole-number cell shift of atom j, (P, 3) int64; None without a cell.
        counts: pairs of each replica, (R,) int64.
    """

    pairs: Tensor
    shifts: Tensor | None
    counts: Tensor


def find_pairs(positions: Tensor, cells: Tensor | None, pbc: Tensor, cutoff: float) -> PairList:
    """All pairs closer than the cutoff.

    A pair's vector is ``x_j + shift @ cell - x_i`` with the positions as they
    are given, wrapped or not.  For a replica with a position that is not finite
    one pair with that atom is listed, so that its energy is not finite either.

    Args:
        positions: Å, (R, N, 3).
        cells: rows in Å, (R, 3, 3), or None where nothing is periodic.
        pbc: periodic directions, (3,) bool.
        cutoff: Å.
    """
    x = positions.detach().to(torch.float64)
    h = None if cells is None else cells.detach().to(x)
    n_atoms = x.shape[1]
    if h is not None and _searches_in_cells(x, h):
        half, images = _in_order(*alchemi_pairs.list_pairs(x, h, pbc, cutoff))
        return PairList(half, images, torch.bincount(half[0] // n_atoms, minlength=len(x)))
    found = [_replica_pairs(x[r], None if h is None else h[r], pbc, cutoff) for r in range(len(x))]
    pairs = torch.cat([pairs + r * n_atoms for r, (pairs, _) in enumerate(found)], dim=1)
    shifts = None if h is None else torch.cat([shift for _, shift in found])
    counts = torch.tensor([pairs.shape[1] for pairs, _ in found], device=x.device)
    return PairList(pairs, shifts, counts)


def _searches_in_cells(x: Tensor, h: Tensor) -> bool:
    """Whether an accelerator has the package for it, and the numbers are fit for a search."""
    large = x.shape[1] >= alchemi_pairs.MIN_ATOMS and x.device.type != "cpu"
    if not large or not alchemi_pairs.is_installed():
        return False
    return bool(x.isfinite().all() & h.isfinite().all())


def _in_order(pairs: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs by i, j and image: the last column first, each pass stable."""
    table = torch.cat([pairs.T, shifts], dim=1)
    for column in (4, 3, 2, 1, 0):
        table = table[torch.argsort(table[:, column], stable=True)]
    return table[:, :2].T.contiguous(), table[:, 2:].contiguous()


def _replica_pairs(
    x: Tensor, cell: Tensor | None, pbc: Tensor, cutoff: float
) -> tuple[Tensor, Tensor]:
    """Pairs (2, P) and shifts (P, 3) of one replica."""
    bad = torch.nonzero(~x.isfinite().all(dim=1)).flatten()
    if cell is not None and not bool(cell.isfinite().all()):
        bad = torch.arange(len(x))
    if len(bad) and len(x) > 1:
        first = int(bad[0])
        pair = sorted((first, 0 if first else 1))
        return (
            torch.tensor(pair, device=x.device)[:, None],
            torch.zeros(1, 3, dtype=torch.int64, device=x.device),
        )
    h = torch.eye(3, dtype=x.dtype, device=x.device) if cell is None else cell
    periodic = torch.zeros(3, dtype=torch.bool) if cell is None else pbc.cpu()
    if x.device.type == "cpu":
        listed = list_replica_pairs(
            x.contiguous().numpy(), h.contiguous().numpy(), periodic.numpy(), cutoff
        )
        table = torch.from_numpy(listed).long()
        return table[:, :2].T.contiguous(), table[:, 2:].contiguous()
    return _dense_pairs(x, h, periodic, cutoff)


def _dense_pairs(x: Tensor, h: Tensor, pbc: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    """Every pair with every image in reach, tested at once; for accelerators."""
    n = len(x)
    i, j = torch.triu_indices(n, n, device=x.device)
    difference = x[j] - x[i]
    fractions = difference @ torch.linalg.inv(h)
    nearest = -fractions.round() * pbc.to(fractions)
    reach = cutoff / heights(h) * (1.0 + MARGIN)
    extra = [int(r) + 1 if p else 0 for r, p in zip(reach.tolist(), pbc.tolist(), strict=True)]
    grids = [torch.arange(-k, k + 1, device=x.device, dtype=x.dtype) for k in extra]
    kept = []
    for image in torch.cartesian_prod(*grids).reshape(-1, 3):
        shift = nearest + image
        near = (difference + shift @ h).square().sum(dim=1) < cutoff**2
        if bool(near.any()):
            kept.append(torch.cat([i[near, None], j[near, None], shift[near].long()], dim=1))
    if not kept:
        return i.new_zeros(2, 0), i.new_zeros(0, 3)
    table = torch.cat(kept)
    first_nonzero = table[:, 2:].ne(0).long().argmax(dim=1, keepdim=True)
    leading = table[:, 2:].gather(1, first_nonzero)[:, 0]
    table = table[(table[:, 0] != table[:, 1]) | (leading > 0)]
    return _in_order(table[:, :2].T, table[:, 2:])
