"""The outer-product microkernel: MR scalars times NR vectors, summed over k in registers (BLIS's, with a table of addresses).

Its vectors run along output positions or along output channels, whichever a problem has more use for.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from numbaconv.cpu.simd import Code, Value, vector_function
from numbaconv.cpu.target import Tile

__all__ = ["along_channels", "along_positions"]


@cache
def along_positions(tile: Tile, dtype: np.dtype) -> Any:
    """Compile the microkernel whose lanes are positions.

    Its words are the addresses of the inputs, of a table of K byte offsets into them, K, the addresses of the weights ``(K, MR)``
    and of the sums, and the bytes from a row of sums to the next::

        for r in range(MR):
            for v in range(NR * lanes):
                sums[r, v] = sum(weights[k, r] * inputs[offsets[k] + v] for k in range(K))
    """

    def emit(code: Code, inputs: Value, offsets: Value, count: Value, weights: Value, sums: Value, row: Value) -> None:
        totals = _start(code, tile)
        with code.loop(count) as k:
            at = inputs + code.word(offsets + k * 8)
            scalars = weights + k * (tile.MR * dtype.itemsize)
            _add_products(code, tile, totals, at, [scalars + r * dtype.itemsize for r in range(tile.MR)])
        _finish(code, tile, totals, sums, row)

    return vector_function(emit, dtype, tile)


@cache
def along_channels(tile: Tile, dtype: np.dtype) -> Any:
    """Compile the microkernel whose lanes are output channels.

    Its words are as those of :func:`along_positions`, but the weights ``(K, NR * lanes)``, and the bytes from a position to
    the next::

        for r in range(MR):
            for v in range(NR * lanes):
                sums[r, v] = sum(inputs[r * step + offsets[k]] * weights[k, v] for k in range(K))
    """

    def emit(
        code: Code, inputs: Value, offsets: Value, count: Value, weights: Value, sums: Value, row: Value, step: Value
    ) -> None:
        totals = _start(code, tile)
        with code.loop(count) as k:
            at = inputs + code.word(offsets + k * 8)
            panel = weights + k * (tile.NR * code.bytes)
            _add_products(code, tile, totals, panel, [at + step * r for r in range(tile.MR)])
        _finish(code, tile, totals, sums, row)

    return vector_function(emit, dtype, tile)


def _start(code: Code, tile: Tile) -> list:
    return [[code.variable(code.zero) for _ in range(tile.NR)] for _ in range(tile.MR)]


def _add_products(code: Code, tile: Tile, totals: list, vectors: Value, scalars: list) -> None:
    columns = [code.load(vectors + v * code.bytes) for v in range(tile.NR)]
    for row, scalar in zip(totals, scalars, strict=True):
        factor = code.broadcast(scalar)
        for total, column in zip(row, columns, strict=True):
            total.value = code.multiply_add(factor, column, total.value)


def _finish(code: Code, tile: Tile, totals: list, sums: Value, row: Value) -> None:
    for r, line in enumerate(totals):
        for v, total in enumerate(line):
            code.store(total.value, sums + row * r + v * code.bytes)
