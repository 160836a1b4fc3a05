"""Activations of CPU kernels: a compiled loop behind a pointer.

A kernel calls the pointer on a row of finished sums that still lie in the L1 cache. So a new activation, the caller's
own too, compiles a loop of one line and no kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from types import FunctionType
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.core.errors import NumbaError
from numba.np.numpy_support import from_dtype

from numbaconv.activation import SCALARS
from numbaconv.algorithm import Operands
from numbaconv.cpu.jit import CFunction, contiguous, strided
from numbaconv.errors import bad_type
from numbaconv.spec import ConvSpec

__all__ = ["Epilogue", "epilogue"]


class Epilogue:
    """What a kernel adds to its sums and applies to them, as it takes it."""

    def __init__(self, spec: ConvSpec) -> None:
        self._dtype = spec.dtypes.compute
        self._no_bias = np.zeros(spec.weight_shape[:2], self._dtype)
        self._no_residual = np.empty((1,) * 6, self._dtype)
        self._activation = None if spec.activation is None else epilogue(spec.activation, self._dtype)
        address = 0 if self._activation is None else self._activation.address
        self._nothing = None if spec.has_bias or spec.has_residual else (self._no_bias, self._no_residual, False, address)

    @property
    def types(self) -> tuple[types.Type, ...]:
        """The types of :meth:`arguments`."""
        return contiguous(self._dtype, 2), strided(self._dtype, 6), types.int64, types.int64

    def arguments(self, ops: Operands) -> tuple[np.ndarray, np.ndarray, bool, int]:
        """Return bias, residual, whether there is one, and the address of the activation or 0."""
        if self._nothing is not None:
            return self._nothing
        return (
            self._no_bias if ops.bias is None else np.ascontiguousarray(ops.bias, self._dtype),
            self._no_residual if ops.residual is None else ops.residual.astype(self._dtype, copy=False),
            ops.residual is not None,
            0 if self._activation is None else self._activation.address,
        )


def named(activation: str, dtype: np.dtype) -> Callable:
    """Return the definition of an activation; for float32 with elementary functions that LLVM makes vector code of."""
    definition = SCALARS[activation]
    if dtype != np.float32:
        return definition
    from numbaconv.cpu import elementary  # whose functions take Numba milliseconds to wrap

    if activation == "tanh":
        return elementary.tanh.py_func
    own = {name: getattr(elementary, name) for name in elementary.__all__}
    return FunctionType(definition.__code__, {**definition.__globals__, **own})


@lru_cache(maxsize=256)
def epilogue(activation: Any, dtype: np.dtype) -> CFunction:
    """Compile ``x[i] = activation(x[i])``.

    Raises
    ------
    TypeError
        If the caller's function cannot be compiled for the dtype, or returns something else than a number.
    """
    ours = isinstance(activation, str)
    function = njit(named(activation, dtype), error_model="numpy") if ours else activation
    element = from_dtype(dtype)

    def loop(address, count):
        row = carray(address, count)
        for i in range(count):
            row[i] = function(row[i])

    if ours:  # symbols that are kept on disk have to differ
        loop.__qualname__ = f"{activation}_{dtype}"
    try:
        return CFunction(loop, loop.__qualname__ if ours else None, types.CPointer(element), types.int64)
    except NumbaError as error:
        reason = str(error).strip().splitlines()[0]
        raise bad_type(
            "activation", f"a function of one {dtype} scalar that Numba can compile", f"{activation} ({reason})"
        ) from None
