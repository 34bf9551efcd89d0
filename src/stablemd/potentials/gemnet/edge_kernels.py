"""Compiled edges of GemNet-T: pairs, directed edges by target, bases, and forces from gradients."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from stablemd.potentials.float_vector import not_inlined
from stablemd.potentials.gemnet.kernel_options import KERNEL


@numba.njit(**KERNEL)
def find_edges(x: Any, cell: Any, rows: Any, n_rows: int, cutoff: float, edges: Any) -> int:
    """Pairs within the cutoff out of listed rows (i, j, shift), and their edges by target.

    Args:
        x: (N, 3) float64, Å.
        cell: (3, 3) float64, Å.
        rows: (capacity, 5) int32.
        n_rows: rows in use; less than 0 where positions are not finite.
        cutoff: Å.
        edges: the ``Edges`` to fill.

    Returns:
        The number of pairs, or -1 where a distance is not finite.
    """
    not_inlined()
    if n_rows < 0:
        return -1
    n = x.shape[0]
    count = 0
    limit = cutoff * cutoff
    starts = edges.starts
    starts[:] = 0
    for row in range(n_rows):
        i, j = rows[row, 0], rows[row, 1]
        a, b, c = np.float64(rows[row, 2]), np.float64(rows[row, 3]), np.float64(rows[row, 4])
        dx = x[j, 0] - x[i, 0] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
        dy = x[j, 1] - x[i, 1] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
        dz = x[j, 2] - x[i, 2] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
        d2 = dx * dx + dy * dy + dz * dz
        if not 0.0 < d2 < np.inf:  # atoms in one place have no direction
            return -1
        if d2 < limit:
            d = math.sqrt(d2)
            edges.pairs[count, 0], edges.pairs[count, 1] = i, j
            edges.distances[count] = d
            edges.directions[count, 0] = dx / d
            edges.directions[count, 1] = dy / d
            edges.directions[count, 2] = dz / d
            starts[i + 1] += 1
            starts[j + 1] += 1
            count += 1
    for i in range(n):
        starts[i + 1] += starts[i]
        edges.free[i] = starts[i]
    for p in range(count):
        i, j = edges.pairs[p, 0], edges.pairs[p, 1]
        there = edges.free[j]
        edges.free[j] += 1
        back = edges.free[i]
        edges.free[i] += 1
        edges.source[there], edges.source[back] = i, j
        edges.target[there], edges.target[back] = j, i
        edges.pair[there], edges.pair[back] = p, p
        edges.reverse[there], edges.reverse[back] = back, there
        edges.forward[p] = there
    return count


@numba.njit(**KERNEL)
def radial_functions(edges: Any, n_pairs: int, basis: Any, values: Any, slopes: Any) -> None:
    """Radial basis of every pair and its derivative by the distance (1/Å), (P, n_radial).

    As ``RadialBasis``: Bessel functions where ``basis.frequencies`` has an entry, else Gaussians.
    """
    not_inlined()
    n_radial = basis.n_radial
    spacing = 1.0 / (n_radial - 1)
    norm = math.sqrt(2.0 / basis.cutoff**3)
    for p in range(n_pairs):
        x = edges.distances[p] / basis.cutoff
        envelope, steepness = _envelope(x, basis.exponent)
        for k in range(n_radial):
            if basis.frequencies.shape[0] > 0:
                w = basis.frequencies[k]
                wave = norm * math.sin(w * x) / x
                slope = (norm * w * math.cos(w * x) - wave) / x
            else:
                away = (x - k * spacing) / spacing
                wave = math.exp(-0.5 * away * away)
                slope = -away * wave / spacing
            values[p, k] = wave * envelope
            slopes[p, k] = (slope * envelope + wave * steepness) / basis.cutoff


@numba.njit(**KERNEL)
def _envelope(x: float, exponent: int) -> Any:
    """``polynomial_envelope`` for x <= 1 and its derivative."""
    series, rise = 0.5 * exponent * (exponent + 1), 0.0
    for k in range(exponent - 2, -1, -1):
        rise = rise * x + series
        series = series * x + 0.5 * (k + 1) * (k + 2)
    inside = 1.0 - x
    squared = inside * inside
    return squared * inside * series, squared * (inside * rise - 3.0 * series)


@numba.njit(**KERNEL)
def _harmonic_parts(u: Any, angles: Any, parts: Any) -> None:
    """Associated Legendre functions over sin^m and their slopes by z, cosines and sines of m φ.

    ``parts`` is float64 of shape (4, n, n): functions [0, l, m], slopes [1, l, m], and in
    [2, 0, m] and [3, 0, m] the polynomials of x and y.
    """
    not_inlined()
    n = angles.along.shape[0]
    x, y, z = u[0], u[1], u[2]
    q, slope, cosine, sine = parts[0], parts[1], parts[2, 0], parts[3, 0]
    cosine[0], sine[0] = 1.0, 0.0
    for m in range(1, n):
        cosine[m] = x * cosine[m - 1] - y * sine[m - 1]
        sine[m] = x * sine[m - 1] + y * cosine[m - 1]
    q[0, 0], slope[0, 0] = 1.0, 0.0
    for degree in range(1, n):
        for m in range(degree):
            along = angles.along[degree, m]
            q[degree, m] = z * q[degree - 1, m] * along
            slope[degree, m] = (q[degree - 1, m] + z * slope[degree - 1, m]) * along
            if m < degree - 1:
                q[degree, m] -= angles.back[degree, m] * q[degree - 2, m]
                slope[degree, m] -= angles.back[degree, m] * slope[degree - 2, m]
        q[degree, degree], slope[degree, degree] = angles.last[degree], 0.0


@numba.njit(**KERNEL)
def angular_functions(edges: Any, n_pairs: int, angles: Any, out: Any) -> None:
    """``C_lm`` of every directed edge, (E, n_spherical² or more), as ``angular_basis``."""
    not_inlined()
    n = angles.along.shape[0]
    parts = edges.parts
    q, cosine, sine = parts[0], parts[2, 0], parts[3, 0]
    for p in range(n_pairs):
        _harmonic_parts(edges.directions[p], angles, parts)
        there = edges.forward[p]
        back = edges.reverse[there]
        sign = 1.0
        for degree in range(n):
            first = degree * degree
            out[there, first] = q[degree, 0]
            out[back, first] = sign * q[degree, 0]
            for m in range(1, degree + 1):
                a, b = q[degree, m] * cosine[m], q[degree, m] * sine[m]
                out[there, first + m], out[there, first + degree + m] = a, b
                out[back, first + m], out[back, first + degree + m] = sign * a, sign * b
            sign = -sign


@numba.njit(**KERNEL)
def forces_of_gradients(
    edges: Any,
    n_pairs: int,
    angles: Any,
    scale: float,
    g_radial: Any,
    slopes: Any,
    g_angular: Any,
    forces: Any,
    virial: Any,
) -> None:
    """Forces (N, 3) and dE/d(strain) (3, 3) in eV from the gradients by the basis functions.

    Args:
        edges: pairs and edges.
        n_pairs: how many pairs.
        angles: coefficients of the harmonics.
        scale: eV per unit of the network's energy.
        g_radial: by the radial basis, (P, n_radial or more).
        slopes: of the radial basis, (P, n_radial).
        g_angular: by ``C_lm`` of every edge, (E, n_spherical² or more).
        forces: receives eV/Å.
        virial: receives eV.
    """
    not_inlined()
    n = angles.along.shape[0]
    parts = edges.parts
    q, slope, cosine, sine = parts[0], parts[1], parts[2, 0], parts[3, 0]
    forces[:] = 0.0
    virial[:] = 0.0
    for p in range(n_pairs):
        u, d = edges.directions[p], edges.distances[p]
        radial = 0.0
        for k in range(slopes.shape[1]):
            radial += np.float64(g_radial[p, k]) * np.float64(slopes[p, k])
        _harmonic_parts(u, angles, parts)
        there = edges.forward[p]
        back = edges.reverse[there]
        gx, gy, gz = 0.0, 0.0, 0.0
        sign = 1.0
        for degree in range(n):
            first = degree * degree
            g = np.float64(g_angular[there, first]) + sign * np.float64(g_angular[back, first])
            gz += g * slope[degree, 0]
            for m in range(1, degree + 1):
                at_cos, at_sin = first + m, first + degree + m
                c = np.float64(g_angular[there, at_cos]) + sign * np.float64(
                    g_angular[back, at_cos]
                )
                s = np.float64(g_angular[there, at_sin]) + sign * np.float64(
                    g_angular[back, at_sin]
                )
                gz += slope[degree, m] * (c * cosine[m] + s * sine[m])
                weight = m * q[degree, m]
                gx += weight * (c * cosine[m - 1] + s * sine[m - 1])
                gy += weight * (s * cosine[m - 1] - c * sine[m - 1])
            sign = -sign
        along = gx * u[0] + gy * u[1] + gz * u[2]
        i, j = edges.pairs[p, 0], edges.pairs[p, 1]
        for a in range(3):
            across = (gx, gy, gz)[a] - along * u[a]
            pull = (radial * u[a] + across / d) * scale
            forces[i, a] += pull
            forces[j, a] -= pull
            for b in range(3):
                part = 0.5 * d * pull * u[b]
                virial[a, b] += part
                virial[b, a] += part
