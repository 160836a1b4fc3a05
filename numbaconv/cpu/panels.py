"""Weights in the order in which the microkernel reads them: panels ``[k, channel]`` of some vectors of output channels."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numba
import numpy as np
from numba import types

from numbaconv.cpu.blocks import aligned
from numbaconv.cpu.float16 import load
from numbaconv.cpu.intrinsics import address_of, keep
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.simd import call, has_vectors
from numbaconv.cpu.store import transpose
from numbaconv.cpu.threads import launcher
from numbaconv.cpu.toom import weight_transform

__all__ = ["packing_seconds", "panels", "transformed_panels"]

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


@inner
def one_panel(number, weight, packed, transposing):
    """Fill one panel of one group."""
    group, panel = number // packed.shape[1], number % packed.shape[1]
    width = packed.shape[3]
    fill(packed[group, panel], weight[group, panel * width : (panel + 1) * width], transposing)


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


def packing_seconds(elements: int, itemsize: int) -> float:
    """Predict how long it takes to pack weights into so many elements: 3 us, and 0.3 ns each, or 1 ns beyond the caches."""
    threads = 1 if elements <= SERIAL else numba.config.NUMBA_NUM_THREADS
    return 3e-6 + elements * (0.3e-9 if elements * itemsize < 4e6 else 1e-9) * itemsize / 4 / threads


def panels(weight: np.ndarray, width: int, dtype: np.dtype) -> np.ndarray:
    """Return a canonical weight as panels ``(groups, panels, taps, width)`` in a dtype, the last one filled with zeros."""
    groups, outs, *taps = weight.shape
    rows = weight.reshape(groups, outs, math.prod(taps))
    packed = _empty((groups, -(-outs // width), rows.shape[2], width), dtype)
    launch, transposing = _packer(weight.dtype, dtype, groups * packed.shape[1], packed.size <= SERIAL)
    launch(rows, packed, transposing)
    return packed


@lru_cache(maxsize=256)
def _packer(source: np.dtype, dtype: np.dtype, count: int, small: bool) -> tuple[Any, int]:
    """What packs weights of one dtype in another, and the address that it takes."""
    signature = strided(source, 3), contiguous(dtype, 4), types.int64
    return launcher(one_panel, signature, count, small), _transposing(source, dtype)


def transformed_panels(weight: np.ndarray, m: tuple[int, ...], width: int, lanes: int, dtype: np.dtype) -> np.ndarray:
    """Return a transformed weight, for tiles of m outputs, as panels ``(groups, panels, elements, kd * channels, width)``."""
    groups, outs, channels, depth, *k = weight.shape
    rows = weight.reshape(groups, outs, channels * depth * math.prod(k))
    elements = math.prod(a + b - 1 for a, b in zip(m, k, strict=True))
    packed = _empty((groups, -(-outs // width), elements, depth * channels, width), dtype)
    launch, transposing = _transformer(weight.dtype, dtype, groups * packed.shape[1], packed.size <= SERIAL)
    launch(rows, packed, depth, k[1], weight_transform(m, tuple(k), dtype).address, transposing, width // lanes)
    return packed


@lru_cache(maxsize=256)
def _transformer(source: np.dtype, dtype: np.dtype, count: int, small: bool) -> tuple[Any, int]:
    """What transforms and packs weights of one dtype in another, and an address that it takes."""
    signature = strided(source, 3), contiguous(dtype, 5), *[types.int64] * 5
    return launcher(one_transformed, signature, count, small), _transposing(source, dtype)


def _transposing(source: np.dtype, dtype: np.dtype) -> int:
    return transpose(dtype).address if source == dtype and has_vectors(dtype) else 0


def _empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that begins on a cache line, if it is large enough for that to matter."""
    size = math.prod(shape)
    if size < SERIAL:
        return np.empty(shape, dtype)
    memory = np.empty(size + 64 // dtype.itemsize, dtype)
    first = -memory.ctypes.data % 64 // dtype.itemsize
    return memory[first : first + size].reshape(shape)
