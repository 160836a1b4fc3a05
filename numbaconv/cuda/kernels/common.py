"""What the kernels share: where an element lies, where padding reads from, and how a sum becomes a result."""

from functools import cache

from numba import int32, int64, uint32, uint64

from numbaconv.cuda import ptx
from numbaconv.cuda.geometry import CIRCULAR, REPLICATE, ZEROS
from numbaconv.cuda.inlined import inlined

__all__ = [
    "NOWHERE", "at", "completion", "element", "epilogue", "inside", "pixel", "pixel_32", "source", "split_32", "tile_of",
]  # fmt: skip

NOWHERE = -(2**63)  # where what padding stands for lies


@inlined
def at(strides, a, b, c, d, e, f):
    """How many elements from the first one element (a, b, c, d, e, f) lies."""
    return a * strides[0] + b * strides[1] + c * strides[2] + d * strides[3] + e * strides[4] + f * strides[5]


@inlined
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
    period = max(1, 2 * (size - 1))
    position %= period
    return min(position, max(0, 2 * (size - 1) - position))


@inlined
def divided(number, size):
    """The quotient and the rest of numbers that are not negative: one division, of some thirty instructions, or none."""
    if number < size:
        return int64(0), int64(number)
    quotient = int64(uint64(number) // uint64(size))
    return quotient, int64(number - quotient * size)


@inlined
def pixel(number, g):
    """The image of an output pixel, counted through all images, and its place in it: n, d, h, w."""
    rest, w = divided(number, g.out_w)
    rest, h = divided(rest, g.out_h)
    n, d = divided(rest, g.out_d)
    return n, d, h, w


@inlined
def inside(position, size, mode):
    """As :func:`source`, for padding with zeros."""
    return position if 0 <= position < size else -1


@inlined
def split_32(number, size):
    """The quotient and the rest of numbers of 32 bits that are not negative."""
    quotient = int32(ptx.divide(uint32(number), uint32(size)))
    return quotient, int32(number - quotient * size)


@inlined
def tile_of(number, tiles_m, tiles_n, steps, g):
    """What block `number` of a GEMM computes: its tile's row and column, its group, its part, and this part's steps."""
    rest, column = split_32(number, tiles_n)
    rest, row = split_32(rest, tiles_m)
    part, group = split_32(rest, g.groups)
    begin, _ = split_32(part * steps, g.splits)
    end, _ = split_32((part + 1) * steps, g.splits)
    return row, column, group, part, begin, end


@inlined
def pixel_32(number, g):
    """As :func:`pixel`, of fewer than 2^31 pixels."""
    rest, w = split_32(number, g.out_w)
    rest, h = split_32(rest, g.out_h)
    n, d = split_32(rest, g.out_d)
    return n, d, h, w


@inlined
def element(index, channels_last, g):
    """The index-th element of a result, counted along its memory: n, group, o, d, h, w."""
    if channels_last:
        rest, o = divided(index, g.outs)
        rest, group = divided(rest, g.groups)
        n, d, h, w = pixel(rest, g)
    else:
        rest, w = divided(index, g.out_w)
        rest, h = divided(rest, g.out_h)
        rest, d = divided(rest, g.out_d)
        rest, o = divided(rest, g.outs)
        n, group = divided(rest, g.groups)
    return n, group, o, d, h, w


def _identity(x):
    return x


@cache
def completion(compute, activation, boolean):
    """Return the function that makes a result of a whole sum of type `compute`; `activation` is a scalar function, or None.

    Results may be truth values: 0 or 1.
    """
    zero, one = compute(0), compute(1)
    activated = activation is not None
    activate = inlined(activation if activated else _identity)

    @inlined
    def complete(total):
        if activated:
            total = compute(activate(total))
        if boolean:
            total = one if total != zero else zero
        return total

    return complete


@cache
def epilogue(compute, activation):
    """Return the function that finishes and stores the sum of type `compute` of an element."""
    complete, one = completion(compute, activation, False), compute(1)

    @inlined
    def store(output, bias, residual, s, n, group, o, d, h, w, total, g):
        """output[n, group, o, d, h, w] = activation(total + bias + residual), where there are such."""
        if g.has_bias:
            total = compute(total + compute(bias[group * s.bias[1] + o * s.bias[2]]))
        if g.has_residual:
            total = compute(total + compute(residual[at(s.residual, n, group, o, d, h, w)]))
        total = complete(total)
        if g.boolean and total != 0:
            total = one
        output[at(s.output, n, group, o, d, h, w)] = total

    return store
