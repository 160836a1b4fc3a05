"""Direct convolution with lanes along the output positions: for few channels, groups and images.

A task is a block of output rows of one image and group, for some or all output channels. It packs the input that the rows
read, padded, into planes ``[channel, kd, phase of h, phase of w][row, column]``: the phases of the stride lie apart, so that
every tap reads neighbouring positions at one fixed offset, and a vector of positions may run on into the next row (what it sums
between the rows is not stored). A table of those offsets, one for each ``(c, kd, kh, kw)``, drives the microkernel. Nothing is
unfolded: the block is as large as the input it holds, not kh * kw times that. The simple case to read first: stride 1, one
group, one task.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.blocks import MODES, source
from numbaconv.cpu.cutting import even, least
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.float16 import round_to
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import aligned, as_contiguous, shaped
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.microkernel import along_positions
from numbaconv.cpu.panels import Packing, panels
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.rows import finish_row, gather_line
from numbaconv.cpu.simd import call, has_vectors, lanes
from numbaconv.cpu.target import Tile, cores, threads, tiles
from numbaconv.cpu.threads import Launcher
from numbaconv.spec import ConvSpec

__all__ = ["PIXELS"]

BLOCK_BYTES = 512 * 1024  # of packed input: half of a usual L2 cache
SUMS_BYTES = 2 * 1024 * 1024  # of a task, at most
SERIAL = 100_000  # products below which waking a second thread costs more than it brings


@inner
def pack_input(block, image, d, h0, w0, phases_h, phases_w, g):
    """block[c, kd, a, b, i, j] = image[c, d .. kd, (h0 + i) * stride + phase a, (w0 + j) * stride + phase b], padded."""
    ins, size_d, size_h, _ = image.shape
    at = 0
    for c in range(ins):
        for kd in range(g.kernel_d):
            z = source(d * g.stride_d + kd * g.dilation_d - g.low_d, size_d, g.mode)
            for a in range(phases_h.shape[0]):
                for b in range(phases_w.shape[0]):
                    for i in range(g.plane_rows):
                        row = block[at : at + g.plane_columns]
                        at += g.plane_columns
                        y = source((h0 + i) * g.stride_h + phases_h[a] - g.low_h, size_h, g.mode)
                        if z < 0 or y < 0:
                            row[:] = 0
                        else:
                            gather_line(row, image[c, z, y], w0 * g.stride_w + phases_w[b] - g.low_w, g.stride_w, g.mode)
    block[at:] = 0


@inner
def finish(sums, residual, has_residual, bias, activation, rows, columns, g):
    """sums[o, (i, j)] = activation(sums[o, (i, j)] + bias[o] + residual[o, i, j])."""
    for o in range(bias.shape[0]):
        for i in range(rows):
            part = sums[o, i * g.plane_columns : i * g.plane_columns + columns]
            finish_row(part, bias[o], residual[o, i], has_residual, activation)


@inner
def store(output, sums, g):
    """output[o, i, j] = sums[o, (i, j)], in the order of the output's memory."""
    outs, rows, columns = output.shape
    if output.strides[2] == output.itemsize:
        for o in range(outs):
            for i in range(rows):
                part = sums[o, i * g.plane_columns : i * g.plane_columns + columns]
                target = as_contiguous(output[o, i])
                for j in range(columns):
                    target[j] = round_to(target, part[j])
        return
    for i in range(rows):
        for j0 in range(0, columns, 16):  # few enough positions that their cache lines stay
            for o in range(outs):
                part = sums[o, i * g.plane_columns + j0 : i * g.plane_columns + min(columns, j0 + 16)]
                target = output[o, i, j0:]
                for j in range(part.shape[0]):
                    target[j] = round_to(target, part[j])


