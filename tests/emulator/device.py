"""A GPU that is not there, with its driver and Numba's arrays: what numbaconv asks of them, for a test."""

import ctypes
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from cuda.bindings.driver import CUresult, CUstreamCaptureStatus
from offline import ptx_of

from emulator import moves, warps  # noqa: F401  (instructions)
from emulator.block import Block, Cluster
from emulator.code import Code
from emulator.memory import Arena
from emulator.parser import parse

ARENA = Arena(2**27)
SEEN_BY = ("shape", "typestr", "data")
_codes: dict = {}


class Array:
    """What stands for Numba's device arrays; its elements are in the arena."""

    stream = 0

    def __init__(self, data: np.ndarray) -> None:
        self.data, self.shape, self.dtype, self.size = data, data.shape, data.dtype, data.size

    @property
    def __cuda_array_interface__(self) -> dict:
        interface = self.data.__array_interface__
        return {"version": 3, "strides": self.data.strides, **{field: interface[field] for field in SEEN_BY}}

    def copy_to_host(self, stream=0) -> np.ndarray:
        return self.data.copy(order="K")

    def copy_to_device(self, values, stream=0) -> None:
        self.data[...] = values.data if isinstance(values, Array) else values

    def view(self, dtype) -> "Array":
        return Array(self.data.view(dtype))

    def bind(self, stream=0) -> "Array":
        return self


def device_array(shape, dtype=np.float64, stream=0) -> Array:
    return Array(ARENA.empty(shape, dtype))


def to_device(values, stream=0) -> Array:
    """Copy to the device, in Fortran order what is in Fortran order, as Numba does."""
    values = np.asarray(values)
    order = "F" if values.flags.f_contiguous and not values.flags.c_contiguous else "C"
    stored = ARENA.empty(values.shape[::-1] if order == "F" else values.shape, values.dtype)
    stored = stored.T if order == "F" else stored
    stored[...] = values
    return Array(stored)


def as_cuda_array(given) -> Array:
    interface = given.__cuda_array_interface__
    fields = {"version": 3, **{field: interface[field] for field in (*SEEN_BY, "strides")}}
    return Array(np.asarray(SimpleNamespace(__array_interface__=fields, owner=given)))


class Driver:
    """What calls ask of the driver. A kernel's handle is its :class:`Code`; ``launched`` are the names of those that ran.

    ``shapes`` are their grids and blocks.
    """

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.shapes: list[tuple[int, ...]] = []

    def cuCtxGetDevice(self):
        return CUresult.CUDA_SUCCESS, 0

    def cuPointerGetAttribute(self, attribute, address):
        return CUresult.CUDA_SUCCESS, 0

    def cuStreamIsCapturing(self, stream):
        return CUresult.CUDA_SUCCESS, CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE

    def cuThreadExchangeStreamCaptureMode(self, mode):
        return CUresult.CUDA_SUCCESS, mode

    def cuLaunchKernel(self, handle, *numbers):
        *shape, shared, _, pointers, _ = numbers
        grid, block = tuple(shape[:3]), tuple(shape[3:])
        addresses = (ctypes.c_uint64 * len(handle.parameters)).from_address(pointers)
        words = [ctypes.c_int64.from_address(address).value for address in addresses]
        self.launched.append(handle.name)
        self.shapes.append((*grid, *block))
        with np.errstate(all="ignore"):
            indices = [(x, y, z) for z in range(grid[2]) for y in range(grid[1]) for x in range(grid[0])]
            assert grid[0] % handle.cluster == 0, f"{grid} blocks in clusters of {handle.cluster}"
            for first in range(0, len(indices), handle.cluster):
                cluster = indices[first : first + handle.cluster]
                Cluster([Block(handle, block, index, grid, words, shared, ARENA) for index in cluster]).run()
        return (CUresult.CUDA_SUCCESS,)


def code_of(function, signature, capability) -> Code:
    """A kernel's program, as the backend compiles it."""
    key = function, signature, capability
    if key not in _codes:
        target = (*capability, "a") if capability == (9, 0) else capability
        _codes[key] = Code(parse(ptx_of(function, signature, target)), function.__name__)
    return _codes[key]


@contextmanager
def emulated(capability):
    """Give numbaconv a GPU of a compute capability; yield its driver."""
    from numbaconv import execute
    from numbaconv.cuda import driver as asked
    from numbaconv.cuda import frame, launch, recording, tensor_map
    from numbaconv.cuda.target import why_unavailable

    def forget():
        why_unavailable.cache_clear()
        execute.forget()
        recording._buffers.clear()
        ARENA.free_all()

    def load(one, device):
        return code_of(one._function, launch.signature(one.args), capability)

    def encoded(form, address):
        last = address + sum((n - 1) * s for n, s in zip(form.sizes[1:], form.strides, strict=True))
        ARENA.indices(np.array([address, last]), 16, f"{form}")
        tensor_map._described.append((form, address))
        return (len(tensor_map._described) - 1,) + (0,) * (tensor_map.WORDS - 1)

    driver = Driver()
    gpu = SimpleNamespace(compute_capability=capability, id=0)
    stream = SimpleNamespace(synchronize=lambda: None)
    numba = {
        "get_current_device": lambda: gpu, "is_available": lambda: True, "default_stream": lambda: stream,
        "synchronize": lambda: None, "device_array": device_array, "to_device": to_device, "as_cuda_array": as_cuda_array,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in numba.items():
            patch.setattr(f"numba.cuda.{name}", value)
        for name in (one for one in dir(driver) if one.startswith("cu")):
            patch.setattr(f"cuda.bindings.driver.{name}", getattr(driver, name))
        patch.setattr(launch.Launch, "_load", load)
        patch.setattr(frame, "encoded", encoded)
        patch.setattr(asked, "function", lambda name: None)
        forget()
        try:
            yield driver
        finally:
            forget()
