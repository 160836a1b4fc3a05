"""Weights in the order in which the microkernel reads them: panels ``[k, channel]`` of some vectors of output channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numba import types
from numpy.lib.stride_tricks import as_strided

from numbaconv.cpu.float16 import load
from numbaconv.cpu.frame import BASES, Frame, FrameType, arguments
from numbaconv.cpu.intrinsics import address_of, aligned, invoke, keep, shaped, word, zeroed
from numbaconv.cpu.jit import address, contiguous, inner, strided
from numbaconv.cpu.simd import call, has_vectors
from numbaconv.cpu.target import cores
from numbaconv.cpu.threads import Launch, Launcher
from numbaconv.cpu.transforms import weight_transform
from numbaconv.cpu.transpose import from_rows
from numbaconv.spec import Size
from numbaconv.toom import Filter

__all__ = ["Packing", "copying", "packing_alone", "packing_seconds", "panels", "repeated", "transformed_panels", "uneven_panels"]

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
def one_panel(number, frame):
    """Fill one panel of one group."""
    weight, packed, transposing = arguments(frame)
    group, panel = number // packed.shape[1], number % packed.shape[1]
    width = packed.shape[3]
    fill(packed[group, panel], weight[group, panel * width : (panel + 1) * width], transposing)


@inner
def one_uneven(number, frame):
    """Fill one panel of one group where panels differ in width: one begins at the row that the next word at `starts` names."""
    weight, packed, transposing, starts, count = arguments(frame)
    group, panel = number // count, number % count
    first, last, terms = word(starts + 8 * panel), word(starts + 8 * panel + 8), weight.shape[2]
    target = shaped(packed[group, first * terms : last * terms], (terms, last - first))
    fill(target, weight[group, first:last], transposing)


@inner
def one_repeated(number, frame):
    """Fill rows ``[tap, channel]``, in which the channels repeat up to a width."""
    weight, packed, transposing, width = arguments(frame)
    channels, taps = weight.shape[1:]
    for k in range(taps):
        for j in range(width):
            packed[0, 0, k * width + j] = load(weight[0, j % channels, k])


@inner
def one_copied(number, frame):
    """Copy one row of weights of one group."""
    weight, copy = arguments(frame)
    group, o = number // copy.shape[1], number % copy.shape[1]
    _, _, channels, depth, high, wide = copy.shape
    for c in range(channels):
        for kd in range(depth):
            for i in range(high):
                for j in range(wide):
                    copy[group, o, c, kd, i, j] = load(weight[group, o, c, kd, i, j])


@inner
def one_transformed(number, frame):
    """Fill one panel ``[element, (kd, c), o]`` of one group with transformed weights."""
    weight, packed, transposing, depth, wide, transforming, vectors = arguments(frame)
    group, panel = number // packed.shape[1], number % packed.shape[1]
    elements, terms, width = packed.shape[2:]
    channels, taps = terms // depth, weight.shape[2] // terms
    rows = weight[group, panel * width : (panel + 1) * width]
    target = packed[group, panel]
    plain = shaped(aligned(CHUNK * depth * taps * width, packed), (CHUNK * depth * taps, width))
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


@inner
def pack_panel(buffer, raw, number, packer, frame):
    """Run the packing task of one panel for a buffer of its size, on weights that lie where the panels are said to."""
    block = zeroed(aligned(1 + BASES, np.int64))
    block[0], block[1], block[2] = frame, address_of(raw), address_of(buffer) - number * raw.strides[1]
    invoke(packer, (number, address_of(block)))
    keep(block)


def packing_alone(dtype: np.dtype) -> int:
    """Return the address of :func:`pack_panel`, which is compiled apart."""
    return address(pack_panel, contiguous(dtype, 1), contiguous(dtype, 4), *[types.int64] * 3)


def packing_seconds(elements: int, itemsize: int) -> float:
    """Predict how long it takes to pack weights into so many elements: 3 us, and 0.3 to 1 ns each, as caches hold them."""
    together = 1 if elements <= SERIAL else cores()
    rate = 0.3e-9 if elements * itemsize < 4e6 else 0.5e-9 if elements * itemsize < 2e7 else 1e-9
    return 3e-6 + elements * rate * itemsize / 4 / together


class Packing:
    """Packs canonical weights of one shape.

    Parameters
    ----------
    task
        Fills one panel of one group; takes the rows of weights, the panels, an address of :func:`from_rows` or 0, and `sizes`.
    weight_shape, packed_shape
        Of a weight, and of its panels ``(groups, panels, ..., width)``.
    dtype
        Of the panels.
    count
        Of panels, where `packed_shape` does not say it.
    kept
        What has to live as long.
    """

    def __init__(
        self, task: Callable, weight_shape: Size, packed_shape: Size, dtype: np.dtype, *sizes: int, count: int = 0,
        kept: object = None,
    ) -> None:  # fmt: skip
        groups, outs, *taps = weight_shape
        self._task, self._sizes, self._kept, self._count = task, sizes, kept, count or math.prod(packed_shape[:2])
        self._rows, self._shape, self._dtype = (groups, outs, math.prod(taps)), packed_shape, dtype
        self._small = math.prod(packed_shape) <= SERIAL
        self._bound: dict[tuple, Launch] = {}

    def __call__(self, weight: np.ndarray) -> np.ndarray:
        """Return the panels of a weight of any dtype."""
        rows = weight.reshape(self._rows)
        packed = np.empty(self._shape, self._dtype) if self._small else on_a_line(self._shape, self._dtype)
        launch = self._bound.get((rows.strides, rows.dtype))
        if launch is None:
            launch = self._bound[rows.strides, rows.dtype] = self._bind(rows, packed)
        launch(rows, packed, None, None, None)
        return packed

    def bind(self, weight: np.ndarray, packed: np.ndarray, base: np.ndarray) -> Launch | None:
        """Return what packs weights like this view of `base` into arrays like that, or None where they have to be copied."""
        rows = weight.reshape(self._rows)
        return self._bind(rows, packed.reshape(self._shape), base) if np.may_share_memory(rows, base) else None

    def deferred(self, weight: np.ndarray) -> np.ndarray:
        """Return an array of the panels' shape at the address of the weight, for kernels that pack as they go."""
        rows = np.ascontiguousarray(weight, self._dtype)
        return as_strided(rows.reshape(-1)[:1] if rows.size else rows, self._shape, np.empty(self._shape, self._dtype).strides)

    def task(self) -> tuple[int, Frame]:
        """Return the address of the task that fills a panel, and its frame, for rows in C order and the panels' dtype."""
        rows, packed = np.empty(self._rows, self._dtype), np.empty(self._shape, self._dtype)
        args, signature = self._arguments(rows, packed)
        return address(self._task, types.int64, FrameType(signature)), Frame.of(args, (rows, packed))

    def _arguments(self, rows: np.ndarray, packed: np.ndarray) -> tuple[tuple, tuple]:
        transposing = from_rows(self._dtype).address if rows.dtype == self._dtype and has_vectors(self._dtype) else 0
        args = rows, packed, transposing, *self._sizes
        signature = strided(rows.dtype, 3), contiguous(self._dtype, packed.ndim), *[types.int64] * (1 + len(self._sizes))
        return args, signature

    def _bind(self, rows: np.ndarray, packed: np.ndarray, base: np.ndarray | None = None) -> Launch:
        args, signature = self._arguments(rows, packed)
        bases = (rows if base is None else base, packed)
        return Launcher(self._task, signature, self._count, self._small).bind(args, bases, self._kept)


