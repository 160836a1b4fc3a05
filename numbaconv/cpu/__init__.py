"""The CPU backend: kernels compiled by Numba for the machine they run on. The kernel to read first is in ``rows.py``."""

from __future__ import annotations

from numbaconv.cpu.direct import DIRECT
from numbaconv.cpu.jit import cache_folder
from numbaconv.cpu.rows import ROWS

__all__ = ["ALGORITHMS", "cache_folder", "why_unavailable"]

ALGORITHMS = (DIRECT, ROWS)


def why_unavailable() -> str | None:
    """There is always a CPU."""
    return None
