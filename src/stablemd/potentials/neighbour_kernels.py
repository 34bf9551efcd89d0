"""Compiled search for the pairs of one replica: every pair with every image in reach."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def list_replica_pairs(x: Any, cell: Any, pbc: Any, reach: Any, cutoff: float) -> Any:
    """Half list of one replica, rows (i, j, shift), ordered.

    The fractional difference f of two atoms leaves, along each periodic vector,
    only the shifts n with |f + n| <= cutoff / height: one candidate where the
    cutoff is at most half the height.

    Args:
        x: (N, 3) float64, Å.
        cell: (3, 3) float64 rows in Å.
        pbc: (3,) bool.
        reach: cutoff over height along each vector, (3,) float64.
        cutoff: Å.

    Returns:
        (P, 5) int64.
    """
    n = x.shape[0]
    inverse = np.linalg.inv(cell)
    limit = cutoff * cutoff
    capacity = max(64, 8 * n)
    table = np.empty((capacity, 5), dtype=np.int64)
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
                        if i == j and (a < 0 or (a == 0 and (b < 0 or (b == 0 and c <= 0)))):
                            continue
                        v0 = d0 + a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0]
                        v1 = d1 + a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1]
                        v2 = d2 + a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2]
                        if v0 * v0 + v1 * v1 + v2 * v2 < limit:
                            if count == capacity:
                                capacity *= 2
                                larger = np.empty((capacity, 5), dtype=np.int64)
                                larger[:count] = table[:count]
                                table = larger
                            table[count, 0] = i
                            table[count, 1] = j
                            table[count, 2] = a
                            table[count, 3] = b
                            table[count, 4] = c
                            count += 1
    return table[:count].copy()
