"""Activations of CPU kernels: a compiled loop behind a pointer.

A kernel calls the pointer on a row of finished sums that still lie in the L1 cache. So a new activation, the caller's
own too, compiles a loop of one line and no kernel.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numba.core.errors import NumbaError
from numba.np.numpy_support import from_dtype

from numbaconv.activation import SCALARS
from numbaconv.errors import bad_type

__all__ = ["epilogue"]


@lru_cache(maxsize=256)
def epilogue(activation: Any, dtype: np.dtype) -> Any:
    """Compile ``x[i] = activation(x[i])``; what is returned has an ``address``, valid as long as it is kept.

    Raises
    ------
    TypeError
        If the caller's function cannot be compiled for the dtype, or returns something else than a number.
    """
    # FMA contraction off the table: an activation is the caller's arithmetic.
    function = njit(SCALARS[activation], error_model="numpy") if isinstance(activation, str) else activation
    element = from_dtype(dtype)

    def loop(address, count):
        row = carray(address, count)
        for i in range(count):
            row[i] = function(row[i])

    try:
        return cfunc(types.void(types.CPointer(element), types.int64), error_model="numpy")(loop)
    except NumbaError as error:
        reason = str(error).strip().splitlines()[0]
        raise bad_type(
            "activation", f"a function of one {dtype} scalar that Numba can compile", f"{activation} ({reason})"
        ) from None
