"""Winograd convolution: tiles of m x m outputs of a k x k kernel from (m + k - 1)^2 products a channel, in the L2 cache.

A task takes some lines of tiles, which may be of several images. It copies the input that they read, padded and with channels
last, transforms it into ``values[element, tile, channel]`` with lanes along channels, and for each panel of output channels
multiplies it by the transformed weights, element by element, with the microkernel, and transforms the products back. The sum over
channels, and over the depth of the kernel, happens between the transforms, which are those of ``toom.py``. The simple case to
read first: one image, one group, depth 1.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.blocks import MODES, Copying
from numbaconv.cpu.cutting import cuts_for, even, find_cut, least, over_pieces, tile_cycles
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, invoke, keep, shaped
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.microkernel import along_channels
from numbaconv.cpu.panels import Packing, packing_seconds, transformed_panels
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import call, lanes
from numbaconv.cpu.store import finishing, storing
from numbaconv.cpu.target import Tile, cores, threads, tiles
from numbaconv.cpu.threads import Launcher
from numbaconv.cpu.transforms import input_transform, output_transform
from numbaconv.cpu.transpose import to_rows
from numbaconv.spec import ConvSpec
from numbaconv.toom import TERMS, Filter

__all__ = ["WINOGRAD2", "WINOGRAD4"]


WORKSPACE = 2**20  # bytes of a task at most: an L2 cache
MOST = 4 * 2**20  # where no few tiles fit into that
NEARBY = 700_000  # bytes of a task of which the L2 cache keeps all that is used again
ELEMENTS = 400  # of a transformed tile, at most, so that transforms are compiled within a second
NEAR, FAR = 12_000_000, 26_000_000  # bytes of transformed weights: up to these the L3 cache keeps all, from these none


@inner
def transform_input(values, input, group, line0, line1, tile0, tiles, out_d, p):
    """values[element, tile, (kd, c)] = the transformed input of tiles `tile0` on of the lines from `line0` to `line1` - 1."""
    image = input[0, group]
    channels, size = image.shape[0], values.itemsize
    wide = (tiles - 1) * p.step_w + p.extent_w
    most = (min(p.lines, line1 - line0) - 1) * p.step_h + p.extent_h
    memory = aligned(most * wide * p.chunk, values)
    line = line0
    while line < line1:
        number, first = line // p.lines, line % p.lines
        count = min(p.lines - first, line1 - line)
        n, d = number // out_d, number % out_d
        high = (count - 1) * p.step_h + p.extent_h
        y, x = first * p.step_h - p.low_h, tile0 * p.step_w - p.low_w
        for kd in range(p.kernel_d):
            z = d * p.stride_d + kd * p.dilation_d - p.low_d
            for c in range(0, p.pitch, p.chunk):
                pitch = min(p.chunk, p.pitch - c)
                some = input[n, group, c : min(channels, c + pitch)]
                copy = shaped(memory, (1, high, wide, pitch))
                invoke(p.copying, (copy, some, z, y, x, 1, p.mode, p.copying_how))
                for i in range(count):
                    for j in range(tiles):
                        tile = (line - line0 + i) * tiles + j
                        call(
                            p.call_input, address_of(copy[0, i * p.step_h, j * p.step_w]), copy.strides[1], copy.strides[2],
                            address_of(values[0, tile, kd * p.pitch + c :]), values.strides[0], pitch * size // p.vector, 0, 0,
                        )  # fmt: skip
        line += count
    keep(memory)


@inner
def multiply(products, values, weights, offsets, cut):
    """products[element, tile, o] = sum over k of values[element, tile, k] * weights[element, k, o]."""
    table, count = offsets.ctypes.data, offsets.size
    pixel, row = values.strides[1], products.strides[1]
    for e in range(values.shape[0]):
        at, to, panel = address_of(values[e]), address_of(products[e]), address_of(weights[e])
        for number, positions, micro in cut:
            for _ in range(number):
                call(micro, at, table, count, panel, to, row, pixel, 0)
                at += positions * pixel
                to += positions * row


@inner
def transform_output(products, output, group, o0, o1, line0, line1, tile0, tiles, sums, bias, residual, activation, p):
    """Transform the products back, finish and store them."""
    out_d, out_h, out_w = output.shape[3:]
    w0 = tile0 * p.m_w
    w1 = min(out_w, w0 + tiles * p.m_w)
    line = line0
    size = products.itemsize
    while line < line1:
        number, first = line // p.lines, line % p.lines
        count = min(p.lines - first, line1 - line)
        n, d = number // out_d, number % out_d
        for i in range(count):
            h0 = (first + i) * p.m_h
            h1 = min(out_h, h0 + p.m_h)
            for j in range(tiles):
                tile = (line - line0 + i) * tiles + j
                call(
                    p.call_output, address_of(products[0, tile]), products.strides[0], address_of(sums[0, j * p.m_w]),
                    sums.strides[0], sums.strides[1], products.shape[2] * size // p.vector, 0, 0,
                )  # fmt: skip
            if p.finishing != 0:
                more = residual[n, group, o0:o1, d, h0:h1, w0:w1] if p.has_residual else residual[0, 0, :, 0]
                invoke(p.finishing, (sums, h1 - h0, w1 - w0, more, p.has_residual, bias[group, o0:o1], activation))
            invoke(p.storing, (output[n, group, o0:o1, d, h0:h1, w0:w1], sums, p.transposing))
        line += count


@inner
def task(number, frame):
    """Compute some lines of tiles of one group, for some panels of channels."""
    input, weight, output, bias, residual, activation, cuts, plan = arguments(frame)
    p = plan[0]
    batch, groups, outs, out_d, out_h, out_w = output.shape
    number, panel_block = number // p.panel_blocks, number % p.panel_blocks
    number, column_block = number // p.column_blocks, number % p.column_blocks
    number, line_block = number // p.line_blocks, number % p.line_blocks
    group = number
    lines = batch * out_d * p.lines
    line0 = line_block * p.task_lines
    line1 = min(lines, line0 + p.task_lines)
    tile0 = column_block * p.task_tiles
    tiles = min(p.tiles, tile0 + p.task_tiles) - tile0
    count = (line1 - line0) * tiles

    cut = find_cut(cuts, count)
    depth, width = p.kernel_d * p.pitch, weight.shape[4]
    values = shaped(aligned(p.elements * count * depth, weight), (p.elements, count, depth))
    products = shaped(aligned(p.elements * count * width, weight), (p.elements, count, width))
    sums = shaped(aligned(p.m_h * tiles * p.m_w * width, weight), (p.m_h, tiles * p.m_w, width))
    offsets = aligned(weight.shape[3], np.int64)
    channels = input.shape[2]
    for kd in range(p.kernel_d):
        for c in range(channels):
            offsets[kd * channels + c] = (kd * p.pitch + c) * weight.itemsize
    transform_input(values, input, group, line0, line1, tile0, tiles, out_d, p)
    panel0 = panel_block * p.panels
    for panel in range(panel0, min(weight.shape[1], panel0 + p.panels)):
        multiply(products, values, weight[group, panel], offsets, cut)
        o0 = panel * width
        o1 = min(outs, o0 + width)
        transform_output(products, output, group, o0, o1, line0, line1, tile0, tiles, sums, bias, residual, activation, p)
    keep(offsets)


# ---------------------------------------------------------------- blocking


class Blocking(NamedTuple):
    """How a problem is cut into tasks, and what that should cost."""

    seconds: float
    NR: int
    MR: int  # at most
    lines: int  # of tiles, of a task
    tiles: int  # of a line, of a task
    panels: int  # of output channels, of a task


class Shape(NamedTuple):
    """What F(m, k) makes of a problem."""

    high: Filter
    wide: Filter
    lines: int  # of tiles in an image
    tiles: int  # in a line
    pitch: int  # channels, and zeros up to whole vectors, and no multiple of a page
    elements: int  # of a transformed tile


@lru_cache(maxsize=1024)
def shape(spec: ConvSpec, m: int) -> Shape:
    """Return the tiles of a problem; an axis along which no two outputs share an input is not cut into tiles.

    Transforms along both axes take parts of 3 taps, as those of more would lose too many digits.
    """
    axes = list(zip(spec.kernel_size[1:], spec.stride[1:], strict=True))
    both = all(taps > stride for taps, stride in axes)
    high, wide = (Filter(m if taps > stride else 1, taps, stride, 3 if both else 9 - m) for taps, stride in axes)
    down, across = (-(-n // axis.m) for n, axis in zip(spec.output_size[1:], (high, wide), strict=True))
    vector = lanes(spec.dtypes.compute)
    pitch = -(-spec.weight_shape[2] // vector) * vector
    if pitch * spec.dtypes.compute.itemsize % 1024 == 0:
        pitch += vector
    return Shape(high, wide, down, across, pitch, high.products * wide.products)


def blockings(spec: ConvSpec, m: int, tile: Tile) -> list[Blocking]:
    """Return the ways to cut a problem for a register tile."""
    s = shape(spec, m)
    lines = spec.batch * spec.output_size[0] * s.lines
    panels = -(-spec.weight_shape[1] // (tile.NR * lanes(spec.dtypes.compute)))
    found = []
    bytes_of_tile = workspace(spec, m, Blocking(0, tile.NR, tile.MR, 1, 1, 1))
    narrow = max(1, MOST // bytes_of_tile)
    for wide in {even(s.tiles, min(-(-s.tiles // part), narrow)) for part in (1, 2, 4)}:
        high = lines
        while high:
            for split in (1, 2, 4, 8):
                if split <= panels:
                    found.append(Blocking(0, tile.NR, tile.MR, high, wide, even(panels, -(-panels // split))))
            high = even(lines, -(-high // 2)) if high > 1 else 0
    fitting = [cut for cut in found if bytes_of_tile * cut.lines * cut.tiles <= WORKSPACE]
    return fitting or [min(found, key=lambda cut: cut.lines * cut.tiles)]


def workspace(spec: ConvSpec, m: int, cut: Blocking) -> int:
    """The bytes of a task's transformed inputs and products."""
    s, width = shape(spec, m), cut.NR * lanes(spec.dtypes.compute)
    return s.elements * cut.lines * cut.tiles * (spec.kernel_size[0] * s.pitch + width) * spec.dtypes.compute.itemsize


