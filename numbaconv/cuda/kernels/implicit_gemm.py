"""A convolution as the product of a matrix of pixels by taps, which exists in shared memory only, and one of weights.

The rows are the output pixels of all images, the columns the output channels of a group, and what is summed are the taps
``(kd, kh, kw, c)``, KC channels of one tap at a time. A block computes a tile of BM rows and BN columns: while its threads
multiply one step from shared memory, each with MR x NR sums in registers, the next ones are on their way there. Neighbouring
threads bring neighbouring pixels, or neighbouring channels where those are neighbours in memory, and 16 bytes of weights each.
A thread keeps the addresses of what it brings, and only counts them on from step to step: every instruction beside a product
costs as much as that. The simple case to read first: one group, one step.
"""

from numba import cuda, int32, int64, uint32, uint64

from numbaconv.cuda import ptx
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import ALL_BLOCKS, KC, LANES, SUB, THREADS_OF_GEMM, ZEROS, stages_of, weight_vector
from numbaconv.cuda.kernels.common import inside, pixel_32, source, split_32, tile_of
from numbaconv.cuda.kernels.results import one_of, rows_of, storing
from numbaconv.cuda.microkernel import Panels, microkernel
from numbaconv.cuda.storing import PIXELS
from numbaconv.cuda.target import simulated

__all__ = ["implicit_gemm"]

NONE = -(2**30)  # channels that are left of an output channel which there is not: as many taps as come leave none


