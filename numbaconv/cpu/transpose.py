"""Transposition in registers: ``target[c, r] = source[r, c]``.

One of the two matrices is a user's, whose rows lie far apart. Where that is a power of two, the lines of 16 rows fall into one
or two sets of an L1 cache of 8 ways, and a line that is not used up at once has to come again. There a block has as many of its
rows only as half a vector has lanes, and the next block is the one along them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from numbaconv.cpu.simd import Code, Value, vector_function

__all__ = ["from_rows", "to_rows"]

CROWDED = 2048  # bytes: rows that lie a multiple of them apart use one or two sets
CHUNK = 8  # vectors along such rows, so that what is written stays in the L1 cache until the next rows are through


@cache
def from_rows(dtype: np.dtype) -> Any:
    """Compile the transposition of rows that lie far apart; what is returned has an ``address``.

    Its words are the address of the source, the bytes from a row of it to the next, how many rows and columns it has, the address
    of the target, and the bytes from a row of that to the next.
    """
    return vector_function(_from_rows, dtype)


@cache
def to_rows(dtype: np.dtype) -> Any:
    """The same for rows of the target that lie far apart."""
    return vector_function(_to_rows, dtype)


def _from_rows(
    code: Code, source: Value, source_row: Value, rows: Value, columns: Value, target: Value, target_row: Value
) -> None:
    words, half, step = (source, source_row, rows, columns, target, target_row), _half(code), CHUNK * code.lanes
    with code.either(source_row, code.round_up(source_row, CROWDED)) as (crowded, spread):
        with crowded, code.loop(columns, step) as chunk, code.loop(rows, half) as r:
            with code.loop(code.smaller(columns - chunk, code.constant(step)), code.lanes) as c:
                _block(code, words, (half, code.lanes), r, chunk + c)
        with spread, code.loop(columns, code.lanes) as c, code.loop(rows, code.lanes) as r:
            _block(code, words, (code.lanes, code.lanes), r, c)


def _to_rows(code: Code, source: Value, source_row: Value, rows: Value, columns: Value, target: Value, target_row: Value) -> None:
    words, half = (source, source_row, rows, columns, target, target_row), _half(code)
    with code.either(target_row, code.round_up(target_row, CROWDED)) as (crowded, spread):
        for branch, wide in ((crowded, half), (spread, code.lanes)):
            with branch, code.loop(columns, wide) as c, code.loop(rows, code.lanes) as r:
                _block(code, words, (code.lanes, wide), r, c)


def _part(code: Code) -> int:
    """The elements of 16 bytes, or of a shorter vector."""
    return min(code.lanes, 16 // code.dtype.itemsize)


def _half(code: Code) -> int:
    """The far rows of a block."""
    return max(_part(code), code.lanes // 2)


def _block(code: Code, words: tuple[Value, ...], shape: tuple[int, int], r: Value, c: Value) -> None:
    """Transpose the block of so many rows and columns from ``(r, c)`` on, or what there is of it."""
    source, source_row, rows, columns, target, target_row = words
    at, to = source + r * source_row + c * code.dtype.itemsize, target + c * target_row + r * code.dtype.itemsize
    height, width = (code.smaller(n, code.constant(most)) for n, most in zip((rows - r, columns - c), shape, strict=True))
    with code.either(height + width, code.constant(sum(shape))) as (whole, part):
        with whole:
            _transpose_whole(code, shape, at, source_row, to, target_row)
        with part:
            _transpose_part(code, at, source_row, height, width, to, target_row)


def _transpose_whole(code: Code, shape: tuple[int, int], at: Value, source_row: Value, to: Value, target_row: Value) -> None:
    """Load parts of 16 bytes to the lanes where their transposes belong: what shuffles remain stay within 16 bytes."""
    (rows, columns), part, size = shape, _part(code), code.dtype.itemsize
    together = code.lanes // rows  # of the target's rows, in one vector
    for c in range(0, columns, part * together):
        firsts = [c + part * i for i in range(together)]
        lines = [
            code.load_parts([at + source_row * (r + i) + first * size for first in firsts for r in range(0, rows, part)])
            for i in range(part)
        ]
        for i, vector in enumerate(_transposed(code, lines)):
            code.store_parts(vector, [to + target_row * (first + i) for first in firsts])


def _transpose_part(code: Code, at: Value, source_row: Value, height: Value, width: Value, to: Value, target_row: Value) -> None:
    """Transpose at most a vector of rows and columns: rows beyond are the last one again."""
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
