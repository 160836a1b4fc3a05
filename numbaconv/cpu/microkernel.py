"""The outer-product microkernel, written in LLVM's vector IR: what loops in Python alone do not reach.

For all k it loads NR vectors of inputs, and for each of MR channels broadcasts a weight and adds its products to NR accumulators,
which stay in registers from the first k to the last (BLIS's microkernel, with a table of addresses in place of a packed panel).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.cpu.target import Tile, vector_bytes

__all__ = ["has_microkernel", "lanes", "microkernel", "multiply"]

_WORD = ir.IntType(64)
_ELEMENTS = {
    "float32": ir.FloatType(), "float64": ir.DoubleType(),
    "int32": ir.IntType(32), "int64": _WORD, "uint64": _WORD,
}  # fmt: skip


def has_microkernel(dtype: np.dtype) -> bool:
    """Whether there is a microkernel that sums in a dtype."""
    return dtype.name in _ELEMENTS


def lanes(dtype: np.dtype) -> int:
    """How many elements a vector has."""
    return vector_bytes() // dtype.itemsize


@cache
def microkernel(tile: Tile, dtype: np.dtype) -> Any:
    """Compile a microkernel; what is returned has an ``address``, valid as long as it is kept.

    The function at the address takes six integers: the addresses of the inputs, of a table of K byte offsets into them, K,
    the addresses of the weights ``(K, MR)`` and of the sums, and the bytes from a row of sums to the next::

        for r in range(MR):
            for v in range(NR * lanes):
                sums[r, v] = sum(weights[k, r] * inputs[offsets[k] + v] for k in range(K))
    """
    vector = ir.VectorType(_ELEMENTS[dtype.name], lanes(dtype))
    emit = _emitter(tile, vector, dtype.itemsize, _multiply_add(vector, dtype))

    def call(inputs, offsets, count, weights, sums, row):
        emit(inputs, offsets, count, weights, sums, row)

    return cfunc(types.void(*[types.int64] * 6))(call)


@intrinsic
def multiply(typing_context: Any, address: Any, inputs: Any, offsets: Any, count: Any, weights: Any, sums: Any, row: Any) -> Any:
    """Call the microkernel at `address`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [_WORD] * 6).as_pointer()
        builder.call(builder.inttoptr(args[0], function), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 7), codegen


def _multiply_add(vector: Any, dtype: np.dtype) -> Callable:
    """Return what emits ``a * b + c`` for vectors.

    64-bit integers whose operands fit in 32 bits were tried with 32 x 32 -> 64 bit products: slower (39 against 53 billion
    operations a second on Zen 4, in one run), for the instructions that tell LLVM so.
    """

    def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
        name = f"llvm.fma.v{vector.count}f{8 * dtype.itemsize}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        return builder.call(function, [a, b, c])

    def integer(builder: Any, a: Any, b: Any, c: Any) -> Any:
        return builder.add(builder.mul(a, b), c)

    return fused if dtype.kind == "f" else integer


def _emitter(tile: Tile, vector: Any, itemsize: int, multiply_add: Callable) -> Any:
    lanes = vector.count

    @intrinsic
    def emit(typing_context, inputs, offsets, count, weights, sums, row):
        def codegen(context, builder, signature, args):
            accumulators = _loop(builder, tile, vector, itemsize, multiply_add, *args[:4])
            for r in range(tile.MR):
                line = builder.add(args[4], builder.mul(args[5], _WORD(r)))
                for v in range(tile.NR):
                    to = builder.inttoptr(builder.add(line, _WORD(v * lanes * itemsize)), vector.as_pointer())
                    builder.store(accumulators[r * tile.NR + v], to, align=itemsize)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return emit


def _loop(
    builder: Any, tile: Tile, vector: Any, itemsize: int, multiply_add: Callable,
    inputs: Any, offsets: Any, count: Any, weights: Any,
) -> list:  # fmt: skip
    """Emit the loop over k, which may run no time, and return the accumulators after it."""
    zero = ir.Constant(vector, None)
    before = builder.block
    head, body, end = (builder.append_basic_block(n) for n in ("head", "body", "end"))
    builder.branch(head)

    builder.position_at_end(head)
    k, weight = builder.phi(_WORD), builder.phi(_WORD)
    sums = [builder.phi(vector) for _ in range(tile.MR * tile.NR)]
    for phi, start in ((k, _WORD(0)), (weight, weights), *((s, zero) for s in sums)):
        phi.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", k, count), body, end)

    builder.position_at_end(body)
    offset = builder.load(builder.inttoptr(builder.add(offsets, builder.mul(k, _WORD(8))), _WORD.as_pointer()))
    at = builder.add(inputs, offset)
    columns = [_load(builder, at, v * vector.count * itemsize, vector, itemsize) for v in range(tile.NR)]
    totals = []
    for r in range(tile.MR):
        scalar = _load(builder, weight, r * itemsize, vector.element, itemsize)
        broadcast = _broadcast(builder, scalar, vector)
        totals += [multiply_add(builder, broadcast, columns[v], sums[r * tile.NR + v]) for v in range(tile.NR)]
    following = ((k, builder.add(k, _WORD(1))), (weight, builder.add(weight, _WORD(tile.MR * itemsize))))
    for phi, value in (*following, *zip(sums, totals, strict=True)):
        phi.add_incoming(value, body)
    builder.branch(head)
    builder.position_at_end(end)
    return sums


def _load(builder: Any, address: Any, offset: int, kind: Any, itemsize: int) -> Any:
    return builder.load(builder.inttoptr(builder.add(address, _WORD(offset)), kind.as_pointer()), align=itemsize)


def _broadcast(builder: Any, scalar: Any, vector: Any) -> Any:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count))
