"""SchNet's convolution over neighbours and its backward pass, as Triton kernels for a GPU.

One program belongs to one atom of one replica and writes that atom's numbers
only: nothing is added across programs, so the results are the same in every
run.  Each pair of atoms is therefore visited from both ends.  Filters come from
a table of cubic B-spline coefficients, as in the kernels for the CPU.

This module needs triton and is imported where a device form is built only.
Arrays are contiguous; an "atom" is a row of (replicas * atoms).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def find_neighbours(  # pragma: no cover - compiled
    positions,
    scales,
    neighbours,
    knots,
    fractions,
    counts,
    n_atoms,
    ROOM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """List the neighbours of every atom within the cutoff, in the order of their numbers.

    ``positions`` (atoms, 3) float64; ``scales`` is (cutoff², table rows per Å) float64.
    ``neighbours`` (atoms, ROOM) int32 receives their rows, ``knots`` and ``fractions`` where a
    distance lies in the table, ``counts`` (atoms,) int32 how many there are.  A
    neighbour at a distance that is not finite is listed with a fraction that is
    not a number, so that the replica's energy is none either.
    """
    atom = tl.program_id(0).to(tl.int64)
    first = atom - atom % n_atoms
    x = tl.load(positions + 3 * atom)
    y = tl.load(positions + 3 * atom + 1)
    z = tl.load(positions + 3 * atom + 2)
    limit = tl.load(scales)
    per_length = tl.load(scales + 1)
    count = atom * 0
    for begin in range(0, n_atoms, BLOCK):
        local = begin + tl.arange(0, BLOCK)
        other = first + local
        there = (local < n_atoms) & (other != atom)
        dx = tl.load(positions + 3 * other, mask=there, other=0.0) - x
        dy = tl.load(positions + 3 * other + 1, mask=there, other=0.0) - y
        dz = tl.load(positions + 3 * other + 2, mask=there, other=0.0) - z
        square = dx * dx + dy * dy + dz * dz
        finite = square < float("inf")
        near = there & ((square < limit) | (finite == 0))
        scaled = tl.sqrt(tl.where(finite, square, 0.0)) * per_length
        knot = scaled.to(tl.int32)
        fraction = tl.where(finite, (scaled - knot.to(tl.float64)).to(tl.float32), float("nan"))
        place = near.to(tl.int32)
        at = atom * ROOM + count + tl.cumsum(place, 0) - 1
        tl.store(neighbours + at, other.to(tl.int32), mask=near)
        tl.store(knots + at, knot, mask=near)
        tl.store(fractions + at, fraction, mask=near)
        count += tl.sum(place, 0)
    tl.store(counts + atom, count.to(tl.int32))


@triton.jit
def _spline_weights(t):  # pragma: no cover - compiled
    """The four cubic B-splines that are not zero at ``t`` in 0..1 of an interval."""
    s = 1.0 - t
    b0 = s * s * s * (1.0 / 6.0)
    b1 = (4.0 + t * t * (3.0 * t - 6.0)) * (1.0 / 6.0)
    b2 = (1.0 + t * (3.0 + t * (3.0 - 3.0 * t))) * (1.0 / 6.0)
    b3 = t * t * t * (1.0 / 6.0)
    return b0, b1, b2, b3


@triton.jit
def _spline_slopes(t):  # pragma: no cover - compiled
    """Their derivatives by ``t``."""
    s = 1.0 - t
    d0 = -0.5 * s * s
    d1 = 0.5 * t * (3.0 * t - 4.0)
    d2 = 0.5 * (1.0 + t * (2.0 - 3.0 * t))
    d3 = 0.5 * t * t
    return d0, d1, d2, d3


@triton.jit
def gather_messages(  # pragma: no cover - compiled
    x,
    table,
    neighbours,
    knots,
    fractions,
    counts,
    out,
    ROOM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out_i = sum_j W(d_ij) x_j with W from the ``table`` (rows, WIDTH) of coefficients."""
    atom = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)[None, :]
    total = tl.zeros((BLOCK, WIDTH), dtype=tl.float32)
    count = tl.load(counts + atom)
    for begin in range(0, count, BLOCK):
        entry = begin + tl.arange(0, BLOCK)
        there = entry < count
        at = atom * ROOM + entry
        other = tl.load(neighbours + at, mask=there, other=0).to(tl.int64)[:, None] * WIDTH
        row = tl.load(knots + at, mask=there, other=0)[:, None] * WIDTH
        b0, b1, b2, b3 = _spline_weights(tl.load(fractions + at, mask=there, other=0.0)[:, None])
        w = b0 * tl.load(table + row + f)
        w += b1 * tl.load(table + row + WIDTH + f)
        w += b2 * tl.load(table + row + 2 * WIDTH + f)
        w += b3 * tl.load(table + row + 3 * WIDTH + f)
        total += w * tl.load(x + other + f, mask=there[:, None], other=0.0)
    tl.store(out + atom * WIDTH + tl.arange(0, WIDTH), tl.sum(total, 0))


