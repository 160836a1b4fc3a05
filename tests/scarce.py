"""Memory that is refused: from some size on, in whichever thread it is asked for, as a machine without more of it does."""

import ctypes
from contextlib import contextmanager

import numpy as np
from numba import cfunc, types
from numba.core.runtime import _nrt_python

RAW = 0  # the domain of PyMem_RawMalloc


class _Allocator(ctypes.Structure):
    """CPython's PyMemAllocatorEx."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("context", "malloc", "calloc", "realloc", "free")]


def trace_kernels():
    """What kernels allocate comes from Python's raw domain from now on, where tracemalloc sees it, and `refuse` gets at it."""
    _nrt_python.memsys_use_cpython_allocator()


_usual = _Allocator()
ctypes.pythonapi.PyMem_GetAllocator(RAW, ctypes.byref(_usual))
_malloc = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)(_usual.malloc)
_limit = np.zeros(2, np.int64)  # bytes; how often they were refused


@cfunc(types.voidptr(types.CPointer(types.int64), types.uintp))
def _scarce(limit, size):
    if size >= limit[0]:
        limit[1] += 1
        return 0
    return _malloc(0, size)


@contextmanager
def refuse(size):
    """Whoever asks for so many bytes or more gets none. What comes tells how often that was so."""
    _limit[:] = size, 0
    scarce = _Allocator(_limit.ctypes.data, _scarce.address, _usual.calloc, _usual.realloc, _usual.free)
    ctypes.pythonapi.PyMem_SetAllocator(RAW, ctypes.byref(scarce))
    try:
        yield lambda: int(_limit[1])
    finally:
        ctypes.pythonapi.PyMem_SetAllocator(RAW, ctypes.byref(_usual))
