"""The shortest of many distances in a compiled loop, for systems on a CPU."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@numba.njit(cache=True, nogil=True)
def shortest_squares(
    fractional: Floats,
    metric: Floats,
    wraps: NDArray[np.bool_],
    first: Indices,
    second: Indices,
    squares: Floats,
    places: Indices,
) -> None:
    """The smallest squared distance of every replica and which pair has it.

    Args:
        fractional: coordinates along the cell vectors (R, N, 3), or in Å without a cell.
        metric: products of the cell vectors (R, 3, 3) in Å²; ones on the diagonal without.
        wraps: which components are rounded to the nearest image, (3,).
        first: index of the one atom of each pair, (P,).
        second: index of the other.
        squares: result in Å², (R,); NaN where a distance is not a number.
        places: index of the pair, (R,).
    """
    wraps_a, wraps_b, wraps_c = wraps[0], wraps[1], wraps[2]
    for replica in range(len(fractional)):
        x, m = fractional[replica], metric[replica]
        aa, bb, cc = m[0, 0], m[1, 1], m[2, 2]
        ab, ac, bc = 2.0 * m[0, 1], 2.0 * m[0, 2], 2.0 * m[1, 2]
        best, place = np.inf, 0
        for pair in range(len(first)):
            i, j = first[pair], second[pair]
            a, b, c = x[i, 0] - x[j, 0], x[i, 1] - x[j, 1], x[i, 2] - x[j, 2]
            if wraps_a:
                a -= np.rint(a)
            if wraps_b:
                b -= np.rint(b)
            if wraps_c:
                c -= np.rint(c)
            square = a * (aa * a + ab * b + ac * c) + b * (bb * b + bc * c) + cc * c * c
            if not square >= best:
                best, place = square, pair
                if square != square:
                    break
        squares[replica] = best
        places[replica] = place
