"""Compiled dense layers on small matrices: products and the softplus activation.

Arrays are contiguous float32, and their last dimension is a multiple of
``LANES``.  All constants are float32: a float64 one would double the width of
every vector operation.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from stablemd.potentials.float_vector import (
    CONTRACT,
    HAS_AVX,
    HAS_AVX512,
    LANES,
    ROUNDING,
    VECTOR_TYPE,
    at_least,
    divided,
    instruction,
    load,
    minus,
    not_inlined,
    plus,
    power_of_two,
    splat,
    splat_lanes,
    store,
    times,
    times_plus,
    where_negative,
)

FLOAT = np.float32

# The arithmetic may be contracted (fused multiply-add) and, in reductions,
# reassociated; NaN and infinity keep their meaning, detectors rely on them.
FAST = {"contract", "reassoc", "nsz", "arcp"}

_LOG2E = FLOAT(1.4426950408889634)
_LN2_HIGH = FLOAT(0.693359375)
_LN2_LOW = FLOAT(-2.12194440e-4)
_LN2 = FLOAT(0.6931471805599453)
_EXP_MIN = FLOAT(-40.0)
_ROUNDING = FLOAT(ROUNDING)
_ONE = FLOAT(1.0)
_TWO = FLOAT(2.0)
_ZERO = FLOAT(0.0)

# exp(r) on |r| <= ln2/2 by its Taylor series (relative error below 1e-7), and
# 2 atanh(s) = ln((1+s)/(1-s)) for |s| <= 1/3 (the same).
_E2, _E3, _E4, _E5, _E6 = (FLOAT(1.0 / k) for k in (2, 6, 24, 120, 720))
_A3, _A5, _A7, _A9, _A11, _A13 = (FLOAT(2.0 / k) for k in (3, 5, 7, 9, 11, 13))


@numba.njit(inline="always")
def exponential_of_minus_size(v: Any) -> Any:
    """A vector exp(-|v|); exp(-40) where that is less, so that no product becomes subnormal."""
    one, zero = splat(_ONE), splat(_ZERO)
    x = at_least(where_negative(v, v, minus(zero, v)), splat(_EXP_MIN))
    rounded = times_plus(x, splat(_LOG2E), splat(_ROUNDING))
    k = minus(rounded, splat(_ROUNDING))
    r = times_plus(k, splat(-_LN2_LOW), times_plus(k, splat(-_LN2_HIGH), x))
    p = times_plus(r, splat(_E6), splat(_E5))
    p = times_plus(r, p, splat(_E4))
    p = times_plus(r, p, splat(_E3))
    p = times_plus(r, p, splat(_E2))
    p = times_plus(r, p, one)
    return times(times_plus(r, p, one), power_of_two(rounded))


@numba.njit(inline="always")
def _activation(v: Any) -> Any:
    """Vectors ln(1 + exp(v)) - ln 2 and its derivative."""
    one, zero = splat(_ONE), splat(_ZERO)
    u = exponential_of_minus_size(v)
    # One division serves 1 / (1 + u) and u / (2 + u): it takes as long as all the rest.
    u1, u2 = plus(u, one), plus(u, splat(_TWO))
    shared = divided(one, times(u1, u2))
    inverse = times(u2, shared)
    # ln(1 + u) = 2 atanh(u / (2 + u)), and u / (2 + u) is at most 1/3; what the
    # three roundings took from it is put back.
    inverse2 = times(u1, shared)
    s = times(u, inverse2)
    s = times_plus(minus(u, times(s, u2)), inverse2, s)
    s2 = times(s, s)
    q = times_plus(s2, splat(_A13), splat(_A11))
    q = times_plus(s2, q, splat(_A9))
    q = times_plus(s2, q, splat(_A7))
    q = times_plus(s2, q, splat(_A5))
    q = times_plus(s2, q, splat(_A3))
    log1p = times(s, times_plus(s2, q, splat(_TWO)))
    value = plus(at_least(v, zero), minus(log1p, splat(_LN2)))
    return value, where_negative(v, times(u, inverse), inverse)


@numba.njit
def shifted_softplus(x: Any, value: Any, slope: Any) -> None:
    """value = ln(1 + exp(x)) - ln 2 and slope = its derivative; ``value`` may be ``x``."""
    for q in range(0, x.size, LANES):
        a, b = _activation(load(x, q))
        store(value, q, a)
        store(slope, q, b)


# Rows of a block of the product, and the vectors in each of its rows: what
# stays in registers is 24 accumulators of 32 registers, or 12 of 16.
_ROWS = 6 if HAS_AVX512 or not HAS_AVX else 3
_HALF_ROWS = _ROWS // 2
_VECTORS = 4
_BLOCK = _VECTORS * LANES


def _make_tile(rows: int, vectors: int, *, adds: bool) -> Any:
    """An intrinsic for one block of a product, ``rows`` x ``vectors * LANES``.

    It begins with the row ``first``, and with what is in ``out`` too where it ``adds``.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        a, b, first, out = (
            context.make_array(signature.args[k])(context, builder, arguments[k])
            for k in (0, 2, 4, 5)
        )
        row, column = arguments[1], arguments[3]
        depth, width = cgutils.unpack_tuple(builder, b.shape, 2)
        index = ir.IntType(64)

        def constant(value: int) -> Any:
            return ir.Constant(index, value)

        def vector_at(start: Any, v: int) -> Any:
            address = builder.gep(start, [constant(v * LANES)])
            return builder.bitcast(address, VECTOR_TYPE.as_pointer())

        row_numbers = [builder.add(row, constant(r)) for r in range(rows)]
        a_rows = [builder.gep(a.data, [builder.mul(r, depth)]) for r in row_numbers]
        out_rows = [
            builder.gep(out.data, [builder.add(builder.mul(r, width), column)]) for r in row_numbers
        ]
        cells = [(r, v) for r in range(rows) for v in range(vectors)]
        begin = builder.gep(first.data, [column])
        firsts = [builder.load(vector_at(begin, v), align=4) for v in range(vectors)]
        start = {(r, v): firsts[v] for r, v in cells}
        if adds:
            for r, v in cells:
                there = builder.load(vector_at(out_rows[r], v), align=4)
                start[r, v] = builder.fadd(there, firsts[v], flags=CONTRACT)
        before = builder.block
        loop, end = builder.append_basic_block("depth"), builder.append_basic_block("end")
        builder.branch(loop)

        builder.position_at_end(loop)
        k = builder.phi(index)
        k.add_incoming(constant(0), before)
        sums = {c: builder.phi(VECTOR_TYPE) for c in cells}
        for c in cells:
            sums[c].add_incoming(start[c], before)
        b_row = builder.gep(b.data, [builder.add(builder.mul(k, width), column)])
        b_vectors = [builder.load(vector_at(b_row, v), align=4) for v in range(vectors)]
        new = {}
        for r in range(rows):
            factor = splat_lanes(builder, builder.load(builder.gep(a_rows[r], [k])))
            for v in range(vectors):
                product = builder.fmul(factor, b_vectors[v], flags=CONTRACT)
                new[r, v] = builder.fadd(product, sums[r, v], flags=CONTRACT)
        following = builder.add(k, constant(1))
        k.add_incoming(following, loop)
        for c in cells:
            sums[c].add_incoming(new[c], loop)
        builder.cbranch(builder.icmp_signed("<", following, depth), loop, end)

        builder.position_at_end(end)
        for r, v in cells:
            builder.store(new[r, v], vector_at(out_rows[r], v), align=4)
        return context.get_dummy_value()

    @instruction
    def tile(
        typing_context: Any, a: Any, row: Any, b: Any, column: Any, first: Any, out: Any
    ) -> Any:
        return types.void(a, types.int64, b, types.int64, first, out), generate

    return tile


