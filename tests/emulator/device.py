"""A GPU that is not there, and its driver: what numbaconv asks of both, for a test."""

import ctypes
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from cuda.bindings.driver import CUstreamCaptureStatus

from emulator.block import Block, Code
from emulator.memory import Arena
from emulator.parser import parse

ARENA = Arena(2**25)
_codes: dict = {}


class Array:
    """A device array of a library of its own; its elements are in the arena."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    @classmethod
    def holding(cls, values: np.ndarray) -> "Array":
        """Return an array with a copy of values, in their memory order."""
        order = sorted(range(values.ndim), key=lambda axis: -abs(values.strides[axis]))
        stored = ARENA.empty([values.shape[axis] for axis in order], values.dtype)
        stored[...] = values.transpose(order)
        return cls(stored.transpose(np.argsort(order)))

    @property
    def __cuda_array_interface__(self) -> dict:
        interface = self.data.__array_interface__
        return {"version": 3, "strides": self.data.strides, **{f: interface[f] for f in ("shape", "typestr", "data")}}

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def size(self) -> int:
        return self.data.size


class Library:
    """What :mod:`numbaconv.cuda.foreign` asks of it."""

    def empty(self, shape, dtype, like, stream) -> Array:
        return Array(ARENA.empty(shape, dtype))

    def restride(self, array, view) -> Array:
        return Array(np.lib.stride_tricks.as_strided(array.data, view.shape, view.strides))

    def stream(self, array) -> int:
        return 0

    def device(self, array) -> int:
        return 0

    def look(self, array):
        data = array.data
        return data.ctypes.data, (data.shape, data.strides, data.dtype.str, data.dtype.name)


class Driver:
    """What launches call; a handle is a kernel's :class:`Code`."""

    def __init__(self) -> None:
        self.launches: list[str] = []

    def cuCtxGetDevice(self):
        return 0, 0

    def cuStreamIsCapturing(self, stream):
        return 0, CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE

    def cuThreadExchangeStreamCaptureMode(self, mode):
        return 0, mode

    def cuLaunchKernel(self, handle, *numbers):
        *shape, shared, stream, pointers, _ = numbers
        grid, block = tuple(shape[:3]), tuple(shape[3:])
        addresses = (ctypes.c_uint64 * len(handle.parameters)).from_address(pointers)
        words = [ctypes.c_int64.from_address(address).value for address in addresses]
        self.launches.append(handle.name)
        with np.errstate(all="ignore"):
            for number in range(int(np.prod(grid))):
                index = number % grid[0], number // grid[0] % grid[1], number // (grid[0] * grid[1])
                Block(handle, block, index, grid, words, shared, ARENA).run()
        return (0,)


def code_of(function, signature, capability) -> Code:
    """A kernel's program, as the backend compiles it."""
    from numba import cuda

    key = function, signature, capability
    if key not in _codes:
        target = (*capability, "a") if capability == (9, 0) else capability
        text, _ = cuda.compile(function, signature, device=False, abi="numba", cc=target)
        _codes[key] = Code(parse(text))
        _codes[key].name = function.__name__
    return _codes[key]


@contextmanager
def emulated(capability):
    """Give numbaconv a GPU of a compute capability."""
    from numba import cuda

    from numbaconv import execute
    from numbaconv.cuda import foreign, launch, recording, tensor_map
    from numbaconv.cuda.target import why_unavailable

    driver = Driver()
    current = SimpleNamespace(compute_capability=capability, id=0)

    def load(one, device):
        return code_of(one._function, launch.signature(one.args), capability)

    def encoded(form, address):
        tensor_map._described.append((form, address))
        return (len(tensor_map._described) - 1,) + (0,) * (tensor_map.WORDS - 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numba.cuda.get_current_device", lambda: current)
        patch.setattr("numba.cuda.is_available", lambda: True)
        patch.setattr("numba.cuda.device_array", lambda shape, dtype, stream=0: Array(ARENA.empty(shape, dtype)))
        for name in ("cuLaunchKernel", "cuCtxGetDevice", "cuStreamIsCapturing", "cuThreadExchangeStreamCaptureMode"):
            patch.setattr(f"cuda.bindings.driver.{name}", getattr(driver, name))
        patch.setattr(launch.Launch, "_load", load)
        patch.setattr(launch, "encoded", encoded)
        patch.setitem(foreign._FAMILIES, "emulator", Library())
        patch.setitem(foreign._BY_TYPE, type(None), Library())
        why_unavailable.cache_clear()
        execute.forget()
        recording._buffers.clear()
        ARENA.free_all()
        try:
            yield driver
        finally:
            why_unavailable.cache_clear()
            execute.forget()
            recording._buffers.clear()
