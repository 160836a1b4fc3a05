"""The transforms of :mod:`numbaconv.toom` as vector code, lanes along channels."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from numbaconv.cpu.simd import Code, Value, vector_function
from numbaconv.toom import Filter, sandwich, transforms, twins

__all__ = ["input_transform", "output_transform", "weight_transform"]


@cache
def weight_transform(high: Filter, wide: Filter, dtype: np.dtype) -> Any:
    """Compile ``target[i, l] = sum over j, n of G[i, j] * source[j, n] * G'[l, n]`` for vectors of output channels.

    Its words are as those of :func:`input_transform`.
    """
    down, across = transforms(high)[1], transforms(wide)[1]

    def emit(code: Code, source: Value, row: Value, column: Value, target: Value, element: Value, vectors: Value) -> None:
        with code.loop(vectors) as v:
            at, to = source + v * code.bytes, target + v * code.bytes
            grid = [[code.load(at + row * i + column * j) for j in range(wide.k)] for i in range(high.k)]
            _store(code, sandwich(down, grid, across), to, element * len(across), element)

    return vector_function(emit, dtype, *high, *wide)


@cache
def input_transform(high: Filter, wide: Filter, dtype: np.dtype) -> Any:
    """Compile ``target[i, l] = sum over j, n of B[i, j] * source[j, n] * B'[l, n]`` for vectors of channels.

    Its words are the address of the source, the bytes from a row of it to the next and from a column to the next, the address
    of the target, the bytes from one ``(i, l)`` to the next, and how many vectors of channels lie side by side in both.
    """
    down, across = transforms(high)[2], transforms(wide)[2]
    # Where the registers do not hold them all, rows that share sums go together: to load again costs less than to spill.
    groups = twins(down) if len(down) * len(across) > 16 else [list(range(len(down)))]

    def emit(code: Code, source: Value, row: Value, column: Value, target: Value, element: Value, vectors: Value) -> None:
        with code.loop(vectors) as v:
            at, to = source + v * code.bytes, target + v * code.bytes
            for rows in groups:
                used = [j for j in range(high.extent) if any(down[i][j] for i in rows)]
                part = tuple(tuple(down[i][j] for j in used) for i in rows)
                grid = [[code.load(at + row * i + column * j) for j in range(wide.extent)] for i in used]
                for i, line in zip(rows, sandwich(part, grid, across), strict=True):
                    _store(code, [line], to + element * (i * len(across)), element, element)

    return vector_function(emit, dtype, *high, *wide)


@cache
def output_transform(high: Filter, wide: Filter, dtype: np.dtype) -> Any:
    """Compile ``target[i, l] = sum over j, n of A[i, j] * source[j, n] * A'[l, n]`` for vectors of channels.

    Its words are the address of the source, the bytes from one ``(j, n)`` to the next, the address of the target, the bytes
    from a row of it to the next and from a column to the next, and how many vectors of channels lie side by side in both.
    """
    down, across = transforms(high)[0], transforms(wide)[0]

    def emit(code: Code, source: Value, element: Value, target: Value, row: Value, column: Value, vectors: Value) -> None:
        with code.loop(vectors) as v:
            at = source + v * code.bytes
            grid = [
                [code.load(at + element * (i * wide.products + j)) for j in range(wide.products)] for i in range(high.products)
            ]
            _store(code, sandwich(down, grid, across), target + v * code.bytes, row, column)

    return vector_function(emit, dtype, *high, *wide)


def _store(code: Code, grid: list, target: Value, row: Value, column: Value) -> None:
    for i, line in enumerate(grid):
        for j, value in enumerate(line):
            code.store(value, target + row * i + column * j)
