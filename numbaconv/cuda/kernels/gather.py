"""How the tensor-core kernels bring the operands of a step to shared memory: 16 bytes of channels, a part, at a time.

Rows of A are output pixels, rows of B output channels; what is summed are the parts of the taps ``(kd, kh, kw)``, one tap after
the other, ROW_PARTS of them in a step. A thread brings the same part of every so many rows. Padding, and channels beyond the
last, are bytes that a copy fills with zeros. All is counted in 32 bits but what lies in memory: the assembler makes calls of
64-bit divisions, and a function with calls waits for every product of a warpgroup.
"""

from functools import cache

from numba import int32, int64, uint32

from numbaconv.cuda import ptx
from numbaconv.cuda.geometry import PART, ZEROS
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import NOWHERE, inside, pixel_32, source, split_32

__all__ = ["gather"]


@cache
def gather(itemsize, threads, BM, BN, ROW_PARTS, place, mode):
    """Return how many rows of A a thread brings, and the functions that begin a tile and bring its next step.

    What a thread knows of its rows of A is its state, four arrays: ``first``, the address of an image; ``origin``, the first
    coordinates that a pixel reads; ``at``, the address of what it reads with the tap, or the image's, made negative, if that is
    padding; and ``now``: the position among all parts, the part of the tap, and the tap. Of B it knows its first row's address.
    """
    assert BM * ROW_PARTS % threads == BN * ROW_PARTS % threads == 0, "every thread brings as much"
    loads_a, loads_b, rows = BM * ROW_PARTS // threads, BN * ROW_PARTS // threads, threads // ROW_PARTS
    many = PART // itemsize  # channels of a part
    read = inside if mode == ZEROS else source

    @inlined
    def look(state, strides, g):
        """at[i] = the address of the first channel that row i reads with the tap, or the image's, made negative."""
        first, origin, at, now = state
        for i in range(loads_a):
            z = read(int32(origin[i, 0] + now[2] * g.dilation_d), int32(g.size_d), mode)
            y = read(int32(origin[i, 1] + now[3] * g.dilation_h), int32(g.size_h), mode)
            x = read(int32(origin[i, 2] + now[4] * g.dilation_w), int32(g.size_w), mode)
            at[i] = first[i] + (z * strides[3] + y * strides[4] + x * strides[5]) * itemsize
            if z < 0 or y < 0 or x < 0:
                at[i] = first[i] | NOWHERE

    @inlined
    def begin_tile(arrays, state, tile, pixels, total, thread, strides, g):
        """Begin a tile ``(m0, o0, group, step)``; return the address of the thread's first row of B."""
        (input, weight), (first, origin, _, now), (m0, o0, group, step) = arrays, state, tile
        parts = max(1, -(-g.channels // many))
        for i in range(loads_a):
            n, d, h, w = pixel_32(min(m0 + thread // ROW_PARTS + i * rows, pixels - 1), g)
            first[i] = ptx.address_of(input) + (n * strides[0] + group * strides[1]) * itemsize
            origin[i, 0] = d * g.stride_d - g.low_d
            origin[i, 1] = h * g.stride_h - g.low_h
            origin[i, 2] = w * g.stride_w - g.low_w
        now[0] = step * ROW_PARTS + thread % ROW_PARTS
        tap, now[1] = split_32(now[0], parts)
        line, now[4] = split_32(tap, g.kernel_w)
        now[2], now[3] = split_32(line, g.kernel_h)
        look(state, strides, g)
        return ptx.address_of(weight) + (int64(group) * g.outs + o0 + thread // ROW_PARTS) * total * PART

    @inlined
    def next_step(state, strides, g):
        _, _, _, now = state
        parts = int32(max(1, -(-g.channels // many)))
        now[0] += ROW_PARTS
        now[1] += ROW_PARTS
        if now[1] >= parts:
            while now[1] >= parts:
                now[1] -= parts
                now[4] += 1
                if now[4] == g.kernel_w:
                    now[4] = 0
                    now[3] += 1
                    if now[3] == g.kernel_h:
                        now[3] = 0
                        now[2] += 1
            look(state, strides, g)

    @inlined
    def bring(to_a, weights, state, o0, total, thread, strides, g):
        """Copy the step, A's rows to a place in shared memory and B's after them, and go on to the next. No bytes, no read."""
        to_b, (_, _, at, now) = ptx.moved(to_a, BM * ROW_PARTS * PART), state
        row, part = thread // ROW_PARTS, thread % ROW_PARTS
        size = int32(min(int32(PART), int32((g.channels - now[1] * many) * itemsize)) if now[0] < total else 0)
        offset = int64(now[1] * PART)
        for i in range(loads_a):
            count = uint32(size if at[i] >= 0 else 0)
            ptx.copy_async_16(ptx.moved(to_a, place(row + i * rows, part)), (at[i] & ~NOWHERE) + offset, count)
        offset, step = int64(now[0] * PART), int64(total) * (rows * PART)
        for i in range(loads_b):
            count = uint32(size if int32(o0 + row + i * rows) < int32(g.outs) else 0)
            ptx.copy_async_16(ptx.moved(to_b, place(row + i * rows, part)), weights + offset + i * step, count)
        next_step(state, strides, g)

    return loads_a, begin_tile, bring
