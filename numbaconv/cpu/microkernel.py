"""The outer-product microkernel: MR scalars times NR vectors, summed over k in registers (BLIS's, with a table of addresses).

Its vectors run along output positions or along output channels, whichever a problem has more use for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from numbaconv.cpu.simd import Code, Value, Variable, vector_function
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
                sums[r, v] = sum(weights[k, r] * inputs[offsets[k] + v] for k in range(K)) + bias[r]
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
    """Sum `count` products a run at a time: rounding errors grow with the length of a sum, and so with the root of it.

    What is in `bias`, the addresses of a number for each row, is added last.
    """

    def run(first: Value, length: Value) -> list[tuple[Variable, Value, int]]:
        totals = [[code.variable(code.zero) for _ in range(tile.NR)] for _ in range(tile.MR)]
        with code.loop(length) as k:
            add(totals, first + k)
        places = [(r, v) for r in range(tile.MR) for v in range(tile.NR)]
        return [(totals[r][v], sums + row * r + v * code.bytes, r) for r, v in places]

    # Each sum is stored before the next is looked at, or there would be too few registers.
    head = code.smaller(count, code.constant(RUN))
    found = run(code.constant(0), head)
    if bias is None:
        for total, at, _ in found:
            code.store(total.value, at)
    else:
        with code.either(head, count) as (all_of_them, some):
            with all_of_them:
                for total, at, r in found:
                    code.store(total.value + code.broadcast(bias[r]), at)
            with some:
                for total, at, _ in found:
                    code.store(total.value, at)
    with code.loop(count - head, RUN) as done:
        first = head + done
        for total, at, _ in run(first, code.smaller(count - first, code.constant(RUN))):
            code.store(code.load(at) + total.value, at)
    if bias is not None:
        with code.loop(code.smaller(count - head, code.constant(1))):
            for _, at, r in found:
                code.store(code.load(at) + code.broadcast(bias[r]), at)


def _add_products(code: Code, tile: Tile, totals: list, vectors: Value, scalars: list) -> None:
    columns = [code.load(vectors + v * code.bytes) for v in range(tile.NR)]
    for row, scalar in zip(totals, scalars, strict=True):
        factor = code.broadcast(scalar)
        for total, column in zip(row, columns, strict=True):
            total.value = code.multiply_add(factor, column, total.value)
