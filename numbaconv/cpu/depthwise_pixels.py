"""Depthwise convolution, and of small groups, with channels last: lanes run along the channels.

The vector function computes some neighbouring outputs of some rows, one vector of channels after the other, and uses every
vector of inputs for all outputs that read it. Where the pixels of the input lie is in a table, in which a pixel of padding is one
of zeros: so nothing is different at an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cpu.blocks import inside, source
from numbaconv.cpu.cutting import cuts_for, find_cut
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, apply, as_contiguous, keep, shaped, zeroed
from numbaconv.cpu.jit import inner
from numbaconv.cpu.panels import Packing, panels
from numbaconv.cpu.simd import Code, Value, call, lanes, vector_function
from numbaconv.cpu.target import many_registers
from numbaconv.spec import ConvSpec

__all__ = ["cycles", "filter_pixels", "pack", "packing", "pixel_cuts", "rows_at_once", "task"]

PIXELS = 8  # of a row of outputs at once


class Pixels(NamedTuple):
    """What code for pixels is made for."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]  # down and across
    dilation: tuple[int, ...]
    group: int  # channels, of the input and of the output
    rows: int  # of outputs at once


@cache
def across_pixels(shape: Pixels, pixels: int, dtype: np.dtype) -> Any:
    """Compile what computes neighbouring outputs of some rows, for all channels.

    Its words are the address of a table ``[row, kd, column]`` of the addresses of inputs, the bytes from a row of it to the
    next, the addresses of the weights ``(vectors, kd, kh, kw, group, lanes)``, of the outputs and of what is added to them, the
    bytes from a row of outputs and from an output to the next, and how many channels there are.
    """
    depth, high, wide = shape.kernel
    uses: dict[tuple[int, int], list[tuple[int, ...]]] = {}  # of an input: the outputs' rows and columns, and their taps
    for r in range(shape.rows):
        for i in range(high):
            for q in range(pixels):
                for j in range(wide):
                    at = r * shape.stride[0] + i * shape.dilation[0], q * shape.stride[1] + j * shape.dilation[1]
                    uses.setdefault(at, []).append((r, q, i * wide + j))

    def emit(
        code: Code, table: Value, pitch: Value, weights: Value, output: Value, bias: Value, out_row: Value, out_step: Value,
        count: Value,
    ) -> None:  # fmt: skip
        def compute(c: Value, mask: Value | None) -> None:
            offset = c * dtype.itemsize
            panel = weights + offset * (depth * high * wide * shape.group)
            totals = {(r, q): code.zero for r in range(shape.rows) for q in range(pixels)}
            for kd in range(depth):
                for y in sorted({y for y, _ in uses}):
                    line = table + pitch * (y * depth + kd)
                    for x in sorted(x for row, x in uses if row == y):
                        vector = code.load(code.word(line + x * 8) + offset, mask)
                        for member, column in enumerate(_of_group(code, shape.group, vector)):
                            for r, q, tap in uses[y, x]:
                                number = (kd * high * wide + tap) * shape.group + member
                                factor = code.load(panel + number * code.bytes)
                                totals[r, q] = code.multiply_add(column, factor, totals[r, q])
            addend = code.load(bias + offset, mask)
            for (r, q), total in totals.items():
                code.store(total + addend, output + out_row * r + out_step * q + offset, mask)

        with code.loop(count - (code.lanes - 1), code.lanes) as c:
            compute(c, None)
        rest = code.round_up(count - (code.lanes - 1), code.lanes)
        with code.loop(count - rest, code.lanes):
            compute(rest, code.mask(count - rest))

    return vector_function(emit, dtype, shape, pixels)


