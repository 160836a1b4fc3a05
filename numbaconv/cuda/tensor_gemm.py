"""Implicit GEMM on tensor cores by ``mma.sync``: float16 and bfloat16, and float32 as precision="tf32" or "bf16" allows."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda import mma, tensor_operands
from numbaconv.cuda.geometry import MODES, PART, ROW_BYTES, STAGES, beyond_32_bits
from numbaconv.cuda.splitting import Cut, best_cut, convolve_split
from numbaconv.cuda.storing import Form
from numbaconv.spec import ConvSpec

__all__ = ["TENSOR_GEMM", "Tile", "cut", "gemm_seconds"]


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


def gemm_seconds(spec: ConvSpec, one: Cut) -> float:
    """Predict the seconds of a cut: see :func:`numbaconv.cuda.tensor_operands.gemm_seconds`."""
    shape = tensor_operands.Shape(one.tile.BM, one.tile.BN, ROW_BYTES, STAGES + 1, EFFICIENCY)
    return tensor_operands.gemm_seconds(spec, shape, one.splits, tensor_operands.parts(spec))


@lru_cache(maxsize=4096)
def cut(spec: ConvSpec) -> Cut:
    """Return the cut that takes least."""
    most = tensor_operands.parts(spec) * PART // ROW_BYTES
    return best_cut(TILES, most, lambda one: gemm_seconds(spec, one))


def blocks(spec: ConvSpec, tile: Tile) -> int:
    """How many blocks there are for one part of the products."""
    return tensor_operands.blocks(spec, tile.BM, tile.BN)


def why_not(spec: ConvSpec) -> str | None:
    """Say so for other dtypes and precisions, for GPUs of less than 8.0, and beyond 32-bit counts."""
    reason = tensor_operands.why_not(spec, (8, 0))
    if reason is None:
        tile, splits = cut(spec)
        reason = beyond_32_bits(spec, tensor_operands.parts(spec), blocks(spec, tile) * splits)
    return reason


def prepare(spec: ConvSpec) -> Runner:
    """Choose the cut and return what launches the kernel, on a copy of inputs that are not as it reads them."""
    tile, splits = cut(spec)
    kind = tensor_operands.kind(spec)

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.tensor_gemm import tensor_gemm

        def make(compute: Any, form: Form, activation: Any) -> Any:
            return tensor_gemm(kind, *tile, MODES[spec.padding_mode], form, activation)

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
    why_not=why_not,
    cost=cost,
    pack=tensor_operands.pack,
    prepare=prepare,
    packing_cost=tensor_operands.packing_cost,
)
