"""Launches that are written down once and played for every call alike: all that is left of a call is addresses.

While a call is recorded its operands are imagined (:mod:`numbaconv.cuda.shadow`), and a :class:`Tape` takes the stream's place.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        there = [a - a % ALIGNMENT for a in addresses]
        if not self.size:
            self._launch(on, [0, *there])
            return
        with _scratch_memory(self.size, on, like) as scratch:
            self._launch(on, [scratch, *there])

    def _launch(self, stream: int, bases: Sequence[int]) -> None:
        for one in self:
            one.play(stream, bases)


# ---------------------------------------------------------------- scratch memory


class _Buffer:
    """Memory for those who follow each other on a stream, as large as any of them asked for; one has it at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.memory: Any = None
        self.captured = False  # graphs refer to it


_buffers: dict[tuple[int, int], _Buffer] = {}
_kept: list[Any] = []  # was replaced, but graphs refer to it


@contextmanager
def _scratch_memory(size: int, stream: int, like: Any) -> Iterator[int]:
    """Lend memory to one call while it launches; yield its address.

    A graph that is being captured from torch gets some of torch's, which keeps it for that graph. For others a graph shares the
    buffer of the stream that it is captured on, so that graphs captured on one stream must not run at the same time.
    """
    captured = capturing(stream)
    family = foreign.family(like)
    if captured and family is not None and type(like).__module__.startswith("torch"):
        yield _address(family.empty((size,), np.dtype(np.uint8), like, stream))
        return
    buffer = _buffers.setdefault((current_device(), stream), _Buffer())
    with buffer.lock:
        if buffer.memory is None or buffer.memory.size < size:
            if buffer.captured:
                _kept.append(buffer.memory)
            buffer.memory, buffer.captured = _allocate(size, stream), False
        buffer.captured |= captured
        yield _address(buffer.memory)


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
    if simulated():
        return int(np.asarray(memory._ary).ctypes.data)
    return int(memory.__cuda_array_interface__["data"][0])
