"""The outer-product microkernel: MR scalars times NR vectors, summed over k in registers (BLIS's, with a table of addresses).

Its vectors run along output positions or along output channels, whichever a problem has more use for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from numbaconv.cpu.simd import Code, Value, vector_function
from numbaconv.cpu.target import Tile

__all__ = ["RUN", "along_channels", "along_positions"]

RUN = 64  # products whose sum stays in registers


@cache
def along_positions(tile: Tile, dtype: np.dtype, biased: bool = False) -> Any:
    """Compile the microkernel whose lanes are positions.

    Its words are the addresses of the inputs, of a table of K byte offsets into them, K, the addresses of the weights ``(K, MR)``
    and of the sums, the bytes from a row of sums to the next, and, if it is biased, the address of a number for each row::

        for r in range(MR):
            for v in range(NR * lanes):
                sums[r, v] = bias[r] + sum(weights[k, r] * inputs[offsets[k] + v] for k in range(K))
    """

    def emit(
        code: Code, inputs: Value, offsets: Value, count: Value, weights: Value, sums: Value, row: Value, bias: Value
    ) -> None:
        def add(totals: list, k: Value) -> None:
            at = inputs + code.word(offsets + k * 8)
            scalars = weights + k * (tile.MR * dtype.itemsize)
            _add_products(code, tile, totals, at, [scalars + r * dtype.itemsize for r in range(tile.MR)])

        first = [bias + r * dtype.itemsize for r in range(tile.MR)] if biased else None
        _sum(code, tile, count, add, sums, row, first)

    return vector_function(emit, dtype, tile, biased)


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
        def add(totals: list, k: Value) -> None:
            at = inputs + code.word(offsets + k * 8)
            panel = weights + k * (tile.NR * code.bytes)
            _add_products(code, tile, totals, panel, [at + step * r for r in range(tile.MR)])

        _sum(code, tile, count, add, sums, row)

    return vector_function(emit, dtype, tile)


def _sum(
    code: Code,
    tile: Tile,
    count: Value,
    add: Callable[[list, Value], None],
    sums: Value,
    row: Value,
    bias: list[Value] | None = None,
) -> None:
    """Sum `count` products a run at a time: rounding errors grow with the length of a sum, and so with the root of it."""
    zeros = [code.zero] * tile.MR

    def run(first: Value, length: Value, begin: list[Value] = zeros) -> Iterator[tuple[Value, Value]]:
        totals = [[code.variable(value) for _ in range(tile.NR)] for value in begin]
        with code.loop(length) as k:
            add(totals, first + k)
        for r, line in enumerate(totals):
            for v, total in enumerate(line):
                yield total.value, sums + row * r + v * code.bytes

    head = code.smaller(count, code.constant(RUN))
    for total, at in run(code.constant(0), head, zeros if bias is None else [code.broadcast(at) for at in bias]):
        code.store(total, at)
    with code.loop(count - head, RUN) as done:
        first = head + done
        for total, at in run(first, code.smaller(count - first, code.constant(RUN))):
            code.store(code.load(at) + total, at)


def _add_products(code: Code, tile: Tile, totals: list, vectors: Value, scalars: list) -> None:
    columns = [code.load(vectors + v * code.bytes) for v in range(tile.NR)]
    for row, scalar in zip(totals, scalars, strict=True):
        factor = code.broadcast(scalar)
        for total, column in zip(row, columns, strict=True):
            total.value = code.multiply_add(factor, column, total.value)
