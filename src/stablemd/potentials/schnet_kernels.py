"""Compiled evaluation of SchNet's energy and forces, one replica at a time.

Each replica is evaluated from beginning to end in a workspace of its own that
stays in the cache, by loops whose order does not depend on any other replica:
its numbers are bit-identical in every batch.
Radial filters come from a cubic Hermite table, so that no filter network runs.
All constants are float32: a float64 one would double the width of every
vector operation.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

FLOAT = np.float32

# The arithmetic may be contracted (fused multiply-add) and, in reductions,
# reassociated; NaN and infinity keep their meaning, detectors rely on them.
_FAST = {"contract", "reassoc", "nsz", "arcp"}

_LOG2E = FLOAT(1.4426950408889634)
_LN2_HIGH = FLOAT(0.693359375)
_LN2_LOW = FLOAT(-2.12194440e-4)
_LN2 = FLOAT(0.6931471805599453)
_EXP_MIN = FLOAT(-87.0)
_HALF = FLOAT(0.5)
_ONE = FLOAT(1.0)
_TWO = FLOAT(2.0)
_THREE = FLOAT(3.0)
_SIX = FLOAT(6.0)
_ZERO = FLOAT(0.0)

# exp(r) on |r| <= ln2/2 by its Taylor series (relative error below 1e-7), and
# 2 atanh(s) = ln((1+s)/(1-s)) for |s| <= 1/3 (the same).
_E2, _E3, _E4, _E5, _E6 = (FLOAT(1.0 / k) for k in (2, 6, 24, 120, 720))
_A3, _A5, _A7, _A9, _A11, _A13 = (FLOAT(2.0 / k) for k in (3, 5, 7, 9, 11, 13))


@intrinsic
def _power_of_two(typing_context: Any, exponent: Any) -> Any:
    """2**n for an int32 in the normal range, by writing the exponent bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        biased = builder.add(arguments[0], ir.Constant(ir.IntType(32), 127))
        bits = builder.shl(biased, ir.Constant(ir.IntType(32), 23))
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(types.int32), generate


@numba.njit(inline="always", fastmath=_FAST)
def _exp_of_negative(x: Any) -> Any:
    """exp(x) for x <= 0; flushed to exp(-87) below."""
    x = max(x, _EXP_MIN)
    n = np.int32(x * _LOG2E - _HALF)
    k = FLOAT(n)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _E5 + r * _E6
    p = _E4 + r * p
    p = _E3 + r * p
    p = _E2 + r * p
    p = _ONE + r * (_ONE + r * p)
    return p * _power_of_two(n)  # type: ignore[call-arg]


@numba.njit(fastmath=_FAST)
def shifted_softplus(x: Any, value: Any, slope: Any) -> None:
    """value = ln(1 + exp(x)) - ln 2 and slope = its derivative, for flat arrays."""
    for q in range(x.shape[0]):
        v = x[q]
        u = _exp_of_negative(-abs(v))
        # ln(1 + u) = 2 atanh(u / (2 + u)), and u / (2 + u) is at most 1/3.
        s = u / (_TWO + u)
        s2 = s * s
        p = _A11 + s2 * _A13
        p = _A9 + s2 * p
        p = _A7 + s2 * p
        p = _A5 + s2 * p
        p = _A3 + s2 * p
        log1p = s * (_TWO + s2 * p)
        inverse = _ONE / (_ONE + u)
        value[q] = max(v, _ZERO) + log1p - _LN2
        slope[q] = inverse if v >= _ZERO else u * inverse


@numba.njit(fastmath=_FAST)
def add_matrix_product(a: Any, b: Any, out: Any) -> None:
    """out += a @ b for row-major a (n, k), b (k, m), out (n, m).

    Each output is one sequence of multiply-adds over k, in blocks of eight that
    keep ``out`` in a register, whatever the row.
    """
    n, depth = a.shape
    width = b.shape[1]
    blocked = depth - depth % 8
    for i in range(n):
        for k in range(0, blocked, 8):
            a0, a1, a2, a3 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            a4, a5, a6, a7 = a[i, k + 4], a[i, k + 5], a[i, k + 6], a[i, k + 7]
            for f in range(width):
                out[i, f] += (
                    (a0 * b[k, f] + a1 * b[k + 1, f]) + (a2 * b[k + 2, f] + a3 * b[k + 3, f])
                ) + ((a4 * b[k + 4, f] + a5 * b[k + 5, f]) + (a6 * b[k + 6, f] + a7 * b[k + 7, f]))
        for k in range(blocked, depth):
            ak = a[i, k]
            for f in range(width):
                out[i, f] += ak * b[k, f]


