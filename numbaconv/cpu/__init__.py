"""The CPU backend: kernels compiled by Numba for the machine they run on. The kernel to read first is in ``rows.py``."""

from __future__ import annotations

from numbaconv.cpu.cache import cache_folder
from numbaconv.cpu.depthwise import DEPTHWISE
from numbaconv.cpu.depthwise_blocked import DEPTHWISE_BLOCKED
from numbaconv.cpu.direct import DIRECT, DIRECT_UNPACKED
from numbaconv.cpu.induced import DIRECT_4M, WINOGRAD4_4M
from numbaconv.cpu.pixels import PIXELS
from numbaconv.cpu.pointwise import POINTWISE
from numbaconv.cpu.rows import ROWS
from numbaconv.cpu.target import NUM_THREADS, SETTING, thread_limit
from numbaconv.cpu.winograd import WINOGRAD2, WINOGRAD4

__all__ = ["ALGORITHMS", "NUM_THREADS", "SETTING", "cache_folder", "thread_limit", "why_unavailable"]

REAL = (DEPTHWISE, DEPTHWISE_BLOCKED, POINTWISE, DIRECT, DIRECT_UNPACKED, WINOGRAD4, WINOGRAD2, PIXELS)
ALGORITHMS = (*REAL, DIRECT_4M, WINOGRAD4_4M, ROWS)


def why_unavailable() -> str | None:
    """There is always a CPU."""
    return None
