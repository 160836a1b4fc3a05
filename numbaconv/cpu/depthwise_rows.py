"""Depthwise convolution with channels first: lanes run along rows of outputs.

The vector function goes along some neighbouring rows of outputs at once, block of rows by block, and uses every vector of inputs
for all rows that read it. Only the first and the last vectors of a row are loaded under masks, and the last vector of outputs
overlaps the one before. Rows too short for that are masked throughout.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu.blocks import source
from numbaconv.cpu.cutting import find_cut
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, apply, as_contiguous, keep, shaped, zeroed
from numbaconv.cpu.jit import inner
from numbaconv.cpu.simd import Code, Value, call, vector_function

__all__ = ["Row", "along_row", "task"]


class Row(NamedTuple):
    """What code for rows of outputs is made for."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]  # down and across, which is 1 or 2
    dilation: tuple[int, ...]
    padding: tuple[int, int]  # left and right of a row
    rows: int  # of outputs at once
    vectors: int  # of a row of outputs at once
    narrow: bool  # whether inputs and outputs at any place of a row may lie outside of it
    several: bool = False  # channels in a row: then a tap has a vector of weights for each vector of outputs


@cache
def along_row(shape: Row, dtype: np.dtype) -> Any:
    """Compile what computes blocks of rows of outputs of one channel.

    Its words are the address of a table ``[row, kd]`` of the addresses of input rows, the elements of an input row, the addresses
    of the weights ``(kd, kh, kw)``, of the outputs and of what is added to them, the bytes from an output row to the next, the
    elements of one, and how many blocks of rows there are. With several channels in a row, weights are ``(kd, kh, kw, vectors *
    lanes)``, and what is added is such a row as well.
    """
    depth, high, wide = shape.kernel
    down, size = shape.stride[0], dtype.itemsize
    uses: dict[int, list[tuple[int, int]]] = {}  # of an input row: the outputs' rows, and their rows of taps
    for r in range(shape.rows):
        for i in range(high):
            uses.setdefault(r * down + i * shape.dilation[0], []).append((r, i))

    def emit(
        code: Code, table: Value, width: Value, weights: Value, output: Value, bias: Value, row: Value, count: Value,
        blocks: Value,
    ) -> None:  # fmt: skip
        def spread(address: Value, number: int) -> list[Value]:
            """The number-th element as a vector for each vector of outputs, or the vectors that there are."""
            if not shape.several:
                return [code.broadcast(address + number * size)] * shape.vectors
            return [code.load(address + (number * shape.vectors + v) * code.bytes) for v in range(shape.vectors)]

        factors = [spread(weights, t) for t in range(math.prod(shape.kernel))]
        addends, step, window = spread(bias, 0), shape.vectors * code.lanes, Window(code, shape, width)
        with code.loop(blocks) as block:
            place = table + block * (shape.rows * down * depth * 8)
            lines = [(kd, slot, code.word(place + (slot * depth + kd) * 8)) for slot in sorted(uses) for kd in range(depth)]
            target = output + row * block * shape.rows

            def compute(p: Value, ends: str) -> None:
                """Compute the outputs from p on; the named ends of the row are near."""
                totals: list = [[code.zero] * shape.vectors for _ in range(shape.rows)]
                for kd, slot, line in lines:
                    columns = window.columns(line, p, ends)
                    for j in range(wide):
                        for r, i in uses[slot]:
                            factor = factors[(kd * high + i) * wide + j]
                            for v, column in enumerate(columns):
                                totals[r][v] = code.multiply_add(column[j], factor[v], totals[r][v])
                for v in range(shape.vectors):
                    at = p + v * code.lanes
                    mask = code.mask(code.larger(count - at, code.constant(0))) if ends == "both" else None
                    for r, total in enumerate(totals):
                        code.store(window.in_order(total[v]) + addends[v], target + row * r + at * size, mask)

            if shape.narrow:
                with code.loop(count, step) as p:
                    compute(p, "both")
            else:
                compute(code.constant(0), "left")
                with code.loop(count - 2 * step, step) as p:  # what is left is more than one step, which the last one overlaps
                    compute(p + step, "")
                compute(count - step, "right")

    return vector_function(emit, dtype, shape)


