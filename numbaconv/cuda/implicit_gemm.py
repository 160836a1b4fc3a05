"""Implicit GEMM on the GPU: pixels by taps times taps by output channels, with tiles of sums in registers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda.geometry import KC, LANES, MODES, THREADS_OF_GEMM, beyond_32_bits, weight_vector
from numbaconv.cuda.splitting import Cut, best_cut, convolve_split, reduction_seconds
from numbaconv.cuda.storing import Form
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, RATE, ROUND_TRIP, capability
from numbaconv.spec import ConvSpec

__all__ = ["IMPLICIT_GEMM", "Cut", "Tile", "cut", "gemm_seconds", "wave_seconds"]


class Tile(NamedTuple):
    """The sums of a thread: MR pixels times NR output channels. A block has LANES times as many of both."""

    MR: int
    NR: int


TILES = (Tile(8, 8), Tile(8, 4), Tile(4, 8), Tile(4, 4))
REGISTERS = 64 * 4  # bytes of sums that a thread holds at most
EFFICIENCY = 0.9  # the share of the GPU's arithmetic rate that the inner loop can come to: 512 products of 617 instructions


def able(spec: ConvSpec) -> list[Tile]:
    """The tiles whose sums fit the registers."""
    return [tile for tile in TILES if tile.MR * tile.NR * spec.dtypes.compute.itemsize <= REGISTERS]


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are."""
    pixels = spec.batch * math.prod(spec.output_size)
    return spec.groups * -(-pixels // (LANES * tile.MR)) * -(-spec.weight_shape[1] // (LANES * tile.NR))


def wave_seconds(spec: ConvSpec, tile: Tile, splits: int = 1) -> float:
    """Predict the time of the arithmetic: waves of blocks, one a multiprocessor, each as long as its part of a tile takes.

    A step of KC channels costs the products of the tile, and half a product for each value that a thread reads for them, which
    with EFFICIENCY is the share of products among the instructions; and at least the time in which the next step's values come.
    """
    steps = -(-math.prod(spec.kernel_size) * -(-spec.weight_shape[2] // KC) // splits)
    products = LANES**2 * KC * (tile.MR * tile.NR + (tile.MR + tile.NR) / 2)
    rate = EFFICIENCY * RATE / 2 / MULTIPROCESSORS * 4 / spec.dtypes.compute.itemsize
    return -(-blocks(spec, tile) * splits // MULTIPROCESSORS) * (steps + 2) * max(products / rate, ROUND_TRIP)


@lru_cache(maxsize=4096)
def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least, the first of equals."""
    most = math.prod(spec.kernel_size) * -(-spec.weight_shape[2] // KC)
    return best_cut(able(spec), most, lambda one: gemm_seconds(spec, one))


def gemm_seconds(spec: ConvSpec, one: Cut) -> float:
    """Seconds: a launch, the longer of the arithmetic and the memory traffic, and adding the parts."""
    working = max(wave_seconds(spec, *one), spec.bytes_moved / BANDWIDTH)
    return LATENCY + working + reduction_seconds(spec, one.splits)


def why_not(spec: ConvSpec) -> str | None:
    """Say so for dtypes of which not even the smallest tile fits the registers, and beyond 32-bit counts."""
    if not able(spec):
        return f"the sums of its smallest tile take {16 * spec.dtypes.compute.itemsize} bytes of registers, more than {REGISTERS}"
    tile, splits = cut(spec)
    return beyond_32_bits(spec, math.prod(spec.weight_shape[2:]), blocks(spec, tile) * splits)


def pack(spec: ConvSpec, weight: np.ndarray, stream: Any) -> np.ndarray:
    """Return ``(groups, kd, kh, kw, channels, outs)`` in the compute dtype, outs padded to multiples of 16 bytes."""
    from numbaconv.cuda.copying import copy
    from numbaconv.cuda.memory import scratch

    dtype, view = spec.dtypes.compute, weight.transpose(0, 3, 4, 5, 2, 1)
    outs, many = view.shape[-1], weight_vector(dtype.itemsize)
    target = scratch((*view.shape[:-1], -(-outs // many) * many), dtype, stream)
    copy(target[..., :outs], view, stream)
    copy(target[..., outs:], np.broadcast_to(view[..., -1:], target[..., outs:].shape), stream)
    return target


def prepare(spec: ConvSpec) -> Runner:
    """Choose the cut and return what launches the kernel."""
    tile, splits = cut(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.implicit_gemm import implicit_gemm

        def make(compute: Any, form: Form, activation: Any) -> Any:
            plain = spec.dtypes.input == spec.dtypes.compute and spec.dtypes.compute.itemsize in (4, 8)
            asynchronous = plain and capability() >= (8, 0)
            return implicit_gemm(compute, *tile, MODES[spec.padding_mode], spec.channels_last, asynchronous, form, activation)

        convolve_split(make, spec, ops, blocks(spec, tile), THREADS_OF_GEMM, splits)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds of the best cut: :func:`gemm_seconds`."""
    return gemm_seconds(spec, cut(spec))


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
