"""Direct convolution on the GPU through shared memory: a block of threads computes a tile of pixels and output channels."""

from __future__ import annotations

import math
from typing import NamedTuple

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda.geometry import ROWS, SHARED_BYTES, geometry, outs_per_thread
from numbaconv.cuda.launch import convolve
from numbaconv.cuda.target import BANDWIDTH, LATENCY, MULTIPROCESSORS, RATE
from numbaconv.spec import ConvSpec

__all__ = ["TILED"]

THREADS = 128  # of a block: with under 256 registers each, two blocks share a multiprocessor, and one stages while one sums
WIDEST, HIGHEST = 32, 4  # a block in threads: a warp along W', so that its loads are adjacent
EFFICIENCY = 0.4  # the share of the GPU's arithmetic rate that the inner loop can come to
SHARING = 2  # blocks that share a multiprocessor
REUSE = 4  # how much faster than memory staged data arrives: neighbouring tiles find it in the L2 cache


class Tiling(NamedTuple):
    """How a problem is cut."""

    block: tuple[int, int, int]  # threads along W', H' and the output channels
    tiles: int
    channel_elements: int  # that a tile stages of an input channel
    staged: int  # input channels in shared memory at a time; 0: not even one fits


def tiling(spec: ConvSpec) -> Tiling:
    """Return the largest tiles, not much larger than the result, of which shared memory holds an input channel."""
    (out_d, out_h, out_w), outs = spec.output_size, spec.weight_shape[1]
    lot = outs_per_thread(spec.dtypes.compute.itemsize)
    x = min(WIDEST, _power(out_w))
    y = min(HIGHEST, _power(-(-out_h // ROWS)))
    z = min(THREADS // (x * y), _power(-(-outs // lot)))
    elements = SHARED_BYTES // spec.dtypes.compute.itemsize
    while (needed := _channel_elements(spec, x, y, z * lot)) > elements and x * y * z > 1:
        x, y, z = (x, y, z // 2) if z > 1 else (x, y // 2, z) if y > 1 else (x // 2, y, z)
    tiles = spec.batch * spec.groups * out_d * -(-out_h // (ROWS * y)) * -(-out_w // x) * -(-outs // (lot * z))
    return Tiling((x, y, z), tiles, needed, min(elements // needed, max(1, spec.weight_shape[2])))


def _channel_elements(spec: ConvSpec, x: int, y: int, outs: int) -> int:
    """What a tile stages of an input channel for a plane of the kernel: the input with its halo, and the weights."""
    (_, stride_h, stride_w), (_, extent_h, extent_w), (_, kernel_h, kernel_w) = spec.stride, spec.kernel_extent, spec.kernel_size
    rows, columns = (ROWS * y - 1) * stride_h + extent_h, (x - 1) * stride_w + extent_w
    return rows * columns + kernel_h * kernel_w * outs


def _power(n: int) -> int:
    """The least power of two that is no less than n, and 1."""
    return 1 << max(0, n - 1).bit_length()


def why_not(spec: ConvSpec) -> str | None:
    """Say so if not one channel of the smallest tile fits shared memory."""
    cut = tiling(spec)
    if cut.staged:
        return None
    needed = cut.channel_elements * spec.dtypes.compute.itemsize
    return f"its smallest tile needs {needed} bytes of shared memory for one input channel, and a block has {SHARED_BYTES}"


def prepare(spec: ConvSpec) -> Runner:
    """Cut the problem into tiles and return what launches the kernel."""
    cut = tiling(spec)
    g = geometry(spec)._replace(staged=cut.staged)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.tiled import tiled

        convolve(tiled, spec, ops, g, cut.tiles, cut.block)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the longest of the arithmetic, what tiles stage, and the memory traffic.

    Arithmetic goes in waves of whole tiles, two a multiprocessor, of which one alone takes as long.
    """
    cut = tiling(spec)
    itemsize = spec.dtypes.compute.itemsize
    channels = spec.weight_shape[2]
    sums = math.prod(cut.block) * ROWS * outs_per_thread(itemsize)
    products = sums * channels * math.prod(spec.kernel_size)
    rate = EFFICIENCY * RATE / 2 / MULTIPROCESSORS * 4 / itemsize
    arithmetic = -(-cut.tiles // (SHARING * MULTIPROCESSORS)) * SHARING * products / rate
    staged = cut.tiles * cut.channel_elements * channels * spec.kernel_size[0] * itemsize
    return LATENCY + max(arithmetic, staged / (REUSE * BANDWIDTH), spec.bytes_moved / BANDWIDTH)


TILED = Algorithm(
    name="tiled",
    backend="cuda",
    summary="a block of threads computes a tile of pixels and channels from shared memory",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: weight,
    prepare=prepare,
)
