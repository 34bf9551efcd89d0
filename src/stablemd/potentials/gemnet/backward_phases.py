"""Compiled phases of a frozen GemNet-T: from the energy back to forces, the mirror of the others.

``g`` is the gradient by the messages, which goes through the blocks in place.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials.dense_kernels import (
    add_matrix_product,
    copy_into,
    fill,
    matrix_product,
    multiply,
)
from stablemd.potentials.float_vector import LANES, load, plus, store
from stablemd.potentials.gemnet import forward_phases
from stablemd.potentials.gemnet.edge_kernels import forces_of_gradients
from stablemd.potentials.gemnet.kernel_options import KERNEL
from stablemd.potentials.gemnet.layer_kernels import (
    add_to_ends,
    add_weighted_rows,
    portion_end,
    sums_at_targets_back,
    weighted_rows,
)
from stablemd.potentials.gemnet.silu_kernels import (
    SHARE,
    multiples,
    product_of,
    residuals_back,
)
from stablemd.potentials.gemnet.triplet_kernels import mix_triplets_back
from stablemd.potentials.kernel_cache import source_digest

_ZERO = np.float32(0.0)


def compile_phases(digest: str) -> Any:
    """The phases; compiled code is kept on disk under the digest of its source."""

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def clear(g: Any, g_radial: Any, g_harmonics: Any, g_atoms: Any, n_pairs: int) -> str:
        """Gradients that are added to are zero."""
        fill(g[: 2 * n_pairs], _ZERO)
        fill(g_radial[:n_pairs], _ZERO)
        fill(g_harmonics[: 2 * n_pairs], _ZERO)
        fill(g_atoms, _ZERO)
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def read_out_back(
        messages: Any, radial: Any, starts: Any, pair: Any, column: int, g_sums: Any,
        g_radial: Any, g: Any,
    ) -> str:  # fmt: skip
        """Adds one block's share of the energy to the gradients."""
        sums_at_targets_back(messages, radial, starts, pair, column, g_sums, g_radial, g)
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def tell_edges_back(
        starts: Any, source: Any, target: Any, known: Any, concat_first: Any,
        concat_second: Any, zeros: Any, known_slopes: Any, concat_slopes: Any, rows: Any,
        more_rows: Any, g: Any, g_source: Any, g_target: Any,
    ) -> str:  # fmt: skip
        """Gradients by ``middle``, and by what edges are told of atoms."""
        fill(g_source, _ZERO)
        fill(g_target, _ZERO)
        first = 0
        while first < len(starts) - 1:
            last = portion_end(starts, first)
            begin, end = starts[first], starts[last]
            x, given = rows[: end - begin], g[begin:end]
            multiples(given, SHARE, given)
            copy_into(given, x, 0)
            residuals_back(x, concat_first, concat_second, concat_slopes, begin, zeros, more_rows)
            multiply(x, known_slopes[begin:end])
            add_matrix_product(x, known, zeros, given)
            add_to_ends(x, source, target, begin, g_source, g_target)
            first = last
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def update_atoms_back(
        starts: Any, pair: Any, radial: Any, column: int, middle: Any, dense: Any, first: Any,
        second: Any, source: Any, target: Any, zeros: Any, slopes: Any, residual_slopes: Any,
        g_sums: Any, x: Any, t: Any, g_atoms: Any, g_source: Any, g_target: Any, g_radial: Any,
        g: Any,
    ) -> str:  # fmt: skip
        """Gradients by the atoms before the block; adds to that by ``middle``."""
        add_matrix_product(g_source, source, zeros, g_atoms)
        add_matrix_product(g_target, target, zeros, g_atoms)
        multiples(g_atoms, SHARE, g_atoms)
        copy_into(g_atoms, x, 0)
        residuals_back(x, first, second, residual_slopes, 0, zeros, t)
        multiply(x, slopes)
        matrix_product(x, dense, zeros, g_sums)
        sums_at_targets_back(middle, radial, starts, pair, column, g_sums, g_radial, g)
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def update_edges_back(
        starts: Any, skip: Any, before_first: Any, before_second: Any, after_first: Any,
        after_second: Any, zeros: Any, skip_slopes: Any, before_slopes: Any, after_slopes: Any,
        rows: Any, more_rows: Any, g: Any, g_update: Any,
    ) -> str:  # fmt: skip
        """Gradients by the messages, but for triplets, and by the updates."""
        first = 0
        while first < len(starts) - 1:
            last = portion_end(starts, first)
            begin, end = starts[first], starts[last]
            x, given = rows[: end - begin], g[begin:end]
            residuals_back(given, after_first, after_second, after_slopes, begin, zeros, more_rows)
            multiples(given, SHARE, given)
            copy_into(given, x, 0)
            residuals_back(x, before_first, before_second, before_slopes, begin, zeros, more_rows)
            multiples(x, SHARE, x)
            multiples(x, SHARE, g_update[begin:end])
            multiply(x, skip_slopes[begin:end])
            add_matrix_product(x, skip, zeros, given)
            first = last
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def sum_triplets_back(
        starts: Any, pair: Any, reverse: Any, radial: Any, column: int, circular_column: int,
        harmonics: Any, dense: Any, down: Any, bilinear: Any, up: Any, up_back: Any, zeros: Any,
        dense_values: Any, dense_slopes: Any, inside: Any, down_slopes: Any, at_atom: Any,
        up_slopes: Any, up_back_slopes: Any, rows: Any, degree_sums: Any, mixed_rows: Any,
        y_rows: Any, g_at_atom: Any, g_at_atom_t: Any, circular_products: Any,
        products: Any, g_update: Any, g_radial: Any, g_harmonics: Any, g_inside: Any, g: Any,
    ) -> str:  # fmt: skip
        """Adds what the messages did in triplets to their gradient."""
        first = 0
        while first < len(starts) - 1:
            last = portion_end(starts, first)
            begin, end = starts[first], starts[last]
            n = end - begin
            x, y, mixed, mid = rows[:n], y_rows[:n], mixed_rows[:n], g_inside[begin:end]
            product_of(g_update[begin:end], up_slopes[begin:end], x)
            matrix_product(x, up, zeros, y)
            for row in range(n):
                back = reverse[begin + row]
                product_of(g_update[back], up_back_slopes[begin + row], x[row])
            add_matrix_product(x, up_back, zeros, y)
            matrix_product(y, bilinear, zeros, mixed)
            for a in range(first, last):
                mix_triplets_back(
                    harmonics, inside, starts[a], starts[a + 1], at_atom[a], radial, pair,
                    circular_column, degree_sums, mixed, starts[a] - begin, zeros,
                    g_at_atom, g_at_atom_t, circular_products, products, g_radial, g_harmonics,
                    g_inside,
                )  # fmt: skip
            multiply(mid, down_slopes[begin:end])
            matrix_product(mid, down, zeros, x)
            add_weighted_rows(x, dense_values[begin:end], pair, column, begin, g_radial)
            weighted_rows(x, radial, pair, column, begin, x)
            multiply(x, dense_slopes[begin:end])
            add_matrix_product(x, dense, zeros, g[begin:end])
            first = last
        return digest

    @numba.njit(cache=True, nogil=True, **KERNEL)
    def pull_atoms(
        edges: Any, n_pairs: int, angles: Any, scale: float, weights: Any, zeros: Any,
        embedding_slopes: Any, slopes: Any, g: Any, g_radial: Any, g_basis: Any,
        g_harmonics: Any, forces: Any, virial: Any,
    ) -> str:  # fmt: skip
        """Forces and virial from the gradients by the first messages and the bases."""
        n_edges, width, stride = 2 * n_pairs, g.shape[1], g_radial.shape[1]
        multiply(g[:n_edges], embedding_slopes[:n_edges])
        for e in range(n_edges):
            there = edges.pair[e] * stride
            for f in range(0, width, LANES):
                sums = plus(load(g_radial, there + f), load(g, e * width + f))
                store(g_radial, there + f, sums)
        matrix_product(g_radial[:n_pairs], weights, zeros, g_basis[:n_pairs])
        forces_of_gradients(
            edges, n_pairs, angles, scale, g_basis, slopes, g_harmonics, forces, virial
        )
        return digest

    return (
        clear,
        read_out_back,
        tell_edges_back,
        update_atoms_back,
        update_edges_back,
        sum_triplets_back,
        pull_atoms,
    )


(
    clear,
    read_out_back,
    tell_edges_back,
    update_atoms_back,
    update_edges_back,
    sum_triplets_back,
    pull_atoms,
) = compile_phases(source_digest(__file__, *forward_phases.SOURCES))
