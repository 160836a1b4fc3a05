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
from numbaconv.cuda.frame import Frame
from numbaconv.cuda.launch import Launch, Launches
from numbaconv.cuda.shadow import beginning, relocated
from numbaconv.cuda.streams import address_of, as_stream, capturing
from numbaconv.cuda.target import current_device, simulated
from numbaconv.spec import Size

__all__ = ["SCRATCH", "Tape"]

SCRATCH = 0  # the region of what is needed during the call only; operands have the following ones
_APART = 256  # bytes: what arrays in scratch memory begin on multiples of


class Tape(Launches):
    """Launches on one device, and how much memory they need between them. Threads may share it."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0
        self._device = current_device()
        self._idle: list[Frame | _Simulation] = []  # a call takes one, so that no call waits for another's launches

    def scratch(self, shape: Size, dtype: np.dtype) -> np.ndarray:
        """Return the shadow of an array in C order that exists during the call."""
        shadow = relocated(np.empty(shape, dtype), beginning(SCRATCH) + self.size)
        self.size += -(-math.prod(shape) * dtype.itemsize // _APART) * _APART
        return shadow

    def play(self, addresses: Sequence[int], stream: Any, like: Any) -> None:
        """Launch all of it on operands at these addresses, in their order; `like` is one of them. Their device is current."""
        on = address_of(stream)
        try:
            frame = self._idle.pop()
        except IndexError:
            frame = _Simulation(self) if simulated() else Frame([one.call() for one in self])
        if self.size:
            self._launch_with_scratch(frame, on, addresses, like)
        else:
            frame.launch(on, [0, *addresses])
        self._idle.append(frame)

    def _launch_with_scratch(self, frame: Frame | _Simulation, stream: int, addresses: Sequence[int], like: Any) -> None:
        captured, family = capturing(stream), foreign.family(like)
        if captured and family is not None and family.keeps:
            own = family.empty((self.size,), np.dtype(np.uint8), like, stream)
            frame.launch(stream, [_address(own), *addresses])
            return
        buffer = _buffers.get((self._device, stream)) or _buffers.setdefault((self._device, stream), _Buffer())
        with buffer.lock:
            frame.launch(stream, [buffer.provide(self.size, stream, captured), *addresses])


class _Simulation:
    """What is in a frame's place in the simulator."""

    def __init__(self, launches: Sequence[Launch]) -> None:
        self._launches = launches

    def launch(self, stream: int, bases: Sequence[int]) -> None:
        for one in self._launches:
            one.play(stream, bases)


# ---------------------------------------------------------------- scratch memory


class _Buffer:
    """Memory for those who follow each other on a stream, as large as any of them asked for; one has it at a time.

    For others than torch a graph shares the buffer of the stream that it is captured on, so that graphs captured on one stream
    must not run at the same time.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._memory: Any = None
        self._size = self._address = 0
        self._captured = False  # graphs refer to it

    def provide(self, size: int, stream: int, captured: bool) -> int:
        """Return the address of so much memory at least; only for those who have the lock."""
        if self._size < size:
            if self._captured:
                _kept.append(self._memory)
            self._memory, self._size, self._captured = _allocate(size, stream), size, False
            self._address = _address(self._memory)
        self._captured |= captured
        return self._address


_buffers: dict[tuple[int, int], _Buffer] = {}
_kept: list[Any] = []  # was replaced, but graphs refer to it


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
