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
    size = code.dtype.itemsize

    def square(r: Value, c: Value, height: Value | None, width: Value | None) -> None:
        """Transpose one square of a vector's width, or what there is of it: rows beyond are the last one again."""
        at, to = source + r * source_row + c * size, target + c * target_row + r * size
        load_mask = None if width is None else code.mask(width)
        store_mask = None if height is None else code.mask(height)

        def row(i: int, count: Value | None) -> Value | int:
            return i if count is None else code.smaller(code.constant(i), count - 1)

        vectors = _transposed(code, [code.load(at + source_row * row(i, height), load_mask) for i in range(code.lanes)])
        for i in reversed(range(code.lanes)):  # so that the row which belongs there is stored last
            code.store(vectors[i], to + target_row * row(i, width), store_mask)

    with code.loop(columns, code.lanes) as c, code.loop(rows, code.lanes) as r:
        height, width = rows - r, columns - c
        with code.either(code.smaller(height, width), code.constant(code.lanes)) as (full, part):
            with full:
                square(r, c, None, None)
            with part:
                square(r, c, height, width)


def _transposed(code: Code, rows: list) -> list:
    """Transpose a square of vectors in log2(lanes) rounds, each of which exchanges quarters half as large as the one before."""
    span = 1
    while span < code.lanes:
        low = [i + (code.lanes if i & span else 0) - (span if i & span else 0) for i in range(code.lanes)]
        high = [i + span if not i & span else i + code.lanes for i in range(code.lanes)]
        for i in range(code.lanes):
            if not i & span:
                a, b = rows[i], rows[i + span]
                rows[i], rows[i + span] = code.shuffle(a, b, low), code.shuffle(a, b, high)
        span *= 2
    return rows