@inner
def task(number, frame):
    """Compute one block of rows for one block of channels of one group of one image."""
    input, weight, output, bias, residual, has_residual, activation, offsets, phases_h, phases_w, plan = arguments(frame)
    g = plan[0]
    groups, outs, out_d, out_h, out_w = output.shape[1:]
    number, channel_block = number // g.channel_blocks, number % g.channel_blocks
    number, column_block = number // g.column_blocks, number % g.column_blocks
    number, row_block = number // g.row_blocks, number % g.row_blocks
    number, d = number // out_d, number % out_d
    n, group = number // groups, number % groups
    o0, h0, w0 = channel_block * g.channels, row_block * g.rows, column_block * g.columns
    o1, h1, w1 = min(outs, o0 + g.channels), min(out_h, h0 + g.rows), min(out_w, w0 + g.columns)

    block = aligned(g.block, weight)
    pack_input(block, input[n, group], d, h0, w0, phases_h, phases_w, g)
    positions = (h1 - h0 - 1) * g.plane_columns + w1 - w0
    high, wide = -(-(o1 - o0) // g.MR) * g.MR, -(-positions // g.NR) * g.NR
    sums = shaped(aligned(high * wide, weight), (high, wide))
    for o in range(0, o1 - o0, g.MR):
        panel = weight[group, (o0 + o) // g.MR]
        for p in range(0, positions, g.NR):
            call(
                g.address, block[p:].ctypes.data, offsets.ctypes.data, g.taps, panel.ctypes.data,
                sums[o, p:].ctypes.data, sums.strides[0], 0, 0,
            )  # fmt: skip
    more = residual[n, group, o0:o1, d, h0:h1, w0:w1]
    finish(sums, more, has_residual, bias[group, o0:o1], activation, h1 - h0, w1 - w0, g)
    store(output[n, group, o0:o1, d, h0:h1, w0:w1], sums, g)


# ---------------------------------------------------------------- blocking


class Blocking(NamedTuple):
    """How a problem is cut into tasks, and what that should cost."""

    seconds: float
    MR: int
    NR: int
    rows: int
    columns: int
    channels: int


def halo(spec: ConvSpec) -> tuple[int, int]:
    """How many more rows and columns than outputs a plane has."""
    rows = zip(spec.kernel_size[1:], spec.dilation[1:], spec.stride[1:], strict=True)
    down, right = ((k - 1) * d // s for k, d, s in rows)
    return down, right


def phases(k: int, dilation: int, stride: int) -> list[int]:
    """The residues modulo the stride at which the taps of an axis read."""
    return sorted({i * dilation % stride for i in range(k)})


def planes(spec: ConvSpec) -> int:
    """How many planes a block has."""
    (kd, *kernel), (_, *dilation), (_, *stride) = spec.kernel_size, spec.dilation, spec.stride
    apart = math.prod(len(phases(*axis)) for axis in zip(kernel, dilation, stride, strict=True))
    return spec.weight_shape[2] * kd * apart


def blockings(spec: ConvSpec, tile: Tile) -> Iterator[Blocking]:
    """Yield the ways to cut a problem for a tile, from few large tasks to many small ones."""
    down, right = halo(spec)
    _, out_h, out_w = spec.output_size
    outs, width = spec.weight_shape[1], tile.NR * lanes(spec.dtypes.compute)
    room = BLOCK_BYTES // (max(1, planes(spec)) * spec.dtypes.compute.itemsize) - width
    columns = min(out_w, room // (1 + down) - right, SUMS_BYTES // (tile.MR * spec.dtypes.compute.itemsize))
    if columns < min(out_w, width):
        return
    columns = even(out_w, columns if columns == out_w else columns // width * width)
    rows = max(1, min(out_h, room // (columns + right) - down))
    panels = -(-outs // tile.MR)
    while True:
        rows = even(out_h, rows)
        most = SUMS_BYTES // (rows * (columns + right) * spec.dtypes.compute.itemsize * tile.MR)  # panels
        parts = [even(panels, -(-panels // split)) for split in (1, 2, 4, 8) if split <= panels]
        for part in [part for part in parts if part <= most] or [1] * (rows == 1 and panels > 0):
            yield Blocking(0, tile.MR, tile.NR, rows, columns, part * tile.MR)
        if rows == 1:
            return
        rows = -(-rows // 2)


def seconds(spec: ConvSpec, cut: Blocking, threads: int) -> Any:
    """Predict the time of one call, for all cuts at once.

    Tasks a thread, times what a task packs (0.15 ns an element and 10 ns a row; 0.8 ns an element where inputs are not
    neighbours), multiplies (one fused multiply-add of a vector a cycle of 0.28 ns, or two a vector of inputs, which lies across
    cache lines; 6 ns a tile) and stores (0.45 ns).
    """
    down, right = halo(spec)
    _, out_h, out_w = spec.output_size
    _, MR, NR, rows, columns, channels = cut
    outs, width = spec.weight_shape[1], NR * lanes(spec.dtypes.compute)
    scale = spec.dtypes.compute.itemsize / 4
    lines = planes(spec) * (rows + down)
    packing = lines * (10e-9 + (columns + right) * (0.8e-9 if spec.channels_last or spec.stride[2] > 1 else 0.15e-9 * scale))
    tiles_of_task = -(-channels // MR) * -(-((rows - 1) * (columns + right) + columns) // width)
    cycles = np.maximum(MR * NR, 2 * NR + MR / 2)
    multiplying = tiles_of_task * (6e-9 + math.prod(spec.weight_shape[2:]) * cycles * 0.28e-9)
    storing = channels * rows * columns * 0.45e-9 * scale
    blocks = spec.batch * spec.groups * spec.output_size[0] * -(-out_h // rows) * -(-out_w // columns)
    return -(-blocks * -(-outs // channels) // threads) * (packing + 1.15 * multiplying + storing)


def blocking(spec: ConvSpec) -> Blocking | None:
    """Return the blocking that should be fastest on the threads that there are, or None where no block is small enough.

    It does not ask how many threads are in use, so that plans and packed weights outlive ``numba.set_num_threads``.
    """
    return fastest(spec, threads())


@lru_cache(maxsize=1024)
def fastest(spec: ConvSpec, count: int) -> Blocking | None:
    """Return the blocking that should be fastest on so many threads, or None where no block of the input is small enough."""
    spec = flattened(spec)
    count = 1 if spec.multiply_adds <= SERIAL else count
    cuts = [cut for tile in tiles() for cut in blockings(spec, tile)]
    return least(cuts, lambda cuts: seconds(spec, cuts, count)) if cuts else None


def tables(spec: ConvSpec, cut: Blocking) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the offsets in bytes of every tap, and the phases of h and of w."""
    (kd, kh, kw), (_, dh, dw), (_, sh, sw), (down, right) = spec.kernel_size, spec.dilation, spec.stride, halo(spec)
    phases_h, phases_w = phases(kh, dh, sh), phases(kw, dw, sw)
    rows, columns = cut.rows + down, cut.columns + right
    h, w = np.arange(kh) * dh, np.arange(kw) * dw
    plane = np.add.outer(np.searchsorted(phases_h, h % sh) * len(phases_w), np.searchsorted(phases_w, w % sw))
    within = np.add.outer(h // sh * columns, w // sw)
    first = np.arange(spec.weight_shape[2] * kd) * (len(phases_h) * len(phases_w))
    offsets = ((first[:, None, None] + plane) * rows * columns + within) * spec.dtypes.compute.itemsize
    return offsets.ravel(), np.array(phases_h), np.array(phases_w)


# ---------------------------------------------------------------- the algorithm


def why_not(spec: ConvSpec) -> str | None:
    """Say so for dtypes without a microkernel, and for inputs of which no block is small enough."""
    if not has_vectors(spec.dtypes.compute):
        return f"there is no microkernel for {spec.dtypes.compute}"
    if math.prod(spec.output_shape) and blocking(spec) is None:
        return f"a row of its input in all {spec.weight_shape[2]} channels is more than {BLOCK_BYTES} bytes"
    return None


def prepare(spec: ConvSpec) -> Runner:
    """Choose the blocking, compile for the spec's dtypes, and return what calls the kernel."""
    spec = flattened(spec)
    cut = blocking(spec)
    if cut is None:  # nothing to compute
        return lambda ops: None
    (down, right), (_, out_h, out_w), outs = halo(spec), spec.output_size, spec.weight_shape[1]
    rows, columns, width = cut.rows + down, cut.columns + right, cut.NR * lanes(spec.dtypes.compute)
    input, compute, out, _ = spec.dtypes
    micro, finish = along_positions(Tile(cut.MR, cut.NR), compute), Epilogue(spec)
    offsets, phases_h, phases_w = tables(spec, cut)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2], dilation_d=spec.dilation[0],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0], kernel_d=spec.kernel_size[0],
        mode=MODES[spec.padding_mode], taps=offsets.size, rows=cut.rows, row_blocks=-(-out_h // cut.rows),
        columns=cut.columns, column_blocks=-(-out_w // cut.columns), channels=cut.channels,
        channel_blocks=-(-outs // cut.channels), MR=cut.MR, NR=width, plane_rows=rows, plane_columns=columns,
        block=planes(spec) * rows * columns + width, address=micro.address,
    )  # fmt: skip
    arrays, tables_of = (strided(input, 6), contiguous(compute, 4), strided(out, 6)), [contiguous(np.dtype(np.int64), 1)] * 3
    blocks = -(-out_h // cut.rows) * -(-out_w // cut.columns) * -(-outs // cut.channels)
    count = spec.batch * spec.groups * spec.output_size[0] * blocks
    launcher = Launcher(task, (*arrays, *finish.types, *tables_of, record_type(plan)), count, spec.multiply_adds <= SERIAL)

    def collect(ops: Operands) -> tuple:
        input, output = (
            ops.input.reshape(spec.input_shape),
            ops.output.reshape(spec.output_shape),
        )  # copies where axes do not merge
        bias, residual, has_residual, activation = finish.arguments(ops)
        if has_residual:
            residual = residual.reshape(spec.output_shape)
        return input, ops.weight, output, bias, residual, has_residual, activation, offsets, phases_h, phases_w, plan

    return Kernel(launcher, collect, micro)


def flattened(spec: ConvSpec) -> ConvSpec:
    """A 1x1 convolution of stride 1 sees no rows: its positions are one long row."""
    plain = set(spec.kernel_size) == set(spec.stride) == {1} and not any(map(any, spec.padding))
    if not plain or max(spec.input_size) == math.prod(spec.input_size):
        return spec
    return replace(spec, input_size=(1, 1, math.prod(spec.input_size)))


@lru_cache(maxsize=1024)
def packing(spec: ConvSpec) -> Packing:
    """Return what packs weights as panels ``(groups, panels, taps, MR)`` in the compute dtype."""
    return panels(spec.weight_shape, rows_of_panels(spec), spec.dtypes.compute)


def rows_of_panels(spec: ConvSpec) -> int:
    """Return the MR of the problem's tile, which depends on the data's size too."""
    cut = blocking(spec)
    return 1 if cut is None else cut.MR


def cost(spec: ConvSpec) -> float:
    """Seconds: 3 us to call, and what :func:`seconds` predicts for the best blocking."""
    cut = fastest(spec, cores())
    return 3e-6 + (0 if cut is None else cut.seconds)


PIXELS = Algorithm(
    name="pixels",
    backend="cpu",
    summary="microkernel with lanes along output positions, on blocks of the padded input; real numbers",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: packing(spec)(weight),
    prepare=prepare,
    summation="taps",
    packing_cost=lambda spec: 10e-6 + math.prod(spec.weight_shape) * 1e-9,
    packer=packing,
    packing=rows_of_panels,
)
