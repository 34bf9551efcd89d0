"""Compiled evaluation of SchNet's energy and forces.

A few replicas at a time go through the network together, so that weights and
tables are read from memory once for all of them.  The order of a replica's
arithmetic does not depend on the others: its numbers are bit-identical in
every batch.
Radial filters come from a table of cubic B-spline coefficients, so that no
filter network runs.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials import convolution_kernels, dense_kernels, float_vector, split_step
from stablemd.potentials.convolution_kernels import (
    find_pairs,
    gather_messages,
    scatter_gradients,
    scatter_slopes,
    spline_weights,
)
from stablemd.potentials.dense_kernels import (
    FAST,
    FLOAT,
    add_matrix_product,
    copy_into,
    fill,
    matrix_product,
    multiply,
    shifted_softplus,
)
from stablemd.potentials.kernel_cache import source_digest
from stablemd.potentials.split_step import kick, kick_and_drift, kick_and_drift_freely

_ZERO = FLOAT(0.0)


@numba.njit(fastmath=FAST)
def evaluate_block(
    positions: Any, model: Any, work: Any, energies: Any, forces: Any, local: Any
) -> None:
    """Energies and forces of a block of replicas, interaction by interaction.

    An interaction's weights and table are used for the whole block while they
    are in the cache; every number comes from its own replica only.

    Args:
        positions: (B, N, 3) float64, Å.
        model: the tuple made by ``schnet_arrays.pack_model``.
        work: the tuple of ``schnet_arrays.make_workspace``, for B replicas or more.
        energies: receives the energies, (B,) float64, eV.
        forces: receives the forces, (B, N, 3) float64, eV/Å.
        local: receives the network's atomic energies, (B, N) float64, unscaled.
    """
    counts, pairs, knots, geometry = work[:4]
    cutoff, inverse_spacing = model[16], model[17]
    n = positions.shape[1]
    for r in range(positions.shape[0]):
        counts[r] = find_pairs(
            positions[r], r * n, cutoff, inverse_spacing, pairs[r], knots[r], geometry[r]
        )
    evaluate_found_pairs(positions, model, work, energies, forces, local)


@numba.njit(fastmath=FAST)
def evaluate_found_pairs(
    positions: Any, model: Any, work: Any, energies: Any, forces: Any, local: Any
) -> None:
    """``evaluate_block`` with counts, pairs, knots and geometry in the workspace already.

    An atom may be in a pair with itself, as with its own periodic image.
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
        _,
        inverse_spacing,
        scale,
        shift,
        zeros,
    ) = model
    counts, pairs, knots, geometry, weights, g_d = work[:6]
    h_all, x_all, slopes_all, m_all, g_all, u_all, v_all, y_all = work[6:]
    n_block, n = positions.shape[:2]
    rows = n_block * n
    n_interactions = tables.shape[0]
    h, m, g, u = h_all[:rows], m_all[:rows], g_all[:rows], u_all[:rows]
    v, y = v_all[:rows], y_all[:rows]
    for r in range(n_block):
        spline_weights(geometry[r], counts[r], weights[r])
        copy_into(embedded, h, r * n)
    for k in range(n_interactions):
        x, slopes, table = x_all[k, :rows], slopes_all[k, :rows], tables[k]
        if k > 0:
            matrix_product(h, w_in[k], zeros, x)
        fill(m, _ZERO)
        for r in range(n_block):
            if k == 0:
                copy_into(projected, x, r * n)
            gather_messages(x, table, pairs[r], knots[r], weights[r], counts[r], m)
        matrix_product(m, w_out[k], b_out[k], u)
        shifted_softplus(u, u, slopes)
        add_matrix_product(u, w_update[k], b_update[k], h)
    matrix_product(h, w_hidden, b_hidden, v)
    shifted_softplus(v, v, y)
    for r in range(n_block):
        energy = 0.0
        for i in range(n):
            q = r * n + i
            sum_i = _ZERO
            for f in range(v.shape[1]):
                sum_i += v[q, f] * w_energy[f]
                y[q, f] *= w_energy[f]
            local[r, i] = sum_i + b_energy
            energy += local[r, i]
        energies[r] = energy * scale + shift
        if counts[r] < 0:
            energies[r] = np.nan
            local[r] = np.nan
    if forces.shape[0] == 0:
        return

    # From here on h is the gradient by the features, m that by the messages, g that by x.
    matrix_product(y, w_hidden_t, zeros, h)
    for r in range(n_block):
        for p in range(counts[r]):
            g_d[r, p] = _ZERO
    for k in range(n_interactions - 1, -1, -1):
        x, slopes, table = x_all[k, :rows], slopes_all[k, :rows], tables[k]
        matrix_product(h, w_update_t[k], zeros, u)
        multiply(u, slopes)
        matrix_product(u, w_out_t[k], zeros, m)
        if k > 0:
            fill(g, _ZERO)
        for r in range(n_block):
            if k == 0:
                scatter_slopes(x, m, table, pairs[r], knots[r], weights[r], counts[r], g_d[r])
            else:
                scatter_gradients(x, m, table, pairs[r], knots[r], weights[r], counts[r], g, g_d[r])
        if k > 0:
            add_matrix_product(g, w_in_t[k], zeros, h)
    for r in range(n_block):
        forces[r] = 0.0
        for p in range(counts[r]):
            i, j = pairs[r, p, 0] - r * n, pairs[r, p, 1] - r * n
            magnitude = np.float64(g_d[r, p]) * inverse_spacing * scale
            for c in range(3):
                pull = magnitude * geometry[r, p, 1 + c]
                forces[r, i, c] += pull
                forces[r, j, c] -= pull
        if counts[r] < 0:
            forces[r] = np.nan


