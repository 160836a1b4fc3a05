"""The CUDA backend: kernels compiled by numba-cuda. Importing it imports nothing of CUDA; that waits for the first use."""

from __future__ import annotations

from numbaconv.cuda.depthwise import DEPTHWISE
from numbaconv.cuda.direct import DIRECT
from numbaconv.cuda.halo_gemm import HALO_GEMM
from numbaconv.cuda.implicit_gemm import IMPLICIT_GEMM
from numbaconv.cuda.memory import DEVICE as MEMORY
from numbaconv.cuda.target import why_unavailable
from numbaconv.cuda.tensor_gemm import TENSOR_GEMM
from numbaconv.cuda.tiled import TILED
from numbaconv.cuda.tma_gemm import TMA_GEMM
from numbaconv.cuda.warpgroup_gemm import WARPGROUP_GEMM
from numbaconv.cuda.winograd import WINOGRAD2, WINOGRAD4

__all__ = ["ALGORITHMS", "MEMORY", "why_unavailable"]

ALGORITHMS = (DEPTHWISE, HALO_GEMM, TMA_GEMM, WARPGROUP_GEMM, TENSOR_GEMM, WINOGRAD4, WINOGRAD2, IMPLICIT_GEMM, TILED, DIRECT)
