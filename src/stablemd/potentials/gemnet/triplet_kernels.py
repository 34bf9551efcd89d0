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
    splat,
    store,
    times,
    times_plus,
    total,
)
from stablemd.potentials.gemnet.kernel_options import KERNEL

_ZERO = np.float32(0.0)


@numba.njit(**KERNEL)
def sums_at_atom(c: Any, x: Any, begin: int, end: int, n_harmonics: int, at: Any) -> None:
    """at (n_harmonics or more, F) = sums over edges of ``C_lm`` times features x (E, F)."""
    not_inlined()
    width = x.shape[1]
    fill(at, _ZERO)
    for e in range(begin, end):
        for lm in range(n_harmonics):
            factor = splat(c[e, lm])
            for f in range(0, width, LANES):
                q = lm * width + f
                store(at, q, times_plus(factor, load(x, e * width + f), load(at, q)))


@numba.njit(**KERNEL)
def _degree_sums(c: Any, x: Any, e: int, at: Any, s: Any) -> None:
    """s (n_spherical, F): of edge e the sums over the other edges at its target, by degree."""
    not_inlined()
    width = x.shape[1]
    for f in range(0, width, LANES):
        without = minus(splat(_ZERO), load(x, e * width + f))
        lm = 0
        for degree in range(s.shape[0]):
            sums = without
            for _ in range(2 * degree + 1):
                sums = times_plus(splat(c[e, lm]), load(at, lm * width + f), sums)
                lm += 1
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
        for k in range(n_cbf):
            first = column + k * n_spherical
            for f in range(0, width, LANES):
                sums = times(splat(radial[pair[e], first]), load(s, f))
                for degree in range(1, n_spherical):
                    factor = splat(radial[pair[e], first + degree])
                    sums = times_plus(factor, load(s, degree * width + f), sums)
                store(mixed, out + k * width + f, sums)


@numba.njit(**KERNEL)
def mix_triplets_back(
    c: Any, x: Any, begin: int, end: int, at: Any, radial: Any, pair: Any, column: int, s: Any,
    g_mixed: Any, row: int, zeros: Any, g_s: Any, g_at: Any, g_at_t: Any, g_radial: Any,
    g_c: Any, g_x: Any,
) -> None:  # fmt: skip
    """Gradients by features, harmonics and the circular part from that by ``mixed``.

    Args as in ``mix_triplets``, and:
        zeros: zeros.
        g_s: scratch memory, (n_spherical, F).
        g_at: scratch memory, (harmonics, F).
        g_at_t: scratch memory, (F, harmonics).
        g_radial: is added to, (P, width).
        g_c: is added to, (E, harmonics).
        g_x: receives (E, F).
    """
    not_inlined()
    width, n_spherical = x.shape[1], s.shape[0]
    n_cbf = g_mixed.shape[1] // width
    fill(g_at, _ZERO)
    for e in range(begin, end):
        p = pair[e]
        _degree_sums(c, x, e, at, s)
        given = (row + e - begin) * g_mixed.shape[1]
        for k in range(n_cbf):
            first = column + k * n_spherical
            for degree in range(n_spherical):
                sums = splat(_ZERO)
                for f in range(0, width, LANES):
                    g = load(g_mixed, given + k * width + f)
                    sums = times_plus(g, load(s, degree * width + f), sums)
                g_radial[p, first + degree] += total(sums)
        for f in range(0, width, LANES):
            own = splat(_ZERO)
            for degree in range(n_spherical):
                sums = splat(_ZERO)
                for k in range(n_cbf):
                    factor = splat(radial[p, column + k * n_spherical + degree])
                    sums = times_plus(factor, load(g_mixed, given + k * width + f), sums)
                store(g_s, degree * width + f, sums)
                own = minus(own, sums)
            store(g_x, e * width + f, own)
        lm = 0
        for degree in range(n_spherical):
            for _ in range(2 * degree + 1):
                factor, sums = splat(c[e, lm]), splat(_ZERO)
                for f in range(0, width, LANES):
                    q = lm * width + f
                    g = load(g_s, degree * width + f)
                    store(g_at, q, times_plus(factor, g, load(g_at, q)))
                    sums = times_plus(g, load(at, q), sums)
                g_c[e, lm] += total(sums)
                lm += 1
    for lm in range(n_spherical * n_spherical):
        for f in range(width):
            g_at_t[f, lm] = g_at[lm, f]
    add_matrix_product(c[begin:end], g_at, zeros, g_x[begin:end])
    add_matrix_product(x[begin:end], g_at_t, zeros, g_c[begin:end])
