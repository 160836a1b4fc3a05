"""The CUDA backend."""

from __future__ import annotations

from typing import Any

from numbaconv.algorithm import Algorithm

__all__ = ["ALGORITHMS", "MEMORY", "why_unavailable"]

ALGORITHMS: tuple[Algorithm, ...] = ()
MEMORY: Any = None


def why_unavailable() -> str | None:
    """Say what is missing to run CUDA kernels here, or None."""
    return "not built"
