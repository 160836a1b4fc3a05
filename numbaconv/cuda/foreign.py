"""Device arrays of other libraries: how to make one like another, and where and when theirs are computed.

Arrays are told by the name of their class's module; where there is one, that library has been imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from numbaconv.arrays import Looker
from numbaconv.cuda.shadow import ALIGNMENT
from numbaconv.errors import bad_type
from numbaconv.spec import Size

__all__ = ["LOOKERS", "SILENT", "Family", "Maker", "family"]

Maker = Callable[[Any, int], tuple[Any, int]]  # from an array like the result, and a stream, to the result and its address


class Family(Protocol):
    """What is needed of a library."""

    exports: bool  # whether an array's interface may name a stream
    keeps: bool  # whether what is allocated while a graph is captured is kept for that graph

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: int) -> Any:
        """Allocate an array in C order, on the device of `like`, to be written first on a stream."""

    def check(self, array: Any, argument: str) -> None:
        """Raise TypeError if an array is not in memory what it is."""

    def restride(self, array: Any, view: np.ndarray) -> Any:
        """Return `array`'s memory with the shape and strides of `view`, which begins where `array` does."""

    def maker(self, stored: np.ndarray, view: np.ndarray, like: Any) -> Maker | None:
        """Return what does both at once, for arrays like `stored` and the `view` of that, on the device of `like`. Or None."""

    def stream(self, array: Any) -> int:
        """The library's current stream on the device of an array."""

    def device(self, array: Any) -> int:
        """The number of the device that an array lives on."""

    def look(self, array: Any) -> tuple[int, tuple] | None:
        """The address of an array, and all else that tells it from others; None if it cannot be read just so."""


class _CuPy:
    exports, keeps = True, False

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: int) -> Any:
        cupy = sys.modules["cupy"]
        with like.device:
            if stream == cupy.cuda.get_current_stream().ptr:
                return cupy.empty(shape, dtype)
            with cupy.cuda.ExternalStream(stream) if stream else cupy.cuda.Stream.null:
                return cupy.empty(shape, dtype)

    def check(self, array: Any, argument: str) -> None:
        pass

    def restride(self, array: Any, view: np.ndarray) -> Any:
        return sys.modules["cupy"].ndarray(view.shape, view.dtype, array.data, view.strides)

    def maker(self, stored: np.ndarray, view: np.ndarray, like: Any) -> None:
        return None

    def stream(self, array: Any) -> int:
        with array.device:
            return int(sys.modules["cupy"].cuda.get_current_stream().ptr)

    def device(self, array: Any) -> int:
        return int(array.device.id)

    def look(self, array: Any) -> tuple[int, tuple] | None:
        address = array.data.ptr
        return address, (array.shape, array.strides, array.dtype.str, array.dtype.name, array.device.id, address % ALIGNMENT)


class _Torch:
    exports, keeps = False, True

    def __init__(self) -> None:
        self._torch = sys.modules["torch"]
        self._strided = self._torch.strided
        # What current_stream makes an object of. torch's own compiler has its kernels call it.
        self._current: Callable[[int], int] = getattr(self._torch._C, "_cuda_getCurrentRawStream", self._current_by_object)

    def _current_by_object(self, device: int) -> int:
        return int(self._torch.cuda.current_stream(device).cuda_stream)

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: int) -> Any:
        make = partial(self._torch.empty, shape, dtype=getattr(self._torch, dtype.name), device=like.device)
        return make() if stream == self.stream(like) else self._on(stream, like.device, make)

    def _on(self, stream: int, device: Any, make: Callable[[], Any]) -> Any:
        """Make an array that is to be written first on a stream which is not the current one."""
        cuda = self._torch.cuda
        with cuda.stream(cuda.ExternalStream(stream, device) if stream else cuda.default_stream(device)):
            return make()

    def check(self, array: Any, argument: str) -> None:
        for change in ("conj", "neg"):
            if getattr(array, f"is_{change}")():
                raise bad_type(
                    argument, f"a tensor that is in memory what it is (see resolve_{change})", f"one with is_{change}()"
                )

    def restride(self, array: Any, view: np.ndarray) -> Any:
        return array.as_strided(view.shape, [s // view.itemsize for s in view.strides])

    def maker(self, stored: np.ndarray, view: np.ndarray, like: Any) -> Maker:
        model = self._torch.empty(stored.shape, device="meta")
        if view is not stored:
            model = self.restride(model, view)
        kind, number, device = getattr(self._torch, view.dtype.name), like.get_device(), like.device
        make_now = partial(self._torch.empty_strided, model.shape, model.stride(), dtype=kind, device=device)

        def make(like: Any, stream: int) -> tuple[Any, int]:
            array = make_now() if stream == self._current(number) else self._on(stream, device, make_now)
            return array, array.data_ptr()

        return make

    def stream(self, array: Any) -> int:
        return self._current(array.get_device())

    def device(self, array: Any) -> int:
        return int(array.get_device())

    def look(self, array: Any) -> tuple[int, tuple] | None:
        if array.requires_grad or array.is_conj() or array.is_neg() or array.layout is not self._strided or not array.is_cuda:
            return None
        address = array.data_ptr()
        return address, (array.shape, array.stride(), array.dtype, array.get_device(), address % ALIGNMENT)


_FAMILIES: dict[str, Callable[[], Family]] = {"cupy": cache(_CuPy), "torch": cache(_Torch)}


# Of kinds of arrays, as they are met: what looks at them, and those whose interface names no stream.
LOOKERS: dict[type, Looker] = {}
SILENT: set[type] = set()
_BY_TYPE: dict[type, Family | None] = {}


def family(array: Any) -> Family | None:
    """Return the family of an array, or None for Numba's and all others."""
    kind = type(array)
    try:
        return _BY_TYPE[kind]
    except KeyError:
        make = _FAMILIES.get(kind.__module__.partition(".")[0])
        found = None if make is None else make()
        if found is not None:
            LOOKERS[kind] = found.look
            if not found.exports:
                SILENT.add(kind)
        return _BY_TYPE.setdefault(kind, found)
