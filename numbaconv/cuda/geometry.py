"""The integers that the convolution kernels are handed beside their arrays."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from numbaconv.spec import ConvSpec

__all__ = [
    "ACROSS", "ALL_BLOCKS", "BANKS", "BESIDE", "CIRCULAR", "DOWN", "HALO_BLOCKS", "HALO_BYTES", "KC", "LANES_OF_CHANNELS",
    "LIST", "MODES", "MOST_STAGES", "OF_MULTIPROCESSOR", "PART", "PARTITIONS", "REFLECT", "REGISTERS", "REPLICATE", "ROWS",
    "ROW_BYTES", "SECTOR", "SHARED_BYTES", "STAGES", "STAGE_BYTES", "SUB", "TAP_BITS", "THREADS_OF_COPY", "THREADS_OF_GEMM",
    "THREADS_OF_TILES", "TILE_BITS", "ZEROS", "Geometry", "Strides", "Tiles", "beyond_32_bits", "geometry",
    "most_registers", "outs_per_thread", "resident", "stages_of", "weight_vector",
]  # fmt: skip

ZEROS, REFLECT, REPLICATE, CIRCULAR = range(4)
MODES = {"zeros": ZEROS, "reflect": REFLECT, "replicate": REPLICATE, "circular": CIRCULAR}

ALL_BLOCKS = 2**31 - 1  # of a grid, at most

# The tiled kernel: how many pixels of a column a thread sums, and the memory that every GPU grants a block.
ROWS = 4
SHARED_BYTES = 48 * 1024

# Of a multiprocessor of compute capability 9.0: bytes of shared memory, and the parts that it divides its warps among, with their
# words of registers. A block has, beside the stages of operands, a few KiB at most.
OF_MULTIPROCESSOR, BESIDE, PARTITIONS, REGISTERS = 227 * 1024, 4096, 4, 16384

# Implicit GEMM: the threads of a block, those of a warp along pixels and along output channels, the neighbouring sums of a thread
# along both, which are read as one vector, and how many input channels are multiplied in a step. A list of the channels of all
# taps has at most so many, of a kernel whose sizes add up to no more than TAP_BITS.
THREADS_OF_GEMM, DOWN, ACROSS, SUB, KC = 256, 4, 8, 4, 8
LIST, TAP_BITS = 512, 30

# How many steps are under way at a time at most.
MOST_STAGES = 4

# The same on tensor cores: the bytes of channels that are copied together, those of a row in a step, and how many steps are under
# way at a time.
PART, ROW_BYTES, STAGES = 16, 64, 3

# GEMM with a halo: its blocks at most, an H200's multiprocessors, and the shared memory of one, beside 16 bytes for a position.
HALO_BLOCKS, HALO_BYTES = 132, 223 * 1024

# Depthwise: the shared memory of a block, of which a multiprocessor holds several.
STAGE_BYTES = 32 * 1024

# Winograd: the threads of a block, how many of them take neighbouring channels where those come last, and the float32 numbers of
# the 32 bytes that memory moves together.
THREADS_OF_TILES, LANES_OF_CHANNELS, SECTOR = 128, 16, 8

# Copies: the threads of a block, the elements of a tile that is transposed, as a power of two, and the banks of shared memory.
THREADS_OF_COPY, TILE_BITS, BANKS = 256, 11, 32


class Geometry(NamedTuple):
    """What a problem's specification tells."""

    batch: int
    groups: int
    outs: int  # of a group
    out_d: int
    out_h: int
    out_w: int
    channels: int  # of a group's input
    size_d: int
    size_h: int
    size_w: int
    kernel_d: int
    kernel_h: int
    kernel_w: int
    stride_d: int
    stride_h: int
    stride_w: int
    dilation_d: int
    dilation_h: int
    dilation_w: int
    low_d: int
    low_h: int
    low_w: int
    mode: int
    has_bias: int
    has_residual: int
    boolean: int  # whether results are truth values
    staged: int = 1  # channels in shared memory at a time, for kernels that use it
    splits: int = 1  # parts that the products of a tile are cut into, for kernels that use it


class Strides(NamedTuple):
    """What the arrays of a call tell: their six strides each, counted in elements."""

    input: tuple[int, ...]
    weight: tuple[int, ...]
    bias: tuple[int, ...]  # seen as one of the result's shape
    residual: tuple[int, ...]
    output: tuple[int, ...]


class Tiles(NamedTuple):
    """Winograd's tiles, counted line by line through all images, and those that a launch takes."""

    high: int  # lines of tiles in an image
    wide: int  # tiles in a line
    first: int
    many: int
    pitch: int  # there is scratch memory for so many


def beyond_32_bits(spec: ConvSpec, products: int, blocks: int) -> str | None:
    """Say so for problems of more pixels or blocks than the GEMM kernels count, or of coordinates or rows so long."""
    pixels, outs = spec.batch * math.prod(spec.output_size), spec.weight_shape[1]
    longest = max(n + low + high for n, (low, high) in zip(spec.input_size, spec.padding, strict=True))
    row = KC * max(PART, outs * spec.dtypes.compute.itemsize)  # bytes that weights go on by
    if max(pixels, longest, 32 * products, 2 * blocks, spec.out_channels, row) < 2**31 - 2**10:
        return None
    counts = f"{pixels} pixels, {blocks} blocks, {outs} output channels, coordinates to {longest} and {products} terms a sum"
    return f"it counts in 32 bits, and there are {counts}"


def resident(stages: int) -> int:
    """How many blocks whose stages take so many bytes the shared memory of a multiprocessor of 9.0 holds."""
    return OF_MULTIPROCESSOR // (stages + BESIDE)


def most_registers(threads: int, blocks: int) -> int:
    """How many registers a thread may have where a multiprocessor of 9.0 holds so many blocks of so many threads."""
    warps = -(-blocks * threads // (32 * PARTITIONS))  # of one part
    return min(255, REGISTERS // (32 * warps) // 8 * 8)


def stages_of(step: int) -> int:
    """How many steps of so many bytes shared memory holds at a time."""
    return max(2, min(MOST_STAGES, SHARED_BYTES // step))


def weight_vector(itemsize: int) -> int:
    """How many weights of implicit GEMM are brought at once, rows of which are padded to so many: 16 bytes of them."""
    return max(1, PART // itemsize)


def outs_per_thread(itemsize: int) -> int:
    """For how many output channels a thread of the tiled kernel sums: 8, or what fits half the registers with ROWS pixels."""
    return min(8, 64 // itemsize)


def geometry(spec: ConvSpec) -> Geometry:
    """Return the geometry of a problem."""
    return Geometry(*(
        *spec.output_shape, spec.weight_shape[2], *spec.input_size,
        *spec.kernel_size, *spec.stride, *spec.dilation, *(low for low, _ in spec.padding), MODES[spec.padding_mode],
        int(spec.has_bias), int(spec.has_residual), int(spec.dtypes.out == np.bool_),
    ))  # fmt: skip
