"""Weights in the order in which the microkernel reads them: panels ``[k, channel]`` of some vectors of output channels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import int64, prange, types

from numbaconv.cpu.blocks import aligned
from numbaconv.cpu.float16 import load
from numbaconv.cpu.intrinsics import address_of, keep
from numbaconv.cpu.jit import contiguous, inner, kernel, strided
from numbaconv.cpu.simd import call, has_vectors
from numbaconv.cpu.store import transpose
from numbaconv.cpu.threads import launcher
from numbaconv.cpu.toom import weight_transform

__all__ = ["panels", "transformed_panels"]

SERIAL = 30_000  # elements below which waking a second thread costs more than it brings
CHUNK = 32  # channels whose taps lie in the L1 cache between a panel and its transformation


@inner
def fill(panel, rows, transposing):
    """panel[k, o] = rows[o, k], and zeros where there are no more rows."""
    taps, width = panel.shape
    outs = rows.shape[0]
    if transposing != 0 and rows.strides[1] == rows.itemsize:
        call(transposing, address_of(rows), rows.strides[0], outs, taps, address_of(panel), panel.strides[0], 0, 0)
    else:
        for o in range(outs):
            for k in range(taps):
                panel[k, o] = load(rows[o, k])
    if outs < width:
        for k in range(taps):
            panel[k, outs:] = 0


@inner(inline="always")
def one_panel(number, weight, packed, transposing):
    """Fill one panel of one group."""
    group, panel = number // packed.shape[1], number % packed.shape[1]
    width = packed.shape[3]
    fill(packed[group, panel], weight[group, panel * width : (panel + 1) * width], transposing)


@kernel(parallel=True)
def panels_in_parallel(weight, packed, transposing):
    """All panels, over the threads."""
    for number in prange(packed.shape[0] * packed.shape[1]):
        one_panel(int64(number), weight, packed, transposing)


@kernel
def panels_in_series(weight, packed, transposing):
    """All panels, in the calling thread."""
    for number in range(packed.shape[0] * packed.shape[1]):
        one_panel(number, weight, packed, transposing)


@inner
def one_transformed(number, weight, packed, depth, wide, transforming, transposing, vectors):
    """Fill one panel ``[element, (kd, c), o]`` of one group with transformed weights."""
    group, panel = number // packed.shape[1], number % packed.shape[1]
    elements, terms, width = packed.shape[2:]
    channels, taps = terms // depth, weight.shape[2] // terms
    rows = weight[group, panel * width : (panel + 1) * width]
    target = packed[group, panel]
    plain = aligned(CHUNK * depth * taps * width, packed).reshape(CHUNK * depth * taps, width)
    for c0 in range(0, channels, CHUNK):
        count = min(CHUNK, channels - c0)
        fill(plain[: count * depth * taps], rows[:, c0 * depth * taps : (c0 + count) * depth * taps], transposing)
        for c in range(count):
            for kd in range(depth):
                call(
                    transforming, address_of(plain[(c * depth + kd) * taps]), wide * plain.strides[0], plain.strides[0],
                    address_of(target[0, kd * channels + c0 + c]), target.strides[0], vectors, 0, 0,
                )  # fmt: skip
    keep(plain)


@kernel(parallel=True)
def transformed_in_parallel(weight, packed, depth, wide, transforming, transposing, vectors):
    """All panels, over the threads."""
    for number in prange(packed.shape[0] * packed.shape[1]):
        one_transformed(int64(number), weight, packed, depth, wide, transforming, transposing, vectors)


@kernel
def transformed_in_series(weight, packed, depth, wide, transforming, transposing, vectors):
    """All panels, in the calling thread."""
    for number in range(packed.shape[0] * packed.shape[1]):
        one_transformed(number, weight, packed, depth, wide, transforming, transposing, vectors)


def panels(weight: np.ndarray, width: int, dtype: np.dtype) -> np.ndarray:
    """Return a canonical weight as panels ``(groups, panels, taps, width)`` in a dtype, the last one filled with zeros."""
    groups, outs = weight.shape[:2]
    rows = weight.reshape(groups, outs, math.prod(weight.shape[2:]))
    packed = _empty((groups, -(-outs // width), rows.shape[2], width), dtype)
    signature = strided(weight.dtype, 3), contiguous(dtype, 4), types.int64
    launcher(panels_in_series, panels_in_parallel, packed.size <= SERIAL, signature)(rows, packed, _transposing(weight, dtype))
    return packed


def transformed_panels(weight: np.ndarray, m: tuple[int, int], width: int, lanes: int, dtype: np.dtype) -> np.ndarray:
    """Return a canonical weight, transformed for tiles of m outputs, as panels ``(groups, panels, elements, kd * channels, width)``."""
    groups, outs, channels, depth, *k = weight.shape
    rows = weight.reshape(groups, outs, math.prod(weight.shape[2:]))
    elements = math.prod(a + b - 1 for a, b in zip(m, k, strict=True))
    packed = _empty((groups, -(-outs // width), elements, depth * channels, width), dtype)
    signature = strided(weight.dtype, 3), contiguous(dtype, 5), *[types.int64] * 5
    launch = launcher(transformed_in_series, transformed_in_parallel, packed.size <= SERIAL, signature)
    transform = weight_transform(m, tuple(k), dtype)
    launch(rows, packed, depth, k[1], transform.address, _transposing(weight, dtype), width // lanes)
    return packed


def _transposing(weight: np.ndarray, dtype: np.dtype) -> int:
    return transpose(dtype).address if weight.dtype == dtype and has_vectors(dtype) else 0


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> Any:
    """An array that begins on a cache line."""
    size = math.prod(shape)
    memory = np.empty(size + 64 // dtype.itemsize, dtype)
    first = -memory.__array_interface__["data"][0] % 64 // dtype.itemsize
    return memory[first : first + size].reshape(shape)