def panels(weight_shape: Size, width: int, dtype: np.dtype) -> Packing:
    """Return what packs weights as panels ``(groups, panels, taps, width)``, the last one filled with zeros."""
    groups, outs, *taps = weight_shape
    return Packing(one_panel, weight_shape, (groups, -(-outs // width), math.prod(taps), width), dtype)


def uneven_panels(weight_shape: Size, starts: Sequence[int], dtype: np.dtype) -> Packing:
    """Return what packs weights of one tap as ``(groups, out_channels * in_channels)``, panels that begin at these channels."""
    (groups, outs, ins), table = weight_shape[:3], np.array(starts, np.int64)
    shape, count = (groups, outs * ins), len(starts) - 1
    return Packing(one_uneven, weight_shape, shape, dtype, table.ctypes.data, count, count=groups * count, kept=table)


def repeated(channels: int, kernel: Size, width: int, dtype: np.dtype) -> Packing:
    """Return what packs weights of one channel each as ``(1, 1, taps * width)``, where the channels repeat along the width."""
    return Packing(one_repeated, (1, channels, *kernel), (1, 1, math.prod(kernel) * width), dtype, width)


def copying(weight: np.ndarray, copy: np.ndarray, base: np.ndarray) -> Launch:
    """Return what copies canonical weights, which `base` holds, to an array in C order of the dtype to compute in."""
    signature = strided(weight.dtype, 6), contiguous(copy.dtype, 6)
    count, small = math.prod(weight.shape[:2]), copy.size <= SERIAL
    return Launcher(one_copied, signature, count, small).bind((weight, copy), (base, copy))


def transformed_panels(weight_shape: Size, high: Filter, wide: Filter, width: int, lanes: int, dtype: np.dtype) -> Packing:
    """Return what transforms weights to panels ``(groups, panels, elements, kd * channels, width)``."""
    groups, outs, channels, depth, _, _ = weight_shape
    shape = groups, -(-outs // width), high.products * wide.products, depth * channels, width
    transform = weight_transform(high, wide, dtype)
    return Packing(
        one_transformed, weight_shape, shape, dtype, depth, wide.k, transform.address, width // lanes, kept=transform
    )  # fmt: skip


def on_a_line(shape: Size, dtype: np.dtype) -> np.ndarray:
    """An array that begins on a cache line."""
    size = math.prod(shape)
    memory = np.empty(size + 64 // dtype.itemsize, dtype)
    first = -memory.ctypes.data % 64 // dtype.itemsize
    return memory[first : first + size].reshape(shape)