class Window:
    """The vectors of a row of inputs that some vectors of outputs read.

    At stride 2, the halves of each 16 bytes are outputs half a vector apart: so the shuffle of two vectors, which takes every
    second element, stays within 16 bytes, and costs half of what others do.
    """

    def __init__(self, code: Code, shape: Row, width: Value) -> None:
        self._code, self._width, (self._low, self._high), self._across = code, width, shape.padding, shape.stride[1]
        self._vectors, self._offsets = shape.vectors, [j * shape.dilation[1] for j in range(shape.kernel[2])]
        part = 16 // code.dtype.itemsize // self._across
        parts = [range(i, i + part) for i in range(0, code.lanes, part)]
        halves = zip(parts[: len(parts) // 2], parts[len(parts) // 2 :], strict=True)
        self._outputs = [i for half in halves for each in half for i in each] if self._across == 2 else list(range(code.lanes))

    def in_order(self, vector: Value) -> Value:
        """Outputs, neighbours in neighbouring lanes."""
        if self._across == 1:
            return vector
        return self._code.shuffle(vector, vector, [self._outputs.index(i) for i in range(self._code.lanes)])

    def _moved(self, a: Value, b: Value, count: int) -> Value:
        """The outputs of vectors a and b from a's count-th on."""
        lanes = self._code.lanes
        places = [divmod(output + count, lanes) for output in self._outputs]
        return self._code.shuffle(a, b, [which * lanes + self._outputs.index(output) for which, output in places])

    def columns(self, line: Value, p: Value, ends: str) -> list[list[Value]]:
        """For every vector of outputs from p on, and every tap of a row, the vector that is read.

        Masked ones are put together from few: a mask costs more than a shuffle. So are those of stride 2, which take two loads
        each, and from a neighbour one of an element. Others are loaded, which costs less than a shuffle.
        """
        code, across, size = self._code, self._across, self._code.dtype.itemsize
        first, span = p * across - self._low, across * code.lanes
        # The last load of the last vectors of a row that lies inside it; other vectors start an output earlier at most.
        last = self._vectors * span - across + self._offsets[-1] - self._high - code.lanes + 1
        furthest = {"right": last, "": last + across}
        anchor = 0 if ends == "both" else self._low  # of the pairs of loads at stride 2

        def outside(offset: int, elements: int) -> bool:
            """Whether some of so many elements may lie outside of the row."""
            left = ends == "left" and offset < self._low
            return ends == "both" or left or offset + elements - code.lanes > furthest.get(ends, offset)

        @cache
        def load(offset: int) -> Value:
            at = first + offset
            return code.load(line + at * size, code.window(at, self._width) if outside(offset, code.lanes) else None)

        @cache
        def part(offset: int) -> Value:
            """The inputs from an offset on, every or every second one."""
            if across == 1:
                return load(offset)
            odd = (offset - anchor) % 2
            pair = load(offset - odd), load(offset - odd + code.lanes)
            return code.shuffle(*pair, [2 * output + odd for output in self._outputs])

        def shifted(start: int, offset: int) -> Value | None:
            """The inputs of a tap as those of the tap one output before or after, for an element; where it is inside the row."""
            before = offset < anchor
            edge = start + offset + (0 if before else span - across)
            if ends == "left" and edge < self._low:
                beyond = code.zero
            elif outside(edge, 1):
                return None
            else:
                beyond = code.broadcast(line + (first + edge) * size)
            if before:
                return self._moved(beyond, part(start + offset + across), code.lanes - 1)
            return self._moved(part(start + offset - across), beyond, 1)

        def vector(start: int, offset: int) -> Value:
            if ends == "both":
                start, lane = start + offset // span * span + offset % across, offset % span // across
                return self._moved(part(start), part(start + span), lane) if lane else part(start)
            near = across == 2 and offset - anchor in (-2, -1, 2, 3)
            return (shifted(start, offset) if near else None) or part(start + offset)

        return [[vector(v * span, offset) for offset in self._offsets] for v in range(self._vectors)]


@inner
def fill_table(table, image, zeros, d, h, p):
    """table[i, kd] = the address of the i-th input row that the rows of outputs from h on of plane d read."""
    for i in range(table.shape[0]):
        y = source(h * p.stride_h - p.low_h + i, image.shape[1], p.mode)
        for kd in range(p.kernel_d):
            z = source(d * p.stride_d + kd * p.dilation_d - p.low_d, image.shape[0], p.mode)
            table[i, kd] = zeros if z < 0 or y < 0 else address_of(image[z, y])


@inner
def move_table(rows, distance, zeros):
    """The table of an image that lies so many bytes further."""
    for i in range(rows.size):
        rows[i] += 0 if rows[i] == zeros else distance


@inner
def finish_rows(result, residual, has_residual, activation):
    """result = activation(result + residual), row by row."""
    for h in range(result.shape[0]):
        line = as_contiguous(result[h])
        if has_residual:
            for i in range(line.shape[0]):
                line[i] += residual[h, i]
        if activation != 0:
            apply(activation, line)


@inner
def task(number, frame):
    """Compute a block of rows of some planes of outputs."""
    input, weight, output, bias, residual, activation, cuts, plan = arguments(frame)
    p = plan[0]
    batch, groups, outs, out_d, out_h, out_w = output.shape
    row_block = number % p.row_blocks
    plane0 = number // p.row_blocks * p.planes
    h0 = row_block * p.rows
    h1 = min(out_h, h0 + p.rows)
    zeros = zeroed(aligned(input.shape[5], input))
    high = (h1 - h0 - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1
    memory = aligned(high * p.kernel_d, np.int64)
    table = shaped(memory, (high, p.kernel_d))
    cut = find_cut(cuts, h1 - h0)
    known, origin = -1, 0
    for plane in range(plane0, min(plane0 + p.planes, batch * groups * outs * out_d)):
        channel, d = plane // out_d, plane % out_d
        channel, o = channel // outs, channel % outs
        n, group = channel // groups, channel % groups
        image = input[n, group, 0]
        if d == known:
            move_table(memory, address_of(image) - origin, address_of(zeros))
        else:
            fill_table(table, image, address_of(zeros), d, h0, p)
        known, origin = d, address_of(image)
        result = output[n, group, o, d, h0:h1]
        h = 0
        for blocks, rows, micro in cut:
            if blocks:
                call(
                    micro, address_of(table[h * p.stride_h :]), zeros.size, address_of(weight[group, o]), address_of(result[h:]),
                    address_of(bias[group, o:]), result.strides[0], out_w, blocks,
                )  # fmt: skip
                h += rows * blocks
        if not p.plain:
            more = residual[n, group, o, d, h0:h1] if p.has_residual else residual[0, 0, 0, 0]
            finish_rows(result, more, p.has_residual, activation)
    keep(zeros)
    keep(table)
