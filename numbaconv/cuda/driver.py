"""What every call asks of the driver, asked at the functions' addresses.

cuda.bindings makes objects of all arguments and results, each time. It is asked where :func:`function` finds no address.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache, partial
from typing import Any

__all__ = ["Configuration", "capture_status", "check", "context_device", "function", "launcher"]

# The newest version of which functions are asked for: all of CUDA 12 have what is asked for here, and in CUDA 13 cuCtxGetDevice
# takes another argument.
_VERSION = 12000


@cache
def function(name: str) -> Any:
    """Return a function of the driver, for ctypes' own objects as arguments; None if there is no driver to find it in.

    Python's lock is given up while it runs: a launch waits where too many are under way, perhaps for a callback in Python.
    """
    from cuda.bindings import driver

    stream = "PER_THREAD_DEFAULT_STREAM" if _default_streams_are_threads() else "LEGACY_STREAM"
    which = getattr(driver.CUdriverProcAddress_flags, f"CU_GET_PROC_ADDRESS_{stream}")
    try:
        error, address, _ = driver.cuGetProcAddress(name.encode(), _VERSION, which)
    except Exception:  # there is no driver
        return None
    return ctypes.CFUNCTYPE(ctypes.c_int)(address) if not error and address else None


def _default_streams_are_threads() -> bool:
    """Whether stream 0 is one for each thread, by what cuda.bindings reads."""
    try:
        return bool(int(os.environ.get("CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM", "0")))
    except ValueError:
        return False


_Number: Any = ctypes.c_int * 1  # where the driver puts one: unlike c_int, what stands for its own address


class Configuration(ctypes.Structure):
    """CUlaunchConfig: all of a launch but the kernel and its arguments."""

    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("attribute_count", ctypes.c_uint),
    )


def launcher(configuration: Configuration, kernel: Any, parameters: int) -> Callable[[], int]:
    """Return what launches a kernel, as its configuration and its parameters are by then, and returns the driver's error.

    Parameters
    ----------
    kernel
        The driver's handle.
    parameters
        The address of addresses, one for each argument. The driver copies arguments before it returns.
    """
    native = function("cuLaunchKernelEx")
    if native is None:
        return partial(_launch, configuration, kernel, parameters)
    pointers = ctypes.c_void_p(int(kernel)), ctypes.c_void_p(parameters), ctypes.c_void_p()
    return partial(native, ctypes.byref(configuration), *pointers)


def _launch(configuration: Configuration, kernel: Any, parameters: int) -> int:
    from cuda.bindings import driver

    one = configuration
    (error,) = driver.cuLaunchKernel(kernel, *one.grid, *one.block, one.shared, one.stream or 0, parameters, 0)
    return int(error)


def check(error: int, doing: str) -> None:
    """Raise RuntimeError if this is the number of an error, and name it."""
    if not error:
        return
    from cuda.bindings.driver import CUresult

    try:
        name = CUresult(error).name
    except ValueError:
        name = f"error {error}"
    raise RuntimeError(f"{doing} failed: {name}")


def context_device() -> int | None:
    """Return the number of the GPU of this thread's current context; None if there is no such context."""
    native = function("cuCtxGetDevice")
    if native is not None:
        number = _Number()
        return None if native(number) else number[0]
    from cuda.bindings import driver

    error, device = driver.cuCtxGetDevice()
    return None if error else int(device)


def capture_status(stream: int) -> int:
    """Return the number that says whether a stream is being captured into a graph: 0 if not, or if the driver cannot say."""
    native = function("cuStreamIsCapturing")
    if native is not None:
        status = _Number()
        return 0 if native(ctypes.c_void_p(stream), status) else status[0]
    from cuda.bindings import driver

    error, found = driver.cuStreamIsCapturing(stream)
    return 0 if error else int(found)
