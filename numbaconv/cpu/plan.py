"""The integers of a problem as kernels take them: one record, which costs a call a single argument."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

__all__ = ["record", "record_type"]


def record(**integers: int) -> np.ndarray:
    """Return an array of one record with these fields."""
    return np.array([tuple(integers.values())], [(name, np.int64) for name in integers])


def record_type(array: np.ndarray) -> Any:
    """Return Numba's type of such an array."""
    return _type_of(array.dtype.names)


@cache
def _type_of(names: tuple[str, ...]) -> Any:
    return types.Array(from_dtype(np.dtype([(name, np.int64) for name in names])), 1, "C")
