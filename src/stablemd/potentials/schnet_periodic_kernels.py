"""Compiled evaluation of SchNet in periodic systems, from kept lists of pairs."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials import (
    convolution_kernels,
    dense_kernels,
    float_vector,
    schnet_kernels,
)
from stablemd.potentials.convolution_kernels import put_geometry
from stablemd.potentials.dense_kernels import FAST
from stablemd.potentials.kernel_cache import source_digest
from stablemd.potentials.schnet_kernels import evaluate_found_pairs


@numba.njit(fastmath=FAST)
def measure_pairs(
    x: Any,
    cell: Any,
    rows: Any,
    n_rows: int,
    first_row: int,
    cutoff: float,
    inverse_spacing: float,
    pairs: Any,
    knots: Any,
    geometry: Any,
) -> int:
    """Pairs within the cutoff out of listed rows (i, j, shift), as ``find_pairs`` leaves them.

    Returns the number of pairs, or -1 where the list or a distance is not finite.
    """
    if n_rows < 0:
        return -1
    count = 0
    limit = cutoff * cutoff
    for p in range(n_rows):
        i, j = rows[p, 0], rows[p, 1]
        a, b, c = np.float64(rows[p, 2]), np.float64(rows[p, 3]), np.float64(rows[p, 4])
        dx = x[j, 0] - x[i, 0] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
        dy = x[j, 1] - x[i, 1] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
        dz = x[j, 2] - x[i, 2] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
        d2 = dx * dx + dy * dy + dz * dz
        if not d2 < np.inf:
            return -1
        if d2 < limit:
            pairs[count, 0] = first_row + i
            pairs[count, 1] = first_row + j
            knots[count] = put_geometry(dx, dy, dz, d2, inverse_spacing, geometry[count])
            count += 1
    return count


def _entry_point(digest: str) -> Any:
    @numba.njit(cache=True, nogil=True, fastmath=FAST)
    def evaluate_listed_replicas(
        x: Any,
        cells: Any,
        table: Any,
        n_rows: Any,
        model: Any,
        work: Any,
        energies: Any,
        forces: Any,
        local: Any,
        virial: Any,
    ) -> str:
        """Energies, forces, atomic energies, and dE/d(strain) (R, 3, 3) of R replicas."""
        counts, pairs, knots, geometry, g_d = work[0], work[1], work[2], work[3], work[5]
        scale = model[18]
        for start in range(0, x.shape[0], counts.shape[0]):
            stop = min(start + counts.shape[0], x.shape[0])
            at = slice(start, stop)
            for r in range(start, stop):
                q = r - start
                counts[q] = measure_pairs(
                    x[r], cells[r], table[r], n_rows[r], q * x.shape[1], model[16], model[17],
                    pairs[q], knots[q], geometry[q],
                )  # fmt: skip
            evaluate_found_pairs(x[at], model, work, energies[at], forces[at], local[at])
            for r in range(start, stop):
                q = r - start
                virial[r] = np.nan if counts[q] < 0 else 0.0
                for p in range(counts[q]):
                    scaled = np.float64(knots[q, p]) + np.float64(geometry[q, p, 0])
                    magnitude = scaled * np.float64(g_d[q, p]) * scale
                    for a in range(3):
                        along = magnitude * np.float64(geometry[q, p, 1 + a])
                        for b in range(3):
                            virial[r, a, b] += along * np.float64(geometry[q, p, 1 + b])
        return digest

    return evaluate_listed_replicas


evaluate_listed_replicas = _entry_point(
    source_digest(__file__, convolution_kernels, dense_kernels, float_vector, schnet_kernels)
)
