"""Implicit GEMM on the GPU: pixels by taps times taps by output channels, with tiles of sums in registers."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda.geometry import KC, LANES, THREADS_OF_GEMM, geometry
from numbaconv.cuda.launch import convolve
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, RATE
from numbaconv.spec import ConvSpec

__all__ = ["IMPLICIT_GEMM", "Tile", "tile_for", "wave_seconds"]


class Tile(NamedTuple):
    """The sums of a thread: MR pixels times NR output channels. A block has LANES times as many of both."""

    MR: int
    NR: int


TILES = (Tile(8, 8), Tile(8, 4), Tile(4, 8), Tile(4, 4))
REGISTERS = 64 * 4  # bytes of sums that a thread holds at most
EFFICIENCY = 0.75  # the share of the GPU's arithmetic rate that the inner loop of the largest tile can come to


def able(spec: ConvSpec) -> list[Tile]:
    """The tiles whose sums fit the registers."""
    return [tile for tile in TILES if tile.MR * tile.NR * spec.dtypes.compute.itemsize <= REGISTERS]


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are."""
    pixels = spec.batch * math.prod(spec.output_size)
    return spec.groups * -(-pixels // (LANES * tile.MR)) * -(-spec.weight_shape[1] // (LANES * tile.NR))


def wave_seconds(spec: ConvSpec, tile: Tile) -> float:
    """Predict the time of the arithmetic: waves of blocks, one a multiprocessor, each as long as a tile takes.

    A step of KC channels costs the products of the tile, and half a product for each value that a thread reads for them.
    """
    steps = math.prod(spec.kernel_size) * -(-spec.weight_shape[2] // KC)
    products = LANES**2 * KC * (tile.MR * tile.NR + (tile.MR + tile.NR) / 2)
    rate = EFFICIENCY * RATE / 2 / MULTIPROCESSORS * 4 / spec.dtypes.compute.itemsize
    return -(-blocks(spec, tile) // MULTIPROCESSORS) * (steps + 2) * products / rate


def tile_for(spec: ConvSpec) -> Tile:
    """Return the tile with the least :func:`wave_seconds`, the first of equals."""
    return min(able(spec), key=lambda tile: wave_seconds(spec, tile))


def why_not(spec: ConvSpec) -> str | None:
    """Say so for dtypes of which not even the smallest tile fits the registers."""
    if not able(spec):
        return f"the sums of its smallest tile take {16 * spec.dtypes.compute.itemsize} bytes of registers, more than {REGISTERS}"
    return None


def pack(spec: ConvSpec, weight: np.ndarray, stream: Any) -> np.ndarray:
    """Return ``(groups, kd, kh, kw, channels, outs)`` in the compute dtype, in device memory."""
    from numbaconv.cuda.memory import packed

    return packed(weight.transpose(0, 3, 4, 5, 2, 1), spec.dtypes.compute, stream)


def prepare(spec: ConvSpec) -> Runner:
    """Choose the tile and return what launches the kernel."""
    tile, g = tile_for(spec), geometry(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.implicit_gemm import implicit_gemm

        def make(compute: Any, activation: Any) -> Any:
            return implicit_gemm(compute, *tile, activation)

        convolve(make, spec, ops, g, blocks(spec, tile), THREADS_OF_GEMM)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the longer of the arithmetic and the memory traffic."""
    return LATENCY + max(wave_seconds(spec, tile_for(spec)), spec.bytes_moved / BANDWIDTH)


def packing_cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the weight read and written."""
    return LATENCY + 2 * math.prod(spec.weight_shape) * spec.dtypes.compute.itemsize / BANDWIDTH


IMPLICIT_GEMM = Algorithm(
    name="implicit_gemm",
    backend="cuda",
    summary="a block computes a tile of pixels by channels, with sums in registers",
    why_not=why_not,
    cost=cost,
    pack=pack,
    prepare=prepare,
    packing_cost=packing_cost,
)
