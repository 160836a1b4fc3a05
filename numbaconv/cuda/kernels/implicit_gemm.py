"""A convolution as the product of a matrix of pixels by taps, which exists in shared memory only, and one of weights.

The rows are the output pixels of all images, the columns the output channels of a group, and what is summed are the taps
``(kd, kh, kw, c)``, KC channels of one tap at a time. A block computes a tile of BM rows and BN columns: while its threads
multiply one step from shared memory, each with MR x NR sums in registers, they bring the next one there. The simple case to
read first: one group, one step.
"""

from functools import cache

from numba import cuda, int32, int64, uint64

from numbaconv.cuda.geometry import KC, LANES, SUB, THREADS_OF_GEMM
from numbaconv.cuda.kernels.common import epilogue, pixel, source
from numbaconv.cuda.target import simulated

__all__ = ["implicit_gemm"]

NOWHERE = -(2**63)


@cuda.jit(device=True, inline="always")
def tap_origin(first, z0, y0, x0, tap, strides, g):
    """Where the first channel of the input that a pixel reads with a tap lies, or NOWHERE: it is a zero."""
    rest, kw = tap // g.kernel_w, tap % g.kernel_w
    kd, kh = rest // g.kernel_h, rest % g.kernel_h
    z = source(z0 + kd * g.dilation_d, g.size_d, g.mode)
    y = source(y0 + kh * g.dilation_h, g.size_h, g.mode)
    x = source(x0 + kw * g.dilation_w, g.size_w, g.mode)
    if z < 0 or y < 0 or x < 0:
        return int64(NOWHERE)
    return int64(first + z * strides[3] + y * strides[4] + x * strides[5])


@cache
def implicit_gemm(compute, MR, NR, activation=None):
    """Return the kernel that sums MR x NR products a thread in type `compute`, and applies a scalar function to the results."""
    store = epilogue(compute, activation)
    BM, BN, threads = LANES * MR, LANES * NR, THREADS_OF_GEMM
    rows_a, rows_b = threads // BM if BM < threads else 1, threads // BN if BN < threads else 1
    loads_a, loads_b = KC * BM // threads, KC * BN // threads
    step = KC * (BM + BN)
    shared_size = max(2 * step, SUB * LANES * (SUB * LANES + 1))
    alignment = None if simulated() else 16  # of vector loads; the simulator knows none

    @cuda.jit(device=True, inline="always")
    def fetch_input(values, input, at, c0, mine, channel, channels):
        """values = the input's channels c0 + mine, mine + rows_a ... of one pixel and tap, or zeros."""
        for i in range(loads_a):
            c = c0 + mine + i * rows_a
            values[i] = compute(0)
            if at != NOWHERE and c < channels:
                values[i] = compute(input[at + c * channel])

    @cuda.jit(device=True, inline="always")
    def fetch_weight(values, weight, at, c0, mine, column, g):
        """values = the weights (tap, channels c0 + mine ..., column)."""
        for i in range(loads_b):
            c = c0 + mine + i * rows_b
            values[i] = compute(0)
            if c < g.channels and column < g.outs:
                values[i] = weight[at + int64(c) * g.outs + column]

    @cuda.jit(device=True, inline="always")
    def put(shared, first, values, count, row, rows, column, width):
        """shared[first + (row + i * rows, column)] = values[i]."""
        for i in range(count):
            shared[uint64(first + (row + i * rows) * width + column)] = values[i]

    @cuda.jit(device=True, inline="always")
    def multiply(sums, shared, first, ty, tx, a, b):
        """Add the products of one step: rows SUB * ty ... of every SUB * LANES, and columns likewise."""
        for k in range(KC):
            for i in range(MR):
                a[i] = shared[uint64(first + k * BM + i // SUB * SUB * LANES + ty * SUB + i % SUB)]
            for j in range(NR):
                b[j] = shared[uint64(first + KC * BM + k * BN + j // SUB * SUB * LANES + tx * SUB + j % SUB)]
            for i in range(MR):
                for j in range(NR):
                    sums[i, j] = compute(sums[i, j] + a[i] * b[j])

    def implicit_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(shared_size, compute, alignment)
        sums = cuda.local.array((MR, NR), compute)
        a, b = cuda.local.array(MR, compute), cuda.local.array(NR, compute)
        next_a, next_b = cuda.local.array(loads_a, compute), cuda.local.array(loads_b, compute)
        thread = cuda.threadIdx.x
        ty, tx = thread // LANES, thread & LANES - 1
        mine_a, mine_b = thread // BM, thread // BN
        pixels = g.batch * g.out_d * g.out_h * g.out_w
        tiles_m, tiles_n = -(-pixels // BM), -(-g.outs // BN)
        taps = g.kernel_d * g.kernel_h * g.kernel_w
        steps = taps * -(-g.channels // KC)

        for tile in range(cuda.blockIdx.x, g.groups * tiles_m * tiles_n, cuda.gridDim.x):
            rest, o0 = tile // tiles_n, tile % tiles_n * BN
            group, m0 = rest // tiles_m, rest % tiles_m * BM
            row, column = m0 + thread % BM, o0 + thread % BN
            n, d, h, w = pixel(min(row, pixels - 1), g)
            first = n * s.input[0] + group * s.input[1]
            z0 = int32(d * g.stride_d - g.low_d)
            y0 = int32(h * g.stride_h - g.low_h)
            x0 = int32(w * g.stride_w - g.low_w)
            for i in range(MR):
                for j in range(NR):
                    sums[i, j] = compute(0)

            tap, c0 = int32(0), int32(0)
            at = tap_origin(first, z0, y0, x0, tap, s.input, g)
            for now in range(steps + 1):
                if now < steps:
                    fetch_input(next_a, input, at, c0, mine_a, s.input[2], g.channels)
                    fetch_weight(next_b, weight, int64(group * taps + tap) * g.channels * g.outs, c0, mine_b, column, g)
                    c0 = int32(c0 + KC)
                    if c0 >= g.channels:
                        c0, tap = int32(0), int32(tap + 1)
                        at = tap_origin(first, z0, y0, x0, tap, s.input, g)
                if now > 0:
                    multiply(sums, shared, (now & 1 ^ 1) * step, ty, tx, a, b)
                if now < steps:
                    put(shared, (now & 1) * step, next_a, loads_a, mine_a, rows_a, thread % BM, BM)
                    put(shared, (now & 1) * step + KC * BM, next_b, loads_b, mine_b, rows_b, thread % BN, BN)
                cuda.syncthreads()

            # Through shared memory, a square of the tile at a time, so that neighbouring threads store neighbours.
            side = SUB * LANES
            for i0 in range(0, MR, SUB):
                for j0 in range(0, NR, SUB):
                    for i in range(SUB):
                        for j in range(SUB):
                            shared[uint64((ty * SUB + i) * (side + 1) + tx * SUB + j)] = sums[i0 + i, j0 + j]
                    cuda.syncthreads()
                    for e in range(thread, side * side, threads):
                        r, c = e % side, e // side
                        if s.output[2] == 1:
                            r, c = c, r
                        m, o = m0 + i0 * LANES + r, o0 + j0 * LANES + c
                        if m < pixels and o < g.outs:
                            n, d, h, w = pixel(m, g)
                            store(output, bias, residual, s, n, group, o, d, h, w, shared[uint64(r * (side + 1) + c)], g)
                    cuda.syncthreads()

    return implicit_gemm_kernel
