"""The outer products of a thread of implicit GEMM: MR pixels times NR output channels, channel by channel, sums in registers.

In shared memory a step's channels are rows of pixels and, after these, rows of output channels; a thread takes SUB neighbours of
every SUB * LANES of both, as vectors. It is written out as LLVM IR, without a loop, which would count and could not load ahead.

This module imports Numba's CUDA, so that only kernels import it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from numbaconv.cuda.storing import VECTOR
from numbaconv.cuda.target import simulated

__all__ = ["Panels", "microkernel"]

_WORD = ir.IntType(32)


class Panels(NamedTuple):
    """A thread's tile, the channels of a step, and how these lie.

    That is how many neighbours a thread takes, the threads along pixels and along channels, and the elements from one row of
    either to the next.
    """

    MR: int
    NR: int
    KC: int
    SUB: int
    high: int
    wide: int
    pitch_a: int
    pitch_b: int

    def place(self, i: int, threads: int) -> int:
        """How far from a thread's first element of a row its i-th one lies."""
        return i // self.SUB * self.SUB * threads + i % self.SUB


@cache
def microkernel(compute: Any, p: Panels) -> Callable:
    """Return ``add(sums, shared, rows, columns)`` for numbers of a type.

    It adds to sums[i, j] the products of shared[rows + k * pitch_a + place(i, high)] and shared[columns + k * pitch_b +
    place(j, wide)], one channel k after the other.
    """
    return _simulated(compute, p) if simulated() else _compiled(compute, p)


def _simulated(compute: Any, p: Panels) -> Callable:
    def add(sums: Any, shared: Any, rows: Any, columns: Any) -> None:
        for k in range(p.KC):
            for i in range(p.MR):
                for j in range(p.NR):
                    a = shared[rows + k * p.pitch_a + p.place(i, p.high)]
                    b = shared[columns + k * p.pitch_b + p.place(j, p.wide)]
                    sums[i, j] = compute(sums[i, j] + a * b)

    return add


def _compiled(compute: Any, p: Panels) -> Callable:
    complex_ = isinstance(compute, types.Complex)
    real = compute.underlying_float if complex_ else compute
    width = 2 if complex_ else 1  # real numbers of an element
    times = _times_complex if complex_ else _times_float if isinstance(real, types.Float) else _times_integer

    @intrinsic
    def add(typing_context: Any, sums: Any, shared: Any, rows: Any, columns: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kind = context.get_value_type(real)
            first_sum, first = (
                builder.bitcast(context.make_array(of)(context, builder, value=value).data, kind.as_pointer())
                for of, value in zip(signature.args[:2], args[:2], strict=True)
            )
            starts = [builder.gep(first, [builder.mul(index, index.type(width))]) for index in args[2:]]
            places = [builder.gep(first_sum, [_WORD(e)]) for e in range(p.MR * p.NR * width)]
            totals = [builder.load(place) for place in places]
            for k in range(p.KC):
                a, b = (
                    _elements(builder, start, width, [k * pitch + p.place(i, threads) for i in range(0, count, p.SUB)], p.SUB)
                    for start, pitch, count, threads in zip(
                        starts, (p.pitch_a, p.pitch_b), (p.MR, p.NR), (p.high, p.wide), strict=True
                    )
                )
                for i, left in enumerate(a):
                    for j, right in enumerate(b):
                        e = (i * p.NR + j) * width
                        totals[e : e + width] = times(builder, left, right, totals[e : e + width])
            for total, place in zip(totals, places, strict=True):
                builder.store(total, place)
            return context.get_dummy_value()

        return types.void(sums, shared, types.uint64, types.uint64), codegen

    return add


def _elements(builder: Any, start: Any, width: int, places: list[int], count: int) -> list[list[Any]]:
    """Load so many neighbouring elements from each of these places on: lists of real numbers."""
    kind = start.type.pointee
    size = {ir.FloatType(): 4, ir.DoubleType(): 8}.get(kind) or kind.width // 8
    many = min(VECTOR // size, count * width)
    numbers = []
    for place in places:
        for v in range(0, count * width, many):
            at = builder.gep(start, [ir.IntType(64)(place * width + v)])
            vector = builder.load(builder.bitcast(at, ir.VectorType(kind, many).as_pointer()), align=many * size)
            numbers += [builder.extract_element(vector, _WORD(n)) for n in range(many)]
    return [numbers[n : n + width] for n in range(0, len(numbers), width)]


def _times_float(builder: Any, a: list[Any], b: list[Any], total: list[Any]) -> list[Any]:
    return [builder.fma(a[0], b[0], total[0])]


def _times_integer(builder: Any, a: list[Any], b: list[Any], total: list[Any]) -> list[Any]:
    return [builder.add(builder.mul(a[0], b[0]), total[0])]


def _times_complex(builder: Any, a: list[Any], b: list[Any], total: list[Any]) -> list[Any]:
    """(a0 b0 - a1 b1) + i (a0 b1 + a1 b0)."""
    negative = builder.fsub(ir.Constant(a[1].type, -0.0), a[1])  # NVVM knows no fneg
    real = builder.fma(negative, b[1], builder.fma(a[0], b[0], total[0]))
    return [real, builder.fma(a[1], b[0], builder.fma(a[0], b[1], total[1]))]
