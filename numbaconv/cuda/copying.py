"""Copies between device arrays of any strides and dtypes: as few axes as say the same, and the kernel that suits them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from numbaconv.cuda.geometry import THREADS_OF_COPY, TILE_BITS
from numbaconv.cuda.launch import launch
from numbaconv.cuda.shadow import ALIGNMENT, element_strides
from numbaconv.cuda.target import MULTIPROCESSORS
from numbaconv.dtypes import BFLOAT16

__all__ = ["Axis", "Copy", "choose", "copy", "simplified"]

MOST = 2**31 - 1  # elements: what kernels count with 32 bits
LEAST = 512  # elements of a matrix that is transposed through shared memory
LEAST_BITS = TILE_BITS + 1 - THREADS_OF_COPY.bit_length()  # the shortest side of a tile, as a power of two
UNITS = 4  # that a thread of the plain kernel copies
LENGTHS = (2, 3, 4, 6)  # axes that there are kernels for
BLOCKS = 15 * MULTIPROCESSORS  # at most: those of large copies begin once for several tiles


class Axis(NamedTuple):
    """The size of an axis, and its strides in elements."""

    size: int
    target: int
    source: int


class Copy(NamedTuple):
    """How two arrays are copied: their axes, whether the last two change places in memory, and the neighbours stored at once."""

    axes: tuple[Axis, ...]
    transposes: bool
    many: int


def copy(target: np.ndarray, source: np.ndarray, stream: Any, conjugate: bool = False) -> None:
    """Copy a shadow's elements, or their conjugates, to another of its shape; they must not overlap."""
    if target.size > MOST:
        for half in _halves(target.shape):
            copy(target[half], source[half], stream, conjugate)
    elif target.size and target.dtype == source.dtype and not conjugate:
        _launch(_words(target), _words(source), stream, False)
    elif target.size:
        _launch(target, source, stream, conjugate)


def simplified(target: np.ndarray, source: np.ndarray) -> list[Axis]:
    """Return the axes, those with the target's longest strides first; neighbours that both arrays have contiguous are one."""
    axes = [Axis(*axis) for axis in zip(target.shape, element_strides(target), element_strides(source), strict=True)]
    axes.sort(key=lambda axis: (-abs(axis.target), -abs(axis.source)))
    merged: list[Axis] = []
    for axis in (axis for axis in axes if axis.size > 1):
        outer = merged[-1] if merged else axis
        if (outer.target, outer.source) == (axis.size * axis.target, axis.size * axis.source):
            merged[-1] = axis._replace(size=outer.size * axis.size)
        else:
            merged.append(axis)
    return merged or [Axis(1, 0, 0)]


def choose(target: np.ndarray, source: np.ndarray) -> Copy:
    """Return how to copy, which depends on the arrays' shape, strides, dtypes and alignment only."""
    axes = simplified(target, source)
    row, last = min(axes, key=lambda axis: abs(axis.source) or math.inf), axes[-1]
    transposes = abs(row.source) < abs(last.source) and _fills_tiles(row.size, last.size)
    if transposes:
        axes = [*(axis for axis in axes if axis not in (row, last)), row, last]
    many = 2 if transposes else ALIGNMENT // max(target.itemsize, source.itemsize)
    together = _in_vectors(target, [axis.target for axis in axes], many)
    if not transposes:
        together &= _in_vectors(source, [axis.source for axis in axes], many)
    return Copy(tuple(axes), transposes, many if together else 1)


def _fills_tiles(rows: int, columns: int) -> bool:
    """Whether a matrix is worth transposing: of a smaller one the L1 cache keeps what neighbours in the target read."""
    return min(rows, columns) > (1 << LEAST_BITS) // 2 and rows * columns >= LEAST


def _in_vectors(array: np.ndarray, strides: list[int], many: int) -> bool:
    """Whether each so many neighbours along the last axis are one vector, aligned as such."""
    *others, last = strides
    size = many * array.itemsize
    aligned = array.ctypes.data % size == 0 and not any(stride % many for stride in others)
    return last == 1 and aligned and size <= ALIGNMENT and array.dtype.kind != "c"


def _launch(target: np.ndarray, source: np.ndarray, stream: Any, conjugate: bool) -> None:
    from numba import from_dtype

    from numbaconv.cuda.kernels import copy as plain
    from numbaconv.cuda.kernels.transpose import transpose

    how = choose(target, source)
    readable = {"bool": "uint8", BFLOAT16: "float32"}.get(source.dtype.name, source.dtype)
    variant = from_dtype(np.dtype(readable)), how.many, conjugate, target.dtype == np.bool_
    length = min(n for n in LENGTHS if n >= len(how.axes))
    axes = (Axis(1, 0, 0),) * (length - len(how.axes)) + how.axes
    layout = plain.Layout(*zip(*axes, strict=True))
    if how.transposes:
        bits, tiles = _tiles(how.axes)
        launch(transpose(*variant), min(tiles, BLOCKS), THREADS_OF_COPY, stream, target, source, layout, bits, tiles)
    else:
        units = target.size // axes[-1].size * -(-axes[-1].size // how.many)
        blocks = min(-(-units // (THREADS_OF_COPY * UNITS)), BLOCKS)
        launch(plain.copy(*variant), blocks, THREADS_OF_COPY, stream, target, source, layout, units)


def _tiles(axes: tuple[Axis, ...]) -> tuple[int, int]:
    """How high tiles are, as a power of two, and how many there are: square ones, but for matrices with a short side."""
    *batch, rows, columns = (axis.size for axis in axes)
    wide = max(LEAST_BITS, min((TILE_BITS + 1) // 2, (columns - 1).bit_length()))
    high = max(LEAST_BITS, min(TILE_BITS - wide, (rows - 1).bit_length()))
    return high, math.prod(batch) * -(-rows >> high) * -(-columns >> TILE_BITS - high)


def _words(shadow: np.ndarray) -> np.ndarray:
    """See what is only moved as words, for all dtypes of a size alike."""
    return shadow if shadow.itemsize > 8 else shadow.view(f"u{shadow.itemsize}")


def _halves(shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
    """The two halves of an array, cut across its longest axis."""
    axis = int(np.argmax(shape))
    middle, before = shape[axis] // 2, (slice(None),) * axis
    return [(*before, slice(middle)), (*before, slice(middle, None))]
