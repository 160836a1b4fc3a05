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

    With ``inline="always"`` Numba itself would do that, and copy and type it anew at each place: of four kernels that were timed
    each took 1.2 to 2.7 times as long to compile.
    """
    how = {} if simulated() else {"forceinline": True}  # the simulator knows no such option
    return cuda.jit(device=True, **how)(function)