def _of_group(code: Code, group: int, vector: Value) -> list:
    """Return for every channel of a group the vector that has this channel of its own group in all lanes."""
    if group == 1:
        return [vector]
    return [code.shuffle(vector, vector, [lane // group * group + i for lane in range(code.lanes)]) for i in range(group)]


def rows_at_once(spec: ConvSpec) -> int:
    """How many rows of outputs the vector function computes: where there are registers for it, those that share inputs."""
    return 2 if many_registers() and spec.stride[1] < spec.kernel_extent[1] else 1


def pixel_cuts(spec: ConvSpec) -> tuple[np.ndarray, list]:
    """Return how rows are cut, :func:`rows_at_once` and a last one alone, and what to keep as long as that is in use."""

    def code(rows: int) -> Callable[[int], Any]:
        shape = Pixels(spec.kernel_size, spec.stride[1:], spec.dilation[1:], spec.weight_shape[2], rows)
        return lambda pixels: across_pixels(shape, pixels, spec.dtypes.compute)

    tables = [cuts_for({spec.output_size[2]}, PIXELS, code(rows)) for rows in (rows_at_once(spec), 1)]
    return np.array([cuts for cuts, _ in tables]), [kept for _, kept in tables]


def cycles(spec: ConvSpec) -> float:
    """Predict the cycles of an output of all channels: a cycle or two a tap, as rows share what they read or do not."""
    vectors = -(-spec.out_channels // lanes(spec.dtypes.compute))
    a_tap, more = (1.05, 4) if spec.stride[1] == 1 else (2, 8)
    return 8 + vectors * (math.prod(spec.weight_shape[2:]) * a_tap + more)


@lru_cache(maxsize=1024)
def packing(spec: ConvSpec) -> Packing | None:
    """Return what packs weights of one channel each as ``(1, vectors, taps, lanes)``."""
    groups, outs, ins, *taps = spec.weight_shape
    return panels((1, groups * outs, 1, *taps), lanes(spec.dtypes.compute), spec.dtypes.compute) if ins == 1 else None


def pack(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    """Return ``(vectors, taps, group, lanes)``."""
    groups, outs, ins = weight.shape[:3]
    alone = packing(spec)
    if alone is not None:
        packed = alone(weight)
        return packed.reshape(packed.shape[1], packed.shape[2], 1, packed.shape[3])
    taps = weight.astype(spec.dtypes.compute).reshape(groups, outs, ins, -1)
    vector = lanes(spec.dtypes.compute)
    vectors = np.zeros((-(-groups * outs // vector) * vector, ins, taps.shape[3]), spec.dtypes.compute)
    vectors[: groups * outs] = taps.reshape(groups * outs, ins, -1)
    return np.ascontiguousarray(vectors.reshape(-1, vector, ins, taps.shape[3]).transpose(0, 3, 2, 1))


@inner
def fill_table(table, image, zeros, d, h, p):
    """table[i, kd, j] = the address of the inputs at padded row i, from what row h of outputs of plane d reads, and column j."""
    for i in range(table.shape[0]):
        y = source(h * p.stride_h - p.low_h + i, image.shape[1], p.mode)
        for kd in range(p.kernel_d):
            z = source(d * p.stride_d + kd * p.dilation_d - p.low_d, image.shape[0], p.mode)
            line = table[i, kd]
            if z < 0 or y < 0:
                line[:] = zeros
                continue
            first, step, size = address_of(image[z, y]), image.strides[2], image.shape[2]
            low, high = inside(-p.low_w, line.size, size)
            for j in range(low, high):
                line[j] = first + (j - p.low_w) * step
            for edge in (range(low), range(high, line.size)):
                for j in edge:
                    x = source(j - p.low_w, size, p.mode)
                    line[j] = zeros if x < 0 else first + x * step


@inner
def filter_pixels(result, table, weights, bias, cuts, p):
    """Compute all outputs; the result has the channels first in its shape, and last in memory."""
    channels, rows, columns = result.shape
    h = 0
    while h < rows:
        tall = h + p.rows_at_once <= rows
        w = 0
        for count, pixels, micro in find_cut(cuts[0 if tall else 1], columns):
            for _ in range(count):
                call(
                    micro, address_of(table[h * p.stride_h, 0, w * p.stride_w :]), table.strides[1], weights,
                    address_of(result[0, h, w:]), bias, result.strides[1], result.strides[2], channels,
                )  # fmt: skip
                w += pixels
        h += p.rows_at_once if tall else 1


@inner
def finish_pixels(result, residual, has_residual, activation):
    """result = activation(result + residual), pixel by pixel, channels first in the arrays."""
    channels, rows, columns = result.shape
    for h in range(rows):
        for w in range(columns):
            pixel = as_contiguous(result[:, h, w])
            if has_residual:
                for c in range(channels):
                    pixel[c] += residual[c, h, w]
            if activation != 0:
                apply(activation, pixel)


@inner
def task(number, frame):
    """Compute a block of rows of one image."""
    input, weight, output, bias, residual, activation, cuts, plan = arguments(frame)
    p = plan[0]
    out_d, out_h, out_w = output.shape[3:]
    channels = output.shape[1]
    number, row_block = number // p.row_blocks, number % p.row_blocks
    n, d = number // out_d, number % out_d
    h0 = row_block * p.rows
    h1 = min(out_h, h0 + p.rows)
    zeros = zeroed(aligned(channels, input))
    high = (h1 - h0 - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1
    wide = (out_w - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1
    table = shaped(aligned(high * p.kernel_d * wide, np.int64), (high, p.kernel_d, wide))
    fill_table(table, input[n, 0, 0], address_of(zeros), d, h0, p)
    result = output[n, :, 0, d, h0:h1]
    filter_pixels(result, table, address_of(weight), address_of(bias), cuts, p)
    if not p.plain:
        more = residual[n, :, 0, d, h0:h1] if p.has_residual else residual[0, :, 0, 0]
        finish_pixels(result, more, p.has_residual, activation)
    keep(zeros)
    keep(table)
