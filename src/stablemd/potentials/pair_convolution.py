"""Sums over pairs, differentiable to any order, that visit each pair once.

Two bilinear maps close under differentiation:

    convolve(x, w)_i      = sum_j  w_ij x_j          (n, F), (P, F) -> (n, F)
    pair_product(a, b)_ij = a_i b_j + a_j b_i        (n, F), (n, F) -> (P, F)

``convolve`` is symmetric in its first argument, so its gradients are
``convolve(g, w)`` and ``pair_product(g, x)``, and those of ``pair_product``
are ``convolve`` again.  On a CPU both are compiled loops that read each pair's
filter once and never write an array of (directed pairs × features).
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _convolve_kernel(x: Any, w: Any, first: Any, second: Any, out: Any) -> None:
    for p in range(first.shape[0]):
        i = first[p]
        j = second[p]
        for f in range(x.shape[1]):
            weight = w[p, f]
            out[i, f] += weight * x[j, f]
            out[j, f] += weight * x[i, f]


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _pair_product_kernel(a: Any, b: Any, first: Any, second: Any, out: Any) -> None:
    for p in range(first.shape[0]):
        i = first[p]
        j = second[p]
        for f in range(a.shape[1]):
            out[p, f] = a[i, f] * b[j, f] + a[j, f] * b[i, f]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _convolve_forward(x: Tensor, w: Tensor, pairs: Tensor) -> Tensor:
    if x.device.type == "cpu":
        out = torch.zeros_like(x, memory_format=torch.contiguous_format)
        _convolve_kernel(_array(x), _array(w), _array(pairs[0]), _array(pairs[1]), out.numpy())
        return out
    out = torch.zeros_like(x).index_add_(0, pairs[0], w * x[pairs[1]])
    return out.index_add_(0, pairs[1], w * x[pairs[0]])


def _pair_product_forward(a: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
    if a.device.type == "cpu":
        out = a.new_empty(pairs.shape[1], a.shape[1])
        _pair_product_kernel(_array(a), _array(b), _array(pairs[0]), _array(pairs[1]), out.numpy())
        return out
    first, second = pairs
    return torch.addcmul(a[first] * b[second], a[second], b[first])


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(x, w, pairs)
        return _convolve_forward(x, w, pairs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, w, pairs = ctx.saved_tensors
        (g,) = grads
        need_x, need_w, _ = ctx.needs_input_grad
        return (
            convolve(g, w, pairs) if need_x else None,
            pair_product(g, x, pairs) if need_w else None,
            None,
        )


class _PairProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, pairs)
        return _pair_product_forward(a, b, pairs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        a, b, pairs = ctx.saved_tensors
        (h,) = grads
        need_a, need_b, _ = ctx.needs_input_grad
        return (
            convolve(b, h, pairs) if need_a else None,
            convolve(a, h, pairs) if need_b else None,
            None,
        )


def convolve(x: Tensor, w: Tensor, pairs: Tensor) -> Tensor:
    """Sum of filtered neighbour features, ``out_i = sum_j w_ij x_j``.

    Args:
        x: features, (n, F).
        w: one symmetric filter per unordered pair, (P, F).
        pairs: atoms of each pair, (2, P) int64.

    Returns:
        (n, F), differentiable to any order in ``x`` and ``w``.
    """
    return _Convolve.apply(x, w, pairs)


def pair_product(a: Tensor, b: Tensor, pairs: Tensor) -> Tensor:
    """Symmetric product of features over pairs, ``a_i b_j + a_j b_i``, (P, F)."""
    return _PairProduct.apply(a, b, pairs)
