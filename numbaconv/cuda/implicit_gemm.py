"""Implicit GEMM on the GPU: pixels by taps times taps by output channels, with tiles of sums in registers."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda.geometry import KC, MODES, SUB, THREADS_OF_GEMM, beyond_32_bits, weight_vector
from numbaconv.cuda.reading import reading_of, steps
from numbaconv.cuda.splitting import Cut, best_cut, convolve_split, reduction_seconds
from numbaconv.cuda.storing import Form
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, RATE, ROUND_TRIP, capability
from numbaconv.spec import ConvSpec

__all__ = ["IMPLICIT_GEMM", "Cut", "Tile", "cut", "gemm_seconds", "wave_seconds"]


class Tile(NamedTuple):
    """The sums of a thread, MR pixels times NR output channels, and how many threads of a block lie along channels."""

    MR: int
    NR: int
    wide: int

    @property
    def pixels(self) -> int:
        """The pixels of a block."""
        return THREADS_OF_GEMM // self.wide * self.MR

    @property
    def outs(self) -> int:
        """The output channels of a block."""
        return self.wide * self.NR


TILES = (Tile(8, 8, 16), Tile(8, 8, 8), Tile(8, 4, 16), Tile(4, 8, 16), Tile(4, 4, 16))
REGISTERS = 64 * 4  # bytes of sums that a thread holds at most
EFFICIENCY = 0.95  # the share of instructions that multiprocessors begin as soon as they could: a guess, not measured
RESIDENT = 2  # blocks that a multiprocessor holds
BRINGING, COUNTING = 5, 5  # instructions for what a thread brings, and besides for each channel: counted in machine code


def able(spec: ConvSpec) -> list[Tile]:
    """The tiles of which a thread has the registers: for its sums, and for the addresses of the pixels that it brings."""
    fitting = [tile for tile in TILES if tile.MR * tile.NR * spec.dtypes.compute.itemsize <= REGISTERS]
    return [tile for tile in fitting if tile.pixels <= 128 or (not spec.channels_last and capability() >= (9, 0))]


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are."""
    pixels = spec.batch * math.prod(spec.output_size)
    return spec.groups * -(-pixels // tile.pixels) * -(-spec.weight_shape[1] // tile.outs)


def instructions(spec: ConvSpec, tile: Tile) -> float:
    """Count what a thread does for a channel: products, reads of as many of both operands as a vector holds, and the rest."""
    brought = tile.pixels + tile.outs / weight_vector(spec.dtypes.compute.itemsize)
    return tile.MR * tile.NR + (tile.MR + tile.NR) / SUB + BRINGING * brought / THREADS_OF_GEMM + COUNTING


def wave_seconds(spec: ConvSpec, tile: Tile, splits: int = 1) -> float:
    """Predict the time of the arithmetic: waves of blocks, one a multiprocessor, each as long as its part of a tile takes.

    A step of KC channels costs a thread its instructions, and at least half the time in which a later step's values come. Before
    the first one and after the last a block takes as long as two, while another of the multiprocessor may multiply.
    """
    rate = EFFICIENCY * RATE / 2 / MULTIPROCESSORS * 4 / spec.dtypes.compute.itemsize
    step = max(THREADS_OF_GEMM * KC * instructions(spec, tile) / rate, ROUND_TRIP / 2)
    waves = -(-blocks(spec, tile) * splits // MULTIPROCESSORS)
    return waves * (-(-steps(spec) // splits) + 2 / max(1, min(RESIDENT, waves))) * step


def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least on the current GPU, the first of equals."""
    return _cut(spec, (*able(spec),))


@lru_cache(maxsize=4096)
def _cut(spec: ConvSpec, tiles: tuple[Tile, ...]) -> Cut:
    return best_cut(tiles, steps(spec), lambda one: gemm_seconds(spec, one))


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
            reading = reading_of(spec, ops.input, asynchronous)
            how = MODES[spec.padding_mode], spec.channels_last, asynchronous, reading, form, activation
            return implicit_gemm(compute, tile, *how)

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
