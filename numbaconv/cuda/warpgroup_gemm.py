"""Implicit GEMM on the tensor cores of sm_90a by ``wgmma``: float16, bfloat16, and float32 as the precision allows.

As tf32 the hardware takes the upper bits of float32 operands as they are: it cuts them, where ``tensor_gemm`` rounds.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import geometry, tensor_operands
from numbaconv.cuda.geometry import MODES, PART, beyond_32_bits
from numbaconv.cuda.splitting import Cut, best_cut, convolve_split
from numbaconv.cuda.storing import Form
from numbaconv.cuda.target import capability
from numbaconv.spec import ConvSpec

__all__ = [
    "ROWS", "ROW_BYTES", "THREADS", "TILES", "WARPGROUP_GEMM", "Tile", "cut", "gemm_seconds", "resident", "why_not_images",
]  # fmt: skip

ROWS, THREADS, ROW_BYTES = 64, 128, 128  # pixels and threads of a warpgroup; bytes of channels of a step


class Tile(NamedTuple):
    """A block's warpgroups, of 64 pixels each, its output channels, and the steps that shared memory holds."""

    warpgroups: int
    N: int
    stages: int


# Of 227 KiB of shared memory a step takes 128 bytes a row and column. All but the first leave room for a second block, which
# multiplies while the first one stores.
TILES = (Tile(2, 256, 4), Tile(2, 128, 3), Tile(2, 64, 4), Tile(1, 128, 4), Tile(1, 64, 4))
EFFICIENCY = 0.8  # the share of the tensor cores' rate that wgmma comes to with copies beside it: a guess, not measured


def resident(tile: Any) -> int:
    """How many blocks the shared memory of a multiprocessor holds."""
    return geometry.resident(tile.stages * (ROWS * tile.warpgroups + tile.N) * ROW_BYTES)


def gemm_seconds(spec: ConvSpec, one: Cut) -> float:
    """Predict the seconds of a cut: see :func:`numbaconv.cuda.tensor_operands.gemm_seconds`."""
    tile = one.tile
    rows, ahead = ROWS * tile.warpgroups, tile.stages - 1
    shape = tensor_operands.Shape(rows, tile.N, ROW_BYTES, ahead, EFFICIENCY, resident=resident(tile))
    return tensor_operands.gemm_seconds(spec, shape, one.splits, tensor_operands.parts(spec))


@lru_cache(maxsize=4096)
def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least."""
    most = tensor_operands.parts(spec) * PART // ROW_BYTES
    return best_cut(TILES, most, lambda one: gemm_seconds(spec, one))


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are for one part of the products."""
    return tensor_operands.blocks(spec, ROWS * tile.warpgroups, tile.N)


def why_not_here() -> str | None:
    """Say so for GPUs that are not of compute capability 9."""
    if capability()[0] != 9:
        return "the GPU's compute capability is {}.{}, and these instructions exist on 9.0 only".format(*capability())
    return None


def why_not_images(spec: ConvSpec) -> str | None:
    """Say so for what these instructions cannot take, and for problems that are not of images."""
    depths = spec.input_size[0], spec.kernel_size[0], spec.output_size[0]
    here = tensor_operands.why_not(spec, (9, 0)) or why_not_here()
    return here or (None if depths == (1, 1, 1) else f"it takes images; input, kernel and output have depths {depths}")


def why_not(spec: ConvSpec) -> str | None:
    """Say so for other dtypes and precisions, for GPUs that are not of compute capability 9, and beyond 32-bit counts."""
    reason = tensor_operands.why_not(spec, (9, 0)) or why_not_here()
    if reason is not None:
        return reason
    tile, splits = cut(spec)
    return beyond_32_bits(spec, tensor_operands.parts(spec), blocks(spec, tile) * splits)


def prepare(spec: ConvSpec) -> Runner:
    """Choose the cut and return what launches the kernel, on a copy of inputs that are not as it reads them."""
    tile, splits = cut(spec)
    kind = tensor_operands.kind(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.warpgroup_gemm import warpgroup_gemm

        def make(compute: Any, form: Form, activation: Any) -> Any:
            return warpgroup_gemm(kind, *tile, MODES[spec.padding_mode], form, activation)

        threads = THREADS * tile.warpgroups
        convolve_split(make, spec, tensor_operands.in_parts(spec, ops), blocks(spec, tile), threads, splits)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds of the best cut, and of the copy that the input needs."""
    return tensor_operands.copy_seconds(spec) + gemm_seconds(spec, cut(spec))


WARPGROUP_GEMM = Algorithm(
    name="warpgroup_gemm",
    backend="cuda",
    summary="implicit GEMM on tensor cores, by the instructions of a warpgroup",
    why_not=why_not,
    cost=cost,
    pack=tensor_operands.pack,
    prepare=prepare,
    packing_cost=tensor_operands.packing_cost,
)
