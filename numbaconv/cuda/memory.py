"""The GPU's memory, as :class:`numbaconv.arrays.Memory` describes memories."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from numbaconv.arrays import Looker, place_of
from numbaconv.cuda import foreign
from numbaconv.cuda.copying import copy
from numbaconv.cuda.recording import Tape
from numbaconv.cuda.shadow import ALIGNMENT, cast_shadow, imagined, lend, relocated
from numbaconv.cuda.streams import address_of, as_stream, bound_to, device_of, follow, on_device, one_device
from numbaconv.cuda.target import current_device
from numbaconv.spec import Size

__all__ = ["DEVICE", "packed", "scratch"]


class _Device:
    """Device memory: Numba's arrays, and those of the families in :mod:`numbaconv.cuda.foreign`."""

    lookers: ClassVar[dict[type, Looker]] = foreign.LOOKERS

    @contextmanager
    def session(self, arrays: dict[str, Any], stream: Any) -> Iterator[Any]:
        with on_device(one_device(arrays)):
            yield self.ordered([*arrays.values()], stream)

    def ordered(self, arrays: Sequence[Any], stream: Any) -> Any:
        if stream is None and arrays:
            family = foreign.family(arrays[0])
            stream = bound_to(arrays[0]) if family is None else family.stream(arrays[0])
        if not foreign.SILENT.issuperset(map(type, arrays)):
            follow(stream, arrays)
        return stream

    def site(self, array: Any) -> Any:
        return "cuda", device_of(array) if array is not None else current_device()

    def view(self, array: Any, argument: str) -> np.ndarray:
        family = foreign.family(array)
        if family is not None:
            family.check(array, argument)
        return cast_shadow(array, argument)

    def view_out(self, out: Any) -> np.ndarray:
        return self.view(out, "out")

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: Any) -> Any:
        family = foreign.family(like)
        if family is not None:
            return family.empty(shape, dtype, like, address_of(stream))
        from numba import cuda

        return cuda.device_array(shape, dtype, stream=as_stream(stream))

    def restride(self, array: Any, view: np.ndarray) -> Any:
        family = foreign.family(array)
        return lend(view).bind(_stream_of(array)) if family is None else family.restride(array, view)

    def maker(self, stored: np.ndarray, view: np.ndarray, like: Any) -> Callable[[Any, Any], tuple[Any, int]]:
        family = foreign.family(like)
        at_once = None if family is None else family.maker(stored, view, like)
        if at_once is not None:
            return lambda like, stream: at_once(like, address_of(stream))

        def make(like: Any, stream: Any) -> tuple[Any, int]:
            array = self.empty(stored.shape, stored.dtype, like, stream)
            address = self.view_out(array).ctypes.data
            return array if view is stored else self.restride(array, relocated(view, address)), address

        return make

    def to_host(self, array: Any, stream: Any) -> np.ndarray:
        shadow = self.view(array, "input")
        forward = tuple(slice(None, None, -1 if s < 0 else 1) for s in shadow.strides)  # Numba copies no other
        stream = as_stream(stream) or _stream_of(array)
        host: np.ndarray = lend(shadow[forward]).copy_to_host(stream=stream)
        if stream:
            stream.synchronize()
        return host[forward]

    def from_host(self, array: np.ndarray, like: Any, stream: Any) -> Any:
        # The order of the axes in memory is the problem's layout, so it is kept.
        order = sorted(range(array.ndim), key=lambda axis: -abs(array.strides[axis]))
        packed = np.ascontiguousarray(array.transpose(order))
        stored = self.empty(packed.shape, packed.dtype, like, stream)
        shadow = cast_shadow(stored, "input")
        if packed.size:
            to, of = (a.reshape(-1).view(np.uint8) for a in (shadow, packed))  # numba-cuda 0.30 uploads no bfloat16
            lend(to).copy_to_device(of, stream=as_stream(stream))
        return self.restride(stored, shadow.transpose(np.argsort(order)))

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        copy(cast_shadow(target, "out"), cast_shadow(source, "result"), stream)

    def conjugate(self, view: np.ndarray, stream: Any) -> np.ndarray:
        """Return the shadow of a conjugated copy."""
        target = scratch(view.shape, view.dtype, stream)
        copy(target, view, stream, conjugate=True)
        return target

    def settle(self, stream: Any) -> None:
        from numba import cuda

        (as_stream(stream) or cuda.default_stream()).synchronize()

    def look(self, array: Any) -> tuple[int, Any] | None:
        family = foreign.family(array)
        if family is not None:
            return family.look(array)
        if place_of(array) != "cuda":
            return None
        try:
            shadow = cast_shadow(array, "input")
        except TypeError:
            return None  # the long way says why, and names it
        address = shadow.ctypes.data
        return address, (shadow.shape, shadow.strides, shadow.dtype, address % ALIGNMENT, device_of(array), type(array))

    def record(self, shadows: Sequence[np.ndarray | None], run: Callable[[list[np.ndarray | None], Any], None]) -> Tape:
        tape = Tape()
        run([None if shadow is None else imagined(shadow, 1 + number) for number, shadow in enumerate(shadows)], tape)
        return tape


def scratch(shape: Size, dtype: np.dtype, stream: Any) -> np.ndarray:
    """Return the shadow of memory in C order; where a call is being recorded, of such as exists during that call."""
    if isinstance(stream, Tape):
        return stream.scratch(shape, dtype)
    return cast_shadow(DEVICE.empty(shape, dtype, None, stream), "scratch")


def packed(view: np.ndarray, dtype: np.dtype, stream: Any, alignment: int = 1) -> np.ndarray:
    """Return the shadow of a copy in C order, in memory of its own, its rows on multiples of so many bytes."""
    many = max(1, alignment // dtype.itemsize)
    target = scratch((*view.shape[:-1], -(-view.shape[-1] // many) * many), dtype, stream)
    target = target[..., : view.shape[-1]]
    copy(target, view, stream)
    return target


def _stream_of(array: Any) -> Any:
    """The stream that a Numba array is bound to."""
    return getattr(array, "stream", 0)


DEVICE = _Device()
