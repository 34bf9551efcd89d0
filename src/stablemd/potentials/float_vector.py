"""A numba type for a vector register of float32 numbers, and what compiled kernels do with it.

The compiler vectorises a plain loop too, but first asks at run time whether the
arrays overlap, and for short rows that costs as much as the work.  A loop over
these vectors says what is meant.  Machines with narrower registers use several
of them for one vector.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_FEATURES = llvm.get_host_cpu_features()

HAS_AVX512 = bool(_FEATURES.get("avx512f"))
HAS_AVX = bool(_FEATURES.get("avx"))

LANES = 16 if HAS_AVX512 else 8 if HAS_AVX else 4
"""Numbers in one vector."""

FLOAT_TYPE = ir.FloatType()
VECTOR_TYPE = ir.VectorType(FLOAT_TYPE, LANES)

CONTRACT = ("contract",)
"""Multiply and add may become one operation with one rounding."""


class FloatVector(types.Type):
    """A given number of float32 numbers."""

    def __init__(self, lanes: int) -> None:
        super().__init__(name=f"float_vector_{lanes}")
        self.lanes = lanes


float_vector = FloatVector(LANES)


@register_model(FloatVector)
class _FloatVectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: FloatVector) -> None:
        super().__init__(manager, kind, ir.VectorType(FLOAT_TYPE, kind.lanes))


def instruction(typed: Callable[..., Any]) -> Any:
    """numba's ``intrinsic``: a function that compiled code replaces by what it generates."""
    return intrinsic(typed)


@instruction
def not_inlined(typing_context: Any) -> Any:
    """Called in a function's body: no copies of the function are made where it is called.

    Saves compile time where a large function is called in several places.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


def _address(context: Any, builder: Any, kind: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), context.get_value_type(kind).as_pointer())


def splat_lanes(builder: Any, number: Any, lanes: int = LANES) -> Any:
    """The IR of a vector with ``number`` in every lane."""
    undefined = ir.Constant(ir.VectorType(FLOAT_TYPE, lanes), ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
    return builder.shuffle_vector(first, undefined, zeros)


def make_load(kind: FloatVector) -> Any:
    """``load`` for vectors of another length; the compiler takes several registers for them."""

    def load(typing_context: Any, flat: Any, index: Any) -> Any:
        """The vector that begins at ``flat[index]`` of a contiguous float32 array."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            address = _address(context, builder, kind, signature.args[0], *arguments)
            return builder.load(address, align=4)

        return kind(flat, types.int64), generate

    return instruction(load)


def make_splat(kind: FloatVector) -> Any:
    """``splat`` for vectors of another length."""

    def splat(typing_context: Any, number: Any) -> Any:
        """A vector with the same number in every lane."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return splat_lanes(builder, arguments[0], kind.lanes)

        return kind(types.float32), generate

    return instruction(splat)


@instruction
def splat_at(typing_context: Any, flat: Any, index: Any) -> Any:
    """A vector with ``flat[index]`` of a contiguous float32 array in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return splat_lanes(builder, builder.load(builder.gep(array.data, [arguments[1]]), align=4))

    return float_vector(flat, types.int64), generate


load = make_load(float_vector)
splat = make_splat(float_vector)


@instruction
def store(typing_context: Any, flat: Any, index: Any, vector: Any) -> Any:
    """Write a vector from ``flat[index]`` on into a contiguous float32 array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature.args[2], signature.args[0], *arguments[:2])
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(flat, types.int64, vector), generate


def _operation(build: Callable[..., Any], n_operands: int, meaning: str) -> Any:
    """An intrinsic of ``n_operands`` vectors, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return build(builder, *arguments)

    if n_operands == 1:

        def typed(typing_context: Any, a: Any) -> Any:
            return a(a), generate

    elif n_operands == 2:

        def typed(typing_context: Any, a: Any, b: Any) -> Any:  # type: ignore[misc]
            return a(a, a), generate

    else:

        def typed(typing_context: Any, a: Any, b: Any, c: Any) -> Any:  # type: ignore[misc]
            return a(a, a, a), generate

    typed.__doc__ = meaning
    return instruction(typed)


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=CONTRACT), c, flags=CONTRACT)


def _at_least(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), b, a)


def _where_negative(builder: Any, a: Any, b: Any, c: Any) -> Any:
    negative = builder.fcmp_ordered("<", a, ir.Constant(a.type, [0.0] * a.type.count))
    return builder.select(negative, b, c)


def _power_of_two(builder: Any, a: Any) -> Any:
    lanes = a.type.count
    whole = ir.VectorType(ir.IntType(32), lanes)
    bits = builder.shl(builder.bitcast(a, whole), ir.Constant(whole, [23] * lanes))
    return builder.bitcast(builder.add(bits, ir.Constant(whole, [127 << 23] * lanes)), a.type)


plus = _operation(lambda b, x, y: b.fadd(x, y, flags=CONTRACT), 2, "a + b")
minus = _operation(lambda b, x, y: b.fsub(x, y, flags=CONTRACT), 2, "a - b")
times = _operation(lambda b, x, y: b.fmul(x, y, flags=CONTRACT), 2, "a * b")
divided = _operation(lambda b, x, y: b.fdiv(x, y), 2, "a / b")
times_plus = _operation(_multiply_add, 3, "a * b + c")
at_least = _operation(_at_least, 2, "the larger of a and b; NaN where a is NaN")
where_negative = _operation(_where_negative, 3, "b where a < 0, else c")

ROUNDING = 12582912.0
"""1.5 * 2**23: a small number added to it is rounded, and its low bits are the integer."""

power_of_two = _operation(_power_of_two, 1, "2**n for a = ROUNDING + n, n a small integer")


def _lane_numbers(first: int, count: int) -> Any:
    """The IR of a selection of lanes."""
    return ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(first, first + count)))


@instruction
def total(typing_context: Any, vector: Any) -> Any:
    """Sum of the lanes, always in the same order: half is added to half until one is left."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        sums, lanes = arguments[0], signature.args[0].lanes
        while lanes > 1:
            lanes //= 2
            lower, upper = (
                builder.shuffle_vector(sums, sums, _lane_numbers(first, lanes))
                for first in (0, lanes)
            )
            sums = builder.fadd(lower, upper)
        return builder.extract_element(sums, ir.Constant(ir.IntType(32), 0))

    return types.float32(vector), generate


@instruction
def totals(typing_context: Any, flat: Any, index: Any) -> Any:
    """Sums of the lanes of ``LANES`` vectors that stand one after the other, as one vector.

    Neighbours are added to neighbours, for two vectors at once in each operation: a few
    operations for a sum, where ``total`` takes a dozen.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        first = builder.gep(data, [arguments[1]])
        vectors = []
        for v in range(LANES):
            address = builder.gep(first, [ir.Constant(ir.IntType(64), v * LANES)])
            vectors.append(
                builder.load(builder.bitcast(address, VECTOR_TYPE.as_pointer()), align=4)
            )
        half = 1
        while half < LANES:
            lower, upper = (
                [
                    source + group + part + k
                    for group in range(0, LANES, 2 * half)
                    for source in (0, LANES)
                    for k in range(half)
                ]
                for part in (0, half)
            )
            vectors = [
                builder.fadd(_selected(builder, a, b, lower), _selected(builder, a, b, upper))
                for a, b in zip(vectors[::2], vectors[1::2], strict=True)
            ]
            half *= 2
        return vectors[0]

    return float_vector(flat, types.int64), generate


def _selected(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    """The IR of given lanes of two vectors, those of the second counted on."""
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes)
    )