@numba.njit(fastmath=_FAST)
def find_pairs(
    positions: Any, cutoff: float, inverse_spacing: float, pairs: Any, knots: Any, geometry: Any
) -> int:
    """List the pairs within the cutoff.

    ``pairs`` (P, 2) receives the atoms, ``knots`` (P,) the table row, and
    ``geometry`` (P, 4) the position within the row's interval and the unit vector.
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
                pairs[count, 0] = i
                pairs[count, 1] = j
                knots[count] = knot
                geometry[count, 0] = scaled - knot
                geometry[count, 1] = dx * inverse
                geometry[count, 2] = dy * inverse
                geometry[count, 3] = dz * inverse
                count += 1
    return count


@numba.njit(fastmath=_FAST)
def gather_messages(
    x: Any, table: Any, pairs: Any, knots: Any, geometry: Any, count: int, out: Any
) -> None:
    """out_i += sum_j W(d_ij) x_j with W from the table (knots, 2, F): values and slopes."""
    width = x.shape[1]
    for p in range(count):
        i, j, knot, t = pairs[p, 0], pairs[p, 1], knots[p], geometry[p, 0]
        s = _ONE - t
        h00 = (_ONE + _TWO * t) * s * s
        h10 = t * s * s
        h01 = t * t * (_THREE - _TWO * t)
        h11 = -t * t * s
        for f in range(width):
            w = (h00 * table[knot, 0, f] + h10 * table[knot, 1, f]) + (
                h01 * table[knot + 1, 0, f] + h11 * table[knot + 1, 1, f]
            )
            out[i, f] += w * x[j, f]
            out[j, f] += w * x[i, f]


@numba.njit(fastmath=_FAST)
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
        i, j, knot, t = pairs[p, 0], pairs[p, 1], knots[p], geometry[p, 0]
        s = _ONE - t
        h00 = (_ONE + _TWO * t) * s * s
        h10 = t * s * s
        h01 = t * t * (_THREE - _TWO * t)
        h11 = -t * t * s
        d00 = -_SIX * t * s
        d10 = (_ONE - _THREE * t) * s
        d11 = t * (_THREE * t - _TWO)
        total = _ZERO
        for f in range(width):
            v0, m0 = table[knot, 0, f], table[knot, 1, f]
            v1, m1 = table[knot + 1, 0, f], table[knot + 1, 1, f]
            w = (h00 * v0 + h10 * m0) + (h01 * v1 + h11 * m1)
            slope = d00 * (v0 - v1) + (d10 * m0 + d11 * m1)
            gi, gj = g[i, f], g[j, f]
            total += slope * (gi * x[j, f] + gj * x[i, f])
            g_x[i, f] += w * gj
            g_x[j, f] += w * gi
        g_scaled[p] += total


@numba.njit(fastmath=_FAST)
def scatter_slopes(
    x: Any, g: Any, table: Any, pairs: Any, knots: Any, geometry: Any, count: int, g_scaled: Any
) -> None:
    """``scatter_gradients`` for an interaction whose input does not depend on positions."""
    width = x.shape[1]
    for p in range(count):
        i, j, knot, t = pairs[p, 0], pairs[p, 1], knots[p], geometry[p, 0]
        d00 = -_SIX * t * (_ONE - t)
        d10 = (_ONE - _THREE * t) * (_ONE - t)
        d11 = t * (_THREE * t - _TWO)
        total = _ZERO
        for f in range(width):
            slope = d00 * (table[knot, 0, f] - table[knot + 1, 0, f]) + (
                d10 * table[knot, 1, f] + d11 * table[knot + 1, 1, f]
            )
            total += slope * (g[i, f] * x[j, f] + g[j, f] * x[i, f])
        g_scaled[p] += total


@numba.njit(fastmath=_FAST)
def _fill_rows(out: Any, row: Any) -> None:
    for i in range(out.shape[0]):
        out[i, :] = row


@numba.njit(fastmath=_FAST)
def evaluate_replica(positions: Any, model: Any, work: Any, forces: Any, local: Any) -> None:
    """Forces (N, 3) and unscaled atomic energies (N,) of one replica.

    Args:
        positions: (N, 3) float64, Å.
        model: the tuple made by ``SchNetSampling`` from the parameters.
        work: the tuple of workspace arrays.
        forces: receives -dE/dx per unit of energy scale.
        local: receives the network's atomic energies.
    """
    (
        embedded,
        projected,
        tables,
        w_in,
        w_in_t,
        w_out,
        w_out_t,
        b_out,
        w_update,
        w_update_t,
        b_update,
        w_hidden,
        w_hidden_t,
        b_hidden,
        w_energy,
        b_energy,
        cutoff,
        inverse_spacing,
    ) = model
    h, x_all, m, u, s, slopes, y, y_slope, v, g_h, g_s, g_m, g_x, pairs, knots, geometry, g_d = work
    n, width = h.shape
    n_interactions = tables.shape[0]
    half = w_energy.shape[0]
    count = find_pairs(positions, cutoff, inverse_spacing, pairs, knots, geometry)
    if count < 0:
        forces[:] = np.nan
        local[:] = np.nan
        return
    h[:] = embedded
    for k in range(n_interactions):
        if k == 0:
            x_all[0] = projected
        else:
            x_all[k] = _ZERO
            add_matrix_product(h, w_in[k], x_all[k])
        m[:] = _ZERO
        gather_messages(x_all[k], tables[k], pairs, knots, geometry, count, m)
        _fill_rows(u, b_out[k])
        add_matrix_product(m, w_out[k], u)
        shifted_softplus(u.reshape(n * width), s.reshape(n * width), slopes[k])
        add_matrix_product(s, w_update[k], h)
        for i in range(n):
            for f in range(width):
                h[i, f] += b_update[k, f]
    _fill_rows(v, b_hidden)
    add_matrix_product(h, w_hidden, v)
    shifted_softplus(v.reshape(n * half), y.reshape(n * half), y_slope)
    for i in range(n):
        total = _ZERO
        for f in range(half):
            total += y[i, f] * w_energy[f]
            v[i, f] = w_energy[f] * y_slope[i * half + f]
        local[i] = total + b_energy

    g_h[:] = _ZERO
    add_matrix_product(v, w_hidden_t, g_h)
    g_d[:count] = _ZERO
    for k in range(n_interactions - 1, -1, -1):
        g_s[:] = _ZERO
        add_matrix_product(g_h, w_update_t[k], g_s)
        flat = g_s.reshape(n * width)
        for q in range(n * width):
            flat[q] *= slopes[k, q]
        g_m[:] = _ZERO
        add_matrix_product(g_s, w_out_t[k], g_m)
        if k == 0:
            scatter_slopes(x_all[0], g_m, tables[0], pairs, knots, geometry, count, g_d)
        else:
            g_x[:] = _ZERO
            scatter_gradients(x_all[k], g_m, tables[k], pairs, knots, geometry, count, g_x, g_d)
            add_matrix_product(g_x, w_in_t[k], g_h)
    forces[:] = 0.0
    for p in range(count):
        i, j = pairs[p, 0], pairs[p, 1]
        magnitude = np.float64(g_d[p]) * inverse_spacing
        for c in range(3):
            pull = magnitude * geometry[p, 1 + c]
            forces[i, c] += pull
            forces[j, c] -= pull


@numba.njit(cache=True, nogil=True, fastmath=_FAST)
def evaluate_replicas(positions: Any, model: Any, work: Any, forces: Any, local: Any) -> None:
    """``evaluate_replica`` for positions (R, N, 3) one after the other, in one workspace."""
    for r in range(positions.shape[0]):
        evaluate_replica(positions[r], model, work, forces[r], local[r])
