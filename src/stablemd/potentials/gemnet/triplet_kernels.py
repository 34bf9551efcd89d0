"""Compiled sums over triplets of GemNet-T, forwards and backwards, one atom after the other.

The edges of an atom stand together, so that what all of them share, the sums
``A_lm`` over its edges, is used while it is in the cache (``angular_basis``).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials.dense_kernels import add_matrix_product, fill
from stablemd.potentials.float_vector import (
    LANES,
    load,
    minus,
    not_inlined,
    plus,
    splat,
    splat_at,
    store,
    times,
    times_plus,
    totals,
)
from stablemd.potentials.gemnet.kernel_options import KERNEL

_ZERO = np.float32(0.0)


@numba.njit(**KERNEL)
def sums_at_atom(c: Any, x: Any, begin: int, end: int, n_harmonics: int, at: Any) -> None:
    """at (n_harmonics or more, F) = sums over edges of ``C_lm`` times features x (E, F)."""
    not_inlined()
    width, harmonics = x.shape[1], c.shape[1]
    fill(at, _ZERO)
    for f in range(0, width, LANES):
        for e in range(begin, end):
            features = load(x, e * width + f)
            first = e * harmonics
            for lm in range(n_harmonics):
                q = lm * width + f
                store(at, q, times_plus(splat_at(c, first + lm), features, load(at, q)))


@numba.njit(**KERNEL)
def _degree_sums(c: Any, x: Any, e: int, at: Any, s: Any) -> None:
    """s (n_spherical, F): of edge e the sums over the other edges at its target, by degree."""
    width, harmonics = x.shape[1], c.shape[1]
    for f in range(0, width, LANES):
        without = minus(splat(_ZERO), load(x, e * width + f))
        at_c, at_a = e * harmonics, f
        for degree in range(s.shape[0]):
            sums = without
            for _ in range(2 * degree + 1):
                sums = times_plus(splat_at(c, at_c), load(at, at_a), sums)
                at_c += 1
                at_a += width
            store(s, degree * width + f, sums)


@numba.njit(**KERNEL)
def mix_triplets(
    c: Any, x: Any, begin: int, end: int, at: Any, radial: Any, pair: Any, column: int, s: Any,
    mixed: Any, row: int,
) -> None:  # fmt: skip
    """What the bilinear layer is given for the edges of one atom.

    Args:
        c: ``C_lm`` of edges, (E, n_spherical² or more).
        x: features of edges, (E, F).
        begin: first edge of the atom.
        end: the edge after its last.
        at: of ``sums_at_atom``.
        radial: projected radial functions of pairs, (P, width).
        pair: pair of every edge, (E,).
        column: where the circular part begins in ``radial``; degree is its faster index.
        s: scratch memory, (n_spherical, F).
        mixed: receives (rows, n_cbf F).
        row: where this atom's rows begin in it.
    """
    not_inlined()
    width, n_spherical = x.shape[1], s.shape[0]
    n_cbf = mixed.shape[1] // width
    for e in range(begin, end):
        _degree_sums(c, x, e, at, s)
        out = (row + e - begin) * mixed.shape[1]
        first = pair[e] * radial.shape[1] + column
        for k in range(n_cbf):
            circular = first + k * n_spherical
            for f in range(0, width, LANES):
                sums = times(splat_at(radial, circular), load(s, f))
                for degree in range(1, n_spherical):
                    factor = splat_at(radial, circular + degree)
                    sums = times_plus(factor, load(s, degree * width + f), sums)
                store(mixed, out + k * width + f, sums)


@numba.njit(**KERNEL)
def mix_triplets_back(
    c: Any, x: Any, begin: int, end: int, at: Any, radial: Any, pair: Any, column: int, s: Any,
    g_mixed: Any, row: int, zeros: Any, g_at: Any, g_at_t: Any, circular_products: Any,
    products: Any, g_radial: Any, g_c: Any, g_x: Any,
) -> None:  # fmt: skip
    """Gradients by features, harmonics and the circular part from that by ``mixed``.

    Args as in ``mix_triplets``, and:
        zeros: zeros.
        g_at: scratch memory, (harmonics, F).
        g_at_t: scratch memory, (F, harmonics).
        circular_products: scratch memory, whole vectors of n_cbf n_spherical rows of LANES
            numbers; rows beyond are zero.
        products: scratch memory, (harmonics, LANES); rows beyond n_spherical² are zero.
        g_radial: is added to, (P, width).
        g_c: is added to, (E, harmonics).
        g_x: receives (E, F).
    """
    not_inlined()
    width, harmonics, n_spherical = x.shape[1], c.shape[1], s.shape[0]
    n_cbf, step = g_mixed.shape[1] // width, n_spherical * LANES
    fill(g_at, _ZERO)
    for e in range(begin, end):
        first = pair[e] * radial.shape[1] + column
        _degree_sums(c, x, e, at, s)
        given = (row + e - begin) * g_mixed.shape[1]
        for f in range(0, width, LANES):
            there, at_s = 0, f
            for _ in range(n_spherical):
                sums, at_g = load(s, at_s), given + f
                at_s += width
                for k in range(n_cbf):
                    product = times(load(g_mixed, at_g), sums)
                    at_g += width
                    q = there + k * step
                    if f > 0:
                        product = plus(product, load(circular_products, q))
                    store(circular_products, q, product)
                there += LANES
        for q in range(0, circular_products.shape[0], LANES):
            sums = plus(load(g_radial, first + q), totals(circular_products, q * LANES))
            store(g_radial, first + q, sums)
        for f in range(0, width, LANES):
            own, at_c, at_a, product_at = splat(_ZERO), e * harmonics, f, 0
            for degree in range(n_spherical):
                g, at_g, at_r = splat(_ZERO), given + f, first + degree
                for _ in range(n_cbf):
                    g = times_plus(splat_at(radial, at_r), load(g_mixed, at_g), g)
                    at_g += width
                    at_r += n_spherical
                own = minus(own, g)
                for _ in range(2 * degree + 1):
                    store(g_at, at_a, times_plus(splat_at(c, at_c), g, load(g_at, at_a)))
                    product = times(g, load(at, at_a))
                    if f > 0:
                        product = plus(product, load(products, product_at))
                    store(products, product_at, product)
                    at_c += 1
                    at_a += width
                    product_at += LANES
            store(g_x, e * width + f, own)
        for q in range(0, harmonics, LANES):
            there = e * harmonics + q
            store(g_c, there, plus(load(g_c, there), totals(products, q * LANES)))
    for lm in range(n_spherical * n_spherical):
        for f in range(width):
            g_at_t[f, lm] = g_at[lm, f]
    add_matrix_product(c[begin:end], g_at, zeros, g_x[begin:end])
    add_matrix_product(x[begin:end], g_at_t, zeros, g_c[begin:end])
