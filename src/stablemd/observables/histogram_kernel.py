"""The quadratic B-spline histogram as one compiled loop, where no gradient is asked for."""

from __future__ import annotations

import math
from typing import Any

import numba

OPEN, REFLECT, PERIODIC = 0, 1, 2


@numba.njit(cache=True, nogil=True)
def spline_counts(
    values: Any,
    lower: float,
    bin_width: float,
    m: int,
    low: int,
    high: int,
    scale: float,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Add every value of a row to the 3 m bins of the row that its kernel covers.

    Args:
        values: (n, P) float64; those that are not finite count nowhere.
        lower: lower end of the range.
        bin_width: width of a bin.
        m: bandwidth in bins.
        low: OPEN, REFLECT or PERIODIC at the lower end.
        high: the same at the upper end.
        scale: what a value counts in all.
        out: (n, n_bins) float64, zero before.
    """
    n_bins = out.shape[1]
    reach = 1.5 * m
    weight = scale / m
    for row in range(values.shape[0]):
        for p in range(values.shape[1]):
            t = (values[row, p] - lower) / bin_width - 0.5
            if not (t > -0.5 - reach and t < n_bins - 0.5 + reach):
                continue
            first = math.floor(t - reach) + 1
            for k in range(3 * m):
                place = first + k
                a = abs((place - t) / m)
                outer = max(1.5 - a, 0.0)
                inner = max(0.5 - a, 0.0)
                if place < 0:
                    if low == OPEN:
                        continue
                    place = place + n_bins if low == PERIODIC else -1 - place
                elif place >= n_bins:
                    if high == OPEN:
                        continue
                    place = place - n_bins if high == PERIODIC else 2 * n_bins - 1 - place
                out[row, place] += weight * (0.5 * outer * outer - 1.5 * inner * inner)
