"""What a recorded call on a GPU costs the host, measured without a GPU.

From a checkout, with numba-cuda and any build of PyTorch::

    python benchmarks/cuda_host.py

CPU tensors stand for CUDA ones, and nothing is computed. So the figures lack the driver: its functions are machine code here that
returns at once, called as the driver's are. torch's current stream is a builtin that returns 0, its allocator on the GPU that on
the CPU, and whether a tensor is on a GPU is asked as whether it is on the CPU. All else runs as it is. Figures are minima of many
short turns, in microseconds, since other processes may compute as well.
"""

from __future__ import annotations

import ctypes
import sys
import timeit
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numba.cuda
import numpy as np
import torch
from numba import cfunc, types

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last, so that an installed numbaconv comes first

import numbaconv as nc
from numbaconv import arrays
from numbaconv.cuda import driver, foreign, frame, launch, memory, recording, shadow, target, tensor_map

CALLS, TURNS = 10, 3000
CASES = {  # name: algorithm, dtype, input, weight
    "1 launch": ("direct", torch.float32, (1, 16, 8, 8), (16, 16, 3, 3)),
    "2 launches, scratch": ("implicit_gemm", torch.float32, (1, 512, 7, 7), (512, 512, 3, 3)),
    "2 launches, tensor maps": ("tma_gemm", torch.float16, (8, 256, 28, 28), (256, 256, 3, 3)),
    "3 launches, scratch": ("winograd4", torch.float32, (2, 64, 56, 56), (64, 64, 3, 3)),
}


@cfunc(types.int32(types.voidptr, types.voidptr, types.voidptr, types.voidptr))
def _launch(configuration, kernel, parameters, extra):  # type: ignore[no-untyped-def]
    return 0


@cfunc(types.int32(types.CPointer(types.int32)))
def _device(number):  # type: ignore[no-untyped-def]
    number[0] = -1  # a CPU tensor's
    return 0


@cfunc(types.int32(types.voidptr, types.CPointer(types.int32)))
def _status(stream, status):  # type: ignore[no-untyped-def]
    status[0] = 0
    return 0


NATIVE = {"cuLaunchKernelEx": _launch, "cuCtxGetDevice": _device, "cuStreamIsCapturing": _status}


class _Array(np.ndarray):
    """What stands for Numba's device arrays."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self.__array_interface__


class _Torch(foreign._Torch):
    def look(self, array: Any) -> tuple[int, tuple] | None:
        if array.requires_grad or array.is_conj() or array.is_neg() or array.layout is not self._strided or not array.is_cpu:
            return None
        address = array.data_ptr()
        return address, (array.shape, array.stride(), array.dtype, array.get_device(), address % shadow.ALIGNMENT)


def pretend() -> None:
    """Have the package take CPU tensors for CUDA ones, in this process for good."""
    functions = {name: ctypes.CFUNCTYPE(ctypes.c_int)(code.address) for name, code in NATIVE.items()}
    gpu = SimpleNamespace(synchronize=lambda: None, compute_capability=(9, 0), id=0)
    setattr(torch._C, "_cuda_getCurrentRawStream", (0).__mul__)  # noqa: B010  (what torch for CPUs does not know)
    replaced: list[tuple[Any, str, Any]] = [
        (driver, "function", functions.__getitem__),
        (numba.cuda, "is_available", lambda: True),
        (numba.cuda, "get_current_device", lambda: gpu),
        (numba.cuda, "default_stream", lambda: gpu),
        (numba.cuda, "device_array", lambda shape, dtype=None, stream=0: np.empty(shape, dtype).view(_Array)),
        (launch.Launch, "_load", lambda self, device: 1),
        (recording, "_allocate", lambda size, stream: np.empty(size, np.uint8).view(_Array)),
        (frame, "encoded", lambda form, address: (0,) * tensor_map.WORDS),
        (memory, "cast_shadow", lambda array, argument: np.asarray(array)),
        (foreign, "_FAMILIES", {"torch": cache(_Torch)}),
    ]
    for place, name, value in replaced:
        setattr(place, name, value)
    arrays._TELLS["torch"] = lambda array: "cuda"
    target.why_unavailable.cache_clear()


def best(call: Callable[[], Any]) -> float:
    """Return how many microseconds a call takes at least, after it has been recorded."""
    call(), call()
    return min(timeit.repeat(call, number=CALLS, repeat=TURNS)) / CALLS * 1e6


def main() -> None:
    """Measure and print a table."""
    pretend()
    print(f"{'':26}{'prepared, out':>15}{'prepared':>15}{'functional, out':>17}{'functional':>15}")
    for name, (algorithm, dtype, shape, weight_shape) in CASES.items():
        x, weight = (torch.zeros(s, dtype=dtype) for s in (shape, weight_shape))
        options: dict[str, Any] = {"padding": 1, "algorithm": algorithm}
        op = nc.Conv2d(weight, **options)
        out = op(x)
        calls: list[Callable[[], Any]] = [
            partial(op, x, out=out),
            partial(op, x),
            partial(nc.conv2d, x, weight, **options, out=out),
            partial(nc.conv2d, x, weight, **options),
        ]
        figures = [f"{best(call):.1f}" for call in calls]
        print(f"{name:26}{figures[0]:>15}{figures[1]:>15}{figures[2]:>17}{figures[3]:>15}", flush=True)


if __name__ == "__main__":
    main()
