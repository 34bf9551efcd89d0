"""Arrays for compiled kernels: float32, aligned to cache lines, in whole vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from stablemd.potentials.float_vector import LANES

_ALIGNMENT = 64
"""Bytes of a cache line; a vector that crosses two of them takes twice as long to read."""


def whole_vectors(width: int) -> int:
    """The width rounded up to a whole number of vector registers."""
    return -(-width // LANES) * LANES


def padded(tensor: Tensor, n_dims: int) -> np.ndarray:
    """A float32 array whose last ``n_dims`` dimensions are padded to whole vectors."""
    shape = list(tensor.shape)
    for d in range(len(shape) - n_dims, len(shape)):
        shape[d] = whole_vectors(shape[d])
    out = aligned(tuple(shape))
    out[tuple(slice(size) for size in tensor.shape)] = tensor.detach().numpy()
    return out


def aligned(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """Zeros that begin at a cache line."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.zeros(n_bytes + _ALIGNMENT, dtype=np.uint8)
    begin = -memory.ctypes.data % _ALIGNMENT
    return memory[begin : begin + n_bytes].view(dtype).reshape(shape)
