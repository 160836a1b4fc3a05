"""What TMA has to know of an array, as the 128 bytes of a tensor map: kernels take them as 16 integers, the address among them.

The driver encodes them. In the simulator they are a number by which the description is found again.
"""

from __future__ import annotations

import ctypes
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cuda.target import simulated

__all__ = ["WORDS", "Pixels", "Rows", "TensorMap", "described", "encoded"]

WORDS = 16  # of 8 bytes
ALIGNMENT = 128  # bytes: CUtensorMap's in CUDA 13; before it was 64. The driver writes to no other addresses


class Pixels(NamedTuple):
    """Images with their channels last, read as columns of pixels: the im2col mode.

    From a pixel on, steps are taken along a line from `lower` to size - 1 + `upper`, then to the next line, then to the next
    image. What is read lies an offset further, and is zero outside of the image.
    """

    kind: str  # of numbers: "tf32", "f16" or "bf16"
    sizes: tuple[int, ...]  # C, W, H, N
    strides: tuple[int, ...]  # bytes between neighbours along W, H, N
    lower: tuple[int, int]  # where W and H begin
    upper: tuple[int, int]
    steps: tuple[int, int]  # along W and H
    channels: int  # that are read of a pixel
    pixels: int  # that are read at once


class Rows(NamedTuple):
    """Rows of channels, of each tap one: a tile is one tap's channels in several rows."""

    kind: str
    sizes: tuple[int, ...]  # channels, taps, rows
    strides: tuple[int, ...]  # bytes between neighbouring taps and rows
    channels: int  # that are read of a tap
    rows: int  # that are read at once


class TensorMap(NamedTuple):
    """An argument of a kernel: an array's shadow, which tells the address, and how it is read."""

    array: np.ndarray
    form: Pixels | Rows


@lru_cache(maxsize=4096)
def encoded(form: Pixels | Rows, address: int) -> tuple[int, ...]:
    """Return the integers, with their signs, of a map of the array at an address of the current GPU's memory."""
    if simulated():
        if address % 16 or min(form.sizes) < 1 or any(s % 16 or not 0 < s < 2**40 for s in form.strides):
            raise ValueError(f"no tensor map has {form} at {address:#x}")
        _described.append((form, address))
        return (len(_described) - 1,) + (0,) * (WORDS - 1)
    from cuda.bindings import driver

    memory = (ctypes.c_uint8 * (8 * WORDS + ALIGNMENT - 1))()
    at = -(-ctypes.addressof(memory) // ALIGNMENT) * ALIGNMENT
    error = _pixels(driver, at, form, address) if isinstance(form, Pixels) else _rows(driver, at, form, address)
    if error:
        raise RuntimeError(f"encoding a tensor map failed: {driver.CUresult(error).name}, of {form} at {address:#x}")
    return tuple((ctypes.c_int64 * WORDS).from_address(at))


_described: list[tuple[Pixels | Rows, int]] = []


def described(words: Any) -> tuple[Pixels | Rows, int]:
    """Return what was encoded in the simulator."""
    return _described[int(words[0])]


# The bindings have these functions too, but let the driver write to wherever a Python object is.
_P, _I, _U = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32
_PARAMETERS = {
    "cuTensorMapEncodeIm2col": (_P, _I, _U, _P, _P, _P, _P, _P, _U, _U, _P, _I, _I, _I, _I),
    "cuTensorMapEncodeTiled": (_P, _I, _U, _P, _P, _P, _P, _P, _I, _I, _I, _I),
}


@cache
def _function(driver: Any, name: str) -> Any:
    """The driver's function, which returns its status."""
    error, pointer, *_ = driver.cuGetProcAddress(name.encode(), 12000, 0)  # tensor maps came with CUDA 12.0
    if error:
        raise RuntimeError(f"this driver has no {name}: {error.name}")
    return ctypes.CFUNCTYPE(_I, *_PARAMETERS[name])(int(pointer))


def _pixels(driver: Any, at: int, form: Pixels, address: int) -> int:
    status: int = _function(driver, "cuTensorMapEncodeIm2col")(
        at, _type(driver, form.kind), 4, address, _array(ctypes.c_uint64, form.sizes), _array(ctypes.c_uint64, form.strides),
        _array(_I, form.lower), _array(_I, form.upper), form.channels, form.pixels, _array(_U, (1, *form.steps, 1)),
        *_usual(driver),
    )  # fmt: skip
    return status


def _rows(driver: Any, at: int, form: Rows, address: int) -> int:
    status: int = _function(driver, "cuTensorMapEncodeTiled")(
        at, _type(driver, form.kind), 3, address, _array(ctypes.c_uint64, form.sizes), _array(ctypes.c_uint64, form.strides),
        _array(_U, (form.channels, 1, form.rows)), _array(_U, (1, 1, 1)), *_usual(driver),
    )  # fmt: skip
    return status


def _type(driver: Any, kind: str) -> int:
    """What the numbers are; float32 becomes tf32 on the way."""
    names = {"tf32": "TFLOAT32", "f16": "FLOAT16", "bf16": "BFLOAT16"}
    return int(getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{names[kind]}"))


def _usual(driver: Any) -> tuple[int, ...]:
    """No interleaving; parts of rows exchanged as wgmma reads them; the L2 cache's lines of 256 bytes; zeros outside."""
    return (
        int(driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE),
        int(driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B),
        int(driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B),
        int(driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
    )


def _array(kind: Any, numbers: tuple[int, ...]) -> Any:
    return (kind * len(numbers))(*numbers)
