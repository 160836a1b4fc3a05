"""Implicit GEMM on the tensor cores of sm_90a by ``wgmma``, its operands brought by the Tensor Memory Accelerator (TMA).

The accelerator finds the pixels, pads with zeros and makes float32 numbers tf32; the threads do nothing for it. A step is of one
tap, so that few channels would be multiplied beside many zeros: such problems go to ``warpgroup_gemm``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import tensor_operands, warpgroup_gemm
from numbaconv.cuda.geometry import PART, beyond_32_bits
from numbaconv.cuda.splitting import Cut, best_cut, convolve_split
from numbaconv.cuda.storing import Form
from numbaconv.cuda.target import simulated
from numbaconv.cuda.tensor_map import WORDS, Pixels, Rows, TensorMap
from numbaconv.cuda.warpgroup_gemm import ROW_BYTES, ROWS, THREADS, resident
from numbaconv.spec import ConvSpec

__all__ = ["TMA_GEMM", "Tile", "cut", "gemm_seconds"]


class Tile(NamedTuple):
    """A block's warpgroups, of 64 pixels each, its output channels, and the steps that shared memory holds.

    A cluster is of so many blocks above each other, of the same weights, and beside each other, of the same pixels.
    """

    warpgroups: int
    N: int
    stages: int
    down: int = 1
    across: int = 1


# Large ones, of which a multiprocessor holds one block, and smaller ones, of which it holds two or three. The warp that asks
# costs a block the registers of four: two blocks of 128 x 128 would have 96 a thread, and spill, and one of three warpgroups by
# 256 would need 154, of which there are 128. In clusters the large ones read less of the L2 cache.
LARGE = (Tile(3, 128, 4), Tile(2, 256, 4), Tile(2, 128, 6))
ALONE = (*LARGE, Tile(2, 64, 4), Tile(1, 128, 4), Tile(1, 64, 4))
CLUSTERED = tuple(one._replace(down=down, across=across) for one in LARGE for down, across in ((2, 1), (1, 2)))
TILES = (*ALONE, *CLUSTERED)
EFFICIENCY = 0.85  # the share of the tensor cores' rate that wgmma comes to with nothing beside it: a guess, not measured

# What a tensor map of images may say: CUDA's driver API, cuTensorMapEncodeIm2col. The instruction's offsets end at 255 in the PTX
# ISA (cp.async.bulk.tensor, im2col), and at 254 in CUTLASS.
MOST_STEP, CORNERS, MOST_OFFSET = 8, range(-128, 128), 254


def channels_of_step(spec: ConvSpec) -> int:
    """How many channels 128 bytes are."""
    return ROW_BYTES // tensor_operands.operand_dtype(spec).itemsize


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are for one part of the products, whole clusters."""
    clusters = tensor_operands.blocks(spec, ROWS * tile.warpgroups * tile.down, tile.N * tile.across)
    return clusters * tile.down * tile.across


