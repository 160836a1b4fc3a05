"""What the three functions share: their arguments as integers, and the input as it is read through the caller's function."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types

from numbaconv.cuda.inlined import inlined
from numbaconv.errors import bad_type, bad_value, shown
from numbaconv.options import per_axis

__all__ = ["Window", "number_type", "planes", "reader", "window", "with_launch"]


THREADS = 1024  # of a block, on every GPU


class Window(NamedTuple):
    """Which inputs an output pixel is the sum of; `low` are the zeros above the input and left of it."""

    kernel_h: int
    kernel_w: int
    stride_h: int
    stride_w: int
    low_h: int
    low_w: int
    dilation_h: int
    dilation_w: int


def window(kernel: Any, stride: Any, padding: Any, dilation: Any) -> Window:
    """Read an int, or two, for each."""
    least = (("kernel", kernel, 1), ("stride", stride, 1), ("padding", padding, 0), ("dilation", dilation, 1))
    return Window(*(number for name, value, smallest in least for number in per_axis(name, value, 2, smallest)))


def number_type(compute: Any) -> Any:
    """Return Numba's type of the sums, from that or from anything that names a NumPy dtype."""
    expected = "a type of integers, floats or complex numbers"
    try:
        found = compute if isinstance(compute, types.Type) else from_dtype(np.dtype(compute))
    except Exception:  # whatever NumPy or Numba raise
        raise bad_type("compute", expected, shown(compute)) from None
    if not isinstance(found, types.Number) or isinstance(found, types.Boolean):
        raise bad_value("compute", expected, str(found))
    return found


@inlined
def planes(image, c, y, x):
    """The value of an array of channels, rows, columns."""
    return image[c, y, x]


def reader(compute: Any, load: Any) -> Any:
    """Return the device function that gives the input at (c, y, x) in type `compute`: a zero outside of the image."""
    if load is None:
        load = planes
    elif not callable(load):
        raise bad_type("load", "a device function of (image, c, y, x), or None", shown(load))
    elif not hasattr(load, "py_func"):
        load = inlined(load)

    @inlined
    def read(image, size, c, y, x):
        value = compute(0)
        if 0 <= y < size[0] and 0 <= x < size[1]:
            value = compute(load(image, c, y, x))
        return value

    return read


def with_launch(function: Any, threads: tuple[int, ...], sums: Any, elements: int, compute: Any) -> Any:
    """Return a device function that knows what a kernel around it needs."""
    if math.prod(threads) > THREADS:
        raise bad_value("shape", f"at most {THREADS} threads", math.prod(threads))
    function.threads, function.sums = threads, sums
    function.shared, function.shared_bytes = elements, elements * compute.bitwidth // 8
    return function
