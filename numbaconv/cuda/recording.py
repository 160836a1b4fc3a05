"""Launches that are written down once and played for every call alike: all that is left of a call is addresses.

While a call is recorded its operands are imagined (:mod:`numbaconv.cuda.shadow`), and a :class:`Tape` takes the stream's place.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from numbaconv.cuda import foreign
from numbaconv.cuda.launch import Launches
from numbaconv.cuda.shadow import ALIGNMENT, beginning, relocated
from numbaconv.cuda.streams import address_of, as_stream, capturing
from numbaconv.cuda.target import current_device, simulated
from numbaconv.spec import Size

__all__ = ["SCRATCH", "Tape"]

SCRATCH = 0  # the region of what is needed during the call only; operands have the following ones
_APART = 256  # bytes: what arrays in scratch memory begin on multiples of


class Tape(Launches):
    """Launches, and how much memory they need between them."""

    size = 0

    def scratch(self, shape: Size, dtype: np.dtype) -> np.ndarray:
        """Return the shadow of an array in C order that exists during the call."""
        shadow = relocated(np.empty(shape, dtype), beginning(SCRATCH) + self.size)
        self.size += -(-math.prod(shape) * dtype.itemsize // _APART) * _APART
        return shadow

    def play(self, addresses: Sequence[int], stream: Any, like: Any) -> None:
        """Launch all of it on operands at these addresses, in their order; `like` is one of them."""
        on = address_of(stream)
        memory = _scratch_memory(self.size, on, like) if self.size else None
        bases = [0 if memory is None else _address(memory), *(a - a % ALIGNMENT for a in addresses)]
        for one in self:
            one.play(on, bases)


# ---------------------------------------------------------------- scratch memory

# One buffer a device and stream, in the order of which its users follow each other, as large as any of them asked for.
_buffers: dict[tuple[int | None, int], Any] = {}
_captured: list[Any] = []  # replaced, but graphs refer to them
_lock = threading.Lock()


def _scratch_memory(size: int, stream: int, like: Any) -> Any:
    """Return device memory for one call on a stream.

    A graph that is being captured from torch gets some of torch's, which keeps it for that graph. For others a graph shares the
    buffer of the stream that it is captured on, so that graphs captured on one stream must not run at the same time.
    """
    captured = capturing(stream)
    family = foreign.family(like)
    if captured and family is not None and type(like).__module__.startswith("torch"):
        return family.empty((size,), np.dtype(np.uint8), like, stream)
    key = current_device(), stream
    with _lock:
        memory = _buffers.get(key)
        if memory is None or memory.size < size:
            if memory is not None:
                _captured.append(memory)
            memory = _buffers[key] = _allocate(size, stream)
    return memory


def _allocate(size: int, stream: int) -> Any:
    """Allocate, also while a stream is being captured, which forbids what might wait for other streams."""
    from numba import cuda

    if simulated():
        return cuda.device_array(size, np.uint8)
    from cuda.bindings import driver

    relaxed = driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    _, before = driver.cuThreadExchangeStreamCaptureMode(relaxed)
    try:
        return cuda.device_array(size, np.uint8, stream=as_stream(stream))
    finally:
        driver.cuThreadExchangeStreamCaptureMode(before)


def _address(memory: Any) -> int:
    family = foreign.family(memory)
    if family is not None:
        look = family.look(memory)
        assert look is not None
        return look[0]
    if simulated():
        return int(np.asarray(memory._ary).ctypes.data)
    return int(memory.__cuda_array_interface__["data"][0])
