"""Implicit GEMM on the tensor cores of sm_90a whose pixels are brought to shared memory once for all taps, with their halo.

Where there are few output channels, reading each tap's pixels anew takes longer than multiplying them. This is for kernels of
several taps and stride 1 whose weights, of N output channels, fit shared memory beside two tiles' pixels.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import tensor_operands, warpgroup_gemm
from numbaconv.cuda.geometry import HALO_BLOCKS, HALO_BYTES, MODES, PART, beyond_32_bits, geometry
from numbaconv.cuda.launch import convolve
from numbaconv.cuda.splitting import Cut
from numbaconv.cuda.storing import CHANNELS, Form, form_of
from numbaconv.cuda.target import BANDWIDTH, L2_BANDWIDTH, LATENCY, MULTIPROCESSORS, ROUND_TRIP
from numbaconv.cuda.tensor_operands import FINISHING
from numbaconv.cuda.warpgroup_gemm import ROW_BYTES, ROWS, THREADS
from numbaconv.spec import ConvSpec

__all__ = ["HALO_GEMM", "TILES", "Cut", "Tile", "bytes_of_sums", "cut", "gemm_seconds", "shared_bytes"]


class Tile(NamedTuple):
    """A block's warpgroups, of 64 positions each, and its output channels."""

    warpgroups: int
    N: int


TILES = (Tile(4, 64), Tile(2, 64), Tile(4, 32), Tile(2, 32))
EFFICIENCY = 0.85  # as that of tma_gemm: a guess, not measured
READING = 128 * 1.75e9  # bytes of shared memory that a multiprocessor reads in a second, by its data sheet


def padded_size(spec: ConvSpec) -> tuple[int, int]:
    """The lines and columns of a padded image."""
    _, high, wide = (n + low + up for n, (low, up) in zip(spec.input_size, spec.padding, strict=True))
    return high, wide


def rows(spec: ConvSpec, tile: Tile) -> int:
    """The positions that a tile reads."""
    (_, below, right), (_, wide) = (extent - 1 for extent in spec.kernel_extent), padded_size(spec)
    return ROWS * tile.warpgroups + below * wide + right | 1


