"""Device arrays of other libraries: how to make one like another, and where and when theirs are computed.

Arrays are told by the name of their class's module; where there is one, that library has been imported.
"""

from __future__ import annotations

import sys
from typing import Any, Protocol

import numpy as np

from numbaconv.spec import Size

__all__ = ["Family", "family"]


class Family(Protocol):
    """What is needed of a library."""

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: int) -> Any:
        """Allocate an array in C order, on the device of `like`, to be written first on a stream."""

    def restride(self, array: Any, view: np.ndarray) -> Any:
        """Return `array`'s memory with the shape and strides of `view`, which begins where `array` does."""

    def stream(self, array: Any) -> int:
        """The library's current stream on the device of an array."""

    def device(self, array: Any) -> int:
        """The number of the device that an array lives on."""

    def look(self, array: Any) -> tuple[int, tuple] | None:
        """The address of an array, and all else that tells it from others; None if it cannot be read just so."""


class _CuPy:
    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: int) -> Any:
        cupy = sys.modules["cupy"]
        with like.device:
            if stream == cupy.cuda.get_current_stream().ptr:
                return cupy.empty(shape, dtype)
            with cupy.cuda.ExternalStream(stream) if stream else cupy.cuda.Stream.null:
                return cupy.empty(shape, dtype)

    def restride(self, array: Any, view: np.ndarray) -> Any:
        return sys.modules["cupy"].ndarray(view.shape, view.dtype, array.data, view.strides)

    def stream(self, array: Any) -> int:
        with array.device:
            return int(sys.modules["cupy"].cuda.get_current_stream().ptr)

    def device(self, array: Any) -> int:
        return int(array.device.id)

    def look(self, array: Any) -> tuple[int, tuple] | None:
        return array.data.ptr, (array.shape, array.strides, array.dtype.str, array.dtype.name, array.device.id)


class _Torch:
    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: int) -> Any:
        torch = sys.modules["torch"]
        kind = getattr(torch, dtype.name)
        if stream == self.stream(like):
            return torch.empty(shape, dtype=kind, device=like.device)
        device = like.device
        with torch.cuda.stream(torch.cuda.ExternalStream(stream, device) if stream else torch.cuda.default_stream(device)):
            return torch.empty(shape, dtype=kind, device=device)

    def restride(self, array: Any, view: np.ndarray) -> Any:
        return array.as_strided(view.shape, [s // view.itemsize for s in view.strides])

    def stream(self, array: Any) -> int:
        return int(sys.modules["torch"].cuda.current_stream(array.device).cuda_stream)

    def device(self, array: Any) -> int:
        return int(array.device.index)

    def look(self, array: Any) -> tuple[int, tuple] | None:
        if array.requires_grad or array.is_conj() or array.is_neg() or array.is_sparse:
            return None
        return array.data_ptr(), (tuple(array.shape), array.stride(), array.dtype, array.device)


_FAMILIES: dict[str, Family] = {"cupy": _CuPy(), "torch": _Torch()}


_BY_TYPE: dict[type, Family | None] = {}


def family(array: Any) -> Family | None:
    """Return the family of an array, or None for Numba's and all others."""
    kind = type(array)
    try:
        return _BY_TYPE[kind]
    except KeyError:
        return _BY_TYPE.setdefault(kind, _FAMILIES.get(kind.__module__.partition(".")[0]))
