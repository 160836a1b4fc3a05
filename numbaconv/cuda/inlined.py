"""Device functions that become part of their callers.

This module imports Numba's CUDA, so that only kernels import it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import cuda

from numbaconv.cuda.target import simulated

__all__ = ["inlined"]


def inlined(function: Callable) -> Any:
    """Make a device function of one in Python, which LLVM puts wherever it is called.

    With ``inline="always"`` Numba itself would do that, and copy and type it anew at each place: kernels took half as long again
    to compile, or two and a half times as long.
    """
    how = {} if simulated() else {"forceinline": True}  # the simulator knows no such option
    return cuda.jit(device=True, **how)(function)
