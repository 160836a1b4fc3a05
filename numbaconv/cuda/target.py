"""Whether CUDA kernels can run here."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec

from numbaconv.cuda.driver import context_device

__all__ = [
    "BANDWIDTH",
    "L2_BANDWIDTH",
    "LATENCY",
    "MULTIPROCESSORS",
    "RATE",
    "TENSOR_RATE",
    "capability",
    "current_device",
    "simulated",
    "why_unavailable",
]

# An H200 by its data sheet, unmeasured: float32 operations and bytes a second, seconds of a launch in a graph, and from asking
# memory for something to having it. They rank the kernels of this backend, no more.
RATE = 6.7e13
BANDWIDTH = 4.3e12
L2_BANDWIDTH = 7e12  # bytes that all multiprocessors read of the L2 cache in a second: a guess, not measured
LATENCY = 3e-6
ROUND_TRIP = 5e-7
MULTIPROCESSORS = 132
TENSOR_RATE = 9.9e14  # of 16-bit numbers; tf32 has half of it

_EXTRAS = 'pip install "numbaconv[cuda13]" (or "numbaconv[cuda12]" for a CUDA 12 driver)'


@cache
def why_unavailable() -> str | None:
    """Say what is missing to run CUDA kernels here and how to get it, or None. Numba's simulator counts as a GPU."""
    try:
        if find_spec("numba_cuda") is None:
            return f"the package numba-cuda is not installed; {_EXTRAS} brings it"
        from numba import cuda

        if cuda.is_available():
            if not simulated():
                import_module("numba.cuda.np.arrayobj")  # what it compiles with, which it imports late: 0.30 needs NumPy < 2.5
            return None
        error = cuda.cuda_error()
    except Exception as failure:
        return f"numba-cuda cannot be used ({_one_line(failure)}); {_EXTRAS} brings it with all it needs"
    if error is None:
        return f"the CUDA toolkit's compiler library nvvm is missing; {_EXTRAS} brings it"
    return f"no usable NVIDIA driver or GPU was found ({_one_line(error)})"


def capability() -> tuple[int, int]:
    """The compute capability of the current GPU; the simulator has all."""
    from numba import cuda

    if simulated():
        return 9, 0
    major, minor = cuda.get_current_device().compute_capability
    return major, minor


def current_device() -> int:
    """The number of this thread's current GPU; Numba makes one current where none is."""
    if simulated():
        return 0
    number = context_device()
    if number is not None:
        return number
    from numba import cuda

    return int(cuda.get_current_device().id)


@cache
def simulated() -> bool:
    """Whether Numba's CUDA simulator (``NUMBA_ENABLE_CUDASIM=1``) stands in for the GPU."""
    from numba.cuda.core import config

    return bool(config.ENABLE_CUDASIM)


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