@triton.jit
def scatter_gradients(  # pragma: no cover - compiled
    x,
    g,
    table,
    neighbours,
    knots,
    fractions,
    counts,
    g_x,
    g_scaled,
    ROOM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    IS_LAST: tl.constexpr,
    IS_FIRST: tl.constexpr,
):
    """Backward of ``gather_messages`` from ``g``, the gradient by its output.

    Writes ``g_x`` (atoms, WIDTH), and adds dE/d(scaled distance) to ``g_scaled``
    (atoms, ROOM); the last interaction, the first one here, writes instead of
    adding.  The input of the first interaction does not depend on positions
    and needs no ``g_x``.
    """
    atom = tl.program_id(0).to(tl.int64)
    f = tl.arange(0, WIDTH)[None, :]
    x_i = tl.load(x + atom * WIDTH + f)
    g_i = tl.load(g + atom * WIDTH + f)
    total = tl.zeros((BLOCK, WIDTH), dtype=tl.float32)
    count = tl.load(counts + atom)
    for begin in range(0, count, BLOCK):
        entry = begin + tl.arange(0, BLOCK)
        there = entry < count
        at = atom * ROOM + entry
        other = tl.load(neighbours + at, mask=there, other=0).to(tl.int64)[:, None] * WIDTH
        row = tl.load(knots + at, mask=there, other=0)[:, None] * WIDTH
        t = tl.load(fractions + at, mask=there, other=0.0)[:, None]
        c0 = tl.load(table + row + f)
        c1 = tl.load(table + row + WIDTH + f)
        c2 = tl.load(table + row + 2 * WIDTH + f)
        c3 = tl.load(table + row + 3 * WIDTH + f)
        x_j = tl.load(x + other + f, mask=there[:, None], other=0.0)
        g_j = tl.load(g + other + f, mask=there[:, None], other=0.0)
        d0, d1, d2, d3 = _spline_slopes(t)
        slope = d0 * c0 + d1 * c1 + d2 * c2 + d3 * c3
        pull = tl.sum(slope * (g_i * x_j + g_j * x_i), 1)
        if not IS_LAST:
            pull += tl.load(g_scaled + at, mask=there, other=0.0)
        tl.store(g_scaled + at, pull, mask=there)
        if not IS_FIRST:
            b0, b1, b2, b3 = _spline_weights(t)
            total += (b0 * c0 + b1 * c1 + b2 * c2 + b3 * c3) * g_j
    if not IS_FIRST:
        tl.store(g_x + atom * WIDTH + tl.arange(0, WIDTH), tl.sum(total, 0))


@triton.jit
def pull_atoms(  # pragma: no cover - compiled
    positions,
    scales,
    neighbours,
    g_scaled,
    counts,
    forces,
    ROOM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Forces (atoms, 3) float64 from dE/d(scaled distance); ``scales[2]`` is rows per Å * eV."""
    atom = tl.program_id(0).to(tl.int64)
    x = tl.load(positions + 3 * atom)
    y = tl.load(positions + 3 * atom + 1)
    z = tl.load(positions + 3 * atom + 2)
    scale = tl.load(scales + 2)
    f_x = tl.zeros((BLOCK,), dtype=tl.float64)
    f_y = tl.zeros((BLOCK,), dtype=tl.float64)
    f_z = tl.zeros((BLOCK,), dtype=tl.float64)
    count = tl.load(counts + atom)
    for begin in range(0, count, BLOCK):
        entry = begin + tl.arange(0, BLOCK)
        there = entry < count
        at = atom * ROOM + entry
        other = tl.load(neighbours + at, mask=there, other=0).to(tl.int64)
        dx = tl.load(positions + 3 * other, mask=there, other=0.0) - x
        dy = tl.load(positions + 3 * other + 1, mask=there, other=0.0) - y
        dz = tl.load(positions + 3 * other + 2, mask=there, other=0.0) - z
        d = tl.sqrt(dx * dx + dy * dy + dz * dz)
        pull = tl.load(g_scaled + at, mask=there, other=0.0).to(tl.float64) * scale
        pull = tl.where(d > 1e-12, pull / tl.where(d > 1e-12, d, 1.0), 0.0)
        f_x += pull * dx
        f_y += pull * dy
        f_z += pull * dz
    tl.store(forces + 3 * atom, tl.sum(f_x, 0))
    tl.store(forces + 3 * atom + 1, tl.sum(f_y, 0))
    tl.store(forces + 3 * atom + 2, tl.sum(f_z, 0))


@triton.jit
def shifted_softplus(x, slope, n, BLOCK: tl.constexpr):  # pragma: no cover - compiled
    """``x`` becomes ln(1 + exp(x)) - ln 2, ``slope`` its derivative; n numbers."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = at < n
    v = tl.load(x + at, mask=there, other=0.0)
    u = tl.exp(-tl.abs(v))
    inverse = 1.0 / (1.0 + u)
    tl.store(x + at, tl.where(v > 0.0, v, 0.0) + tl.log(1.0 + u) - 0.6931471805599453, mask=there)
    tl.store(slope + at, tl.where(v < 0.0, u * inverse, inverse), mask=there)


def launch(kernel: Any, n_programs: int, first: Tensor, *others: Any, **constants: Any) -> None:
    """Start ``n_programs`` programs of a kernel, on the device of its first argument."""
    with torch.cuda.device_of(first):
        kernel[(n_programs,)](first, *others, **constants)