def seconds(spec: ConvSpec, m: int, cut: Blocking, threads: int) -> Any:
    """Predict the time of one call, for all cuts at once."""
    s = shape(spec, m)
    itemsize, vector = spec.dtypes.compute.itemsize, lanes(spec.dtypes.compute)
    depth, width = spec.kernel_size[0] * s.pitch, cut.NR * vector
    taps = spec.kernel_size[0] * spec.weight_shape[2]
    count = cut.lines * cut.tiles
    weights = s.elements * taps * width * itemsize
    heights = -(-cut.lines // s.lines), np.minimum(cut.lines, s.lines)  # of images, and of lines in each
    sides = [(n - 1) * axis.step + axis.extent for n, axis in zip((heights[1], cut.tiles), (s.high, s.wide), strict=True)]
    copied = heights[0] * math.prod(sides) * depth
    transforming = copied * (0.05e-9 if spec.channels_last else 0.2e-9) + count * depth / vector * s.elements * 1.4e-9
    cycles = over_pieces(count, cut.MR, lambda r: tile_cycles(r, cut.NR, taps) + 0.5 * r * taps / vector)
    multiplying = cut.panels * s.elements * cycles * 0.28e-9
    beyond = np.maximum(0, workspace(spec, m, cut) - NEARBY)
    far = np.clip((spec.groups * weights * -(-spec.weight_shape[1] // width) - NEAR) / (FAR - NEAR), 0, 1)
    far *= np.where(cut.panels * width < spec.weight_shape[1], 1, 0.5)  # threads that use the same weights wait for them once
    rate = (0.015e-9 + 0.045e-9 * far) * (1 + 2 / cut.NR**2)  # a single stream of weights comes slowest
    arriving = cut.panels * weights * rate
    multiplying = np.maximum(multiplying, arriving) + 0.2 * np.minimum(multiplying, arriving)
    streaming = cut.panels * beyond * 0.05e-9 + beyond * 0.15e-9
    outputs = count * s.high.m * s.wide.m * width
    storing = cut.panels * (count * cut.NR * s.elements * 0.8e-9 + outputs * (0.05e-9 if spec.channels_last else 0.25e-9))
    blocks = -(-spec.batch * spec.output_size[0] * s.lines // cut.lines) * -(-s.tiles // cut.tiles) * spec.groups
    panels = -(-spec.weight_shape[1] // width)
    return -(-blocks * -(-panels // cut.panels) // threads) * (transforming + multiplying + streaming + storing)


def blocking(spec: ConvSpec, m: int) -> Blocking:
    """Return the blocking that should be fastest on the threads that there are."""
    return fastest(spec, m, threads())


@lru_cache(maxsize=1024)
def fastest(spec: ConvSpec, m: int, count: int) -> Blocking:
    """Return the blocking that should be fastest on so many threads."""
    if not math.prod(spec.output_shape):
        return Blocking(0, 1, 1, 1, 1, 1)
    return least([cut for tile in tiles() for cut in blockings(spec, m, tile)], lambda cuts: seconds(spec, m, cuts, count))


# ---------------------------------------------------------------- the algorithms


def describe(spec: ConvSpec) -> str:
    """The kernel, as text."""
    strides = " of stride {} x {}".format(*spec.stride[1:]) if set(spec.stride[1:]) != {1} else ""
    return "{} x {} kernel".format(*spec.kernel_size[1:]) + strides


def why_not(spec: ConvSpec, m: int) -> str | None:
    """Say so for what F(m, k) does not apply to, or would make too inaccurate."""
    if spec.dtypes.compute.kind != "f":
        return f"its transforms have fractions, which {spec.dtypes.compute} has not"
    if set(spec.dilation[1:]) != {1}:
        return "dilations leave its tiles nothing to share"
    axes = [axis for axis in shape(spec, m)[:2] if axis.m > 1]
    if not axes:
        return f"no two outputs of a {describe(spec)} share an input"
    if shape(spec, m).elements > ELEMENTS:
        return f"a {describe(spec)} would take transforms of {shape(spec, m).elements} elements, more than {ELEMENTS}"
    products = max(m + taps - 1 for axis in axes for _, taps in axis.parts)
    if spec.kernel_size[0] * spec.weight_shape[2] < (TERMS if products > 4 else 1):
        return f"sums over fewer than {TERMS} channels leave its rounding errors no room"
    return None


def prepare(spec: ConvSpec, m: int) -> Runner:
    """Compile for the spec's dtypes, and return what calls the kernel."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    cut, s = blocking(spec, m), shape(spec, m)
    input, compute, out, _ = spec.dtypes
    lines = spec.batch * spec.output_size[0] * s.lines
    panels = -(-spec.weight_shape[1] // (cut.NR * lanes(compute)))
    last_lines, last_tiles = (n - (-(-n // part) - 1) * part for n, part in ((lines, cut.lines), (s.tiles, cut.tiles)))
    counts = {a * b for a in (cut.lines, last_lines) for b in (cut.tiles, last_tiles)}
    cuts, kept = cuts_for(counts, cut.MR, lambda rows: along_channels(Tile(rows, cut.NR), compute))
    finish = Epilogue(spec)
    forth, back = input_transform(s.high, s.wide, compute), output_transform(s.high, s.wide, compute)
    transposing = to_rows(compute)
    copying = Copying.of(spec, True, not spec.channels_last and input == compute)
    plan = record(
        stride_d=spec.stride[0], dilation_d=spec.dilation[0], kernel_d=spec.kernel_size[0],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0],
        extent_h=s.high.extent, extent_w=s.wide.extent, step_h=s.high.step, step_w=s.wide.step, m_h=s.high.m, m_w=s.wide.m,
        lines=s.lines, tiles=s.tiles, elements=s.elements, pitch=s.pitch, chunk=min(s.pitch, 4 * lanes(compute)),
        mode=MODES[spec.padding_mode], copying=copying.address, copying_how=copying.how, vector=lanes(compute) * compute.itemsize,
        finishing=finishing(compute) if spec.has_bias or spec.has_residual or spec.activation else 0,
        storing=storing(out, compute), has_residual=spec.has_residual,
        transposing=transposing.address if out == compute else 0, call_input=forth.address, call_output=back.address,
        task_lines=cut.lines, line_blocks=-(-lines // cut.lines), task_tiles=cut.tiles, column_blocks=-(-s.tiles // cut.tiles),
        panels=cut.panels, panel_blocks=-(-panels // cut.panels),
    )  # fmt: skip
    arrays = (strided(input, 6), contiguous(compute, 5), strided(out, 6), contiguous(compute, 2), strided(compute, 6))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), 3), record_type(plan))
    count = spec.groups * -(-lines // cut.lines) * -(-s.tiles // cut.tiles) * -(-panels // cut.panels)
    launcher = Launcher(task, signature, count, False)

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        return ops.input, ops.weight, ops.output, bias, residual, activation, cuts, plan

    return Kernel(launcher, collect, kept, forth, back, transposing)


@lru_cache(maxsize=1024)
def packing(spec: ConvSpec, m: int) -> Packing:
    """Return what transforms weights to panels ``(groups, panels, elements, kd * channels, NR * lanes)`` in the compute dtype."""
    dtype = spec.dtypes.compute
    s, vector = shape(spec, m), lanes(dtype)
    return transformed_panels(spec.weight_shape, s.high, s.wide, blocking(spec, m).NR * vector, vector, dtype)


def packing_cost(spec: ConvSpec, m: int) -> float:
    """Predict how long the weights take to be transformed and packed."""
    transformed = math.prod(spec.weight_shape[:4]) * shape(spec, m).elements
    return 3e-6 + packing_seconds(transformed, spec.dtypes.compute.itemsize)


def winograd(m: int) -> Algorithm:
    """Return the algorithm for tiles of m x m outputs."""
    return Algorithm(
        name=f"winograd{m}",
        backend="cpu",
        summary=f"F({m} x {m}, k x k), transformed and multiplied block by block in the L2 cache",
        why_not=lambda spec: why_not(spec, m),
        cost=lambda spec: 5e-6 + fastest(spec, m, cores()).seconds,
        pack=lambda spec, weight, stream: packing(spec, m)(weight),
        prepare=lambda spec: prepare(spec, m),
        packing_cost=lambda spec: packing_cost(spec, m),
        sums_directly=False,
        packer=lambda spec: packing(spec, m),
        packing=lambda spec: blocking(spec, m).NR,
    )


WINOGRAD2, WINOGRAD4 = winograd(2), winograd(4)
