"""What becomes of sums ``[position, channel]`` in a cache: bias, residual and activation, and their place in the result."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from numbaconv.cpu.float16 import round_to
from numbaconv.cpu.intrinsics import address_of, apply, as_contiguous
from numbaconv.cpu.jit import inner
from numbaconv.cpu.simd import Code, Value, call, vector_function

__all__ = ["add_to_rows", "finish", "store", "transpose"]


@inner
def finish(sums, rows, columns, residual, has_residual, bias, activation):
    """sums[i, j, o] = activation(sums[i, j, o] + bias[o] + residual[o, i, j]); sums may have more channels, rows and columns."""
    outs, width = bias.shape[0], sums.shape[2]
    for i in range(rows):
        for j in range(columns):
            pixel = sums[i, j, :outs]
            for o in range(outs):
                pixel[o] += bias[o]
            if has_residual:
                more = residual[:, i, j]
                for o in range(outs):
                    pixel[o] += more[o]
            if activation != 0 and outs < width:
                apply(activation, as_contiguous(pixel))
        if activation != 0 and outs == width:
            row = sums[i].reshape(sums.shape[1] * width)
            apply(activation, as_contiguous(row[: columns * width]))


@inner
def store(output, sums, transposing):
    """output[o, i, j] = sums[i, j, o]; sums may have more. `transposing` is the address of :func:`transpose`, or 0 to convert."""
    outs, rows, columns = output.shape
    if output.strides[0] == output.itemsize:
        for i in range(rows):
            for j in range(columns):
                pixel = sums[i, j]
                target = as_contiguous(output[:, i, j])
                for o in range(outs):
                    target[o] = round_to(target, pixel[o])
    elif transposing != 0 and output.strides[2] == output.itemsize:
        length, pieces = columns, rows
        if output.strides[1] == columns * output.itemsize and sums.shape[1] == columns:
            length, pieces = rows * columns, 1
        for i in range(pieces):
            call(
                transposing, address_of(sums[i]), sums.strides[1], length, outs,
                address_of(output[0, i]), output.strides[0], 0, 0,
            )  # fmt: skip
    else:
        for o in range(outs):
            for i in range(rows):
                for j in range(columns):
                    output[o, i, j] = round_to(output[o, i], sums[i, j, o])


@cache
def add_to_rows(vectors: int, dtype: np.dtype) -> Any:
    """Compile ``sums[r, :] += addends[r]`` for rows of so many vectors; what is returned has an ``address``.

    Its words are the address of the sums, the bytes from a row to the next, how many rows there are, and the addends' address.
    """

    def emit(code: Code, sums: Value, row: Value, rows: Value, addends: Value) -> None:
        with code.loop(rows) as r:
            addend = code.broadcast(addends + r * dtype.itemsize)
            for v in range(vectors):
                at = sums + r * row + v * code.bytes
                code.store(code.load(at) + addend, at)

    return vector_function(emit, dtype, vectors)


@cache
def transpose(dtype: np.dtype) -> Any:
    """Compile the transposition of a matrix; what is returned has an ``address``.

    Its words are the address of the source, the bytes from a row of it to the next, how many rows and columns it has, the address
    of the target, and the bytes from a row of that to the next::

        target[c, r] = source[r, c]
    """
    return vector_function(_transpose, dtype)


def _transpose(
    code: Code, source: Value, source_row: Value, rows: Value, columns: Value, target: Value, target_row: Value
) -> None:
    with code.loop(columns, code.lanes) as c, code.loop(rows, code.lanes) as r:
        at, to = source + r * source_row + c * code.dtype.itemsize, target + c * target_row + r * code.dtype.itemsize
        height, width = rows - r, columns - c
        with code.either(code.smaller(height, width), code.constant(code.lanes)) as (full, part):
            with full:
                _transpose_square(code, at, source_row, to, target_row)
            with part:
                _transpose_part(code, at, source_row, height, width, to, target_row)


def _transpose_square(code: Code, at: Value, source_row: Value, to: Value, target_row: Value) -> None:
    """Transpose a square of a vector's width, which takes half the shuffles where its parts of 16 bytes are loaded to their lanes."""
    part = min(code.lanes, 16 // code.dtype.itemsize)
    for c in range(0, code.lanes, part):
        origin = at + c * code.dtype.itemsize
        rows = [code.load_parts([origin + source_row * r for r in range(i, code.lanes, part)]) for i in range(part)]
        for i, vector in enumerate(_transposed(code, rows)):
            code.store(vector, to + target_row * (c + i))


def _transpose_part(
    code: Code, at: Value, source_row: Value, height: Value, width: Value, to: Value, target_row: Value
) -> None:
    """Transpose what there is of a square: rows beyond are the last one again."""
    rows = [at + source_row * code.smaller(code.constant(i), height - 1) for i in range(code.lanes)]
    columns = [to + target_row * code.smaller(code.constant(i), width - 1) for i in range(code.lanes)]
    vectors = _transposed(code, [code.load(row, code.mask(width)) for row in rows])
    for column, vector in reversed(list(zip(columns, vectors, strict=True))):  # so that what belongs there is stored last
        code.store(vector, column, code.mask(height))


def _transposed(code: Code, rows: list) -> list:
    """Transpose the squares of as many lanes as there are vectors, in rounds which exchange quarters half as large as before."""
    count, lanes, span = len(rows), code.lanes, 1
    while span < count:
        low = [i + (lanes if i & span else 0) - (span if i & span else 0) for i in range(lanes)]
        high = [i + span if not i & span else i + lanes for i in range(lanes)]
        for i in range(count):
            if not i & span:
                a, b = rows[i], rows[i + span]
                rows[i], rows[i + span] = code.shuffle(a, b, low), code.shuffle(a, b, high)
        span *= 2
    return rows
