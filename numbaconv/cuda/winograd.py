"""Winograd convolution on the GPU: tiles transformed, multiplied as a grouped 1 x 1 convolution, and transformed back.

Three launches: the transforms of ``kernels/winograd.py``, and between them implicit GEMM, whose pixels are the tiles and whose
groups are the elements of a transformed tile. What they hand on goes through scratch memory, some tiles after the other where it
would be too much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from numbaconv.activation import scalar
from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda.geometry import LANES_OF_CHANNELS, SECTOR, THREADS_OF_TILES, Geometry, Tiles, geometry
from numbaconv.cuda.implicit_gemm import IMPLICIT_GEMM, cut, wave_seconds
from numbaconv.cuda.launch import arguments, launch
from numbaconv.cuda.shadow import element_strides
from numbaconv.cuda.splitting import reduction_seconds
from numbaconv.cuda.target import BANDWIDTH, LATENCY
from numbaconv.dtypes import Dtypes
from numbaconv.spec import ConvSpec
from numbaconv.toom import TERMS, Filter

__all__ = ["WINOGRAD2", "WINOGRAD4"]

FLOAT = np.dtype(np.float32)
SCRATCH = 2**28  # bytes of transformed inputs and products at a time
LEAST = 128  # tiles at a time, whatever they take: a block of the product's
L2, REUSE = 48e6, 3  # bytes of scratch memory that the L2 cache keeps between launches, and how much faster than memory it is


class Shape(NamedTuple):
    """What F(m x m, 3 x 3) makes of a problem."""

    elements: int  # of a transformed tile
    high: int  # lines of tiles in an image
    wide: int  # tiles in a line
    tiles: int  # in all images
    most: int  # tiles at a time


def shape(spec: ConvSpec, m: int) -> Shape:
    """Return the tiles of a problem, and into what even parts of them the scratch memory cuts it."""
    elements = Filter(m, 3).products ** 2
    high, wide = (-(-n // m) for n in spec.output_size[1:])
    tiles = spec.batch * high * wide
    fitting = SCRATCH // (elements * (spec.in_channels + spec.out_channels) * FLOAT.itemsize)
    parts = max(1, -(-tiles // max(LEAST, fitting)))
    return Shape(elements, high, wide, tiles, -(-max(1, tiles) // (parts * SECTOR)) * SECTOR)


def parts(s: Shape) -> Iterator[Tiles]:
    """Yield the tiles of each part."""
    for first in range(0, s.tiles, s.most):
        yield Tiles(s.high, s.wide, first, min(s.most, s.tiles - first), s.most)


def product(spec: ConvSpec, s: Shape, count: int) -> ConvSpec:
    """Return the matrix products of so many transformed tiles, as a 1 x 1 convolution of an image that is a line of them."""
    return ConvSpec(
        batch=1, groups=s.elements * spec.groups,
        in_channels=s.elements * spec.in_channels, out_channels=s.elements * spec.out_channels,
        input_size=(1, 1, count), kernel_size=(1, 1, 1), stride=(1, 1, 1), padding=((0, 0),) * 3, dilation=(1, 1, 1),
        padding_mode="zeros", dtypes=Dtypes(FLOAT, FLOAT, FLOAT, FLOAT), channels_last=False,
    )  # fmt: skip


def why_not(spec: ConvSpec, m: int) -> str | None:
    """Say so for what F(m x m, 3 x 3) does not apply to, or would make too inaccurate."""
    if not spec.dtypes.input == spec.dtypes.compute == FLOAT:
        return f"it transforms float32 in float32, not {spec.dtypes.input} in {spec.dtypes.compute}"
    if spec.kernel_size != (1, 3, 3) or spec.input_size[0] != 1 or spec.output_size[0] != 1:
        return "its kernels are of 3 x 3, on planes, not of {} x {} x {}".format(*spec.kernel_size)
    if set(spec.stride) != {1} or set(spec.dilation) != {1}:
        return "strides and dilations leave its tiles less to share"
    fewest = TERMS if Filter(m, 3).products > 4 else 1
    if spec.weight_shape[2] < fewest:
        return f"sums over fewer than {fewest} channels leave its rounding errors no room"
    return None


def pack(spec: ConvSpec, m: int, weight: np.ndarray, stream: Any) -> Any:
    """Return the transformed weight as the product takes it."""
    from numbaconv.cuda.kernels.winograd import weight_transform
    from numbaconv.cuda.memory import scratch

    s, g = shape(spec, m), geometry(spec)
    transformed = scratch((s.elements * g.groups, g.channels, g.outs), FLOAT, stream)
    if weight.size:
        blocks = -(-g.groups * g.channels * g.outs // THREADS_OF_TILES)
        launch(weight_transform(m), blocks, THREADS_OF_TILES, stream, weight, transformed, element_strides(weight), g)
    return IMPLICIT_GEMM.pack(product(spec, s, s.most), transformed.transpose(0, 2, 1)[..., None, None, None], stream)


def prepare(spec: ConvSpec, m: int) -> Runner:
    """Return what launches the transforms and the product, on one part of the tiles after the other."""
    s, g = shape(spec, m), geometry(spec)
    multiply = {t.many: IMPLICIT_GEMM.prepare(product(spec, s, t.many)) for t in parts(s)}

    def run(ops: Operands) -> None:
        from numbaconv.cuda.memory import scratch

        if not ops.output.size:
            return
        memory = scratch((s.elements * (spec.in_channels + spec.out_channels), s.most), FLOAT, ops.stream)
        halves = np.split(memory, [s.elements * spec.in_channels])
        values, products = (half.reshape(s.elements * g.groups, -1, s.most) for half in halves)
        for t in parts(s):
            source, target = (array[None, :, :, None, None, : t.many] for array in (values, products))
            transform_input(m, ops, values, g, t)
            multiply[t.many](Operands(source, ops.weight, None, None, target, ops.stream))
            transform_output(m, ops, products, g, t, scalar(spec.activation))

    return run


def transform_input(m: int, ops: Operands, values: np.ndarray, g: Geometry, t: Tiles) -> None:
    """Launch the first transform. Neighbouring threads take neighbours in the input and in `values`, or some of either."""
    from numbaconv.cuda.kernels.winograd import input_transform

    together = SECTOR if ops.input.strides[2] == ops.input.itemsize else t.many
    blocks = -(-t.many * g.groups * g.channels // THREADS_OF_TILES)
    args = (ops.input, values, element_strides(ops.input), g, t, together)
    launch(input_transform(m, g.mode), blocks, THREADS_OF_TILES, ops.stream, *args)


def transform_output(m: int, ops: Operands, products: np.ndarray, g: Geometry, t: Tiles, activation: Any) -> None:
    """Launch the last transform."""
    from numbaconv.cuda.kernels.winograd import output_transform

    last = ops.output.strides[2] == ops.output.itemsize
    deep = LANES_OF_CHANNELS if last else m
    blocks = g.groups * -(-g.outs // deep) * -(-t.many // (THREADS_OF_TILES // deep))
    _, _, *args = arguments(ops, g)
    launch(output_transform(m, last, activation), blocks, THREADS_OF_TILES, ops.stream, products, *args, t)


def cost(spec: ConvSpec, m: int) -> float:
    """Seconds: for each part three launches, what both transforms move, and the product's arithmetic or what that moves.

    The transforms write and read every number in scratch memory once, and so does the product; the L2 cache may stand between.
    """
    s = shape(spec, m)
    seconds = (math.prod(spec.input_shape) + math.prod(spec.output_shape)) * FLOAT.itemsize / BANDWIDTH
    for t in parts(s):
        multiplying = product(spec, s, t.many)
        scratch = s.elements * t.many * (spec.in_channels + spec.out_channels) * FLOAT.itemsize
        handing_on = scratch / BANDWIDTH / (REUSE if scratch < L2 else 1)
        weights = math.prod(multiplying.weight_shape) * FLOAT.itemsize / BANDWIDTH
        one = cut(multiplying)
        adding = reduction_seconds(multiplying, one.splits)
        seconds += 3 * LATENCY + handing_on + max(wave_seconds(multiplying, *one), handing_on + weights) + adding
    return seconds


def packing_cost(spec: ConvSpec, m: int) -> float:
    """Seconds: two launches, the weight read, and transformed it written, read and written."""
    taps = math.prod(spec.weight_shape[:3]) * (9 + 3 * Filter(m, 3).products ** 2)
    return 2 * LATENCY + taps * FLOAT.itemsize / BANDWIDTH


def winograd(m: int) -> Algorithm:
    """Return the algorithm for tiles of m x m outputs."""
    return Algorithm(
        name=f"winograd{m}",
        backend="cuda",
        summary=f"F({m} x {m}, 3 x 3): two transforms, and implicit GEMM between them",
        why_not=lambda spec: why_not(spec, m),
        cost=lambda spec: cost(spec, m),
        pack=lambda spec, weight, stream: pack(spec, m, weight, stream),
        prepare=lambda spec: prepare(spec, m),
        packing_cost=lambda spec: packing_cost(spec, m),
        sums_directly=False,
    )


WINOGRAD2, WINOGRAD4 = winograd(2), winograd(4)