def chunks(spec: ConvSpec) -> int:
    """How often 128 bytes the channels of a group are."""
    return -(-spec.weight_shape[2] * tensor_operands.operand_dtype(spec).itemsize // ROW_BYTES)


def bytes_of_sums(tile: Tile) -> int:
    """What a warpgroup's sums take on their way, along channels or along pixels."""
    return 4 * max(ROWS * (tile.N + 8), tile.N * (ROWS + 4))


def shared_bytes(spec: ConvSpec, tile: Tile) -> int:
    """What a block keeps: a warpgroup's sums on their way, the weights, the pixels of two tiles, and room to begin at 1024."""
    weights = chunks(spec) * math.prod(spec.kernel_size) * tile.N * ROW_BYTES
    return -(-bytes_of_sums(tile) // 1024) * 1024 + weights + 2 * rows(spec, tile) * ROW_BYTES + 1024


def columns(spec: ConvSpec, tile: Tile) -> int:
    """How many times N output channels there are, in all groups."""
    return spec.groups * -(-spec.weight_shape[1] // tile.N)


def tiles(spec: ConvSpec, tile: Tile) -> int:
    """How many tiles the positions of all padded images are."""
    return -(-spec.batch * math.prod(padded_size(spec)) // (ROWS * tile.warpgroups))


def in_turns(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks take the tiles of N output channels in turns."""
    return max(1, min(tiles(spec, tile), HALO_BLOCKS // max(1, columns(spec, tile))))


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are, for all output channels."""
    return columns(spec, tile) * in_turns(spec, tile)


def gemm_seconds(spec: ConvSpec, tile: Tile) -> float:
    """Predict the seconds: a launch, and the longest of the blocks' turns, what they read of the L2 cache, and memory traffic.

    A turn multiplies a tile, as fast as the tensor cores do and as shared memory is read, waits for each chunk of channels, and
    stores. Before the first the weights come.
    """
    taps, many, positions = math.prod(spec.kernel_size), chunks(spec), ROWS * tile.warpgroups
    operations = 2 * positions * tile.N * ROW_BYTES / tensor_operands.operand_dtype(spec).itemsize
    multiplying = operations * MULTIPROCESSORS / (EFFICIENCY * tensor_operands.rate(spec))
    reading = tile.warpgroups * (ROWS + tile.N) * ROW_BYTES / READING
    turn = many * (taps * max(multiplying, reading) + ROUND_TRIP / 2) + positions * tile.N * FINISHING
    weights = columns(spec, tile) * many * taps * tile.N * ROW_BYTES
    each = in_turns(spec, tile)
    read = tiles(spec, tile) * columns(spec, tile) * many * rows(spec, tile) * ROW_BYTES + each * weights
    working = 2 * ROUND_TRIP + -(-tiles(spec, tile) // each) * turn
    return LATENCY + max(working, read / L2_BANDWIDTH, spec.bytes_moved / BANDWIDTH)


def able(spec: ConvSpec) -> list[Tile]:
    """The tiles of which shared memory has room for all that a block keeps."""
    return [tile for tile in TILES if shared_bytes(spec, tile) <= HALO_BYTES]


@lru_cache(maxsize=4096)
def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least, of products that are never cut into parts; the smallest tile where none fits."""
    return Cut(min(able(spec) or TILES[-1:], key=lambda tile: gemm_seconds(spec, tile)), 1)


def why_not(spec: ConvSpec) -> str | None:
    """Say so for what ``warpgroup_gemm`` does not take, strides, single taps, and weights beyond the shared memory."""
    reason = warpgroup_gemm.why_not_images(spec)
    if reason is not None:
        return reason
    if spec.stride != (1, 1, 1) or spec.kernel_size == (1, 1, 1) or not spec.weight_shape[2]:
        return f"it takes kernels of several taps with stride 1, not of {spec.kernel_size[1:]} with stride {spec.stride[1:]}"
    tile = cut(spec).tile
    if shared_bytes(spec, tile) > HALO_BYTES:
        needed = shared_bytes(spec, tile)
        return f"the weights and pixels of a tile of {tile.N} channels take {needed} bytes of a block's {HALO_BYTES}"
    if columns(spec, tile) > HALO_BLOCKS:
        return f"it has {HALO_BLOCKS} blocks, too few for {columns(spec, tile)} times {tile.N} output channels"
    positions = spec.batch * math.prod(padded_size(spec))
    if positions >= 2**31 - 2**10:
        return f"it counts in 32 bits, and the padded images have {positions} pixels"
    return beyond_32_bits(spec, math.prod(spec.weight_shape[2:]) * PART, blocks(spec, tile))


def prepare(spec: ConvSpec) -> Runner:
    """Choose the tile and return what launches the kernel, on a copy of inputs that are not as it reads them."""
    tile, kind = cut(spec).tile, str(tensor_operands.kind(spec))

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.halo_gemm import halo_gemm

        def make(compute: Any, activation: Any) -> Any:
            form = form_of(ops)
            if form.along != CHANNELS:  # vectors of pixels would begin anywhere: positions are those of padded lines
                form = Form(form.along, 1, form.boolean)
            return halo_gemm(kind, *tile, MODES[spec.padding_mode], form, activation)

        threads = THREADS * tile.warpgroups
        convolve(make, spec, tensor_operands.in_parts(spec, ops), geometry(spec), blocks(spec, tile), threads)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds of the best tile, and of the copy that the input needs."""
    return tensor_operands.copy_seconds(spec) + gemm_seconds(spec, cut(spec).tile)


HALO_GEMM = Algorithm(
    name="halo_gemm",
    backend="cuda",
    summary="implicit GEMM on tensor cores, whose pixels are in shared memory once for all taps",
    why_not=why_not,
    cost=cost,
    pack=tensor_operands.pack,
    prepare=prepare,
    packing_cost=tensor_operands.packing_cost,
)
