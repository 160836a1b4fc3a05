"""How CPU kernels are compiled and called: one signature for all memory layouts, and a cache that survives trouble.

Numba specialises on C order, F order, strided, read-only and writeable, each of which would be a compilation of seconds.
Kernels here name one signature instead (:func:`strided`: any strides) and are called through the entry point that compiling
it returns. That entry point does not check its arguments, so nothing but the algorithms may call it.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.np.numpy_support import from_dtype

from numbaconv.cpu.float16 import BFLOAT16, FLOAT16

__all__ = ["CFunction", "address", "cache_folder", "compiled", "contiguous", "inner", "kernel", "strided"]


OPTIONS = {"fastmath": {"contract"}, "nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}


def element(dtype: np.dtype) -> types.Type:
    """Return Numba's type of an array's elements."""
    return {"float16": FLOAT16, "bfloat16": BFLOAT16}.get(dtype.name) or from_dtype(dtype)


def strided(dtype: np.dtype, ndim: int) -> types.Array:
    """Return Numba's type of an array of any strides, read-only ones among them: kernels keep to what they may write."""
    return types.Array(element(dtype), ndim, "A")


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
        dispatcher._cache = _KernelCache(function, name)
    except RuntimeError as error:  # Numba found no folder that it may write to
        warnings.warn(f"numbaconv compiles anew in every process: {error}", RuntimeWarning, stacklevel=3)


def inner(function: Callable | None = None, /, **options: Any) -> Any:
    """Decorate a function that kernels alone call: a :func:`kernel` without the wrapper for Python, which costs compile time."""
    return kernel(function, no_cpython_wrapper=True, **options)


@cache
def compiled(dispatcher: Any, *signature: types.Type) -> Callable:
    """Return the entry point of a kernel for one signature, from the cache on disk or compiled now."""
    return dispatcher.compile(signature)


class CFunction:
    """A compiled function with C's calling convention, kept in the cache by a name of its own, if it has one.

    Attributes
    ----------
    address : int
        Valid as long as this object is kept.
    """

    def __init__(self, function: Callable, name: str | None, *signature: types.Type) -> None:
        options = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": False}
        dispatcher = njit(**options)(function)
        if name is not None:
            _keep_compiled(dispatcher, function, name)
        dispatcher.compile(signature)
        self._result = dispatcher.overloads[signature]
        self.address = self._result.library.get_pointer_to_function(self._result.fndesc.llvm_cfunc_wrapper_name)

    def inspect_asm(self) -> str:
        """The assembly."""
        return self._result.library.get_asm_str()


@cache
def address(dispatcher: Any, *signature: types.Type) -> int:
    """Compile a function for one signature, and return where its code is, for ``intrinsics.invoke``."""
    dispatcher.compile(signature)
    result = dispatcher.overloads[signature]
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


def cache_folder() -> str:
    """Where compiled kernels are kept, in words where they are not."""
    try:
        return _KernelCache(cache_folder).cache_path
    except RuntimeError as error:
        return f"none ({error})"


class _KernelCache(FunctionCache):
    """Numba's cache on disk, renewed when any kernel source changes, and ignored where it is damaged."""

    def __init__(self, function: Callable, name: str | None = None) -> None:
        super().__init__(function)
        base = self._impl.filename_base
        if name is not None:
            base = f"{base}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self._name = name
        self._cache_file = _CheckedFile(self.cache_path, base, _source_stamp())

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Numba's key has what a closure holds in it, which is new in every process; a name says what that is."""
        return super()._index_key(sig, codegen) if self._name is None else (sig, codegen.magic_tuple(), self._name)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            self._complain("read", error)
            self._start_afresh()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:
            self._complain("write", error)
            self._start_afresh()

    def _start_afresh(self) -> None:
        try:
            self.flush()
        except Exception:
            self.disable()

    def _complain(self, verb: str, error: Exception) -> None:
        warnings.warn(f"cannot {verb} the kernel cache in {self.cache_path}: {error!r}", RuntimeWarning, stacklevel=2)


class _CheckedFile(IndexDataCacheFile):
    """Numba's cache files, each behind a digest of itself: LLVM crashes on machine code that is not whole."""

    def _dump(self, obj: Any) -> bytes:
        data = super()._dump(obj)
        return hashlib.sha256(data).digest() + data

    def _load_index(self) -> dict:
        try:
            with open(self._index_path, "rb") as file:
                if pickle.load(file) != self._version:
                    return {}
                stamp, overloads = pickle.loads(_whole(file.read()))
        except FileNotFoundError:
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        with open(self._data_path(name), "rb") as file:
            return pickle.loads(_whole(file.read()))


def _whole(data: bytes) -> bytes:
    digest, rest = data[:32], data[32:]
    if hashlib.sha256(rest).digest() != digest:
        raise ValueError("a damaged file")
    return rest


@cache
def _source_stamp() -> str:
    """A digest of all CPU sources: a kernel inlines functions of other files, which Numba's own stamp does not see."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
