"""The transforms of :mod:`numbaconv.toom` in a thread's registers: additions and multiplications, one after the other.

This module imports Numba's CUDA, so that only kernels import it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.target import simulated
from numbaconv.toom import Matrix, times

__all__ = ["multiply", "sandwich"]


class _Term:
    """A number in a register; arithmetic on it is an instruction."""

    def __init__(self, builder: Any, register: Any) -> None:
        self.builder, self.register = builder, register

    def __add__(self, other: _Term) -> _Term:
        return _Term(self.builder, self.builder.fadd(self.register, other.register))

    def __sub__(self, other: _Term) -> _Term:
        return _Term(self.builder, self.builder.fsub(self.register, other.register))

    def __mul__(self, factor: float) -> _Term:
        return _Term(self.builder, self.builder.fmul(self.register, ir.Constant(self.register.type, factor)))


def multiply(builder: Any, matrix: Matrix, data: Any, first: Any, step: Any) -> None:
    """Generate ``data[first + i * step] = sum over j of matrix[i, j] * data[first + j * step]``, for all i at once."""

    def place(i: int) -> Any:
        return builder.gep(data, [builder.add(first, builder.mul(step, ir.Constant(step.type, i)))])

    terms = [_Term(builder, builder.load(place(j))) for j in range(len(matrix[0]))]
    for i, term in enumerate(times(matrix, terms)):
        builder.store(term.register, place(i))


@cache
def _in_place(matrix: Matrix) -> Any:
    """Return the device function ``(values, first, step)`` that does what :func:`multiply` says."""

    def simulate(values: Any, first: int, step: int) -> None:
        rows, columns = (slice(first, first + n * step, step) for n in (len(matrix), len(matrix[0])))
        values[rows] = times(matrix, list(values[columns]))

    @intrinsic
    def generate(typing_context: Any, values: Any, first: Any, step: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, value=args[0]).data
            multiply(builder, matrix, data, *args[1:])
            return context.get_dummy_value()

        return types.void(values, types.int64, types.int64), codegen

    return simulate if simulated() else generate


@cache
def sandwich(matrix: Matrix, pitch: int) -> Any:
    """Return the device function ``(values)`` that replaces the first rows and columns of ``values`` X by ``matrix X matrix.T``.

    They are rows of `pitch` values in an array in registers, which holds the larger of both.
    """
    multiply_in_place = _in_place(matrix)
    rows, columns = len(matrix), len(matrix[0])

    @inlined
    def sandwich(values: Any) -> None:
        for j in range(columns):
            multiply_in_place(values, j, pitch)
        for i in range(rows):
            multiply_in_place(values, i * pitch, 1)

    return sandwich
