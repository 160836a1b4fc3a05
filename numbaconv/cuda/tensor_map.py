"""What TMA has to know of an array, as the 128 bytes of a tensor map: kernels take them as 16 integers, the address among them.

The driver encodes them. In the simulator they are a number by which the description is found again.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cuda.target import simulated

__all__ = ["WORDS", "Pixels", "Rows", "TensorMap", "described", "encoded"]

WORDS = 16  # of 8 bytes


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
    """Return the integers of a map of the array at an address of the current GPU's memory."""
    if simulated():
        if address % 16 or min(form.sizes) < 1 or any(s % 16 or not 0 < s < 2**40 for s in form.strides):
            raise ValueError(f"no tensor map has {form} at {address:#x}")
        _described.append((form, address))
        return (len(_described) - 1,) + (0,) * (WORDS - 1)
    from cuda.bindings import driver

    error, found = _pixels(driver, form, address) if isinstance(form, Pixels) else _rows(driver, form, address)
    if error:
        raise RuntimeError(f"encoding a tensor map failed: {error.name}, of {form} at {address:#x}")
    return tuple(map(int, found.opaque))


_described: list[tuple[Pixels | Rows, int]] = []


def described(words: Any) -> tuple[Pixels | Rows, int]:
    """Return what was encoded in the simulator."""
    return _described[int(words[0])]


def _pixels(driver: Any, form: Pixels, address: int) -> Any:
    return driver.cuTensorMapEncodeIm2col(
        _type(driver, form.kind), 4, address, _words(driver, form.sizes), _words(driver, form.strides),
        list(form.lower), list(form.upper), form.channels, form.pixels, _halves(driver, (1, *form.steps, 1)), *_usual(driver),
    )  # fmt: skip


def _rows(driver: Any, form: Rows, address: int) -> Any:
    return driver.cuTensorMapEncodeTiled(
        _type(driver, form.kind), 3, address, _words(driver, form.sizes), _words(driver, form.strides),
        _halves(driver, (form.channels, 1, form.rows)), _halves(driver, (1, 1, 1)), *_usual(driver),
    )  # fmt: skip


def _type(driver: Any, kind: str) -> Any:
    """What the numbers are; float32 becomes tf32 on the way."""
    names = {"tf32": "TFLOAT32", "f16": "FLOAT16", "bf16": "BFLOAT16"}
    return getattr(driver.CUtensorMapDataType, f"CU_TENSOR_MAP_DATA_TYPE_{names[kind]}")


def _usual(driver: Any) -> tuple[Any, ...]:
    """No interleaving; parts of rows exchanged as wgmma reads them; the L2 cache's lines of 256 bytes; zeros outside."""
    return (
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )


def _words(driver: Any, numbers: tuple[int, ...]) -> list[Any]:
    return [driver.cuuint64_t(n) for n in numbers]


def _halves(driver: Any, numbers: tuple[int, ...]) -> list[Any]:
    return [driver.cuuint32_t(n) for n in numbers]
