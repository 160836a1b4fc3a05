"""How CPU kernels are compiled and called: one signature for all memory layouts.

Numba specialises on C order, F order, strided, read-only and writeable, each of which would be a compilation of seconds.
Kernels here name one signature instead (:func:`strided`: any strides) and are called through the entry point that compiling
it returns. That entry point does not check its arguments, so nothing but the algorithms may call it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit, types
from numba.np.numpy_support import from_dtype

from numbaconv.cpu.cache import KernelCache
from numbaconv.cpu.float16 import BFLOAT16, FLOAT16
from numbaconv.cpu.interrupts import uninterrupted

__all__ = ["CFunction", "address", "compiled", "contiguous", "inner", "kernel", "strided"]


OPTIONS = {"fastmath": {"contract"}, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def element(dtype: np.dtype) -> types.Type:
    """Return Numba's type of an array's elements."""
    return {"float16": FLOAT16, "bfloat16": BFLOAT16}.get(dtype.name) or from_dtype(dtype)


@cache
def strided(dtype: np.dtype, ndim: int) -> types.Array:
    """Return Numba's type of an array of any strides, read-only ones among them: kernels keep to what they may write."""
    return types.Array(element(dtype), ndim, "A")


@cache
def contiguous(dtype: np.dtype, ndim: int) -> types.Array:
    """Return Numba's type of an array in C order."""
    return types.Array(element(dtype), ndim, "C")


def kernel(function: Callable | None = None, /, **options: Any) -> Any:
    """Decorate a kernel: ``njit`` with FMA contraction, the GIL released, and a cache that never stops a computation.

    ``contract`` fuses a product and a sum, and leaves Inf, NaN and the order of the sums alone.
    """
    if function is None:
        return lambda f: kernel(f, **options)
    dispatcher = njit(**OPTIONS | options)(function)
    _keep_compiled(dispatcher, function)
    return dispatcher


def _keep_compiled(dispatcher: Any, function: Callable, name: str | None = None) -> None:
    """Give a dispatcher its cache on disk."""
    try:
        dispatcher._cache = KernelCache(function, name)
    except (RuntimeError, OSError) as error:  # there is no folder that may be written to
        warnings.warn(f"numbaconv compiles anew in every process: {error}", RuntimeWarning, stacklevel=3)


def inner(function: Callable | None = None, /, **options: Any) -> Any:
    """Decorate a function that kernels alone call: a :func:`kernel` without the wrapper for Python, which costs compile time."""
    return kernel(function, no_cpython_wrapper=True, **options)


@cache
@uninterrupted()
def compiled(dispatcher: Any, *signature: types.Type) -> Callable:
    """Return the entry point of a kernel for one signature, from the cache on disk or compiled now."""
    return dispatcher.compile(signature)


class CFunction:
    """A compiled function with C's calling convention, kept in the cache by a name of its own, if it has one.

    Products and sums are not fused: it is the caller's arithmetic.

    Attributes
    ----------
    address : int
        Valid as long as this object is kept.
    """

    @uninterrupted()
    def __init__(self, function: Callable, name: str | None, *signature: types.Type) -> None:
        dispatcher = njit(error_model="numpy", no_cpython_wrapper=True)(function)
        if name is not None:
            _keep_compiled(dispatcher, function, name)
        dispatcher.compile(signature)
        self._result = dispatcher.overloads[signature]
        self.address = self._result.library.get_pointer_to_function(self._result.fndesc.llvm_cfunc_wrapper_name)

    def inspect_asm(self) -> str:
        """The assembly; Numba has it only where it was compiled in this process."""
        return self._result.library.get_asm_str()


@cache
@uninterrupted()
def address(dispatcher: Any, *signature: types.Type) -> int:
    """Compile a function for one signature, and return where its code is, for ``intrinsics.invoke``."""
    dispatcher.compile(signature)
    result = dispatcher.overloads[signature]
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
