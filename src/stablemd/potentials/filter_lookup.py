"""Functions of a distance read from a table, differentiable to any order.

A radial filter is F functions of one distance.  Where many pairs share one set
of filters, computing them on a fine grid of knots once and interpolating costs
a few operations per pair and feature instead of a dense network, and so does
the gradient with respect to the network: it is gathered on the knots first.

Two maps that are linear in their first argument close under differentiation:

    lookup(T, r)_pf   = sum_k c_k(r_p) T_kf        (K, F), (P,) -> (P, F)
    scatter(G, r)_kf  = sum_p c_k(r_p) G_pf        (P, F), (P,) -> (K, F)

with c the cubic Lagrange weights of the four knots around r_p, or a derivative
of them.  Both are compiled loops for the CPU.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor


@numba.njit(inline="always")
def _weights(t: Any, order: Any, scale: Any) -> Any:  # pragma: no cover - compiled
    """Lagrange weights on knots -1, 0, 1, 2 at t, or their derivative of an order."""
    if order == 0:
        u = t * (t - 1.0)
        v = t * t - 1.0
        return (
            -u * (t - 2.0) / 6.0,
            v * (t - 2.0) / 2.0,
            -t * (t + 1.0) * (t - 2.0) / 2.0,
            t * v / 6.0,
        )
    if order == 1:
        s = t * t
        return (
            -scale * (3.0 * s - 6.0 * t + 2.0) / 6.0,
            scale * (3.0 * s - 4.0 * t - 1.0) / 2.0,
            -scale * (3.0 * s - 2.0 * t - 2.0) / 2.0,
            scale * (3.0 * s - 1.0) / 6.0,
        )
    if order == 2:
        q = scale * scale
        return q * (1.0 - t), q * (3.0 * t - 2.0), q * (1.0 - 3.0 * t), q * t
    c = scale * scale * scale if order == 3 else 0.0
    return -c, 3.0 * c, -3.0 * c, c


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _lookup_kernel(table: Any, r: Any, scale: Any, order: Any, out: Any) -> None:
    last = table.shape[0] - 3
    for p in range(r.shape[0]):
        s = np.float64(r[p]) * scale
        k = min(max(int(s), 1), last)
        a, b, c, d = _weights(s - k, order, scale)
        wa, wb = table.dtype.type(a), table.dtype.type(b)
        wc, wd = table.dtype.type(c), table.dtype.type(d)
        for f in range(table.shape[1]):
            out[p, f] = (wa * table[k - 1, f] + wb * table[k, f]) + (
                wc * table[k + 1, f] + wd * table[k + 2, f]
            )


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _scatter_kernel(values: Any, r: Any, scale: Any, order: Any, out: Any) -> None:
    last = out.shape[0] - 3
    for p in range(r.shape[0]):
        s = np.float64(r[p]) * scale
        k = min(max(int(s), 1), last)
        a, b, c, d = _weights(s - k, order, scale)
        wa, wb = values.dtype.type(a), values.dtype.type(b)
        wc, wd = values.dtype.type(c), values.dtype.type(d)
        for f in range(values.shape[1]):
            g = values[p, f]
            out[k - 1, f] += wa * g
            out[k, f] += wb * g
            out[k + 1, f] += wc * g
            out[k + 2, f] += wd * g


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, r: Tensor, scale: float, order: int) -> Tensor:
        ctx.save_for_backward(table, r)
        ctx.scale, ctx.order = scale, order
        out = table.new_empty(len(r), table.shape[1])
        _lookup_kernel(_array(table), _array(r), scale, order, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        table, r = ctx.saved_tensors
        (g,) = grads
        need_table, need_r, *_ = ctx.needs_input_grad
        to_table = _Scatter.apply(g, r, ctx.scale, ctx.order, len(table)) if need_table else None
        to_r = (g * _Lookup.apply(table, r, ctx.scale, ctx.order + 1)).sum(1) if need_r else None
        return to_table, to_r, None, None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, r: Tensor, scale: float, order: int, n_knots: int
    ) -> Tensor:
        ctx.save_for_backward(values, r)
        ctx.scale, ctx.order = scale, order
        out = values.new_zeros(n_knots, values.shape[1])
        _scatter_kernel(_array(values), _array(r), scale, order, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        values, r = ctx.saved_tensors
        (g,) = grads
        need_values, need_r, *_ = ctx.needs_input_grad
        to_values = _Lookup.apply(g, r, ctx.scale, ctx.order) if need_values else None
        to_r = (values * _Lookup.apply(g, r, ctx.scale, ctx.order + 1)).sum(1) if need_r else None
        return to_values, to_r, None, None, None


class _LookupWithSlope(torch.autograd.Function):
    """A lookup whose derivative is read from a table of slopes, free of cancellation."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, slopes: Tensor, r: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(slopes, r)
        ctx.scale = scale
        out = table.new_empty(len(r), table.shape[1])
        _lookup_kernel(_array(table), _array(r), scale, 0, out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        slopes, r = ctx.saved_tensors
        (g,) = grads
        need_table, _, need_r, _ = ctx.needs_input_grad
        to_table = _Scatter.apply(g, r, ctx.scale, 0, len(slopes)) if need_table else None
        to_r = (g * _Lookup.apply(slopes, r, ctx.scale, 0)).sum(1) if need_r else None
        return to_table, None, to_r, None


def lookup(table: Tensor, slopes: Tensor | None, r: Tensor, spacing: float) -> Tensor:
    """Interpolate F functions of a distance between equidistant knots.

    The value comes from ``table`` and its derivative from ``slopes``, both by
    cubic Lagrange interpolation, with an error of (spacing / scale of the
    functions)⁴ each; in single precision a derivative of the interpolated
    values would lose the digits that neighbouring knots have in common.

    Args:
        table: values at r = 0, spacing, 2 spacing, ..., (K, F), K >= 4; on a CPU.
        slopes: derivatives with respect to r at the same knots, (K, F); without
            them the interpolated values are differentiated.
        r: distances in Å, (P,), between 0 and (K - 1) spacing.
        spacing: distance of the knots in Å.

    Returns:
        (P, F), differentiable to any order with respect to ``r`` and, through
        ``table`` and ``slopes``, to whatever they were computed from.
    """
    if slopes is None:
        return _Lookup.apply(table, r, 1.0 / spacing, 0)
    return _LookupWithSlope.apply(table, slopes, r, 1.0 / spacing)