def _make_columns(vectors: int, *, adds: bool) -> Any:
    """A function for ``vectors * LANES`` columns of the product, from ``column`` on."""
    tile, half_tile, one_row = (
        _make_tile(rows, vectors, adds=adds) for rows in (_ROWS, _HALF_ROWS, 1)
    )

    @numba.njit(fastmath=FAST)
    def columns(a: Any, b: Any, column: int, first: Any, out: Any) -> None:
        n = a.shape[0]
        i = 0
        while i + _ROWS <= n:
            tile(a, i, b, column, first, out)
            i += _ROWS
        while i + _HALF_ROWS <= n:
            half_tile(a, i, b, column, first, out)
            i += _HALF_ROWS
        while i < n:
            one_row(a, i, b, column, first, out)
            i += 1

    return columns


def _make_product(*, adds: bool) -> Any:
    block, half, vector = (_make_columns(n, adds=adds) for n in (_VECTORS, _VECTORS // 2, 1))

    @numba.njit(fastmath=FAST)
    def product(a: Any, b: Any, first: Any, out: Any) -> None:
        not_inlined()
        width = b.shape[1]
        column = 0
        while column + _BLOCK <= width:
            block(a, b, column, first, out)
            column += _BLOCK
        if column + _BLOCK // 2 <= width:
            half(a, b, column, first, out)
            column += _BLOCK // 2
        if column + LANES <= width:
            vector(a, b, column, first, out)
            column += LANES

    return product


# For a (n, k), b (k, m), first (m,), out (n, m), k at least 1.  Each number of
# ``out`` is one sequence of multiply-adds over k, whatever the rows beside it.

matrix_product = _make_product(adds=False)
"""out = first + a @ b."""

add_matrix_product = _make_product(adds=True)
"""out += first + a @ b."""


@numba.njit(fastmath=FAST)
def fill(out: Any, number: Any) -> None:
    """Every element of a contiguous array becomes ``number``."""
    vector = splat(number)
    for q in range(0, out.size, LANES):
        store(out, q, vector)


@numba.njit(fastmath=FAST)
def multiply(out: Any, factors: Any) -> None:
    """out *= factors for contiguous arrays of one shape."""
    for q in range(0, out.size, LANES):
        store(out, q, times(load(out, q), load(factors, q)))


@numba.njit(fastmath=FAST)
def copy_into(rows: Any, out: Any, first: int) -> None:
    """Copy ``rows`` (n, m) to ``out`` (N, m) from row ``first`` on."""
    begin = first * rows.shape[1]
    for q in range(0, rows.size, LANES):
        store(out, begin + q, load(rows, q))
