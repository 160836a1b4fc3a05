"""What becomes of sums ``[position, channel]`` in a cache: bias, residual and activation, and their place in the result.

These functions are compiled apart, and once for all kernels, which have their addresses.
"""

from __future__ import annotations

import numpy as np
from numba import types

from numbaconv.cpu.float16 import round_to
from numbaconv.cpu.intrinsics import address_of, apply, as_contiguous, shaped
from numbaconv.cpu.jit import address, contiguous, inner, strided
from numbaconv.cpu.simd import call

__all__ = ["finishing", "storing"]


def finishing(compute: np.dtype) -> int:
    """Return the address of :func:`finish`."""
    word = types.int64
    return address(finish, contiguous(compute, 3), word, word, strided(compute, 3), word, contiguous(compute, 1), word)


def storing(out: np.dtype, compute: np.dtype) -> int:
    """Return the address of :func:`store`."""
    return address(store, strided(out, 3), contiguous(compute, 3), types.int64)


@inner
def finish(sums, rows, columns, residual, has_residual, bias, activation):
    """sums[i, j, o] = activation(sums[i, j, o] + bias[o] + residual[o, i, j]); sums may have more channels, rows and columns."""
    outs, width = bias.shape[0], sums.shape[2]
    for i in range(rows):
        for j in range(columns):
            pixel = sums[i, j, :outs]
            for o in range(outs):
                pixel[o] += bias[o]
            if has_residual:
                more = residual[:, i, j]
                for o in range(outs):
                    pixel[o] += more[o]
            if activation != 0 and outs < width:
                apply(activation, as_contiguous(pixel))
        if activation != 0 and outs == width:
            apply(activation, shaped(sums[i], (columns * width,)))


@inner
def store(output, sums, transposing):
    """output[o, i, j] = sums[i, j, o]; sums may have more. `transposing` is the address of :func:`to_rows`, or 0 to convert."""
    outs, rows, columns = output.shape
    if output.strides[0] == output.itemsize:
        for i in range(rows):
            for j in range(columns):
                pixel = sums[i, j]
                target = as_contiguous(output[:, i, j])
                for o in range(outs):
                    target[o] = round_to(target, pixel[o])
    elif transposing != 0 and output.strides[2] == output.itemsize:
        length, pieces = columns, rows
        if output.strides[1] == columns * output.itemsize and sums.shape[1] == columns:
            length, pieces = rows * columns, 1
        for i in range(pieces):
            call(
                transposing, address_of(sums[i]), sums.strides[1], length, outs,
                address_of(output[0, i]), output.strides[0], 0, 0,
            )  # fmt: skip
    else:
        for o in range(outs):
            for i in range(rows):
                for j in range(columns):
                    output[o, i, j] = round_to(output[o, i], sums[i, j, o])
