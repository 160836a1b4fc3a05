"""Depthwise convolution on the GPU: every channel by itself, so that memory decides, and each input comes from there once."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import launch
from numbaconv.cuda.geometry import STAGE_BYTES, geometry
from numbaconv.cuda.staging import extent, neighbours, padded, row_pitch, weight_pitch, weight_space
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, RATE
from numbaconv.dtypes import BFLOAT16
from numbaconv.spec import ConvSpec

__all__ = ["DEPTHWISE", "Tile", "held", "seconds", "tile_for", "variant"]

THREADS = 256  # of a block at most: no compiler can give a thread more registers than are left then
MOST_STRIPS = 64  # threads along z that hardware allows
ROWS = 8  # outputs of a column that a thread sums
HEIGHTS, STRIDES = (3, 5, 7), (1, 2)  # for which there is code that loads an input once for all taps of a column
SECTOR = 32  # bytes that memory moves together
STAGE, STORE, BLOCK = 5, 15, 5_000  # instructions to stage an element, to store one, and to begin and end a block
REUSE = 2  # how much faster than memory the L2 cache is, where neighbouring tiles find what they share


class Variant(NamedTuple):
    """What the kernel is compiled for: see :func:`numbaconv.cuda.kernels.depthwise.depthwise`."""

    ROWS: int
    TAPS: int | None
    SPAN: int | None
    deep: bool
    last: bool


class Tile(NamedTuple):
    """What a block computes: channels, strips of ROWS rows, columns; a thread for each."""

    channels: int
    strips: int
    columns: int


def variant(spec: ConvSpec) -> Variant:
    """Return the code for a problem."""
    (depth, height, _), stride = spec.kernel_size, spec.stride[1]
    rows = ROWS if 2 * spec.output_size[1] >= ROWS else 1
    fixed = rows > 1 and height in HEIGHTS and stride in STRIDES and spec.dilation[1] == 1
    taps, span = (height, stride) if fixed else (None, None)
    return Variant(rows, taps, span, depth > 1, spec.channels_last)


def box(spec: ConvSpec, tile: Tile) -> int:
    """How many elements of the input a tile stages."""
    (_, kh, kw), (_, sh, sw), (_, dh, dw) = spec.kernel_size, spec.stride, spec.dilation
    columns = extent(tile.columns, kw, sw, dw)
    if not spec.channels_last:
        columns = row_pitch(columns, neighbours(spec.dtypes.input.itemsize, spec.dtypes.input.kind == "c"))
    return tile.channels * columns * extent(variant(spec).ROWS * tile.strips, kh, sh, dh)


def room(spec: ConvSpec, tile: Tile) -> int:
    """The bytes of shared memory that a tile needs."""
    taps = variant(spec).TAPS or 1
    _, height, width = spec.kernel_size
    pitch = weight_pitch(height, width, taps, padded(taps))
    elements = max(weight_space(tile.channels, pitch) + box(spec, tile), variant(spec).ROWS * math.prod(tile))
    return elements * spec.dtypes.compute.itemsize


def count(spec: ConvSpec, tile: Tile) -> int:
    """How many tiles there are."""
    _, groups, outs, out_d, out_h, out_w = spec.output_shape
    pixels = out_d * -(-out_h // (variant(spec).ROWS * tile.strips)) * -(-out_w // tile.columns)
    return spec.batch * -(-groups // tile.channels) * pixels * outs


def seconds(spec: ConvSpec, tile: Tile) -> float:
    """Predict the longer of the arithmetic and the memory traffic.

    Instructions go in waves of blocks, one a multiprocessor, of whole warps. A thread has ROWS for the products of a tap, and one
    to load it, two for each input of a column, and STORE an output; a block STAGE for each element that it stages, and BLOCK. The
    traffic is the operands once at the speed of memory, or what all tiles stage and store at that of the L2 cache.
    """
    rows, taps, span, _, _ = variant(spec)
    depth, kh, kw = spec.kernel_size
    together, apart = (taps, span) if taps and span else (1, 1)
    column = rows * together + 2 * ((rows - 1) * apart + together) + together
    lanes = -(-math.prod(tile) // 32) * 32
    instructions = lanes * (depth * kh // together * kw * column + rows * STORE) + depth * box(spec, tile) * STAGE + BLOCK
    rate = RATE / 2 / MULTIPROCESSORS * 4 / spec.dtypes.compute.itemsize
    arithmetic = -(-count(spec, tile) // MULTIPROCESSORS) * instructions / rate
    staged = count(spec, tile) * depth * box(spec, tile) * spec.dtypes.input.itemsize
    stored = math.prod(spec.output_shape) * spec.dtypes.out.itemsize
    return max(arithmetic, spec.bytes_moved / BANDWIDTH, (staged + stored) / (REUSE * BANDWIDTH))


def halvings(n: int) -> list[int]:
    """n, n / 2 ... 1, rounded up."""
    found = [max(1, n)]
    while found[-1] > 1:
        found.append(-(-found[-1] // 2))
    return found


@cache
def tiles(spec: ConvSpec) -> list[Tile]:
    """The tiles that fit a block, no larger than the problem; channels last, of whole sectors if there are such."""
    _, height, width = spec.output_size
    channels = [2**i for i in range(9) if i == 0 or 2 ** (i - 1) < spec.groups]
    found = (Tile(c, s, w) for c in channels for s in halvings(-(-height // variant(spec).ROWS)) for w in halvings(width))
    fitting = [t for t in found if math.prod(t) <= THREADS and t.strips <= MOST_STRIPS and room(spec, t) <= STAGE_BYTES]
    many = SECTOR // spec.dtypes.input.itemsize if spec.channels_last else 1
    return [t for t in fitting if t.channels >= min(many, channels[-1])] or fitting


@cache
def tile_for(spec: ConvSpec) -> Tile:
    """Return the tile with the least :func:`seconds`; of equals, with the least halo, and for the fewest blocks."""
    return min(tiles(spec), key=lambda t: (seconds(spec, t), count(spec, t) * box(spec, t), count(spec, t)))


def why_not(spec: ConvSpec) -> str | None:
    """Say so for groups of several channels, for kernels that shared memory does not hold, and beyond 32-bit counts."""
    if spec.weight_shape[2] != 1:
        return f"it takes one input channel a group, not {spec.weight_shape[2]}"
    longest = max(n + low + high for n, (low, high) in zip(spec.input_size, spec.padding, strict=True))
    if longest >= 2**31:
        return f"its coordinates have 32 bits, and an axis has {longest} elements"
    if not tiles(spec):
        return f"not even its smallest tile and the kernel fit {STAGE_BYTES} bytes of shared memory"
    if count(spec, tile_for(spec)) > launch.MOST_BLOCKS:
        return f"it needs a block for each of {count(spec, tile_for(spec))} tiles, and a grid has {launch.MOST_BLOCKS}"
    return None


def held(dtype: np.dtype) -> tuple[Any, int]:
    """Return the type that inputs are held as after they were read, and how many of them are 16 bytes."""
    from numba import from_dtype

    readable = {"bool": "uint8", BFLOAT16: "float32"}.get(dtype.name, dtype)
    return from_dtype(np.dtype(readable)), neighbours(dtype.itemsize, dtype.kind == "c")


def prepare(spec: ConvSpec) -> Runner:
    """Choose the tile and return what launches the kernel."""
    tile, g, code = tile_for(spec), geometry(spec), variant(spec)
    block = (tile.channels, tile.columns, tile.strips) if code.last else (tile.columns, tile.channels, tile.strips)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.depthwise import depthwise

        def make(compute: Any, activation: Any) -> Any:
            return depthwise(compute, *held(spec.dtypes.input), *code, activation)

        launch.convolve(make, spec, ops, g, count(spec, tile), block)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and :func:`seconds` of the tile."""
    return LATENCY + seconds(spec, tile_for(spec))


DEPTHWISE = Algorithm(
    name="depthwise",
    backend="cuda",
    summary="one input channel a group: a thread sums rows of a column from shared memory",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: weight,
    prepare=prepare,
)
