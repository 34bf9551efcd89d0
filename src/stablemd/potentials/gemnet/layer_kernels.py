"""Compiled sums over edges in GemNet-T, forwards and backwards."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials.float_vector import (
    LANES,
    load,
    not_inlined,
    plus,
    store,
    times,
    times_plus,
)
from stablemd.potentials.gemnet.kernel_options import KERNEL

_ZERO = np.float32(0.0)
_PORTION = 192


@numba.njit(**KERNEL)
def weighted_rows(x: Any, radial: Any, pair: Any, column: int, begin: int, out: Any) -> None:
    """out (n, F) = x (n, F) times the functions of the distances of the edges from ``begin`` on.

    These stand in ``radial`` (P, width) from ``column`` on; ``out`` may be ``x``.
    """
    not_inlined()
    width, stride = x.shape[1], radial.shape[1]
    for row in range(x.shape[0]):
        here, there = row * width, pair[begin + row] * stride + column
        for f in range(0, width, LANES):
            store(out, here + f, times(load(x, here + f), load(radial, there + f)))


@numba.njit(**KERNEL)
def add_weighted_rows(x: Any, y: Any, pair: Any, column: int, begin: int, radial: Any) -> None:
    """radial (P, width) += x * y at the pairs of the edges from ``begin`` on."""
    not_inlined()
    width, stride = x.shape[1], radial.shape[1]
    for row in range(x.shape[0]):
        here, there = row * width, pair[begin + row] * stride + column
        for f in range(0, width, LANES):
            sums = times_plus(load(x, here + f), load(y, here + f), load(radial, there + f))
            store(radial, there + f, sums)


@numba.njit(**KERNEL)
def sums_at_targets(m: Any, radial: Any, starts: Any, pair: Any, column: int, sums: Any) -> None:
    """sums (N, F) over edges to each atom, of m (E, F) times functions of the distance."""
    not_inlined()
    width, stride = m.shape[1], radial.shape[1]
    sums[:] = _ZERO
    for a in range(sums.shape[0]):
        for e in range(starts[a], starts[a + 1]):
            there = pair[e] * stride + column
            for f in range(0, width, LANES):
                q = a * width + f
                product = times_plus(load(m, e * width + f), load(radial, there + f), load(sums, q))
                store(sums, q, product)


@numba.njit(**KERNEL)
def sums_at_targets_back(
    m: Any, radial: Any, starts: Any, pair: Any, column: int, g_sums: Any, g_radial: Any, g: Any
) -> None:
    """Adds to the gradients by messages, g (E, F), and by radial functions, (P, width)."""
    not_inlined()
    width, stride = m.shape[1], radial.shape[1]
    for a in range(g_sums.shape[0]):
        for e in range(starts[a], starts[a + 1]):
            there = pair[e] * stride + column
            for f in range(0, width, LANES):
                given, q, r = load(g_sums, a * width + f), e * width + f, there + f
                store(g, q, times_plus(given, load(radial, r), load(g, q)))
                store(g_radial, r, times_plus(given, load(m, q), load(g_radial, r)))


@numba.njit(**KERNEL)
def add_ends(at_source: Any, at_target: Any, source: Any, target: Any, begin: int, x: Any) -> None:
    """x (n, F) += rows of the atoms (N, F) at both ends of the edges from ``begin`` on."""
    not_inlined()
    width = x.shape[1]
    for row in range(x.shape[0]):
        first, second = source[begin + row] * width, target[begin + row] * width
        for f in range(0, width, LANES):
            ends = plus(load(at_source, first + f), load(at_target, second + f))
            store(x, row * width + f, plus(load(x, row * width + f), ends))


@numba.njit(**KERNEL)
def add_to_ends(
    x: Any, source: Any, target: Any, begin: int, at_source: Any, at_target: Any
) -> None:
    """Adds x (n, F) to the rows of the atoms (N, F) at both ends of the edges."""
    not_inlined()
    width = x.shape[1]
    for row in range(x.shape[0]):
        first, second = source[begin + row] * width, target[begin + row] * width
        for f in range(0, width, LANES):
            v = load(x, row * width + f)
            store(at_source, first + f, plus(load(at_source, first + f), v))
            store(at_target, second + f, plus(load(at_target, second + f), v))


@numba.njit(**KERNEL)
def portion_end(starts: Any, first: int) -> int:
    """The atom after the last of a portion of edges that begins with the atom ``first``."""
    n_atoms = len(starts) - 1
    end = first + 1
    while end < n_atoms and starts[end + 1] - starts[first] <= _PORTION:
        end += 1
    return end