def parts(spec: ConvSpec) -> int:
    """The parts, of 16 bytes, that the products of a sum come from, zeros after a tap's channels among them."""
    return math.prod(spec.kernel_size) * -(-spec.weight_shape[2] // channels_of_step(spec)) * ROW_BYTES // PART


def gemm_seconds(spec: ConvSpec, one: Cut) -> float:
    """Predict the seconds of a cut: see :func:`numbaconv.cuda.tensor_operands.gemm_seconds`."""
    tile = one.tile
    rows, ahead = ROWS * tile.warpgroups, tile.stages - 1
    cluster = {"down": tile.down, "across": tile.across}
    shape = tensor_operands.Shape(rows, tile.N, ROW_BYTES, ahead, EFFICIENCY, 0, resident(tile), **cluster, prompt=True)
    return tensor_operands.gemm_seconds(spec, shape, one.splits, parts(spec))


@lru_cache(maxsize=4096)
def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least. The simulator runs one block after the other."""
    tiles = ALONE if simulated() else TILES
    return best_cut(tiles, parts(spec) * PART // ROW_BYTES, lambda one: gemm_seconds(spec, one))


def why_not(spec: ConvSpec) -> str | None:
    """Say so for what ``warpgroup_gemm`` does not take, and for what a tensor map cannot describe."""
    reason = warpgroup_gemm.why_not_images(spec)
    if reason is not None:
        return reason
    if spec.groups != 1 or spec.padding_mode != "zeros" or not spec.weight_shape[2]:
        return f'it takes one group of channels, padded with zeros, not {spec.groups} padded with "{spec.padding_mode}"'
    corners = *lower_corner(spec), *upper_corner(spec)
    offsets = tuple((k - 1) * d for k, d in zip(spec.kernel_size[1:], spec.dilation[1:], strict=True))
    if max(spec.stride) > MOST_STEP or max(offsets) > MOST_OFFSET or any(corner not in CORNERS for corner in corners):
        room = f"strides to {MOST_STEP}, offsets to {MOST_OFFSET} and corners of {CORNERS[0]} to {CORNERS[-1]}"
        return f"a tensor map has room for {room}, not for strides {spec.stride[1:]}, offsets {offsets} and corners {corners}"
    tile, splits = cut(spec)
    return beyond_32_bits(spec, parts(spec), blocks(spec, tile) * splits)


def lower_corner(spec: ConvSpec) -> tuple[int, int]:
    """The first coordinates that pixels read from with the first tap, along W and H."""
    (top, _), (left, _) = spec.padding[1:]
    return -left, -top


def upper_corner(spec: ConvSpec) -> tuple[int, int]:
    """The last such coordinates, counted from the image's last pixel."""
    reach = [high - (k - 1) * d for (_, high), k, d in zip(spec.padding, spec.kernel_size, spec.dilation, strict=True)]
    return reach[2], reach[1]


# ---------------------------------------------------------------- tensor maps


def describable(input: np.ndarray) -> bool:
    """Whether a tensor map can say where the pixels are: on multiples of 16 bytes, each axis forwards."""
    return tensor_operands.aligned(input) and all(s > 0 for n, s in zip(input.shape, input.strides, strict=True) if n > 1)


def input_map(spec: ConvSpec, tile: Tile, input: np.ndarray) -> TensorMap:
    """Return how a block's share of a tile's pixels is read."""
    axes = 2, 5, 4, 0
    sizes = tuple(input.shape[axis] for axis in axes)
    strides = _strides(sizes, [input.strides[axis] for axis in axes], input.itemsize)
    steps = spec.stride[2], spec.stride[1]
    box = channels_of_step(spec), ROWS * tile.warpgroups // tile.across
    form = Pixels(_kind(spec), sizes, strides, lower_corner(spec), upper_corner(spec), steps, *box)
    return TensorMap(input, form)


def weight_map(spec: ConvSpec, tile: Tile, weight: np.ndarray) -> TensorMap:
    """Return how the packed weight of a block's share of a tile's output channels is read."""
    sizes = weight.shape[5], math.prod(weight.shape[2:5]), weight.shape[1]
    strides = _strides(
        sizes, [weight.itemsize, -(-sizes[0] * weight.itemsize // PART) * PART, weight.strides[1]], weight.itemsize
    )
    return TensorMap(weight, Rows(_kind(spec), sizes, strides, channels_of_step(spec), tile.N // tile.down))


def _strides(sizes: tuple[int, ...], strides: list[int], itemsize: int) -> tuple[int, ...]:
    """The bytes between neighbours along all axes but the first; what an axis of one element has means nothing."""
    dense, found = -(-sizes[0] * itemsize // PART) * PART, []
    for n, stride in zip(sizes[1:], strides[1:], strict=True):
        found.append(stride if n > 1 else dense)
        dense = found[-1] * n
    return tuple(found)


def _kind(spec: ConvSpec) -> str:
    return str(tensor_operands.kind(spec))


# ---------------------------------------------------------------- the algorithm


def prepare(spec: ConvSpec) -> Runner:
    """Choose the cut and return what launches the kernel, on a copy of inputs that a tensor map cannot describe."""
    tile, splits = cut(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.tma_gemm import ASKING, BLOCKS, tma_gemm
        from numbaconv.cuda.memory import scratch

        def make(compute: Any, form: Form, activation: Any) -> Any:
            return tma_gemm(_kind(spec), *tile, form, activation)

        if not ops.output.size:
            return
        ops = tensor_operands.in_parts(spec, ops, describable)
        assert ops.weight is not None
        maps = scratch((min(BLOCKS, blocks(spec, tile) * splits) * 2 * WORDS,), np.dtype(np.int64), ops.stream)
        more = maps, input_map(spec, tile, ops.input), weight_map(spec, tile, ops.weight)
        convolve_split(make, spec, ops, blocks(spec, tile), THREADS * tile.warpgroups + ASKING, splits, more)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds of the best cut, and of the copy that the input needs."""
    return tensor_operands.copy_seconds(spec) + gemm_seconds(spec, cut(spec))


TMA_GEMM = Algorithm(
    name="tma_gemm",
    backend="cuda",
    summary="implicit GEMM on tensor cores, by the instructions of a warpgroup, fed by TMA",
    why_not=why_not,
    cost=cost,
    pack=tensor_operands.pack,
    prepare=prepare,
    packing_cost=tensor_operands.packing_cost,
)