@factory
def implicit_gemm(compute, MR, NR, mode, channels_last, asynchronous, form, activation=None):
    """Return the kernel that sums MR x NR products a thread in type `compute`, and applies a scalar function to the results.

    With `asynchronous` numbers are copied as they are, so input and weight have to be of the type, of 4 or 8 bytes.
    """
    BM, BN, threads, itemsize = LANES * MR, LANES * NR, THREADS_OF_GEMM, compute.bitwidth // 8
    pitch = BM + SUB if channels_last else BM  # so that the KC channels of a pixel go to different banks
    many = weight_vector(itemsize)
    lines = BN // many  # vectors of weights of a channel
    loads_a, loads_b = KC * BM // threads, -(-KC * lines // threads)
    pixels_of_thread = loads_a if channels_last else 1
    # From one of a thread's loads to the next: of input, and of weights.
    channels_apart, elements_apart = (0, threads // KC) if channels_last else (threads // BM, threads // BM * pitch)
    rows_apart = threads // lines
    scale = itemsize if asynchronous else 1  # copies know addresses, other loads count elements
    step = KC * (pitch + BN)
    stages = stages_of(step * itemsize)
    SIDE = SUB * LANES
    line = SIDE + SUB  # of sums on their way out, a square of the tile at a time
    across, many_pieces = NR // SUB, MR * NR // SUB**2
    channels_first = form.along == PIXELS
    read = inside if mode == ZEROS else source
    multiply = microkernel(compute, Panels(MR, NR, KC, SUB, LANES, pitch, BN))
    find_rows = rows_of(BM, threads)
    alignment = None if simulated() else 16  # of vector loads; the simulator knows none
    wait = ptx.wait_for_all_but(stages - 2)
    copy = ptx.copy_async_4 if itemsize == 4 else ptx.copy_async_8

    @cuda.jit(device=True, inline="always")
    def following(stage):
        """Where the stage after one begins."""
        stage = int32(stage + step)
        return int32(0) if stage == stages * step else stage

    @cuda.jit(device=True, inline="always")
    def bring_input(shared, base, to, input, at, left, thread, channel):
        """Bring a thread's elements to the stage at `to`, or zeros where none is left of a pixel's channels.

        (k, m) of the tile is the k-th of the channels that come, of pixel m.
        """
        k, m = (thread % KC, thread // KC) if channels_last else (thread // BM, thread % BM)
        first = int32(to + k * pitch + m)
        for i in range(loads_a):
            pixel = i if channels_last else 0
            there = int32(i * channels_apart) < left[pixel]
            where, target = at[pixel] + i * channels_apart * channel, first + i * elements_apart
            if asynchronous:
                copy(ptx.moved(base, target * itemsize), where, uint32(itemsize if there else 0))
            else:
                shared[uint64(target)] = compute(input[where]) if there else compute(0)

    @cuda.jit(device=True, inline="always")
    def bring_weight(shared, base, to, weight, at, left, thread, row):
        """Bring a thread's vectors of weights of these channels, or zeros; rows of weights are `row` apart."""
        k, j = thread // lines, thread % lines * many
        first = int32(to + KC * pitch + k * BN + j)
        for i in range(loads_b):
            if loads_b * threads == KC * lines or thread + i * threads < KC * lines:
                there = int32(i * rows_apart) < left
                where, target = at + i * rows_apart * row, first + i * rows_apart * BN
                if asynchronous:
                    ptx.copy_async_16(ptx.moved(base, target * itemsize), where, uint32(16 if there else 0))
                else:
                    for v in range(many):
                        shared[uint64(target + v)] = weight[where + v] if there else compute(0)

    @cuda.jit(device=True, inline="always")
    def find_pixels(images, corners, m0, pixels, group, thread, s, g):
        """images[r], corners[:, r] = where the image of pixel m0 + r begins, and the first coordinates that the pixel reads."""
        for r in range(thread, BM, threads):
            n, d, h, w = pixel_32(min(m0 + r, pixels - 1), g)
            images[r] = n * s.input[0] + group * s.input[1]
            corners[0, r], corners[1, r] = d * g.stride_d - g.low_d, h * g.stride_h - g.low_h
            corners[2, r] = w * g.stride_w - g.low_w

    @cuda.jit(device=True, inline="always")
    def origins(at, left, images, corners, tap, begin, thread, strides, g):
        """at[i] = where a thread's i-th pixel reads with a tap; left[i] = channels from there on, none if it is a zero."""
        rest, kw = split_32(tap, g.kernel_w)
        kd, kh = split_32(rest, g.kernel_h)
        k = thread % KC if channels_last else thread // BM
        for i in range(pixels_of_thread):
            r = thread // KC + i * (threads // KC) if channels_last else thread % BM
            z = read(int32(corners[0, r] + kd * g.dilation_d), int32(g.size_d), mode)
            y = read(int32(corners[1, r] + kh * g.dilation_h), int32(g.size_h), mode)
            x = read(int32(corners[2, r] + kw * g.dilation_w), int32(g.size_w), mode)
            at[i] = begin + (images[r] + z * strides[3] + y * strides[4] + x * strides[5] + k * strides[2]) * scale
            left[i] = g.channels - k
            if z < 0 or y < 0 or x < 0:
                left[i] = 0

    @cuda.jit(device=True, inline="always")
    def place_of(r, piece):
        return piece // across * SIDE + r

    @cuda.jit(device=True, inline="always")
    def order(n):
        """The lines of neighbouring threads follow each other, so that these write to different banks."""
        return n % LANES * SUB + n // LANES

    put = storing(compute, activation, form, SIDE, SIDE, line, threads, place_of, order=order)

    def write(piece):
        """The function that writes a square of the tile to shared memory. Sums stay in registers: their places are known."""
        i0, j0 = piece // across * SUB, piece % across * SUB

        @cuda.jit(device=True, inline="always")
        def one(piece, shared, sums, tx, ty):
            for i in range(SUB):
                for j in range(SUB):
                    if channels_first:
                        shared[uint64((i * LANES + tx) * line + ty * SUB + j)] = sums[i0 + j, j0 + i]
                    else:
                        shared[uint64((i * LANES + ty) * line + tx * SUB + j)] = sums[i0 + i, j0 + j]

        return one

    write_piece = one_of([write(piece) for piece in range(many_pieces)])

    def implicit_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(0, compute, alignment)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        images = cuda.shared.array(BM, int64)
        corners = cuda.shared.array((3, BM), int32)
        kept = cuda.shared.array(2, int32)  # registers that the loop may have
        base = ptx.shared_address(shared)
        sums = cuda.local.array((MR, NR), compute)
        at, left = cuda.local.array(pixels_of_thread, int64), cuda.local.array(pixels_of_thread, int32)
        thread = cuda.threadIdx.x
        ty, tx = thread // LANES, thread & LANES - 1
        pixels = int32(g.batch * g.out_d * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM - 1) // BM), int32((g.outs + BN - 1) // BN)
        taps = int32(g.kernel_d * g.kernel_h * g.kernel_w)
        chunks = int32(max(1, (g.channels + KC - 1) // KC))
        steps = int32(taps * chunks)
        channels, channel, row = int32(g.channels), s.input[2] * scale, int32((g.outs + many - 1) // many * many)
        deeper, further, back = KC * channel, int32(KC * row * scale), int32((chunks * KC - g.channels) * row * scale)
        in_input, in_weight = int64(0), int64(0)
        if asynchronous:
            in_input, in_weight = ptx.address_of(input), ptx.address_of(weight)
        rows, columns = uint64(ty * SUB), uint64(KC * pitch + tx * SUB)

        tile_row, column, group, split, begin, end = tile_of(cuda.blockIdx.x, tiles_m, tiles_n, steps, g)
        m0, o0 = int32(tile_row * BM), int32(column * BN)
        find_rows(outputs, residuals, m0, pixels, group, split, thread, s, g)
        find_pixels(images, corners, m0, pixels, group, thread, s, g)
        for i in range(MR):
            for j in range(NR):
                sums[i, j] = compute(0)

        tap, chunk = split_32(begin, chunks)
        c0 = int32(chunk * KC)
        if thread == 0:
            kept[0], kept[1] = o0, group
        cuda.syncthreads()
        origins(at, left, images, corners, tap, in_input, thread, s.input, g)
        for i in range(pixels_of_thread):
            at[i] += c0 * channel
            left[i] -= c0
        k, o = thread // lines, o0 + thread % lines * many
        weights = in_weight + ((int64(group * taps + tap) * g.channels + c0 + k) * row + o) * scale
        rest, weights_left = int32(channels - c0), int32(channels - c0 - k if o < g.outs else NONE)
        now, coming, count = int32(1 - stages), int32(0), int32(end - begin)
        while now < count:
            if now >= 0:
                if asynchronous:
                    wait()
                cuda.syncthreads()
            if now + stages - 1 < count:
                bring_input(shared, base, coming, input, at, left, thread, channel)
                bring_weight(shared, base, coming, weight, weights, weights_left, thread, int32(row * scale))
                rest, weights, weights_left = int32(rest - KC), weights + further, int32(weights_left - KC)
                for i in range(pixels_of_thread):
                    at[i] += deeper
                    left[i] -= KC
                if rest <= 0:
                    rest, tap, weights, weights_left = channels, int32(tap + 1), weights - back, int32(weights_left + chunks * KC)
                    origins(at, left, images, corners, tap, in_input, thread, s.input, g)
            if asynchronous:
                ptx.commit()
            coming = following(coming)
            if now >= 0:  # the stage that comes next is the oldest
                multiply(sums, shared, rows + uint64(uint32(coming)), columns + uint64(uint32(coming)))
            now = int32(now + 1)
        cuda.syncthreads()

        for piece in range(many_pieces):
            write_piece(piece, shared, sums, tx, ty)
            cuda.syncthreads()
            o = kept[0] + piece % across * SIDE
            put(shared, 0, (output, bias, residual), (outputs, residuals), (kept[1], o, piece), thread, s, g)
            cuda.syncthreads()

    implicit_gemm_kernel.shared_bytes = itemsize * max(stages * step, SIDE * line)
    implicit_gemm_kernel.most_blocks = ALL_BLOCKS
    if asynchronous and itemsize == 4 and MR * NR == 64:
        implicit_gemm_kernel.most_registers = 128  # so that a multiprocessor holds two blocks
    return implicit_gemm_kernel
