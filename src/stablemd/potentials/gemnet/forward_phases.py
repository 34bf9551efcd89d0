"""Compiled phases of a frozen GemNet-T: from positions to atomic energies.

A phase is what happens between two exchanges among edges or atoms.  Edges
stand in the order of the atoms they point to, and go through a phase in
portions of a few hundred, which stay in the cache.  Argument names are the
fields of ``arrays.Model`` and ``arrays.Work``, those of one block.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials import dense_kernels, float_vector
from stablemd.potentials.dense_kernels import copy_into, fill, matrix_product, multiply
from stablemd.potentials.float_vector import LANES, load, plus, splat, store, times, times_plus
from stablemd.potentials.gemnet import (
    edge_kernels,
    kernel_options,
    layer_kernels,
    silu_kernels,
    triplet_kernels,
)
from stablemd.potentials.gemnet.edge_kernels import (
    angular_functions,
    find_edges,
    radial_functions,
)
from stablemd.potentials.gemnet.kernel_options import KERNEL
from stablemd.potentials.gemnet.layer_kernels import (
    add_ends,
    portion_end,
    sums_at_targets,
    weighted_rows,
)
from stablemd.potentials.gemnet.silu_kernels import (
    SHARE,
    activate,
    add_and_share,
    residuals,
    residuals_back,
)
from stablemd.potentials.gemnet.triplet_kernels import mix_triplets, sums_at_atom
from stablemd.potentials.kernel_cache import source_digest

_ZERO = np.float32(0.0)
_HALF = np.float32(0.5)


@numba.njit(**KERNEL)
def _add_updates(update: Any, update_back: Any, reverse: Any, begin: int, x: Any) -> None:
    """x (n, F) = (x + (update + that from the edge back) / sqrt(2)) / sqrt(2)."""
    width = x.shape[1]
    share, half = splat(SHARE), splat(_HALF)
    for row in range(x.shape[0]):
        here, back = (begin + row) * width, reverse[begin + row] * width
        for f in range(0, width, LANES):
            both = plus(load(update, here + f), load(update_back, back + f))
            q = row * width + f
            store(x, q, times_plus(load(x, q), share, times(both, half)))


def compile_phases(digest: str) -> Any:
    """The phases; compiled code is kept on disk under the digest of its source."""

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def measure(
        x: Any, cell: Any, rows: Any, n_rows: int, edges: Any, basis: Any, angles: Any,
        weights: Any, zeros: Any, values: Any, slopes: Any, radial: Any, harmonics: Any,
    ) -> Any:  # fmt: skip
        """Edges, projected radial functions of pairs and harmonics; the number of pairs."""
        n_pairs = find_edges(x, cell, rows, n_rows, basis.cutoff, edges)
        if n_pairs > 0:
            radial_functions(edges, n_pairs, basis, values, slopes)
            matrix_product(values[:n_pairs], weights, zeros, radial[:n_pairs])
            angular_functions(edges, n_pairs, angles, harmonics)
        return n_pairs, digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def embed(
        source: Any, target: Any, pair: Any, radial: Any, from_source: Any, to_target: Any,
        n_edges: int, messages: Any, embedding_slopes: Any,
    ) -> str:  # fmt: skip
        """The first messages."""
        x = messages[:n_edges]
        fill(x, _ZERO)
        add_ends(from_source, to_target, source, target, 0, x)
        width, stride = x.shape[1], radial.shape[1]
        for e in range(n_edges):
            there = pair[e] * stride
            for f in range(0, width, LANES):
                q = e * width + f
                store(x, q, plus(load(x, q), load(radial, there + f)))
        activate(x, x, embedding_slopes[:n_edges])
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def read_out(
        starts: Any, pair: Any, radial: Any, column: int, messages: Any, dense: Any, first: Any,
        second: Any, dense_t: Any, first_t: Any, second_t: Any, energy: Any, zeros: Any,
        slopes: Any, residual_slopes: Any, sums: Any, x: Any, t: Any, local: Any, g_sums: Any,
    ) -> str:  # fmt: skip
        """Adds one block's share to the atomic energies; its gradient by the sums of messages."""
        sums_at_targets(messages, radial, starts, pair, column, sums)
        matrix_product(sums, dense, zeros, x)
        activate(x, x, slopes)
        residuals(x, first, second, residual_slopes, 0, zeros, t)
        for a in range(x.shape[0]):
            share = 0.0
            for f in range(x.shape[1]):
                share += np.float64(x[a, f]) * np.float64(energy[f])
                x[a, f] = energy[f]
            local[a] += share
        residuals_back(x, first_t, second_t, residual_slopes, 0, zeros, t)
        multiply(x, slopes)
        matrix_product(x, dense_t, zeros, g_sums)
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def sum_triplets(
        starts: Any, pair: Any, radial: Any, column: int, circular_column: int, harmonics: Any,
        n_harmonics: int, messages: Any, dense: Any, down: Any, bilinear: Any, up: Any,
        up_back: Any, zeros: Any, dense_values: Any, dense_slopes: Any, inside: Any,
        down_slopes: Any, at_atom: Any, up_slopes: Any, up_back_slopes: Any, rows: Any,
        degree_sums: Any, mixed: Any, y_rows: Any, update: Any, update_back: Any,
    ) -> str:  # fmt: skip
        """Updates of all edges from the others at their targets, there and for the edges back."""
        first = 0
        while first < len(starts) - 1:
            last = portion_end(starts, first)
            begin, end = starts[first], starts[last]
            n = end - begin
            x, y, v, mid = rows[:n], y_rows[:n], dense_values[begin:end], inside[begin:end]
            matrix_product(messages[begin:end], dense, zeros, v)
            activate(v, v, dense_slopes[begin:end])
            weighted_rows(v, radial, pair, column, begin, x)
            matrix_product(x, down, zeros, mid)
            activate(mid, mid, down_slopes[begin:end])
            for a in range(first, last):
                sums_at_atom(harmonics, inside, starts[a], starts[a + 1], n_harmonics, at_atom[a])
                mix_triplets(
                    harmonics, inside, starts[a], starts[a + 1], at_atom[a], radial, pair,
                    circular_column, degree_sums, mixed, starts[a] - begin,
                )  # fmt: skip
            matrix_product(mixed[:n], bilinear, zeros, y)
            matrix_product(y, up, zeros, update[begin:end])
            activate(update[begin:end], update[begin:end], up_slopes[begin:end])
            matrix_product(y, up_back, zeros, update_back[begin:end])
            activate(update_back[begin:end], update_back[begin:end], up_back_slopes[begin:end])
            first = last
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def update_edges(
        starts: Any, reverse: Any, messages: Any, skip: Any, before_first: Any,
        before_second: Any, after_first: Any, after_second: Any, zeros: Any, update: Any,
        update_back: Any, skip_slopes: Any, before_slopes: Any, after_slopes: Any, rows: Any,
        more_rows: Any, middle: Any,
    ) -> str:  # fmt: skip
        """``middle`` from the messages and the updates by triplets."""
        first = 0
        while first < len(starts) - 1:
            last = portion_end(starts, first)
            begin, end = starts[first], starts[last]
            x, m = rows[: end - begin], middle[begin:end]
            matrix_product(messages[begin:end], skip, zeros, x)
            activate(x, x, skip_slopes[begin:end])
            _add_updates(update, update_back, reverse, begin, x)
            residuals(x, before_first, before_second, before_slopes, begin, zeros, more_rows)
            copy_into(messages[begin:end], m, 0)
            add_and_share(x, m)
            residuals(m, after_first, after_second, after_slopes, begin, zeros, more_rows)
            first = last
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def update_atoms(
        starts: Any, pair: Any, radial: Any, column: int, middle: Any, dense: Any, first: Any,
        second: Any, source: Any, target: Any, zeros: Any, slopes: Any, residual_slopes: Any,
        sums: Any, x: Any, t: Any, atoms: Any, from_source: Any, to_target: Any,
    ) -> str:  # fmt: skip
        """New features of atoms, and what edges are told of them."""
        sums_at_targets(middle, radial, starts, pair, column, sums)
        matrix_product(sums, dense, zeros, x)
        activate(x, x, slopes)
        residuals(x, first, second, residual_slopes, 0, zeros, t)
        add_and_share(x, atoms)
        matrix_product(atoms, source, zeros, from_source)
        matrix_product(atoms, target, zeros, to_target)
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def tell_edges(
        starts: Any, source: Any, target: Any, middle: Any, known: Any, concat_first: Any,
        concat_second: Any, zeros: Any, from_source: Any, to_target: Any, known_slopes: Any,
        concat_slopes: Any, rows: Any, more_rows: Any, messages: Any,
    ) -> str:  # fmt: skip
        """The next messages, from ``middle`` and the atoms."""
        first = 0
        while first < len(starts) - 1:
            last = portion_end(starts, first)
            begin, end = starts[first], starts[last]
            x, m = rows[: end - begin], messages[begin:end]
            matrix_product(middle[begin:end], known, zeros, x)
            add_ends(from_source, to_target, source, target, begin, x)
            activate(x, x, known_slopes[begin:end])
            residuals(x, concat_first, concat_second, concat_slopes, begin, zeros, more_rows)
            copy_into(middle[begin:end], m, 0)
            add_and_share(x, m)
            first = last
        return digest

    return measure, embed, read_out, sum_triplets, update_edges, update_atoms, tell_edges


SOURCES = (
    dense_kernels,
    edge_kernels,
    float_vector,
    kernel_options,
    layer_kernels,
    silu_kernels,
    triplet_kernels,
)
"""Modules whose functions the phases call."""

measure, embed, read_out, sum_triplets, update_edges, update_atoms, tell_edges = compile_phases(
    source_digest(__file__, *SOURCES)
)
