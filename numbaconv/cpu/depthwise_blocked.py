"""Depthwise convolution, and of small groups, with channels first, but computed with lanes along channels.

A task copies a vector of channels to a block with these last, by transposing squares in registers, computes on that as
``depthwise_pixels.py`` does, and transposes the result back. So it also serves rows that are shorter than a vector, groups of
several channels, and every padding mode; where rows are long, two transpositions cost more than they bring.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu import depthwise_pixels
from numbaconv.cpu.blocks import MODES, source
from numbaconv.cpu.cutting import even
from numbaconv.cpu.depthwise import SERIAL, TAPS
from numbaconv.cpu.depthwise_pixels import filter_pixels, pack, packing, pixel_cuts, rows_at_once
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.float16 import load
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, invoke, keep, shaped, zeroed
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import call, has_vectors, lanes
from numbaconv.cpu.store import finishing, storing
from numbaconv.cpu.target import cores, threads
from numbaconv.cpu.threads import Launcher
from numbaconv.cpu.transpose import from_rows, to_rows
from numbaconv.spec import ConvSpec

__all__ = ["DEPTHWISE_BLOCKED"]

BLOCK_BYTES = 128 * 1024  # of a task's copy of the input
MOST = 4 * 1024 * 1024  # bytes that a task works on


@inner
def copy_rows(block, image, d, y0, p):
    """block[kd, i, j, c] = image[c, d + kd * dilation_d, y0 + i, j], for the planes that there are."""
    depth, rows, columns = block.shape[:3]
    channels, adjacent = image.shape[0], image.strides[3] == image.itemsize
    together = adjacent and image.strides[2] == columns * image.itemsize
    for kd in range(depth):
        z = source(d + kd * p.dilation_d, image.shape[1], p.mode)
        if z < 0:
            continue
        for i in range(1 if together else rows):
            if adjacent and p.transposing_in != 0:
                call(
                    p.transposing_in, address_of(image[0, z, y0 + i :]), image.strides[0], channels,
                    rows * columns if together else columns, address_of(block[kd, i]), block.strides[2], 0, 0,
                )  # fmt: skip
            else:
                for k in range(rows * columns if together else columns):
                    for c in range(channels):
                        block[kd, i + k // columns, k % columns, c] = load(image[c, z, y0 + i + k // columns, k % columns])


@inner
def fill_table(table, block, size_d, size_h, d, y, y0, zeros, p):
    """table[i, kd, j] = the address of the inputs at row y + i, plane d + kd * dilation_d and column j - low, padded."""
    for i in range(table.shape[0]):
        row = source(y + i, size_h, p.mode)
        for kd in range(table.shape[1]):
            line = table[i, kd]
            if row < 0 or source(d + kd * p.dilation_d, size_d, p.mode) < 0:
                line[:] = zeros
                continue
            for j in range(line.size):
                column = source(j - p.low_w, block.shape[2], p.mode)
                line[j] = zeros if column < 0 else address_of(block[kd, row - y0, column])


@inner
def span(y, count, size, mode):
    """The first of the rows that so many padded ones from y on come from, and the one after the last."""
    first, after = size, 0
    for i in range(count):
        row = source(y + i, size, mode)
        if row >= 0:
            first, after = min(first, row), max(after, row + 1)
    return min(first, after), after


@inner
def task(number, frame):
    """Compute a block of rows of some vectors of channels of one image."""
    input, weight, output, bias, residual, activation, cuts, plan = arguments(frame)
    p = plan[0]
    channels, out_d, out_h, out_w = output.shape[2:]
    size_d, size_h, size_w = input.shape[3:]
    number, vector_block = number // p.vector_blocks, number % p.vector_blocks
    number, row_block = number // p.row_blocks, number % p.row_blocks
    n, d = number // out_d, number % out_d
    h0 = row_block * p.rows
    h1 = min(out_h, h0 + p.rows)
    high = (h1 - h0 - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1
    z, y = d * p.stride_d - p.low_d, h0 * p.stride_h - p.low_h
    y0, y1 = span(y, high, size_h, p.mode)

    block = shaped(aligned(p.kernel_d * (y1 - y0) * size_w * p.lanes, weight), (p.kernel_d, y1 - y0, size_w, p.lanes))
    sums = shaped(aligned((h1 - h0) * out_w * p.lanes, weight), (h1 - h0, out_w, p.lanes))
    zeros = zeroed(aligned(p.lanes, weight))
    wide = (out_w - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1
    table = shaped(aligned(high * p.kernel_d * wide, np.int64), (high, p.kernel_d, wide))
    fill_table(table, block, size_d, size_h, z, y, y0, address_of(zeros), p)
    for c0 in range(vector_block * p.channels, min(channels, (vector_block + 1) * p.channels), p.lanes):
        c1 = min(channels, c0 + p.lanes)
        copy_rows(block, input[n, 0, c0:c1], z, y0, p)
        result = sums.transpose(2, 0, 1)[: c1 - c0]
        filter_pixels(result, table, address_of(weight[c0 // p.lanes]), address_of(bias[0, c0:]), cuts, p)
        if p.finishing != 0:
            more = residual[n, 0, c0:c1, d, h0:h1] if p.has_residual else residual[0, 0, :, 0]
            invoke(p.finishing, (sums, h1 - h0, out_w, more, p.has_residual, zeros[: c1 - c0], activation))
        invoke(p.storing, (output[n, 0, c0:c1, d, h0:h1], sums, p.transposing_out))
    keep(block)
    keep(zeros)
    keep(table)


def why_not(spec: ConvSpec) -> str | None:
    """Say so for what is not depthwise, and for what the vector functions do not know."""
    compute, (_, outs, ins, *_) = spec.dtypes.compute, spec.weight_shape
    if spec.channels_last:
        return "with channels last there is nothing to transpose"
    if not has_vectors(compute):
        return f"there are no vectors of {compute}"
    if ins != outs or not outs or lanes(compute) % outs:
        return f"a group has as many input as output channels, and a vector some whole groups, not {ins} -> {outs}"
    if math.prod(spec.kernel_size) * ins > TAPS:
        return f"its code would be too long for {math.prod(spec.kernel_size) * ins} weights an output, more than {TAPS}"
    if math.prod(spec.output_shape) and workspace(spec) > MOST:
        return f"a task of it would work on {workspace(spec)} bytes, more than {MOST}"
    return None


def workspace(spec: ConvSpec) -> int:
    """The bytes of a task's copy, sums and table, at most; at an edge, circular padding reads rows of the other one."""
    rows, (_, size_h, size_w), itemsize = rows_of_task(spec), spec.input_size, spec.dtypes.compute.itemsize
    high = (rows - 1) * spec.stride[1] + spec.kernel_extent[1]
    copied = size_h if spec.padding_mode == "circular" and any(spec.padding[1]) else min(size_h, high)
    wide = (spec.output_size[2] - 1) * spec.stride[2] + spec.kernel_extent[2]
    vectors = spec.kernel_size[0] * copied * size_w + rows * spec.output_size[2]
    return vectors * lanes(spec.dtypes.compute) * itemsize + high * spec.kernel_size[0] * wide * 8


