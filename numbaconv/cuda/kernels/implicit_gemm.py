"""A convolution as the product of a matrix of pixels by taps, which exists in shared memory only, and one of weights.

The rows are the output pixels of all images, the columns the output channels of a group, and what is summed are the taps
``(kd, kh, kw, c)``, KC channels of one tap at a time. A block computes a tile of BM rows and BN columns: while its threads
multiply one step from shared memory, each with MR x NR sums in registers, the next ones are on their way there. Neighbouring
threads bring neighbouring pixels, or neighbouring channels where those are neighbours in memory. The simple case to read
first: one group, one step.
"""

from numba import cuda, int32, int64, uint32, uint64

from numbaconv.cuda import ptx
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import KC, LANES, SUB, THREADS_OF_GEMM, ZEROS, stages_of
from numbaconv.cuda.kernels.common import NOWHERE, inside, pixel_32, source, split_32, tile_of
from numbaconv.cuda.kernels.results import pieces, results
from numbaconv.cuda.target import simulated

__all__ = ["implicit_gemm"]


@factory
def implicit_gemm(compute, MR, NR, mode, channels_last, asynchronous, activation=None):
    """Return the kernel that sums MR x NR products a thread in type `compute`, and applies a scalar function to the results.

    With `asynchronous` numbers are copied as they are, so input and weight have to be of the type, of 4 or 8 bytes.
    """
    BM, BN, threads, itemsize = LANES * MR, LANES * NR, THREADS_OF_GEMM, compute.bitwidth // 8
    pitch = BM + SUB if channels_last else BM  # so that the KC channels of a pixel go to different banks
    loads_a, loads_b = KC * BM // threads, KC * BN // threads
    pixels_of_thread = loads_a if channels_last else 1
    step = KC * (pitch + BN)
    stages = stages_of(step * itemsize)
    SIDE = SUB * LANES
    read = inside if mode == ZEROS else source
    find_rows, put = results(compute, activation, BM, threads)
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
    def product(sums, shared, first, k, ty, tx, a, b):
        """Add the products of channel k of a step: rows SUB * ty ... of every SUB * LANES, and columns likewise."""
        for i in range(MR):
            a[i] = shared[first + k * uint64(pitch) + uint64(i // SUB * SUB * LANES + i % SUB) + ty * uint64(SUB)]
        for j in range(NR):
            b[j] = shared[first + k * uint64(BN) + uint64(KC * pitch + j // SUB * SUB * LANES + j % SUB) + tx * uint64(SUB)]
        for i in range(MR):
            for j in range(NR):
                sums[i, j] = compute(sums[i, j] + a[i] * b[j])

    @cuda.jit(device=True, inline="always")
    def multiply(sums, shared, first, ty, tx, a, b):
        """Add the products of a step, two channels a turn, so that one is loaded while the other is multiplied."""
        for k in range(0, KC, 2):
            product(sums, shared, first, uint64(k), ty, tx, a, b)
            product(sums, shared, first, uint64(k + 1), ty, tx, a, b)

    @cuda.jit(device=True, inline="always")
    def origins(at, first, z0, y0, x0, tap, strides, g):
        """at[i] = where a thread's i-th pixel reads its first channel with a tap, or NOWHERE: it is a zero."""
        line, kw = split_32(tap, g.kernel_w)
        kd, kh = split_32(line, g.kernel_h)
        for i in range(pixels_of_thread):
            z = read(int32(z0[i] + kd * g.dilation_d), int32(g.size_d), mode)
            y = read(int32(y0[i] + kh * g.dilation_h), int32(g.size_h), mode)
            x = read(int32(x0[i] + kw * g.dilation_w), int32(g.size_w), mode)
            at[i] = first[i] + z * strides[3] + y * strides[4] + x * strides[5]
            if z < 0 or y < 0 or x < 0:
                at[i] = NOWHERE

    def square(i0, j0):
        """The function that stores a square of the tile, so that neighbouring threads store neighbours."""

        @cuda.jit(device=True, inline="always")
        def store(shared, sums, output, bias, residual, outputs, residuals, group, o0, thread, s, g):
            ty, tx = thread // LANES, thread & LANES - 1
            for i in range(SUB):
                for j in range(SUB):
                    shared[uint64((ty * SUB + i) * (SIDE + 1) + tx * SUB + j)] = sums[i0 + i, j0 + j]
            cuda.syncthreads()
            for e in range(thread, SIDE * SIDE, threads):
                r, c = e % SIDE, e // SIDE
                if s.output[2] == 1:
                    r, c = c, r
                value = shared[uint64(r * (SIDE + 1) + c)]
                put(output, bias, residual, outputs, residuals, i0 * LANES + r, group, o0 + j0 * LANES + c, value, s, g)
            cuda.syncthreads()

        return store

    # Not a loop, which would stay one, with its sums in memory.
    store_0, store_1, store_2, store_3 = pieces([square(i0, j0) for i0 in range(0, MR, SUB) for j0 in range(0, NR, SUB)])

    def implicit_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(0, compute, alignment)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        base = ptx.shared_address(shared)
        sums = cuda.local.array((MR, NR), compute)
        a, b = cuda.local.array(MR, compute), cuda.local.array(NR, compute)
        at, first = cuda.local.array(pixels_of_thread, int64), cuda.local.array(pixels_of_thread, int64)
        z0, y0 = cuda.local.array(pixels_of_thread, int32), cuda.local.array(pixels_of_thread, int32)
        x0 = cuda.local.array(pixels_of_thread, int32)
        thread = cuda.threadIdx.x
        ty, tx = thread // LANES, thread & LANES - 1
        pixels = int32(g.batch * g.out_d * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM - 1) // BM), int32((g.outs + BN - 1) // BN)
        taps = int32(g.kernel_d * g.kernel_h * g.kernel_w)
        chunks = int32(max(1, (g.channels + KC - 1) // KC))
        steps = int32(taps * chunks)

        tile = int32(cuda.blockIdx.x)
        while tile < g.splits * g.groups * tiles_m * tiles_n:  # and not range(), which divides to count
            row, column, group, split, begin, end = tile_of(tile, tiles_m, tiles_n, steps, g)
            m0, o0 = int32(row * BM), int32(column * BN)
            count = int32(end - begin)
            find_rows(outputs, residuals, m0, pixels, group, split, thread, s, g)
            for i in range(pixels_of_thread):
                e = thread + i * threads
                m = e // KC if channels_last else e % BM
                n, d, h, w = pixel_32(min(m0 + m, pixels - 1), g)
                first[i] = n * s.input[0] + group * s.input[1]
                z0[i], y0[i], x0[i] = d * g.stride_d - g.low_d, h * g.stride_h - g.low_h, w * g.stride_w - g.low_w
            for i in range(MR):
                for j in range(NR):
                    sums[i, j] = compute(0)

            tap, chunk = split_32(begin, chunks)
            c0 = int32(chunk * KC)
            origins(at, first, z0, y0, x0, tap, s.input, g)
            for now in range(int32(1 - stages), count):
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
                    multiply(sums, shared, uint64(uint32(now) % uint32(stages) * uint32(step)), uint64(ty), uint64(tx), a, b)
            cuda.syncthreads()

            store_0(shared, sums, output, bias, residual, outputs, residuals, group, o0, thread, s, g)
            store_1(shared, sums, output, bias, residual, outputs, residuals, group, o0, thread, s, g)
            store_2(shared, sums, output, bias, residual, outputs, residuals, group, o0, thread, s, g)
            store_3(shared, sums, output, bias, residual, outputs, residuals, group, o0, thread, s, g)
            tile = int32(tile + cuda.gridDim.x)

    implicit_gemm_kernel.shared_bytes = itemsize * max(stages * step, SIDE * (SIDE + 1))
    return implicit_gemm_kernel
