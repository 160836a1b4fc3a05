"""Implicit GEMM on the tensor cores: float32 as tf32 where ``precision="tf32"`` allows it, float16 with sums in float32."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import mma
from numbaconv.cuda.geometry import ROW_BYTES, geometry
from numbaconv.cuda.launch import convolve
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, TENSOR_RATE, capability
from numbaconv.spec import ConvSpec

__all__ = ["TENSOR_GEMM", "Tile", "tile_for", "wave_seconds"]


class Tile(NamedTuple):
    """A block's warps along pixels and along channels, and the fragments of each."""

    warps_m: int
    warps_n: int
    MF: int
    NF: int

    @property
    def BM(self) -> int:  # noqa: N802
        """The pixels of a block."""
        return mma.M * self.MF * self.warps_m

    @property
    def BN(self) -> int:  # noqa: N802
        """The output channels of a block."""
        return mma.N * self.NF * self.warps_n


TILES = (Tile(2, 4, 4, 4), Tile(4, 2, 2, 4), Tile(2, 2, 2, 4), Tile(2, 2, 2, 2))
EFFICIENCY = 0.6  # the share of the tensor cores' rate that mma.sync comes to; published, not measured here
PART = 16  # bytes of channels that lie, and are copied, together


def kind(spec: ConvSpec) -> str | None:
    """The numbers that the products take, or None."""
    input, compute, out = spec.dtypes
    if input == out == np.float16 and compute == np.float32:  # another result tells of a weight of more digits
        return "f16"
    return "tf32" if input == compute == np.float32 and spec.precision == "tf32" else None


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are."""
    pixels = spec.batch * math.prod(spec.output_size)
    return spec.groups * -(-pixels // tile.BM) * -(-spec.weight_shape[1] // tile.BN)


def wave_seconds(spec: ConvSpec, tile: Tile) -> float:
    """Predict the time of the arithmetic: waves of blocks, one a multiprocessor, each as long as a tile takes.

    A step of 64 bytes costs the products of the tile, and 16 more for each of its rows and columns, to copy and load them.
    """
    itemsize = spec.dtypes.input.itemsize
    many = PART // itemsize
    steps = -(-math.prod(spec.kernel_size) * -(-spec.weight_shape[2] // many) * PART // ROW_BYTES)
    products = ROW_BYTES // itemsize * (tile.BM * tile.BN + 16 * (tile.BM + tile.BN))
    rate = EFFICIENCY * TENSOR_RATE / 2 / MULTIPROCESSORS * 4 / itemsize / 2
    return -(-blocks(spec, tile) // MULTIPROCESSORS) * (steps + 4) * products / rate


def tile_for(spec: ConvSpec) -> Tile:
    """Return the tile with the least :func:`wave_seconds`, the first of equals."""
    return min(TILES, key=lambda tile: wave_seconds(spec, tile))


def why_not(spec: ConvSpec) -> str | None:
    """Say so for other dtypes and precisions, and for GPUs without these instructions."""
    if kind(spec) is None:
        got = f'{spec.dtypes.input} with "{spec.precision}"'
        return f'its products are of float16, or of float32 with precision="tf32", not of {got}'
    if capability() < (8, 0):
        return "the GPU's compute capability is {}.{}, and these instructions need 8.0".format(*capability())
    return None


def pack(spec: ConvSpec, weight: np.ndarray, stream: Any) -> np.ndarray:
    """Return ``(groups, outs, kd, kh, kw, channels)`` in the input's dtype, a tap's channels on a multiple of 16 bytes."""
    from numbaconv.cuda.memory import packed

    return packed(weight.transpose(0, 1, 3, 4, 5, 2), spec.dtypes.input, stream, PART)


def aligned(input: np.ndarray) -> bool:
    """Whether the channels of a pixel lie together, and every pixel on a multiple of 16 bytes."""
    together = input.shape[2] <= 1 or input.strides[2] == input.itemsize
    others = (s for axis, (n, s) in enumerate(zip(input.shape, input.strides, strict=True)) if axis != 2 and n > 1)
    return together and input.ctypes.data % PART == 0 and all(s % PART == 0 for s in others)


def prepare(spec: ConvSpec) -> Runner:
    """Choose the tile and return what launches the kernel, on a copy of inputs that are not :func:`aligned`."""
    tile, g = tile_for(spec), geometry(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.tensor_gemm import tensor_gemm
        from numbaconv.cuda.memory import packed

        def make(compute: Any, activation: Any) -> Any:
            return tensor_gemm(kind(spec), spec.dtypes.input.itemsize, *tile, activation)

        if not aligned(ops.input):
            last = (0, 1, 3, 4, 5, 2)
            copy = packed(ops.input.transpose(last), ops.input.dtype, ops.stream, PART)
            ops = ops._replace(input=copy.transpose(np.argsort(last)))
        convolve(make, spec, ops, g, blocks(spec, tile), mma.LANES * tile.warps_m * tile.warps_n)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the longer of the arithmetic and the memory traffic; a copy of inputs with channels first."""
    copy = 0 if spec.channels_last else LATENCY + 2 * math.prod(spec.input_shape) * spec.dtypes.input.itemsize / BANDWIDTH
    return LATENCY + copy + max(wave_seconds(spec, tile_for(spec)), spec.bytes_moved / BANDWIDTH)


def packing_cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the weight read and written."""
    return LATENCY + 2 * math.prod(spec.weight_shape) * spec.dtypes.input.itemsize / BANDWIDTH


TENSOR_GEMM = Algorithm(
    name="tensor_gemm",
    backend="cuda",
    summary="implicit GEMM on tensor cores: float16, and float32 as tf32",
    why_not=why_not,
    cost=cost,
    pack=pack,
    prepare=prepare,
    packing_cost=packing_cost,
)
