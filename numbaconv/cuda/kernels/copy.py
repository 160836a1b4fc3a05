"""Copying between arrays of any strides and dtypes."""

from functools import cache
from typing import NamedTuple

from numba import cuda

from numbaconv.cuda.kernels.common import at

__all__ = ["Layout", "copy"]


class Layout(NamedTuple):
    """Both arrays, of six axes: their shape, and their strides in elements."""

    shape: tuple
    target: tuple
    source: tuple


@cache
def copy(kind, conjugate=False):
    """Return the kernel that copies elements, read as type `kind`, or their conjugates."""
    one = kind(1)

    def copy_kernel(target, source, layout, boolean):
        size_a, size_b, size_c, size_d, size_e, size_f = layout.shape
        for index in range(cuda.grid(1), size_a * size_b * size_c * size_d * size_e * size_f, cuda.gridsize(1)):
            rest, f = index // size_f, index % size_f
            rest, e = rest // size_e, rest % size_e
            rest, d = rest // size_d, rest % size_d
            rest, c = rest // size_c, rest % size_c
            a, b = rest // size_b, rest % size_b
            value = kind(source[at(layout.source, a, b, c, d, e, f)])
            if conjugate:
                value = value.conjugate()
            if boolean and value != 0:
                value = one
            target[at(layout.target, a, b, c, d, e, f)] = value

    return copy_kernel
