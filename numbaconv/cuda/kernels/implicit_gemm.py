"""A convolution as the product of a matrix of pixels by taps, which exists in shared memory only, and one of weights.

The rows are the output pixels of all images, the columns the output channels of a group, and what is summed are the taps
``(kd, kh, kw, c)``, KC channels of one tap at a time. A block computes a tile of BM rows and BN columns: while its threads
multiply one step from shared memory, each with MR x NR sums in registers, the next ones are on their way there. Neighbouring
threads bring neighbouring pixels, or neighbouring channels where those are neighbours in memory. The simple case to read
first: one group, one step.
"""

from functools import cache

from numba import cuda, int32, int64, uint32, uint64

from numbaconv.cuda import ptx
from numbaconv.cuda.geometry import KC, LANES, SUB, THREADS_OF_GEMM, stages_of
from numbaconv.cuda.kernels.common import NOWHERE, epilogue, pixel, source
from numbaconv.cuda.target import simulated

__all__ = ["implicit_gemm"]


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
def implicit_gemm(compute, MR, NR, activation=None, channels_last=False, asynchronous=False):
    """Return the kernel that sums MR x NR products a thread in type `compute`, and applies a scalar function to the results.

    With `asynchronous` numbers are copied as they are, so input and weight have to be of the type, of 4 or 8 bytes.
    """
    store = epilogue(compute, activation)
    BM, BN, threads, itemsize = LANES * MR, LANES * NR, THREADS_OF_GEMM, compute.bitwidth // 8
    pitch = BM + SUB if channels_last else BM  # so that the KC channels of a pixel go to different banks
    loads_a, loads_b = KC * BM // threads, KC * BN // threads
    pixels_of_thread = loads_a if channels_last else 1
    step = KC * (pitch + BN)
    stages = stages_of(step * itemsize)
    shared_size = max(stages * step, SUB * LANES * (SUB * LANES + 1))
    alignment = None if simulated() else 16  # of vector loads; the simulator knows none
    wait = ptx.wait_for_all_but(stages - 2)
    copy = ptx.copy_async_4 if itemsize == 4 else ptx.copy_async_8

    @cuda.jit(device=True, inline="always")
    def bring(shared, base, to, array, at, there):
        """shared[to] = array[at], or 0 if it is not there."""
        if asynchronous:
            origin = ptx.address_of(array)
            if there:
                origin += at * itemsize
            copy(ptx.moved(base, to * itemsize), origin, uint32(itemsize if there else 0))
        else:
            shared[uint64(to)] = compute(array[at]) if there else compute(0)

    @cuda.jit(device=True, inline="always")
    def bring_input(shared, base, first, input, at, c0, thread, channel, channels):
        """shared[first + (k, m)] = the input's channel c0 + k of pixel m for the tap that `at` is the origin of."""
        for i in range(loads_a):
            e = thread + i * threads
            k, m = (e % KC, e // KC) if channels_last else (e // BM, e % BM)
            origin = at[i if channels_last else 0]
            there = origin != NOWHERE and c0 + k < channels
            bring(shared, base, first + k * pitch + m, input, origin + (c0 + k) * channel, there)

    @cuda.jit(device=True, inline="always")
    def bring_weight(shared, base, first, weight, at, c0, thread, o0, g):
        """shared[first + (k, j)] = the weight of channel c0 + k and output channel o0 + j for the tap that begins at `at`."""
        for i in range(loads_b):
            e = thread + i * threads
            k, j = e // BN, e % BN
            there = c0 + k < g.channels and o0 + j < g.outs
            bring(shared, base, first + KC * pitch + k * BN + j, weight, at + int64(c0 + k) * g.outs + o0 + j, there)

    @cuda.jit(device=True, inline="always")
    def multiply(sums, shared, first, ty, tx, a, b):
        """Add the products of one step: rows SUB * ty ... of every SUB * LANES, and columns likewise."""
        for k in range(KC):
            for i in range(MR):
                a[i] = shared[uint64(first + k * pitch + i // SUB * SUB * LANES + ty * SUB + i % SUB)]
            for j in range(NR):
                b[j] = shared[uint64(first + KC * pitch + k * BN + j // SUB * SUB * LANES + tx * SUB + j % SUB)]
            for i in range(MR):
                for j in range(NR):
                    sums[i, j] = compute(sums[i, j] + a[i] * b[j])

    @cuda.jit(device=True, inline="always")
    def origins(at, first, z0, y0, x0, tap, strides, g):
        """at[i] = where a thread's i-th pixel reads its first channel with a tap."""
        for i in range(pixels_of_thread):
            at[i] = tap_origin(first[i], z0[i], y0[i], x0[i], tap, strides, g)

    def implicit_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(shared_size, compute, alignment)
        base = ptx.shared_address(shared)
        sums = cuda.local.array((MR, NR), compute)
        a, b = cuda.local.array(MR, compute), cuda.local.array(NR, compute)
        at, first = cuda.local.array(pixels_of_thread, int64), cuda.local.array(pixels_of_thread, int64)
        z0, y0 = cuda.local.array(pixels_of_thread, int32), cuda.local.array(pixels_of_thread, int32)
        x0 = cuda.local.array(pixels_of_thread, int32)
        thread = cuda.threadIdx.x
        ty, tx = thread // LANES, thread & LANES - 1
        pixels = g.batch * g.out_d * g.out_h * g.out_w
        tiles_m, tiles_n = -(-pixels // BM), -(-g.outs // BN)
        taps = g.kernel_d * g.kernel_h * g.kernel_w
        chunks = max(1, -(-g.channels // KC))
        steps = taps * chunks

        for tile in range(cuda.blockIdx.x, g.splits * g.groups * tiles_m * tiles_n, cuda.gridDim.x):
            rest, o0 = tile // tiles_n, tile % tiles_n * BN
            rest, m0 = rest // tiles_m, rest % tiles_m * BM
            split, group = rest // g.groups, rest % g.groups
            begin, count = split * steps // g.splits, (split + 1) * steps // g.splits - split * steps // g.splits
            for i in range(pixels_of_thread):
                e = thread + i * threads
                m = e // KC if channels_last else e % BM
                n, d, h, w = pixel(min(m0 + m, pixels - 1), g)
                first[i] = n * s.input[0] + group * s.input[1]
                z0[i], y0[i], x0[i] = d * g.stride_d - g.low_d, h * g.stride_h - g.low_h, w * g.stride_w - g.low_w
            for i in range(MR):
                for j in range(NR):
                    sums[i, j] = compute(0)

            tap, c0 = int32(begin // chunks), int32(begin % chunks * KC)
            origins(at, first, z0, y0, x0, tap, s.input, g)
            for now in range(1 - stages, count):
                coming = now + stages - 1
                if now >= 0:
                    if asynchronous:
                        wait()
                    cuda.syncthreads()
                if coming < count:
                    to = coming % stages * step
                    bring_input(shared, base, to, input, at, c0, thread, s.input[2], g.channels)
                    bring_weight(shared, base, to, weight, int64(group * taps + tap) * g.channels * g.outs, c0, thread, o0, g)
                    c0 = int32(c0 + KC)
                    if c0 >= g.channels:
                        c0, tap = int32(0), int32(tap + 1)
                        origins(at, first, z0, y0, x0, tap, s.input, g)
                if asynchronous:
                    ptx.commit()
                if now >= 0:
                    multiply(sums, shared, now % stages * step, ty, tx, a, b)
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
                            store(
                                output,
                                bias,
                                residual,
                                s,
                                n + split * g.batch,
                                group,
                                o,
                                d,
                                h,
                                w,
                                shared[uint64(r * (side + 1) + c)],
                                g,
                            )
                    cuda.syncthreads()

    return implicit_gemm_kernel
