"""Compiled continuous-filter convolution over the pairs of one replica, and its backward pass.

Filters come from a table of cubic B-spline coefficients, so that no filter
network runs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials.dense_kernels import FAST, FLOAT
from stablemd.potentials.float_vector import LANES, load, splat, store, times, times_plus, total

_ZERO = FLOAT(0.0)
_HALF = FLOAT(0.5)
_ONE = FLOAT(1.0)
_TWO = FLOAT(2.0)
_THREE = FLOAT(3.0)
_FOUR = FLOAT(4.0)
_SIX = FLOAT(6.0)
_SIXTH = FLOAT(1.0 / 6.0)


@numba.njit(fastmath=FAST)
def find_pairs(
    positions: Any,
    first_row: int,
    cutoff: float,
    inverse_spacing: float,
    pairs: Any,
    knots: Any,
    geometry: Any,
) -> int:
    """List the pairs within the cutoff.

    ``pairs`` (P, 2) receives the rows of both atoms, that of atom 0 being
    ``first_row``, ``knots`` (P,) the table row, and ``geometry`` (P, 4) the
    position within the row's interval and the unit vector.
    Returns the number of pairs, or -1 where a distance is not finite.
    """
    n = positions.shape[0]
    count = 0
    limit = cutoff * cutoff
    for i in range(n):
        for j in range(i + 1, n):
            dx = positions[j, 0] - positions[i, 0]
            dy = positions[j, 1] - positions[i, 1]
            dz = positions[j, 2] - positions[i, 2]
            d2 = dx * dx + dy * dy + dz * dz
            if not d2 < np.inf:
                return -1
            if d2 < limit:
                d = np.sqrt(d2)
                scaled = d * inverse_spacing
                knot = np.int64(scaled)
                inverse = 1.0 / max(d, 1e-12)
                pairs[count, 0] = first_row + i
                pairs[count, 1] = first_row + j
                knots[count] = knot
                geometry[count, 0] = scaled - knot
                geometry[count, 1] = dx * inverse
                geometry[count, 2] = dy * inverse
                geometry[count, 3] = dz * inverse
                count += 1
    return count


@numba.njit(inline="always", fastmath=FAST)
def _spline_weights(t: Any) -> Any:
    """The four cubic B-splines that are not zero at ``t`` in 0..1 of an interval."""
    s = _ONE - t
    b0 = _SIXTH * s * s * s
    b1 = _SIXTH * (_FOUR + t * t * (_THREE * t - _SIX))
    b2 = _SIXTH * (_ONE + t * (_THREE + t * (_THREE - _THREE * t)))
    b3 = _SIXTH * t * t * t
    return b0, b1, b2, b3


@numba.njit(inline="always", fastmath=FAST)
def _spline_slopes(t: Any) -> Any:
    """Their derivatives by ``t``."""
    s = _ONE - t
    d0 = -_HALF * s * s
    d1 = _HALF * t * (_THREE * t - _FOUR)
    d2 = _HALF * (_ONE + t * (_TWO - _THREE * t))
    d3 = _HALF * t * t
    return d0, d1, d2, d3


@numba.njit(fastmath=FAST)
def gather_messages(
    x: Any, table: Any, pairs: Any, knots: Any, geometry: Any, count: int, out: Any
) -> None:
    """out_i += sum_j W(d_ij) x_j with W from the table (knots + 3, F) of coefficients."""
    width = x.shape[1]
    for p in range(count):
        b0, b1, b2, b3 = _spline_weights(geometry[p, 0])
        v0, v1, v2, v3 = splat(b0), splat(b1), splat(b2), splat(b3)
        i, j, row = pairs[p, 0] * width, pairs[p, 1] * width, knots[p] * width
        for f in range(0, width, LANES):
            c = row + f
            w = times(v0, load(table, c))
            w = times_plus(v1, load(table, c + width), w)
            w = times_plus(v2, load(table, c + 2 * width), w)
            w = times_plus(v3, load(table, c + 3 * width), w)
            store(out, i + f, times_plus(w, load(x, j + f), load(out, i + f)))
            store(out, j + f, times_plus(w, load(x, i + f), load(out, j + f)))


@numba.njit(fastmath=FAST)
def scatter_gradients(
    x: Any,
    g: Any,
    table: Any,
    pairs: Any,
    knots: Any,
    geometry: Any,
    count: int,
    g_x: Any,
    g_scaled: Any,
) -> None:
    """Backward of ``gather_messages``: adds to ``g_x`` and to dE/d(scaled distance)."""
    width = x.shape[1]
    for p in range(count):
        t = geometry[p, 0]
        b0, b1, b2, b3 = _spline_weights(t)
        v0, v1, v2, v3 = splat(b0), splat(b1), splat(b2), splat(b3)
        d0, d1, d2, d3 = _spline_slopes(t)
        u0, u1, u2, u3 = splat(d0), splat(d1), splat(d2), splat(d3)
        i, j, row = pairs[p, 0] * width, pairs[p, 1] * width, knots[p] * width
        sums = splat(_ZERO)
        for f in range(0, width, LANES):
            c = row + f
            c0, c1 = load(table, c), load(table, c + width)
            c2, c3 = load(table, c + 2 * width), load(table, c + 3 * width)
            w = times_plus(v3, c3, times_plus(v2, c2, times_plus(v1, c1, times(v0, c0))))
            slope = times_plus(u3, c3, times_plus(u2, c2, times_plus(u1, c1, times(u0, c0))))
            gi, gj = load(g, i + f), load(g, j + f)
            both = times_plus(gi, load(x, j + f), times(gj, load(x, i + f)))
            sums = times_plus(slope, both, sums)
            store(g_x, i + f, times_plus(w, gj, load(g_x, i + f)))
            store(g_x, j + f, times_plus(w, gi, load(g_x, j + f)))
        g_scaled[p] += total(sums)


@numba.njit(fastmath=FAST)
def scatter_slopes(
    x: Any, g: Any, table: Any, pairs: Any, knots: Any, geometry: Any, count: int, g_scaled: Any
) -> None:
    """``scatter_gradients`` for an interaction whose input does not depend on positions."""
    width = x.shape[1]
    for p in range(count):
        d0, d1, d2, d3 = _spline_slopes(geometry[p, 0])
        u0, u1, u2, u3 = splat(d0), splat(d1), splat(d2), splat(d3)
        i, j, row = pairs[p, 0] * width, pairs[p, 1] * width, knots[p] * width
        sums = splat(_ZERO)
        for f in range(0, width, LANES):
            c = row + f
            slope = times(u0, load(table, c))
            slope = times_plus(u1, load(table, c + width), slope)
            slope = times_plus(u2, load(table, c + 2 * width), slope)
            slope = times_plus(u3, load(table, c + 3 * width), slope)
            both = times(load(g, i + f), load(x, j + f))
            both = times_plus(load(g, j + f), load(x, i + f), both)
            sums = times_plus(slope, both, sums)
        g_scaled[p] += total(sums)
