"""Device arrays of other libraries: how to make one like another.

Arrays are told by the name of their class's module; where there is one, that library has been imported.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np

from numbaconv.spec import Size

__all__ = ["Family", "family", "wait_for"]

_LEGACY_DEFAULT = 1  # a stream's number in the CUDA array interface


class Family(Protocol):
    """What is needed of a library."""

    def empty(self, shape: Size, dtype: np.dtype, like: Any) -> Any:
        """Allocate an array in C order, on the device of `like`."""

    def restride(self, array: Any, view: np.ndarray) -> Any:
        """Return `array`'s memory with the shape and strides of `view`, which begins where `array` does."""


class _CuPy:
    def empty(self, shape: Size, dtype: np.dtype, like: Any) -> Any:
        with like.device:
            return sys.modules["cupy"].empty(shape, dtype)

    def restride(self, array: Any, view: np.ndarray) -> Any:
        return sys.modules["cupy"].ndarray(view.shape, view.dtype, array.data, view.strides)


class _Torch:
    def empty(self, shape: Size, dtype: np.dtype, like: Any) -> Any:
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)

    def restride(self, array: Any, view: np.ndarray) -> Any:
        return array.as_strided(view.shape, [s // view.itemsize for s in view.strides])


_FAMILIES: dict[str, Family] = {"cupy": _CuPy(), "torch": _Torch()}


def family(array: Any) -> Family | None:
    """Return the family of an array, or None for Numba's and all others."""
    return _FAMILIES.get(type(array).__module__.partition(".")[0])


def wait_for(array: Any) -> None:
    """Wait for the stream on which a foreign array is being computed, where it names one that the default does not follow."""
    if family(array) is None:
        return
    stream = array.__cuda_array_interface__.get("stream")
    if stream not in (None, _LEGACY_DEFAULT):
        from numba import cuda

        cuda.external_stream(stream).synchronize()
