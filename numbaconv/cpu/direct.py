"""Direct convolution with lanes along the output channels: scalars of the input times vectors of weights.

A task is a block of output rows of one image and group, for some or all output channels. For each panel of NR vectors of
channels and each MR neighbouring positions it calls the microkernel, which reads the input by a table of offsets, one for each
``(c, kd, kh, kw)``, and a step from one position to the next: any stride, dilation and layout, in place. Only where there is
padding, or another dtype, it first makes a padded copy of what the block reads. The simple case to read first: channels
last, no padding, one group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.blocks import MODES, Copying
from numbaconv.cpu.cutting import L1_BYTES, LINE, cuts_for, even, find_cut, least, over_pieces, tile_cycles
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, invoke, keep, shaped
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.microkernel import along_channels
from numbaconv.cpu.panels import Packing, packing_alone, packing_seconds, panels
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import call, has_vectors, lanes
from numbaconv.cpu.store import finishing, storing
from numbaconv.cpu.target import Tile, cores, threads, tiles
from numbaconv.cpu.threads import Launcher
from numbaconv.cpu.transpose import to_rows
from numbaconv.spec import ConvSpec

__all__ = ["DIRECT", "DIRECT_UNPACKED"]

BLOCK_BYTES = 512 * 1024  # of input that a task reads: half of a usual L2 cache
ROW_BYTES = 1024 * 1024  # of the sums of a row, at most
SUMS_BYTES = 16 * 1024  # of sums between their summation and their place: half of a usual L1 cache
PANEL_BYTES = 1024 * 1024  # of weights that a task packs at once: an L2 cache
PAGE = 4096  # bytes after which the sets of an L1 cache repeat
TURNED = 16  # channels, at least, that are worth a transposition
SERIAL = 100_000  # products below which waking a second thread costs more than it brings


@inner
def fill_offsets(offsets, channels, channel, depth, row, column, p):
    """offsets[(c, kd, kh, kw)], for the bytes from a channel, plane, row and column of the input to the next."""
    k = 0
    for c in range(channels):
        for kd in range(p.kernel_d):
            for kh in range(p.kernel_h):
                first = c * channel + kd * depth + kh * p.dilation_h * row
                for kw in range(p.kernel_w):
                    offsets[k] = first + kw * p.dilation_w * column
                    k += 1


@inner
def multiply_rows(sums, sums_row, sums_pixel, rows, origin, row, step, offsets, weights, cut):
    """Sum `rows` rows of output positions for one panel of channels."""
    table, taps = offsets.ctypes.data, offsets.size
    for i in range(rows):
        at, to = origin + i * row, sums + i * sums_row
        for number, positions, micro in cut:
            for _ in range(number):
                call(micro, at, table, taps, weights, to, sums_pixel, step, 0)
                at += positions * step
                to += positions * sums_pixel


@inner
def task(number, frame):
    """Compute one block of rows for some panels of channels of one group of one image."""
    input, weight, output, bias, residual, activation, cuts, plan = arguments(frame)
    p = plan[0]
    groups, outs, out_d, out_h, out_w = output.shape[1:]
    number, panel_block = number // p.panel_blocks, number % p.panel_blocks
    number, column_block = number // p.column_blocks, number % p.column_blocks
    number, row_block = number // p.row_blocks, number % p.row_blocks
    number, d = number // out_d, number % out_d
    n, group = number // groups, number % groups
    h0, w0 = row_block * p.rows, column_block * p.columns
    h1, w1 = min(out_h, h0 + p.rows), min(out_w, w0 + p.columns)
    rows, columns = h1 - h0, w1 - w0
    panel0 = panel_block * p.panels
    panel1 = min(weight.shape[1], panel0 + p.panels)

    image, size = input[n, group, :, :, :: p.skip_h, :: p.skip_w], weight.itemsize
    channels = image.shape[0]
    y, x = h0 * p.stride_h - p.low_h, w0 * p.stride_w - p.low_w
    high = (rows - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1
    wide = (columns - 1) * p.stride_w + (p.kernel_w - 1) * p.dilation_w + 1
    offsets = aligned(channels * p.kernel_d * p.kernel_h * p.kernel_w, np.int64)
    block = aligned(0 if p.in_place else p.pitch * p.kernel_d * high * wide, weight)
    if p.in_place:
        strides = image.strides
        origin = address_of(image) + d * p.stride_d * strides[1] + y * strides[2] + x * strides[3]
        channel, depth, row, column = strides[0], p.dilation_d * strides[1], strides[2], strides[3]
    else:
        shape = (p.kernel_d, high, wide, p.pitch) if p.last else (channels, p.kernel_d, high, wide)
        copy = shaped(block, shape)
        z = d * p.stride_d - p.low_d
        invoke(p.copying, (copy, image, z, y, x, p.dilation_d, p.mode, p.copying_how))
        first, second, third, fourth = copy.strides
        depth, row, column, channel = (first, second, third, fourth) if p.last else (second, third, fourth, first)
        origin = address_of(copy)
    fill_offsets(offsets, channels, channel, depth, row, column, p)
    row, step = row * p.stride_h, column * p.stride_w

    cut, width = find_cut(cuts, columns), weight.shape[3]
    direct = p.plain and output.strides[2] == size
    sums = shaped(aligned(p.sums_rows * columns * width, weight), (p.sums_rows, columns, width))
    buffer = aligned(weight.shape[2] * width if p.packer != 0 else 0, weight)
    for panel in range(panel0, panel1):
        weights = address_of(weight[group, panel])
        if p.packer != 0:
            invoke(p.packing, (buffer, weight, group * weight.shape[1] + panel, p.packer, p.packer_frame))
            weights = address_of(buffer)
        o0 = panel * width
        o1 = min(outs, o0 + width)
        result = output[n, group, o0:o1, d, h0:h1, w0:w1]
        if direct and o1 - o0 == width:
            multiply_rows(
                address_of(result), result.strides[1], result.strides[2], rows, origin, row, step, offsets, weights, cut,
            )  # fmt: skip
            continue
        more = residual[n, group, o0:o1, d, h0:h1, w0:w1] if p.has_residual else residual[0, 0, :, 0]
        for i in range(0, rows, p.sums_rows):
            count = min(p.sums_rows, rows - i)
            multiply_rows(
                address_of(sums), columns * width * size, width * size, count, origin + i * row, row, step, offsets, weights, cut,
            )  # fmt: skip
            if p.finishing != 0:
                invoke(p.finishing, (sums, count, columns, more[:, i:], p.has_residual, bias[group, o0:o1], activation))
            invoke(p.storing, (result[:, i : i + count], sums, p.transposing))
    keep(block)
    keep(buffer)
    keep(offsets)


# ---------------------------------------------------------------- blocking


class Blocking(NamedTuple):
    """How a problem is cut into tasks, and what that should cost."""

    seconds: float
    in_place: bool
    NR: int
    MR: int  # at most
    rows: int
    columns: int
    panels: int  # of a task


def unstrided(spec: ConvSpec) -> ConvSpec:
    """The problem on the inputs that it reads: an axis with one tap and no padding sees every stride-th only."""
    axes = list(zip(spec.kernel_size, spec.padding, spec.stride, spec.input_size, strict=True))
    skips = [s if i and k == 1 and not any(pads) else 1 for i, (k, pads, s, _) in enumerate(axes)]
    stride = tuple(s // skip for (_, _, s, _), skip in zip(axes, skips, strict=True))
    size = tuple(-(-n // skip) for (_, _, _, n), skip in zip(axes, skips, strict=True))
    return replace(spec, stride=stride, input_size=size) if max(skips) > 1 else spec


def may_be_in_place(spec: ConvSpec) -> bool:
    """Whether the input can be read as it lies: no padding, and of the dtype to compute in."""
    return not any(map(any, spec.padding)) and spec.dtypes.input == spec.dtypes.compute


def turns(spec: ConvSpec) -> bool:
    """Whether the copy of an input with channels first has them last: then what a tap reads of all channels lies together."""
    return not spec.channels_last and spec.dtypes.input == spec.dtypes.compute and spec.weight_shape[2] >= TURNED


def pitch(spec: ConvSpec) -> int:
    """The channels of a pixel of the copy; where they come last, no even number of cache lines: neighbours would share sets."""
    channels, dtype = spec.weight_shape[2], spec.dtypes.compute
    crowded = (spec.channels_last or turns(spec)) and channels * dtype.itemsize % (2 * LINE) == 0
    return channels + LINE // dtype.itemsize * crowded


def pixels(spec: ConvSpec, positions: Any) -> Any:
    """How many pixels of a row some neighbouring positions read."""
    return np.minimum(positions * spec.kernel_size[2], (positions - 1) * spec.stride[2] + spec.kernel_extent[2])


def conflict(spec: ConvSpec, positions: Any) -> Any:
    """Whether what a tile reads again and again falls into few sets of an L1 cache of 8 ways, channels last and in place.

    Where a pixel's bytes divide by many powers of 2, neighbouring pixels share a set.
    """
    step = spec.stride[2] if spec.kernel_size[2] == 1 else 1
    pixel = math.gcd(spec.in_channels * spec.dtypes.input.itemsize * step, PAGE)
    return spec.channels_last & (spec.kernel_size[1] * pixels(spec, positions) > 8 * (PAGE // max(pixel, LINE)))


def fetched(spec: ConvSpec, cut: Blocking, positions: Any) -> Any:
    """The cycles for a tile's inputs to come from the L2 cache: half a cycle a line, of which all taps of a channel make use.

    None where what a row of outputs reads stays in the L1 cache, beside the panel.
    """
    (depth, high, _), channels = spec.kernel_size, spec.weight_shape[2]
    itemsize = spec.dtypes.compute.itemsize
    stays = span(spec, 1, cut.columns) * itemsize + panel_bytes(spec, cut.NR) <= L1_BYTES
    count, line = pixels(spec, positions), LINE / itemsize
    lines = count / line if spec.channels_last or turns(spec) else 1 + (count - 1) // line
    return np.where(stays, 0, 0.5 * depth * high * channels * lines)


def span(spec: ConvSpec, rows: Any, columns: Any) -> Any:
    """How many elements of the input a block of output rows and columns reads."""
    sizes = ((n - 1) * s + e for n, s, e in zip((rows, columns), spec.stride[1:], spec.kernel_extent[1:], strict=True))
    return spec.weight_shape[2] * spec.kernel_size[0] * math.prod(sizes)


def blockings(spec: ConvSpec, tile: Tile) -> Iterator[Blocking]:
    """Yield the ways to cut a problem for a tile, from few large tasks to many small ones."""
    _, out_h, out_w = spec.output_size
    panels = -(-spec.weight_shape[1] // (tile.NR * lanes(spec.dtypes.compute)))
    itemsize = spec.dtypes.compute.itemsize
    columns, most = out_w, ROW_BYTES // (tile.NR * lanes(spec.dtypes.compute) * itemsize)
    while columns > tile.MR and (span(spec, 1, columns) * itemsize > BLOCK_BYTES or columns > most):
        columns = even(out_w, -(-columns // 2))
    places = {False, may_be_in_place(spec)}
    rows = out_h
    while rows > 1 and span(spec, rows, columns) * itemsize > BLOCK_BYTES:
        rows = even(out_h, -(-rows // 2))
    while True:
        for split in (1, 2, 4, 8):
            for in_place in places:
                if split <= panels:
                    yield Blocking(0, in_place, tile.NR, tile.MR, rows, columns, even(panels, -(-panels // split)))
        if rows == 1:
            return
        rows = even(out_h, -(-rows // 2))


def seconds(spec: ConvSpec, cut: Blocking, threads: int, unpacked: bool) -> Any:
    """Predict the time of one call, for all cuts at once."""
    _, out_h, out_w = spec.output_size
    taps, width = math.prod(spec.weight_shape[2:]), cut.NR * lanes(spec.dtypes.compute)
    scale = spec.dtypes.compute.itemsize / 4
    planes = 1 if spec.channels_last else spec.weight_shape[2] / (lanes(spec.dtypes.compute) if turns(spec) else 1)
    lines = planes * spec.kernel_size[0] * cut.rows * spec.stride[1]
    packing = lines * 10e-9 + span(spec, cut.rows, cut.columns) * (0.1e-9 if spec.channels_last else 0.3e-9) * scale
    packing = np.where(cut.in_place, 0, packing)
    slow = np.where(cut.in_place, 20.0 * conflict(spec, even(cut.columns, cut.MR)), 0)
    cycles = over_pieces(cut.columns, cut.MR, lambda m: tile_cycles(m, cut.NR, taps) + slow * taps + fetched(spec, cut, m))
    multiplying = cut.panels * cut.rows * cycles * 0.28e-9
    # weights stream from the L3 cache once a task, from L2 for each row
    streaming = cut.panels * taps * width * scale * (0.3e-9 if unpacked else 0.12e-9)
    storing = cut.panels * width * cut.rows * cut.columns * (0.05e-9 if spec.channels_last else 0.25e-9) * scale
    blocks = spec.batch * spec.groups * spec.output_size[0] * -(-out_h // cut.rows) * -(-out_w // cut.columns)
    panels = -(-spec.weight_shape[1] // width)
    return -(-blocks * -(-panels // cut.panels) // threads) * (packing + multiplying + streaming + storing)


def panel_bytes(spec: ConvSpec, NR: Any) -> Any:
    """The bytes of a panel of packed weights."""
    return math.prod(spec.weight_shape[2:]) * NR * lanes(spec.dtypes.compute) * spec.dtypes.compute.itemsize


def blocking(spec: ConvSpec, unpacked: bool = False) -> Blocking:
    """Return the blocking that should be fastest on the threads that there are."""
    return fastest(spec, unpacked, threads())


@lru_cache(maxsize=1024)
def fastest(spec: ConvSpec, unpacked: bool, count: int) -> Blocking:
    """Return the blocking that should be fastest on so many threads, if tasks take packed weights or if they pack them."""
    if not math.prod(spec.output_shape):
        return Blocking(0, False, 1, 1, 1, 1, 1)
    spec = unstrided(spec)
    count = 1 if spec.multiply_adds <= SERIAL else count
    fitting = [tile for tile in tiles() if not unpacked or tile.NR == 1 or panel_bytes(spec, tile.NR) <= PANEL_BYTES]
    return least([cut for tile in fitting for cut in blockings(spec, tile)], lambda cuts: seconds(spec, cuts, count, unpacked))


# ---------------------------------------------------------------- the algorithm


def why_not(spec: ConvSpec) -> str | None:
    """Say so for dtypes without vectors."""
    return None if has_vectors(spec.dtypes.compute) else f"there are no vectors of {spec.dtypes.compute}"


def why_not_unpacked(spec: ConvSpec) -> str | None:
    """Say so where even the narrowest panel of weights is too large for a cache."""
    if panel_bytes(spec, 1) > PANEL_BYTES:
        return f"a panel of its weights takes {panel_bytes(spec, 1)} bytes, more than an L2 cache"
    return why_not(spec)


def prepare(spec: ConvSpec, unpacked: bool = False) -> Runner:
    """Compile for the spec's dtypes, and return what calls the kernel, which takes packed weights or packs them itself."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    cut, whole, spec = blocking(spec, unpacked), spec, unstrided(spec)
    input, compute, out, _ = spec.dtypes
    _, out_h, out_w = spec.output_size
    rest = out_w - (-(-out_w // cut.columns) - 1) * cut.columns
    cuts, kept = cuts_for({cut.columns, rest}, cut.MR, lambda rows: along_channels(Tile(rows, cut.NR), compute))
    width = cut.NR * lanes(compute)
    panels = -(-spec.weight_shape[1] // width)
    finish, plain = Epilogue(spec), not (spec.has_bias or spec.has_residual or spec.activation)
    transposing = to_rows(compute) if out == compute else None
    last = spec.channels_last or turns(spec)
    copying = Copying(0, 0) if cut.in_place else Copying.of(spec, last, turns(spec))
    packer, packer_frame = packing(whole, True).task() if unpacked else (0, None)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2],
        dilation_d=spec.dilation[0], dilation_h=spec.dilation[1], dilation_w=spec.dilation[2],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0],
        kernel_d=spec.kernel_size[0], kernel_h=spec.kernel_size[1], kernel_w=spec.kernel_size[2],
        mode=MODES[spec.padding_mode], skip_h=whole.stride[1] // spec.stride[1], skip_w=whole.stride[2] // spec.stride[2],
        in_place=cut.in_place, last=last, copying=copying.address, copying_how=copying.how,
        plain=out == compute and plain, finishing=0 if plain else finishing(compute), storing=storing(out, compute),
        has_residual=spec.has_residual, transposing=transposing.address if transposing else 0,
        pitch=pitch(spec),
        rows=cut.rows, row_blocks=-(-out_h // cut.rows), columns=cut.columns, column_blocks=-(-out_w // cut.columns),
        panels=cut.panels, panel_blocks=-(-panels // cut.panels),
        packing=packing_alone(compute) if unpacked else 0, packer=packer,
        packer_frame=packer_frame.ctypes.data if packer_frame is not None else 0,
        sums_rows=max(1, min(cut.rows, SUMS_BYTES // (cut.columns * width * compute.itemsize))),
    )  # fmt: skip
    arrays = (strided(input, 6), contiguous(compute, 4), strided(out, 6), contiguous(compute, 2), strided(compute, 6))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), 3), record_type(plan))
    blocks = -(-out_h // cut.rows) * -(-out_w // cut.columns) * -(-panels // cut.panels)
    count = spec.batch * spec.groups * spec.output_size[0] * blocks
    launcher = Launcher(task, signature, count, spec.multiply_adds <= SERIAL)

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        return ops.input, ops.weight, ops.output, bias, residual, activation, cuts, plan

    return Kernel(launcher, collect, kept, transposing, packer_frame)


@lru_cache(maxsize=1024)
def packing(spec: ConvSpec, unpacked: bool = False) -> Packing:
    """Return what packs weights as panels ``(groups, panels, taps, NR * lanes)`` in the compute dtype."""
    dtype = spec.dtypes.compute
    return panels(spec.weight_shape, blocking(spec, unpacked).NR * lanes(dtype), dtype)


def cost(spec: ConvSpec, unpacked: bool = False) -> float:
    """Seconds: 2 us to call, and what :func:`seconds` predicts for the best blocking."""
    return 2e-6 + fastest(spec, unpacked, cores()).seconds


DIRECT = Algorithm(
    name="direct",
    backend="cpu",
    summary="microkernel with lanes along output channels, on the input as it lies or a padded copy; real numbers",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: packing(spec)(weight),
    prepare=prepare,
    summation="taps",
    packing_cost=lambda spec: packing_seconds(math.prod(spec.weight_shape), spec.dtypes.compute.itemsize),
    packer=packing,
    packing=lambda spec: blocking(spec).NR,
)

DIRECT_UNPACKED = Algorithm(
    name="direct_unpacked",
    backend="cpu",
    summary="as direct, but each task packs the weights that it uses: for large weights that are used once",
    why_not=why_not_unpacked,
    cost=lambda spec: cost(spec, unpacked=True),
    pack=lambda spec, weight, stream: packing(spec, True).deferred(weight),
    prepare=lambda spec: prepare(spec, unpacked=True),
    summation="taps",
    packing_cost=lambda spec: 6e-6,  # to say where the weights are
    packing=lambda spec: blocking(spec, True).NR,
)
