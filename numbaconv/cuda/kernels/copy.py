"""Copying between arrays of any strides and dtypes, several neighbours at a time where both arrays have them together.

The simple case to read first: many = 1, two axes.
"""

from functools import cache
from typing import NamedTuple

from numba import cuda, int32, int64

from numbaconv.cuda.binary import factory
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import split_32
from numbaconv.cuda.vectors import vectors

__all__ = ["Layout", "beginning", "conversion", "copy", "movers"]

HELD = 32  # elements that a thread holds at most, of up to four loads


class Layout(NamedTuple):
    """Both arrays: their shape, of fewer than 2**31 elements, and their strides in elements."""

    shape: tuple
    target: tuple
    source: tuple


@inlined
def beginning(number, axes, layout):
    """How far from the first elements the number-th ones lie, counted along the first `axes` axes."""
    to, of = int64(0), int64(0)
    for i in range(axes - 1):
        axis = axes - 1 - i
        number, x = split_32(number, layout.shape[axis])
        to += x * layout.target[axis]
        of += x * layout.source[axis]
    return to + number * layout.target[0], of + number * layout.source[0]


@cache
def conversion(kind, conjugate, boolean):
    """Return what becomes of an element of type `kind` before the target's type rounds it."""
    zero, one = kind(0), kind(1)

    @inlined
    def convert(value):
        if conjugate:
            value = value.conjugate()
        if boolean:
            value = one if value != 0 else zero
        return value

    return convert


@cache
def movers(kind, many):
    """Return what loads and what stores `many` neighbours, or the first of them if fewer are left, by their arguments:

    a pointer, the first one's index, the distance to the next, how many are left, a local array, and where they are kept there.
    """

    @inlined
    def load_each(pointer, index, step, left, values, first):
        for v in range(many):
            if v < left:
                values[first + v] = kind(pointer[index + v * step])

    @inlined
    def store_each(pointer, index, step, left, values, first):
        for v in range(many):
            if v < left:
                pointer[index + v * step] = values[first + v]

    if many == 1:
        return load_each, store_each
    load_vector, store_vector = vectors(many)

    @inlined
    def load(pointer, index, step, left, values, first):
        if left >= many:
            load_vector(pointer, index, values, first)
        else:
            load_each(pointer, index, step, left, values, first)

    @inlined
    def store(pointer, index, step, left, values, first):
        if left >= many:
            store_vector(pointer, index, values, first)
        else:
            store_each(pointer, index, step, left, values, first)

    return load, store


@factory
def copy(kind, many=1, conjugate=False, boolean=False):
    """Return the kernel that copies elements, read as type `kind`, or their conjugates, or whether they are not 0.

    The last axis is cut into `units` of `many` neighbours each. If many > 1 these lie together, and each unit on a multiple of
    its size.
    """
    convert = conversion(kind, conjugate, boolean)
    load, store = movers(kind, many)
    under_way = max(1, min(4, HELD // many))
    held = under_way * many

    def copy_kernel(target, source, layout, units):
        values, places = cuda.local.array(held, kind), cuda.local.array(under_way, int64)
        left = cuda.local.array(under_way, int32)
        last = len(layout.shape) - 1
        size, step_to, step_of = layout.shape[last], layout.target[last], layout.source[last]
        threads, parts = int64(cuda.blockDim.x), (size + many - 1) // many
        begin = cuda.blockIdx.x * threads * under_way + cuda.threadIdx.x
        while begin < units:  # and not range(), which divides to count
            for i in range(under_way):
                if begin + i * threads < units:
                    line, part = split_32(begin + i * threads, parts)
                    to, of = beginning(line, last, layout)
                    places[i], left[i] = to + part * many * step_to, int32(size - part * many)
                    load(source, of + part * many * step_of, step_of, left[i], values, i * many)
            for i in range(under_way):
                if begin + i * threads < units:
                    for v in range(many):
                        values[i * many + v] = convert(values[i * many + v])
                    store(target, places[i], step_to, left[i], values, i * many)
            begin += cuda.gridDim.x * threads * under_way

    return copy_kernel
