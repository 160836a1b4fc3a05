"""What the algorithms on tensor cores share: which numbers they multiply, and how operands have to lie in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Operands
from numbaconv.cuda.geometry import PART
from numbaconv.cuda.splitting import reduction_seconds
from numbaconv.cuda.target import BANDWIDTH, L2_BANDWIDTH, LATENCY, MULTIPROCESSORS, ROUND_TRIP, TENSOR_RATE, capability
from numbaconv.dtypes import BFLOAT16
from numbaconv.spec import ConvSpec

__all__ = ["Shape", "blocks", "copy_seconds", "gemm_seconds", "in_parts", "kind", "pack", "packing_cost", "parts", "why_not"]

# Seconds that a multiprocessor takes for a result on its way from the sums to memory: 7 instructions, 128 at a time at 1.75 GHz.
FINISHING = 7 / (128 * 1.75e9)
_LAST = (0, 1, 3, 4, 5, 2)  # the axes of data with its channels last


@lru_cache(maxsize=4096)
def kind(spec: ConvSpec) -> str | None:
    """The numbers that the products take, as the instructions call them, or None."""
    input, compute, _, weight = spec.dtypes
    if input != weight or compute != np.float32:
        return None
    if input == np.float32:
        return {"tf32": "tf32", "bf16": "bf16"}.get(spec.precision)
    return {"float16": "f16", BFLOAT16: "bf16"}.get(input.name)


@lru_cache(maxsize=4096)
def operand_dtype(spec: ConvSpec) -> np.dtype:
    """What the operands are stored as."""
    return np.dtype({"tf32": "float32", "f16": "float16", "bf16": BFLOAT16}[str(kind(spec))])


def rate(spec: ConvSpec) -> float:
    """Operations a second of tensor cores on such numbers."""
    return TENSOR_RATE / 2 if kind(spec) == "tf32" else TENSOR_RATE


def parts(spec: ConvSpec) -> int:
    """The parts, of 16 bytes of channels, that the products of a sum come from."""
    many = PART // (4 if kind(spec) == "tf32" else 2)
    return math.prod(spec.kernel_size) * -(-spec.weight_shape[2] // many)


class Shape(NamedTuple):
    """A tile as its cost sees it."""

    rows: int  # pixels
    columns: int  # output channels
    row_bytes: int  # of channels, of a step
    ahead: int  # steps that are under way
    efficiency: float  # the share of the tensor cores' rate that the instruction comes to
    handling: int = 16  # products that would take as long as it takes to copy and load what a row or a column has for one
    resident: int = 1  # blocks that a multiprocessor holds
    down: int = 1  # blocks of a cluster above each other, which read the same weights once
    across: int = 1  # beside each other, which read the same pixels once
    prompt: bool = False  # whether a block's next tile comes while it stores one


def blocks(spec: ConvSpec, rows: int, columns: int) -> int:
    """How many blocks there are, for one part of the products, with tiles of so many pixels and output channels."""
    pixels = spec.batch * math.prod(spec.output_size)
    return spec.groups * -(-pixels // rows) * -(-spec.weight_shape[1] // columns)


def gemm_seconds(spec: ConvSpec, shape: Shape, splits: int, parts: int) -> float:
    """Seconds: a launch, the longest of arithmetic, what blocks read, and memory traffic, and adding the sums of so many splits.

    A step costs the products of the tile, and `handling` more for each of its rows and columns; and at least half the time in
    which a later step's bytes come. Before the first step of a tile there are `ahead` of them, or of the first tile alone, and
    after the last FINISHING for each result, unless another block of the multiprocessor multiplies meanwhile.
    """
    rows, columns, row_bytes, ahead, efficiency, handling, resident, down, across, prompt = shape
    steps = -(-parts * PART // row_bytes // splits)
    operations = 2 * row_bytes * (rows * columns + handling * (rows + columns)) / operand_dtype(spec).itemsize
    step = max(operations * MULTIPROCESSORS / (efficiency * rate(spec)), ROUND_TRIP / 2)
    many = blocks(spec, rows * down, columns * across) * down * across * splits
    waves = -(-many // MULTIPROCESSORS)
    first, finishing = ahead * step, rows * columns * FINISHING
    alone = (finishing + first / (max(1, waves) if prompt else 1)) / max(1, min(resident, waves))
    read = many * steps * (rows / across + columns / down) * row_bytes
    working = max(waves * (steps * step + alone), read / L2_BANDWIDTH, spec.bytes_moved / BANDWIDTH)
    return LATENCY + working + reduction_seconds(spec, splits)


def why_not(spec: ConvSpec, least: tuple[int, int]) -> str | None:
    """Say so for other dtypes and precisions, and for GPUs of less than a compute capability."""
    if kind(spec) is None:
        got = f'{spec.dtypes.input} times {spec.dtypes.weight} with "{spec.precision}"'
        return f'its products are of float16, of bfloat16, or of float32 with precision="tf32" or "bf16", not of {got}'
    if kind(spec) == "bf16" and not _named_bfloat16():
        return "bfloat16 copies need the package ml_dtypes, which is not installed"
    if capability() < least:
        return "the GPU's compute capability is {}.{}, and these instructions need {}.{}".format(*capability(), *least)
    return None


def _named_bfloat16() -> bool:
    """Whether NumPy knows bfloat16."""
    try:
        import ml_dtypes
    except ImportError:
        return False
    return bool(ml_dtypes.bfloat16)


def pack(spec: ConvSpec, weight: np.ndarray, stream: Any) -> np.ndarray:
    """Return ``(groups, outs, kd, kh, kw, channels)`` in the operands' dtype, a tap's channels on a multiple of 16 bytes."""
    from numbaconv.cuda.memory import packed

    return packed(weight.transpose(0, 1, 3, 4, 5, 2), operand_dtype(spec), stream, PART)


def packing_cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the weight read and written."""
    return LATENCY + 2 * math.prod(spec.weight_shape) * spec.dtypes.weight.itemsize / BANDWIDTH


def aligned(input: np.ndarray) -> bool:
    """Whether the channels of a pixel lie together, and every pixel on a multiple of 16 bytes."""
    together = input.shape[2] <= 1 or input.strides[2] == input.itemsize
    others = (s for axis, (n, s) in enumerate(zip(input.shape, input.strides, strict=True)) if axis != 2 and n > 1)
    return together and input.ctypes.data % PART == 0 and all(s % PART == 0 for s in others)


def in_parts(spec: ConvSpec, ops: Operands, fits: Callable[[np.ndarray], bool] = aligned) -> Operands:
    """Return the operands with an input of the right dtype that fits, a copy if it has to be."""
    dtype = operand_dtype(spec)
    if ops.input.dtype == dtype and fits(ops.input):
        return ops
    from numbaconv.cuda.memory import packed

    return ops._replace(input=packed(ops.input.transpose(_LAST), dtype, ops.stream, PART).transpose(np.argsort(_LAST)))


def copy_seconds(spec: ConvSpec) -> float:
    """Predict the time of the copy that :func:`in_parts` makes of contiguous data."""
    channels = spec.weight_shape[2] * (4 if kind(spec) == "tf32" else 2)
    rounded = spec.dtypes.input == np.float32 and kind(spec) == "bf16"
    if spec.channels_last and channels % PART == 0 and not rounded:
        return 0.0
    return LATENCY + 2 * math.prod(spec.input_shape) * spec.dtypes.input.itemsize / BANDWIDTH
