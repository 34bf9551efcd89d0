"""Compiled continuous-filter convolution over the pairs of one replica, and its backward pass.

Filters come from a table of cubic B-spline coefficients, so that no filter
network runs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials.dense_kernels import FAST, FLOAT
from stablemd.potentials.float_vector import (
    LANES,
    FloatVector,
    make_load,
    make_splat,
    plus,
    store,
    times,
    times_plus,
    total,
)

_ZERO = FLOAT(0.0)
_HALF = FLOAT(0.5)
_ONE = FLOAT(1.0)
_TWO = FLOAT(2.0)
_THREE = FLOAT(3.0)
_FOUR = FLOAT(4.0)
_SIX = FLOAT(6.0)
_SIXTH = FLOAT(1.0 / 6.0)


@numba.njit(inline="always", fastmath=FAST)
def put_geometry(dx: Any, dy: Any, dz: Any, d2: Any, inverse_spacing: Any, out: Any) -> Any:
    """Position within the table's interval and unit vector into ``out`` (4,); the table's row."""
    d = np.sqrt(d2)
    scaled = d * inverse_spacing
    knot = np.int64(scaled)
    inverse = 1.0 / max(d, 1e-12)
    out[0] = scaled - knot
    out[1] = dx * inverse
    out[2] = dy * inverse
    out[3] = dz * inverse
    return knot


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
                pairs[count, 0] = first_row + i
                pairs[count, 1] = first_row + j
                knots[count] = put_geometry(dx, dy, dz, d2, inverse_spacing, geometry[count])
                count += 1
    return count


@numba.njit(fastmath=FAST)
def spline_weights(geometry: Any, count: int, weights: Any) -> None:
    """The four cubic B-splines that are not zero at each pair's distance, and their slopes.

    ``weights`` (P, 8) receives them, the slopes by the distance in units of the spacing.
    """
    for p in range(count):
        t = geometry[p, 0]
        s = _ONE - t
        weights[p, 0] = _SIXTH * s * s * s
        weights[p, 1] = _SIXTH * (_FOUR + t * t * (_THREE * t - _SIX))
        weights[p, 2] = _SIXTH * (_ONE + t * (_THREE + t * (_THREE - _THREE * t)))
        weights[p, 3] = _SIXTH * t * t * t
        weights[p, 4] = -_HALF * s * s
        weights[p, 5] = _HALF * t * (_THREE * t - _FOUR)
        weights[p, 6] = _HALF * (_ONE + t * (_TWO - _THREE * t))
        weights[p, 7] = _HALF * t * t


def _make_convolution(lanes: int) -> tuple[Any, Any, Any]:
    """The three passes over the pairs, for ``lanes`` features from ``f`` on.

    Pairs of one first atom follow each other: its features, and what is summed
    for it, stay in registers.
    """
    load, splat = make_load(FloatVector(lanes)), make_splat(FloatVector(lanes))

    @numba.njit(inline="always", fastmath=FAST)
    def splats(weights: Any, p: Any, k: Any) -> Any:
        return (
            splat(weights[p, k]),
            splat(weights[p, k + 1]),
            splat(weights[p, k + 2]),
            splat(weights[p, k + 3]),
        )

    @numba.njit(inline="always", fastmath=FAST)
    def mixed(table: Any, row: Any, width: Any, v: Any) -> Any:
        w = times(v[0], load(table, row))
        w = times_plus(v[1], load(table, row + width), w)
        w = times_plus(v[2], load(table, row + 2 * width), w)
        return times_plus(v[3], load(table, row + 3 * width), w)

    @numba.njit(fastmath=FAST)
    def gather(
        x: Any, table: Any, pairs: Any, knots: Any, weights: Any, count: int, f: int, out: Any
    ) -> None:
        width = x.shape[1]
        p = 0
        while p < count:
            atom = pairs[p, 0]
            i = atom * width + f
            x_i, sums = load(x, i), splat(_ZERO)
            while p < count and pairs[p, 0] == atom:
                j = pairs[p, 1] * width + f
                w = mixed(table, knots[p] * width + f, width, splats(weights, p, 0))
                sums = times_plus(w, load(x, j), sums)
                store(out, j, times_plus(w, x_i, load(out, j)))
                p += 1
            store(out, i, plus(sums, load(out, i)))

    @numba.njit(fastmath=FAST)
    def scatter(
        x: Any,
        g: Any,
        table: Any,
        pairs: Any,
        knots: Any,
        weights: Any,
        count: int,
        f: int,
        g_x: Any,
        g_scaled: Any,
    ) -> None:
        width = x.shape[1]
        # A pair's sum over the lanes is made while the next pair is worked on.
        before, slopes = 0, splat(_ZERO)
        p = 0
        while p < count:
            atom = pairs[p, 0]
            i = atom * width + f
            x_i, g_i, sums = load(x, i), load(g, i), splat(_ZERO)
            while p < count and pairs[p, 0] == atom:
                g_scaled[before] += total(slopes)
                j, row = pairs[p, 1] * width + f, knots[p] * width + f
                g_j = load(g, j)
                w = mixed(table, row, width, splats(weights, p, 0))
                sums = times_plus(w, g_j, sums)
                store(g_x, j, times_plus(w, g_i, load(g_x, j)))
                both = times_plus(g_i, load(x, j), times(g_j, x_i))
                slopes = times(mixed(table, row, width, splats(weights, p, 4)), both)
                before = p
                p += 1
            store(g_x, i, plus(sums, load(g_x, i)))
        g_scaled[before] += total(slopes)

    @numba.njit(fastmath=FAST)
    def scatter_slopes(
        x: Any,
        g: Any,
        table: Any,
        pairs: Any,
        knots: Any,
        weights: Any,
        count: int,
        f: int,
        g_scaled: Any,
    ) -> None:
        width = x.shape[1]
        before, slopes = 0, splat(_ZERO)
        p = 0
        while p < count:
            atom = pairs[p, 0]
            i = atom * width + f
            x_i, g_i = load(x, i), load(g, i)
            while p < count and pairs[p, 0] == atom:
                g_scaled[before] += total(slopes)
                j, row = pairs[p, 1] * width + f, knots[p] * width + f
                both = times_plus(g_i, load(x, j), times(load(g, j), x_i))
                slopes = times(mixed(table, row, width, splats(weights, p, 4)), both)
                before = p
                p += 1
        g_scaled[before] += total(slopes)

    return gather, scatter, scatter_slopes


_gather_4, _scatter_4, _scatter_slopes_4 = _make_convolution(4 * LANES)
_gather_2, _scatter_2, _scatter_slopes_2 = _make_convolution(2 * LANES)
_gather_1, _scatter_1, _scatter_slopes_1 = _make_convolution(LANES)


@numba.njit(fastmath=FAST)
def gather_messages(
    x: Any, table: Any, pairs: Any, knots: Any, weights: Any, count: int, out: Any
) -> None:
    """out_i += sum_j W(d_ij) x_j with W from the table (knots + 3, F) of coefficients."""
    if count <= 0:
        return
    width, f = x.shape[1], 0
    while f + 4 * LANES <= width:
        _gather_4(x, table, pairs, knots, weights, count, f, out)
        f += 4 * LANES
    if f + 2 * LANES <= width:
        _gather_2(x, table, pairs, knots, weights, count, f, out)
        f += 2 * LANES
    if f < width:
        _gather_1(x, table, pairs, knots, weights, count, f, out)


@numba.njit(fastmath=FAST)
def scatter_gradients(
    x: Any,
    g: Any,
    table: Any,
    pairs: Any,
    knots: Any,
    weights: Any,
    count: int,
    g_x: Any,
    g_scaled: Any,
) -> None:
    """Backward of ``gather_messages``: adds to ``g_x`` and to dE/d(scaled distance)."""
    if count <= 0:
        return
    width, f = x.shape[1], 0
    while f + 4 * LANES <= width:
        _scatter_4(x, g, table, pairs, knots, weights, count, f, g_x, g_scaled)
        f += 4 * LANES
    if f + 2 * LANES <= width:
        _scatter_2(x, g, table, pairs, knots, weights, count, f, g_x, g_scaled)
        f += 2 * LANES
    if f < width:
        _scatter_1(x, g, table, pairs, knots, weights, count, f, g_x, g_scaled)


@numba.njit(fastmath=FAST)
def scatter_slopes(
    x: Any, g: Any, table: Any, pairs: Any, knots: Any, weights: Any, count: int, g_scaled: Any
) -> None:
    """``scatter_gradients`` for an interaction whose input does not depend on positions."""
    if count <= 0:
        return
    width, f = x.shape[1], 0
    while f + 4 * LANES <= width:
        _scatter_slopes_4(x, g, table, pairs, knots, weights, count, f, g_scaled)
        f += 4 * LANES
    if f + 2 * LANES <= width:
        _scatter_slopes_2(x, g, table, pairs, knots, weights, count, f, g_scaled)
        f += 2 * LANES
    if f < width:
        _scatter_slopes_1(x, g, table, pairs, knots, weights, count, f, g_scaled)
