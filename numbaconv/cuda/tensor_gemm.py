"""Implicit GEMM on tensor cores by ``mma.sync``: float16 and bfloat16, and float32 as precision="tf32" or "bf16" allows."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import mma, tensor_operands
from numbaconv.cuda.geometry import MODES, PART, ROW_BYTES
from numbaconv.cuda.splitting import SPLITS, convolve_split, reduction_seconds
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, ROUND_TRIP
from numbaconv.spec import ConvSpec

__all__ = ["TENSOR_GEMM", "Cut", "Tile", "cut", "gemm_seconds"]


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


class Cut(NamedTuple):
    """How a problem is cut: into tiles, and the products of each into parts."""

    tile: Tile
    splits: int


TILES = (Tile(2, 4, 4, 4), Tile(4, 2, 2, 4), Tile(2, 2, 2, 4), Tile(2, 2, 2, 2))
EFFICIENCY = 0.6  # the share of the tensor cores' rate that mma.sync comes to; published, not measured here


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are for one part of the products."""
    pixels = spec.batch * math.prod(spec.output_size)
    return spec.groups * -(-pixels // tile.BM) * -(-spec.weight_shape[1] // tile.BN)


def gemm_seconds(spec: ConvSpec, one: Cut) -> float:
    """Seconds: a launch, the longer of arithmetic and memory traffic, and adding the parts.

    A step of 64 bytes costs the products of the tile, and 16 more for each of its rows and columns, to copy and load them; and
    at least the time in which a later step's bytes come.
    """
    tile, splits = one
    steps = -(-tensor_operands.parts(spec) * PART // ROW_BYTES // splits)
    operations = 2 * ROW_BYTES * (tile.BM * tile.BN + 16 * (tile.BM + tile.BN))
    seconds = operations / (2 if tensor_operands.kind(spec) != "tf32" else 4) / EFFICIENCY
    step = max(seconds * MULTIPROCESSORS / tensor_operands.rate(spec), ROUND_TRIP / 2)
    waves = -(-blocks(spec, tile) * splits // MULTIPROCESSORS)
    return LATENCY + max(waves * (steps + 4) * step, spec.bytes_moved / BANDWIDTH) + reduction_seconds(spec, splits)


@lru_cache(maxsize=4096)
def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least, the first of equals."""
    most = max(1, tensor_operands.parts(spec) * PART // ROW_BYTES)
    return min(
        (Cut(tile, splits) for tile in TILES for splits in SPLITS if splits <= most), key=lambda one: gemm_seconds(spec, one)
    )


def prepare(spec: ConvSpec) -> Runner:
    """Choose the cut and return what launches the kernel, on a copy of inputs that are not as it reads them."""
    tile, splits = cut(spec)
    kind = tensor_operands.kind(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.tensor_gemm import tensor_gemm

        def make(compute: Any, activation: Any) -> Any:
            return tensor_gemm(kind, *tile, MODES[spec.padding_mode], activation)

        threads = mma.LANES * tile.warps_m * tile.warps_n
        convolve_split(make, spec, tensor_operands.in_parts(spec, ops), blocks(spec, tile), threads, splits)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds of the best cut, and of the copy that the input needs."""
    return tensor_operands.copy_seconds(spec) + gemm_seconds(spec, cut(spec))


TENSOR_GEMM = Algorithm(
    name="tensor_gemm",
    backend="cuda",
    summary="implicit GEMM on tensor cores, by the instructions of a warp",
    why_not=lambda spec: tensor_operands.why_not(spec, (8, 0)),
    cost=cost,
    pack=tensor_operands.pack,
    prepare=prepare,
    packing_cost=tensor_operands.packing_cost,
)