def _entry_points(digest: str) -> tuple[Any, Any]:
    """What Python calls; compiled code is kept on disk under the digest of its source."""

    @numba.njit(cache=True, nogil=True, fastmath=FAST)
    def evaluate_replicas(
        positions: Any, model: Any, work: Any, energies: Any, forces: Any, local: Any
    ) -> str:
        n_block = work[0].shape[0]
        for start in range(0, positions.shape[0], n_block):
            at = slice(start, min(start + n_block, positions.shape[0]))
            evaluate_block(positions[at], model, work, energies[at], forces[at], local[at])
        return digest

    @numba.njit(cache=True, nogil=True)
    def advance_replicas(
        positions: Any,
        momenta: Any,
        energies: Any,
        forces: Any,
        local: Any,
        model: Any,
        work: Any,
        n_steps: int,
        half_kick: float,
        drift: Any,
        decay: float,
        noise_scale: Any,
        noise: Any,
    ) -> str:
        n_block = work[0].shape[0]
        for start in range(0, positions.shape[0], n_block):
            stop = min(start + n_block, positions.shape[0])
            x, e, f, l = (  # noqa: E741
                positions[start:stop],
                energies[start:stop],
                forces[start:stop],
                local[start:stop],
            )
            for step in range(n_steps):
                for r in range(start, stop):
                    if noise.shape[0] > 0:
                        kick_and_drift(
                            positions[r],
                            momenta[r],
                            forces[r],
                            half_kick,
                            drift,
                            decay,
                            noise_scale,
                            noise[step, r],
                        )
                    else:
                        kick_and_drift_freely(positions[r], momenta[r], forces[r], half_kick, drift)
                evaluate_block(x, model, work, e, f, l)
                for r in range(start, stop):
                    kick(momenta[r], forces[r], half_kick)
        return digest

    return evaluate_replicas, advance_replicas


evaluate_replicas, advance_replicas = _entry_points(
    source_digest(__file__, convolution_kernels, dense_kernels, float_vector, split_step)
)
