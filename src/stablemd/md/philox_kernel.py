"""Philox4x32-10 compiled for the CPU: ten rounds per counter without temporaries."""

from __future__ import annotations

import numba
import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_MASK, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


@numba.njit(cache=True, nogil=True)
def fill_philox_words(
    out: np.ndarray,
    replica_ids: np.ndarray,
    first_step: int,
    stream_bits: int,
    key0: int,
    key1: int,
) -> None:
    """Fill ``out`` (4, n_steps, R, n_groups) float64 with the words of each counter.

    The counter is (group, replica, low word of the step, high word of the step
    with the stream above it), the same as that of the tensor form.

    Args:
        out: written in place; every word is exact in float64.
        replica_ids: (R,) int64.
        first_step: step of ``out[:, 0]``.
        stream_bits: the stream, shifted to its place in the last counter word.
        key0: low word of the seed.
        key1: high word of the seed.
    """
    _, n_steps, n_replicas, n_groups = out.shape
    for k in range(n_steps):
        step = np.uint64(first_step + k)
        for r in range(n_replicas):
            replica = np.uint64(replica_ids[r])
            for g in range(n_groups):
                c0, c1, c2 = np.uint64(g), replica, step & _MASK
                c3 = (step >> _SHIFT) | np.uint64(stream_bits)
                k0, k1 = np.uint64(key0), np.uint64(key1)
                for _ in range(10):
                    product0, product1 = c0 * _M0, c2 * _M1
                    c0 = (product1 >> _SHIFT) ^ c1 ^ k0
                    c2 = (product0 >> _SHIFT) ^ c3 ^ k1
                    c1, c3 = product1 & _MASK, product0 & _MASK
                    k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
                out[0, k, r, g] = c0
                out[1, k, r, g] = c1
                out[2, k, r, g] = c2
                out[3, k, r, g] = c3