def row_bytes(spec: ConvSpec) -> int:
    """The bytes of one output row's share of a task's copy."""
    wide = (spec.output_size[2] - 1) * spec.stride[2] + spec.kernel_extent[2]
    return spec.kernel_size[0] * wide * spec.stride[1] * lanes(spec.dtypes.compute) * spec.dtypes.compute.itemsize


def rows_of_task(spec: ConvSpec) -> int:
    """How many rows of outputs a task has."""
    return even(spec.output_size[1], max(1, BLOCK_BYTES // row_bytes(spec), spec.kernel_extent[1]))


def vectors_of_task(spec: ConvSpec) -> int:
    """How many vectors of channels a task has: several tasks to a thread, but no more than it takes for these to balance."""
    vectors = -(-spec.out_channels // lanes(spec.dtypes.compute))
    blocks = spec.batch * spec.output_size[0] * -(-spec.output_size[1] // rows_of_task(spec))
    return even(vectors, max(1, blocks * vectors // (4 * threads())))


def prepare(spec: ConvSpec) -> Runner:
    """Compile for the spec's dtypes, and return what calls the kernel."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    (input, compute, out, _), (out_d, out_h, _) = spec.dtypes, spec.output_size
    rows, vectors = rows_of_task(spec), vectors_of_task(spec)
    vector_blocks = -(-spec.out_channels // (vectors * lanes(compute)))
    (cuts, kept), finish = pixel_cuts(spec), Epilogue(spec)
    turning, transposing = from_rows(compute), to_rows(compute)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2],
        dilation_d=spec.dilation[0], dilation_h=spec.dilation[1], dilation_w=spec.dilation[2],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0],
        kernel_d=spec.kernel_size[0], kernel_h=spec.kernel_size[1], kernel_w=spec.kernel_size[2], mode=MODES[spec.padding_mode],
        transposing_in=turning.address if input == compute else 0,
        transposing_out=transposing.address if out == compute else 0, storing=storing(out, compute),
        rows=rows, row_blocks=-(-out_h // rows), rows_at_once=rows_at_once(spec), lanes=lanes(compute),
        channels=vectors * lanes(compute), vector_blocks=vector_blocks,
        finishing=finishing(compute) if spec.has_residual or spec.activation else 0, has_residual=spec.has_residual,
    )  # fmt: skip
    arrays = (strided(input, 6), contiguous(compute, 4), strided(out, 6), contiguous(compute, 2), strided(compute, 6))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), 4), record_type(plan))
    count = spec.batch * out_d * -(-out_h // rows) * vector_blocks
    launcher = Launcher(task, signature, count, spec.multiply_adds <= SERIAL)
    one = (spec.batch, 1, spec.out_channels)

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        input, output = ops.input.reshape(*one, *spec.input_size), ops.output.reshape(*one, *spec.output_size)
        residual = residual.reshape(output.shape) if spec.has_residual else residual
        return input, ops.weight, output, bias.reshape(1, -1), residual, activation, cuts, plan

    return Kernel(launcher, collect, kept, turning, transposing)


def cost(spec: ConvSpec) -> float:
    """Seconds: 4 us to call, and over the threads 0.13 ns an element transposed, 0.1 us a block, and the cycles of the filter."""
    together = cores() if spec.multiply_adds > SERIAL else 1
    images, (_, out_h, out_w), rows = spec.batch * spec.output_size[0], spec.output_size, rows_of_task(spec)
    blocks = images * -(-spec.out_channels // lanes(spec.dtypes.compute)) * -(-out_h // rows)
    read = spec.kernel_size[0] * ((rows - 1) * spec.stride[1] + spec.kernel_extent[1]) * spec.input_size[2]
    moved = blocks * (read + rows * out_w) * lanes(spec.dtypes.compute)
    scale = spec.dtypes.compute.itemsize / 4
    cycles = images * out_h * out_w * depthwise_pixels.cycles(spec)
    return 4e-6 + (cycles * 0.28e-9 + moved * 0.13e-9 * scale + blocks * 0.1e-6) / together


DEPTHWISE_BLOCKED = Algorithm(
    name="depthwise_blocked",
    backend="cpu",
    summary="filters vectors of channels, transposed on the way in and out",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: pack(spec, weight),
    prepare=prepare,
    summation="taps",
    packer=packing,
    packing_cost=lambda spec: 5e-6 + math.prod(spec.weight_shape) * 1e-9,
)
