"""How the tensor-core kernels bring the operands of a step to shared memory: 16 bytes of channels, a part, at a time.

Rows of A are output pixels, rows of B output channels; what is summed are the parts of the taps ``(kd, kh, kw)``, one tap after
the other, ROW_PARTS of them in a step. A thread brings the same part of every so many rows. Padding, and channels beyond the
last, are bytes that a copy fills with zeros. All is counted in 32 bits but what lies in memory: the assembler makes calls of
64-bit divisions, and a function with calls waits for every product of a warpgroup.
"""

from functools import cache

from numba import cuda, int32, int64, uint32

from numbaconv.cuda import ptx
from numbaconv.cuda.geometry import PART, ZEROS
from numbaconv.cuda.kernels.common import NOWHERE, inside, pixel_32, source, split_32

__all__ = ["gather"]


@cache
def gather(itemsize, threads, BM, BN, ROW_PARTS, place, mode):
    """Return how many rows of A a thread brings, and the functions that begin a tile and bring its next step.

    What a thread knows of its rows is in four arrays: ``first`` and ``at``, where an image begins and where the tap is read,
    ``origin``, the first coordinates that a pixel reads, and ``now``: the position among all parts, and the part of the tap.
    """
    assert BM * ROW_PARTS % threads == BN * ROW_PARTS % threads == 0, "every thread brings as much"
    loads_a, loads_b, rows = BM * ROW_PARTS // threads, BN * ROW_PARTS // threads, threads // ROW_PARTS
    many = PART // itemsize  # channels of a part
    read = inside if mode == ZEROS else source

    @cuda.jit(device=True, inline="always")
    def look(first, origin, at, now, strides, g):
        """at[i] = where row i reads its first channel with the tap, or NOWHERE."""
        for i in range(loads_a):
            z = read(int32(origin[i, 0] + now[2] * g.dilation_d), int32(g.size_d), mode)
            y = read(int32(origin[i, 1] + now[3] * g.dilation_h), int32(g.size_h), mode)
            x = read(int32(origin[i, 2] + now[4] * g.dilation_w), int32(g.size_w), mode)
            at[i] = first[i] + z * strides[3] + y * strides[4] + x * strides[5]
            if z < 0 or y < 0 or x < 0:
                at[i] = NOWHERE

    @cuda.jit(device=True, inline="always")
    def begin_tile(first, origin, at, now, m0, pixels, group, step, thread, strides, g):
        parts = max(1, -(-g.channels // many))
        for i in range(loads_a):
            n, d, h, w = pixel_32(min(m0 + thread // ROW_PARTS + i * rows, pixels - 1), g)
            first[i] = n * strides[0] + group * strides[1]
            origin[i, 0] = d * g.stride_d - g.low_d
            origin[i, 1] = h * g.stride_h - g.low_h
            origin[i, 2] = w * g.stride_w - g.low_w
        now[0] = step * ROW_PARTS + thread % ROW_PARTS
        tap, now[1] = split_32(now[0], parts)
        line, now[4] = split_32(tap, g.kernel_w)
        now[2], now[3] = split_32(line, g.kernel_h)
        look(first, origin, at, now, strides, g)

    @cuda.jit(device=True, inline="always")
    def next_step(first, origin, at, now, strides, g):
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
            look(first, origin, at, now, strides, g)

    @cuda.jit(device=True, inline="always")
    def bring(to_a, to_b, input, weight, first, origin, at, now, group, o0, total, thread, strides, g):
        """Copy the step, A's and B's rows to two places in shared memory, and go on to the next."""
        row, part = thread // ROW_PARTS, thread % ROW_PARTS
        memory, weights = ptx.address_of(input), ptx.address_of(weight)
        size = min(PART, (g.channels - now[1] * many) * itemsize) if now[0] < total else 0
        for i in range(loads_a):
            count = size if at[i] != NOWHERE else 0
            origin_of_part = memory
            if count > 0:
                origin_of_part = memory + (at[i] + now[1] * many) * itemsize
            ptx.copy_async_16(ptx.moved(to_a, place(row + i * rows, part)), origin_of_part, uint32(count))
        for i in range(loads_b):
            o = o0 + row + i * rows
            count = size if o < g.outs else 0
            origin_of_part = weights
            if count > 0:
                origin_of_part = weights + ((int64(group) * g.outs + o) * total + now[0]) * PART
            ptx.copy_async_16(ptx.moved(to_b, place(row + i * rows, part)), origin_of_part, uint32(count))
        next_step(first, origin, at, now, strides, g)

    return loads_a, begin_tile, bring
