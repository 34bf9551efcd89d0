"""Compiled SiLU and what stands around it in GemNet-T's layers, forwards and backwards.

Arrays are contiguous float32 of one size, a multiple of ``LANES``.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from stablemd.potentials.dense_kernels import (
    add_matrix_product,
    exponential_of_minus_size,
    matrix_product,
    multiply,
)
from stablemd.potentials.float_vector import (
    LANES,
    divided,
    load,
    minus,
    not_inlined,
    plus,
    splat,
    store,
    times,
    times_plus,
    where_negative,
)
from stablemd.potentials.gemnet.dense import INV_SQRT_2, SILU_GAIN
from stablemd.potentials.gemnet.kernel_options import KERNEL

GAIN = np.float32(SILU_GAIN)
SHARE = np.float32(INV_SQRT_2)
_SHARED_GAIN = np.float32(INV_SQRT_2 * SILU_GAIN)
_ONE = np.float32(1.0)


@numba.njit(inline="always")
def _silu(v: Any) -> Any:
    """Vectors v sigmoid(v) and its derivative."""
    one = splat(_ONE)
    u = exponential_of_minus_size(v)
    inverse = divided(one, plus(u, one))
    sigmoid = where_negative(v, times(u, inverse), inverse)
    value = times(v, sigmoid)
    return value, times_plus(value, minus(one, sigmoid), sigmoid)


@numba.njit(**KERNEL)
def activate(x: Any, value: Any, slope: Any) -> None:
    """value = silu(x) / 0.6 and slope = its derivative; ``value`` may be ``x``."""
    not_inlined()
    gain = splat(GAIN)
    for q in range(0, x.size, LANES):
        a, b = _silu(load(x, q))
        store(value, q, times(a, gain))
        store(slope, q, times(b, gain))


@numba.njit(**KERNEL)
def add_activated(x: Any, base: Any, slope: Any) -> None:
    """base = (base + silu(x) / 0.6) / sqrt(2); slope = the derivative of that by x."""
    not_inlined()
    gain, share = splat(_SHARED_GAIN), splat(SHARE)
    for q in range(0, x.size, LANES):
        a, b = _silu(load(x, q))
        store(base, q, times_plus(load(base, q), share, times(a, gain)))
        store(slope, q, times(b, gain))


@numba.njit(**KERNEL)
def product_of(a: Any, b: Any, out: Any) -> None:
    """out = a * b."""
    not_inlined()
    for q in range(0, a.size, LANES):
        store(out, q, times(load(a, q), load(b, q)))


@numba.njit(**KERNEL)
def multiples(a: Any, number: Any, out: Any) -> None:
    """out = number * a; ``out`` may be ``a``."""
    not_inlined()
    factor = splat(number)
    for q in range(0, a.size, LANES):
        store(out, q, times(load(a, q), factor))


@numba.njit(**KERNEL)
def add_and_share(a: Any, out: Any) -> None:
    """out = (out + a) / sqrt(2)."""
    not_inlined()
    share = splat(SHARE)
    for q in range(0, a.size, LANES):
        store(out, q, times(plus(load(out, q), load(a, q)), share))


@numba.njit(**KERNEL)
def residuals(x: Any, first: Any, second: Any, slopes: Any, begin: int, zeros: Any, t: Any) -> None:
    """A stack of residual layers on the rows x (n, F), in place.

    Args:
        x: (n, F).
        first: weights (n_layers, F, F), input by output.
        second: the same of the second dense layers.
        slopes: receives the derivatives of the activations, (n_layers, 2, N, F).
        begin: the first of the n rows of ``slopes`` that are meant.
        zeros: at least F zeros.
        t: scratch memory, (2, n or more, F).
    """
    not_inlined()
    a, b, end = t[0, : len(x)], t[1, : len(x)], begin + len(x)
    for layer in range(first.shape[0]):
        matrix_product(x, first[layer], zeros, a)
        activate(a, a, slopes[layer, 0, begin:end])
        matrix_product(a, second[layer], zeros, b)
        add_activated(b, x, slopes[layer, 1, begin:end])


@numba.njit(**KERNEL)
def residuals_back(
    g: Any, first: Any, second: Any, slopes: Any, begin: int, zeros: Any, t: Any
) -> None:
    """The gradient by what ``residuals`` was given from that by its result, in place.

    Arguments as there; weights are output by input.
    """
    not_inlined()
    a, b, end = t[0, : len(g)], t[1, : len(g)], begin + len(g)
    for layer in range(first.shape[0] - 1, -1, -1):
        product_of(g, slopes[layer, 1, begin:end], a)
        matrix_product(a, second[layer], zeros, b)
        multiply(b, slopes[layer, 0, begin:end])
        multiples(g, SHARE, g)
        add_matrix_product(b, first[layer], zeros, g)
