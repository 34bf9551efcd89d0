"""Compiled searches for the pairs of one replica.

Both searches give the same rows (i, j, shift) in the same order: by i, j and
shift, i <= j, an atom and its own image once for the two opposite ones.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

DENSE_MAX_ATOMS = 800
"""Up to this many atoms every pair is tested; beyond, atoms are sorted into bins."""

ROUNDING = 1e-9
"""Relative margin of image ranges and bins against rounding; distances decide."""


@numba.njit(cache=True, nogil=True)
def _append(table: Any, count: int, i: int, j: int, a: int, b: int, c: int) -> Any:
    """The table with one more row, in larger memory where it was full."""
    if count == table.shape[0]:
        larger = np.empty((2 * count, 5), dtype=np.int32)
        larger[:count] = table
        table = larger
    table[count, 0] = i
    table[count, 1] = j
    table[count, 2] = a
    table[count, 3] = b
    table[count, 4] = c
    return table


@numba.njit(cache=True, nogil=True)
def list_pairs_densely(x: Any, cell: Any, inverse: Any, reach: Any, pbc: Any, cutoff: float) -> Any:
    """Half list of one replica from all pairs of atoms, rows (P, 5) int32.

    The fractional difference f of two atoms leaves, along each periodic vector,
    only the shifts n with |f + n| <= cutoff / height: one candidate where the
    cutoff is at most half the height.

    Args:
        x: (N, 3) float64, Å.
        cell: (3, 3) float64 rows in Å.
        inverse: of the cell.
        reach: cutoff over height along each vector, (3,), with a margin against rounding.
        pbc: (3,) bool.
        cutoff: Å.
    """
    n = x.shape[0]
    limit = cutoff * cutoff
    table = np.empty((max(64, 8 * n), 5), dtype=np.int32)
    count = 0
    low = np.zeros(3, dtype=np.int64)
    high = np.zeros(3, dtype=np.int64)
    for i in range(n):
        for j in range(i, n):
            d0 = x[j, 0] - x[i, 0]
            d1 = x[j, 1] - x[i, 1]
            d2 = x[j, 2] - x[i, 2]
            for k in range(3):
                if pbc[k]:
                    f = d0 * inverse[0, k] + d1 * inverse[1, k] + d2 * inverse[2, k]
                    low[k] = np.int64(np.ceil(-reach[k] - f))
                    high[k] = np.int64(np.floor(reach[k] - f))
            for a in range(low[0], high[0] + 1):
                for b in range(low[1], high[1] + 1):
                    for c in range(low[2], high[2] + 1):
                        if i == j and not _leads(a, b, c):
                            continue
                        v0 = d0 + a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                        v1 = d1 + a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                        v2 = d2 + a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
                        if v0 * v0 + v1 * v1 + v2 * v2 < limit:
                            table = _append(table, count, i, j, a, b, c)
                            count += 1
    return table[:count].copy()


@numba.njit(cache=True, nogil=True)
def _leads(a: int, b: int, c: int) -> bool:
    """Whether a shift is the one of the two opposite ones that is listed."""
    return a > 0 or (a == 0 and (b > 0 or (b == 0 and c > 0)))


@numba.njit(cache=True, nogil=True)
def list_pairs_in_bins(x: Any, cell: Any, inverse: Any, reach: Any, pbc: Any, cutoff: float) -> Any:
    """``list_pairs_densely`` in a time that is linear in the number of atoms.

    Atoms are sorted into bins of about half the cutoff along each cell vector; bins
    are visited with their images, so that a cell of one bin is as good as any.
    """
    n = x.shape[0]
    fractions = np.zeros((n, 3))
    for i in range(n):
        for k in range(3):
            for c in range(3):
                fractions[i, k] += x[i, c] * inverse[c, k]
    turns = np.zeros((n, 3), dtype=np.int64)
    origin = np.zeros(3)
    n_bins = np.ones(3, dtype=np.int64)
    widths = np.ones(3)
    spans = np.zeros(3, dtype=np.int64)
    for k in range(3):
        if pbc[k]:
            for i in range(n):
                turns[i, k] = np.int64(np.floor(fractions[i, k]))
            length = 1.0
        else:
            origin[k] = last = fractions[0, k]
            for i in range(n):
                origin[k] = min(origin[k], fractions[i, k])
                last = max(last, fractions[i, k])
            length = max(last - origin[k], 1e-12) * (1.0 + ROUNDING)
        n_bins[k] = max(1, min(64, int(2.0 * length / reach[k])))
        widths[k] = length / n_bins[k]
        spans[k] = np.int64(np.ceil(reach[k] / widths[k]))
    bins = np.empty((n, 3), dtype=np.int64)
    flat = np.empty(n, dtype=np.int64)
    for i in range(n):
        for k in range(3):
            inside = np.int64((fractions[i, k] - turns[i, k] - origin[k]) / widths[k])
            bins[i, k] = min(max(inside, 0), n_bins[k] - 1)
        flat[i] = (bins[i, 0] * n_bins[1] + bins[i, 1]) * n_bins[2] + bins[i, 2]
    begin = np.zeros(n_bins[0] * n_bins[1] * n_bins[2] + 1, dtype=np.int64)
    for i in range(n):
        begin[flat[i] + 1] += 1
    for b in range(1, len(begin)):
        begin[b] += begin[b - 1]
    order = np.empty(n, dtype=np.int64)
    filled = begin.copy()
    for i in range(n):
        order[filled[flat[i]]] = i
        filled[flat[i]] += 1
    home = x.copy()
    for i in range(n):
        for k in range(3):
            for c in range(3):
                home[i, c] -= turns[i, k] * cell[k, c]
    in_order = home[order]
    limit = cutoff * cutoff
    table = np.empty((max(64, 64 * n), 5), dtype=np.int32)
    count = 0
    # Bins and their images along each vector, by bin and offset.
    longest = np.max(n_bins + 2 * spans)
    wrapped = np.zeros((3, longest), dtype=np.int64)
    images = np.zeros((3, longest), dtype=np.int64)
    for k in range(3):
        for b in range(n_bins[k] + 2 * spans[k]):
            images[k, b] = (b - spans[k]) // n_bins[k]
            wrapped[k, b] = b - spans[k] - images[k, b] * n_bins[k]
    for i in range(n):
        first = count
        for b0 in range(bins[i, 0], bins[i, 0] + 2 * spans[0] + 1):
            a0 = images[0, b0]
            if a0 != 0 and not pbc[0]:
                continue
            for b1 in range(bins[i, 1], bins[i, 1] + 2 * spans[1] + 1):
                a1 = images[1, b1]
                if a1 != 0 and not pbc[1]:
                    continue
                row = (wrapped[0, b0] * n_bins[1] + wrapped[1, b1]) * n_bins[2]
                for b2 in range(bins[i, 2], bins[i, 2] + 2 * spans[2] + 1):
                    a2 = images[2, b2]
                    if a2 != 0 and not pbc[2]:
                        continue
                    low, high = begin[row + wrapped[2, b2]], begin[row + wrapped[2, b2] + 1]
                    if low == high or order[high - 1] < i:
                        continue
                    x0 = home[i, 0] - a0 * cell[0, 0] - a1 * cell[1, 0] - a2 * cell[2, 0]
                    x1 = home[i, 1] - a0 * cell[0, 1] - a1 * cell[1, 1] - a2 * cell[2, 1]
                    x2 = home[i, 2] - a0 * cell[0, 2] - a1 * cell[1, 2] - a2 * cell[2, 2]
                    # Atoms stand in order within a bin: the first one before i ends it.
                    for q in range(high - 1, low - 1, -1):
                        j = order[q]
                        if j < i:
                            break
                        d0 = in_order[q, 0] - x0
                        d1 = in_order[q, 1] - x1
                        d2 = in_order[q, 2] - x2
                        if d0 * d0 + d1 * d1 + d2 * d2 < limit:
                            s0 = a0 - turns[j, 0] + turns[i, 0]
                            s1 = a1 - turns[j, 1] + turns[i, 1]
                            s2 = a2 - turns[j, 2] + turns[i, 2]
                            if j > i or _leads(s0, s1, s2):
                                table = _append(table, count, i, j, s0, s1, s2)
                                count += 1
        _sort_rows(table, first, count, turns, spans)
    return table[:count].copy()


@numba.njit(cache=True, nogil=True)
def _sort_rows(table: Any, first: int, end: int, turns: Any, spans: Any) -> None:
    """Order the rows of one atom i by j and shift, in place (they are few).

    A row is one number: j, then its images counted from the first within reach, of which
    there are less than 1024 along each vector.
    """
    size = end - first
    keys = np.empty(size, dtype=np.int64)
    ranks = np.empty(size, dtype=np.int64)
    for p in range(size):
        row = first + p
        i, j = table[row, 0], table[row, 1]
        key = np.int64(j)
        for k in range(3):
            key = (key << 10) | (table[row, 2 + k] + turns[j, k] - turns[i, k] + spans[k])
        q = p - 1
        while q >= 0 and keys[q] > key:
            keys[q + 1] = keys[q]
            ranks[q + 1] = ranks[q]
            q -= 1
        keys[q + 1] = key
        ranks[q + 1] = row
    table[first:end] = table[ranks]


def list_replica_pairs(x: Any, cell: Any, pbc: Any, cutoff: float) -> Any:
    """Half list of one replica by the search that suits its size, rows (P, 5) int32."""
    inverse = np.linalg.inv(cell)
    reach = cutoff * np.sqrt((inverse**2).sum(axis=0)) * (1.0 + ROUNDING)
    search = list_pairs_densely if len(x) <= DENSE_MAX_ATOMS else list_pairs_in_bins
    return search(x, cell, inverse, reach, pbc, cutoff)


@numba.njit(cache=True, nogil=True)
def farthest_moves(x: Any, x_listed: Any, change: Any, out: Any) -> None:
    """Largest distance of an atom from where the cell's deformation alone has taken it.

    Args:
        x: (R, N, 3) float64, Å.
        x_listed: positions at an earlier time, (R, N, 3).
        change: deformation of the cell since then, (R, 3, 3).
        out: receives the distances, (R,); infinite where one is not finite.
    """
    for r in range(x.shape[0]):
        largest = 0.0
        for i in range(x.shape[1]):
            u2 = 0.0
            for c in range(3):
                u = x[r, i, c]
                for k in range(3):
                    u -= x_listed[r, i, k] * change[r, k, c]
                u2 += u * u
            if not u2 < np.inf:
                u2 = np.inf
            largest = max(largest, u2)
        out[r] = np.sqrt(largest)
