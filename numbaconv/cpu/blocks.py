"""Padded copies of a part of the input, in the compute dtype, for where padding or dtype keep kernels from the array itself."""

from __future__ import annotations

from typing import NamedTuple

from numba import types

from numbaconv.cpu.float16 import load
from numbaconv.cpu.intrinsics import address_of, as_contiguous, copy_bytes
from numbaconv.cpu.jit import address, contiguous, inner, strided
from numbaconv.cpu.simd import call
from numbaconv.cpu.transpose import from_rows
from numbaconv.spec import ConvSpec

__all__ = ["MODES", "Copying", "inside", "source"]

ZEROS, REFLECT, REPLICATE, CIRCULAR = range(4)
MODES = {"zeros": ZEROS, "reflect": REFLECT, "replicate": REPLICATE, "circular": CIRCULAR}


@inner
def source(position, size, mode):
    """Where padded coordinate `position` comes from in an axis of `size` elements, or -1: it is a zero."""
    if 0 <= position < size:
        return position
    if mode == ZEROS:
        return -1
    if mode == REPLICATE:
        return 0 if position < 0 else size - 1
    if mode == CIRCULAR:
        return position % size
    position %= max(1, 2 * (size - 1))
    return min(position, max(0, 2 * (size - 1) - position))


@inner
def inside(first, count, size):
    """Return low and high: ``0 <= first + i < size`` for the i from low to high - 1 of those from 0 to count - 1."""
    low = min(count, max(0, -first))
    return low, max(low, min(count, size - first))


@inner
def copy_line(target, line, same):
    """target[i] = line[i], for a target in C order."""
    if same and line.strides[0] == line.itemsize:
        copy_bytes(address_of(target), address_of(line), line.size * line.itemsize)
    elif line.strides[0] == line.itemsize:
        adjacent = as_contiguous(line)
        for i in range(adjacent.shape[0]):
            target[i] = load(adjacent[i])
    else:
        for i in range(line.shape[0]):
            target[i] = load(line[i])


@inner
def copy_channels_first(block, image, d, y0, x0, step_d, mode, same):
    """block[c, kd, i, j] = image[c, d + kd * step_d, y0 + i, x0 + j], padded."""
    channels, size_d, size_h, size_w = image.shape
    _, depth, rows, columns = block.shape
    low, high = inside(x0, columns, size_w)
    for c in range(channels):
        for kd in range(depth):
            z = source(d + kd * step_d, size_d, mode)
            for i in range(rows):
                y = source(y0 + i, size_h, mode)
                row = block[c, kd, i]
                if z < 0 or y < 0:
                    row[:] = 0
                    continue
                line = image[c, z, y]
                copy_line(row[low:high], line[x0 + low : x0 + high], same)
                for j in range(low):
                    x = source(x0 + j, size_w, mode)
                    row[j] = 0
                    if x >= 0:
                        row[j] = load(line[x])
                for j in range(high, columns):
                    x = source(x0 + j, size_w, mode)
                    row[j] = 0
                    if x >= 0:
                        row[j] = load(line[x])


@inner
def copy_channels_last(block, image, d, y0, x0, step_d, mode, same):
    """block[kd, i, j, c] = image[c, d + kd * step_d, y0 + i, x0 + j], padded; channels that the image lacks are zeros."""
    channels, size_d, size_h, size_w = image.shape
    depth, rows, columns, pitch = block.shape
    low, high = inside(x0, columns, size_w)
    adjacent = channels == 1 or image.strides[0] == image.itemsize
    whole = same and pitch == channels and adjacent and image.strides[3] == channels * image.itemsize
    for kd in range(depth):
        z = source(d + kd * step_d, size_d, mode)
        for i in range(rows):
            y = source(y0 + i, size_h, mode)
            if z < 0 or y < 0:
                block[kd, i] = 0
                continue
            j = 0
            while j < columns:
                pixel = block[kd, i, j]
                if whole and j == low and low < high:
                    pixels = high - low
                    copy_bytes(address_of(pixel), address_of(image[:, z, y, x0 + low]), pixels * channels * image.itemsize)
                    j = high
                    continue
                x = source(x0 + j, size_w, mode)
                if x < 0:
                    pixel[:] = 0
                else:
                    copy_line(pixel[:channels], image[:, z, y, x], same)
                    pixel[channels:] = 0
                j += 1


@inner
def copy_transposed(block, image, d, y0, x0, step_d, mode, transposing):
    """As :func:`copy_channels_last`, fast if columns are adjacent; `transposing` is the address of what transposes."""
    channels, size_d, size_h, size_w = image.shape
    depth, rows, columns, pitch = block.shape
    low, high = inside(x0, columns if image.strides[3] == image.itemsize else 0, size_w)
    for kd in range(depth):
        z = source(d + kd * step_d, size_d, mode)
        for i in range(rows):
            y = source(y0 + i, size_h, mode)
            row = block[kd, i]
            if z < 0 or y < 0:
                row[:] = 0
                continue
            if low < high:
                call(
                    transposing, address_of(image[0, z, y, x0 + low :]), image.strides[0], channels, high - low,
                    address_of(row[low]), row.strides[0], 0, 0,
                )  # fmt: skip
            for j in range(columns):
                if low <= j < high:
                    row[j, channels:] = 0
                    continue
                x = source(x0 + j, size_w, mode)
                row[j] = 0
                if x >= 0:
                    copy_line(row[j, :channels], image[:, z, y, x], False)


class Copying(NamedTuple):
    """Which of these functions a problem takes: compiled apart, and once for all kernels, which have its address.

    It is called as ``invoke(address, (block, image, d, y0, x0, step_d, mode, how))``.
    """

    address: int
    how: int  # its last argument

    @classmethod
    def of(cls, spec: ConvSpec, last: bool, turned: bool) -> Copying:
        """Choose: whether the block has the channels last, and if so, whether rows of the image are to be transposed."""
        input, compute = spec.dtypes.input, spec.dtypes.compute
        function = copy_transposed if turned else copy_channels_last if last else copy_channels_first
        code = address(function, contiguous(compute, 4), strided(input, 4), *[types.int64] * 6)
        return cls(code, from_rows(compute).address if turned else int(input == compute))
