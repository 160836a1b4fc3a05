"""A convolution as the product of a matrix of pixels by taps, which exists in shared memory only, and one of weights.

The rows are the output pixels of all images, the columns the output channels of a group, and what is summed are the taps
``(kd, kh, kw, c)``, KC channels of one tap at a time or, where these are few, of several (see ``reading.py``). A block computes
a tile of BM rows and BN columns: while its threads multiply one step from shared memory, each with MR x NR sums in registers, the
next ones are on their way there. Neighbouring threads bring neighbouring pixels, or neighbouring channels where those are
neighbours in memory, and 16 bytes of weights each. A thread keeps the addresses of what it brings, and only counts them on from
step to step (``pixels.py``): every instruction beside a product costs as much as that. The simple case to read first: one group,
one step.
"""

from numba import cuda, int32, int64, uint32, uint64

from numbaconv.cuda import ptx
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import ACROSS, ALL_BLOCKS, DOWN, KC, LIST, SUB, THREADS_OF_GEMM, stages_of, weight_vector
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import split_32, tile_of
from numbaconv.cuda.kernels.pixels import pixels_by_tap, pixels_of_list
from numbaconv.cuda.kernels.results import one_of, rows_of, storing
from numbaconv.cuda.microkernel import Panels, microkernel
from numbaconv.cuda.storing import PIXELS
from numbaconv.cuda.target import simulated

__all__ = ["implicit_gemm"]

NONE = -(2**30)  # channels that are left of an output channel which there is not: as many taps as come leave none


@factory
def implicit_gemm(compute, tile, mode, channels_last, asynchronous, reading, form, activation=None):
    """Return the kernel that sums products in type `compute`, in tiles ``(MR, NR, wide)``, and applies a scalar function.

    A thread has MR x NR sums, and of a block's threads `wide` lie along output channels. With `asynchronous` numbers are copied
    as they are, so input and weight have to be of the type, of 4 or 8 bytes.
    """
    (MR, NR, wide), threads, itemsize = tile, THREADS_OF_GEMM, compute.bitwidth // 8
    high = threads // wide
    BM, BN = high * MR, wide * NR
    pitch = BM + SUB if channels_last else BM  # so that the KC channels of a pixel go to different banks
    many = weight_vector(itemsize)
    lines = BN // many  # vectors of weights of a channel
    loads_b, rows_apart = -(-KC * lines // threads), threads // lines  # from one of a thread's loads to the next
    scale = itemsize if asynchronous else 1  # copies know addresses, other loads count elements
    step = KC * (pitch + BN)
    stages = stages_of(step * itemsize)
    # Sums on their way out: a rectangle of the tile at a time, in lines.
    rectangle_m, rectangle_n = SUB * high, SUB * wide
    across, many_pieces = NR // SUB, MR * NR // SUB**2
    channels_first = form.along == PIXELS
    line, many_lines = (rectangle_m + SUB, rectangle_n) if channels_first else (rectangle_n + SUB, rectangle_m)
    listed = reading.listed
    if listed:
        addresses, find_pixels, begin_tap, bring_input = pixels_of_list(compute, BM, threads, pitch, channels_last, asynchronous)
    else:
        addresses, find_pixels, begin_tap, bring_input = pixels_by_tap(
            compute, BM, threads, pitch, mode, channels_last, asynchronous, reading.many
        )
    entries, one_run = (LIST if listed else 1), listed or reading.many > 1  # of channels, with no tap after another
    multiply = microkernel(compute, Panels(MR, NR, KC, SUB, high, wide, pitch, BN))
    find_rows = rows_of(BM, threads)
    alignment = None if simulated() else 16  # of vector loads; the simulator knows none
    wait = ptx.wait_for_all_but(stages - 2)

    @inlined
    def seat(thread):
        """Where a thread is along pixels and along channels; a warp is DOWN by ACROSS threads, which read few vectors."""
        warp, n = thread // (DOWN * ACROSS), thread % (DOWN * ACROSS)
        warps = wide // ACROSS
        return warp // warps * DOWN + n // ACROSS, warp % warps * ACROSS + n % ACROSS

    @inlined
    def following(stage):
        """Where the stage after one begins."""
        stage = int32(stage + step)
        return int32(0) if stage == stages * step else stage

    @inlined
    def bring_weight(to, place, weight, at, left, thread, row):
        """Bring a thread's vectors of weights of these channels, or zeros; rows of weights are `row` apart."""
        shared, base = to
        k, j = thread // lines, thread % lines * many
        first = int32(place + KC * pitch + k * BN + j)
        for i in range(loads_b):
            if loads_b * threads == KC * lines or thread + i * threads < KC * lines:
                there = int32(i * rows_apart) < left
                where, target = at + i * rows_apart * row, first + i * rows_apart * BN
                if asynchronous:
                    ptx.copy_async_16(ptx.moved(base, target * itemsize), where, uint32(16 if there else 0))
                else:
                    for v in range(many):
                        shared[uint64(target + v)] = weight[where + v] if there else compute(0)

    @inlined
    def place_of(r, piece):
        return piece // across * rectangle_m + r

    @inlined
    def order(n):
        """The lines of neighbouring threads follow each other, so that these write to different banks."""
        return n % (many_lines // SUB) * SUB + n // (many_lines // SUB)

    put = storing(compute, activation, form, rectangle_m, rectangle_n, line, threads, place_of, order=order)

    def write(piece):
        """The function that writes a rectangle of the tile to shared memory. Sums stay in registers: their places are known."""
        i0, j0 = piece // across * SUB, piece % across * SUB

        @inlined
        def one(piece, shared, sums, tx, ty):
            for i in range(SUB):
                for j in range(SUB):
                    if channels_first:
                        shared[uint64((i * wide + tx) * line + ty * SUB + j)] = sums[i0 + j, j0 + i]
                    else:
                        shared[uint64((i * high + ty) * line + tx * SUB + j)] = sums[i0 + i, j0 + j]

        return one

    write_piece = one_of([write(piece) for piece in range(many_pieces)])

    def implicit_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(0, compute, alignment)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        images = cuda.shared.array(BM, int64)
        corners = cuda.shared.array((3, BM), int32)
        listing = cuda.shared.array(entries, int64)
        kept = cuda.shared.array(2, int32)  # registers that the loop may have
        base = ptx.shared_address(shared)
        sums = cuda.local.array((MR, NR), compute)
        at, note = cuda.local.array(addresses, int64), cuda.local.array(addresses, int32)
        thread = cuda.threadIdx.x
        ty, tx = seat(thread)
        pixels = int32(g.batch * g.out_d * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM - 1) // BM), int32((g.outs + BN - 1) // BN)
        taps, channels = int32(g.kernel_d * g.kernel_h * g.kernel_w), int32(g.channels)
        if listed:
            taps, channels = int32(1), int32(taps * channels)
        chunks = int32(max(1, (channels + KC - 1) // KC))
        steps = int32(taps * chunks)
        channel, row = s.input[2] * scale, int32((g.outs + many - 1) // many * many)
        further, back = int32(KC * row * scale), int32((chunks * KC - channels) * row * scale)
        in_input, in_weight = int64(0), int64(0)
        if asynchronous:
            in_input, in_weight = ptx.address_of(input), ptx.address_of(weight)
        rows, columns = uint64(ty * SUB), uint64(KC * pitch + tx * SUB)

        tile_row, column, group, split, begin, end = tile_of(cuda.blockIdx.x, tiles_m, tiles_n, steps, g)
        m0, o0 = int32(tile_row * BM), int32(column * BN)
        find_rows((outputs, residuals), (m0, group, split), pixels, thread, s, g)
        find_pixels((images, corners, listing), m0, pixels, group, thread, s, g)
        for i in range(MR):
            for j in range(NR):
                sums[i, j] = compute(0)

        tap, chunk = split_32(begin, chunks)
        c0 = int32(chunk * KC)
        if thread == 0:
            kept[0], kept[1] = o0, group
        cuda.syncthreads()
        begin_tap((at, note), (images, corners, listing), tap, c0, in_input, thread, s.input, g)
        k, o = thread // lines, o0 + thread % lines * many
        weights = in_weight + ((int64(group * taps + tap) * channels + c0 + k) * row + o) * scale
        rest, weights_left = int32(channels - c0), int32(channels - c0 - k if o < g.outs else NONE)
        now, coming, count = int32(1 - stages), int32(0), int32(end - begin)
        while now < count:
            if now >= 0:
                if asynchronous:
                    wait()
                cuda.syncthreads()
            if now + stages - 1 < count:
                bring_input((shared, base), coming, input, (at, note), (images, corners, listing), c0, thread, channel)
                bring_weight((shared, base), coming, weight, weights, weights_left, thread, int32(row * scale))
                weights, weights_left = weights + further, int32(weights_left - KC)
                if one_run:
                    c0 = int32(c0 + KC)
                else:
                    rest = int32(rest - KC)
                    if rest <= 0:
                        rest, tap = channels, int32(tap + 1)
                        weights, weights_left = weights - back, int32(weights_left + chunks * KC)
                        begin_tap((at, note), (images, corners, listing), tap, 0, in_input, thread, s.input, g)
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
            o = kept[0] + piece % across * rectangle_n
            put(shared, 0, (output, bias, residual), (outputs, residuals), (kept[1], o, piece), thread, s, g)
            cuda.syncthreads()

    implicit_gemm_kernel.shared_bytes = itemsize * max(stages * step, many_lines * line)
    implicit_gemm_kernel.most_blocks = ALL_BLOCKS
    if asynchronous and itemsize == 4 and MR * NR == 64:
        implicit_gemm_kernel.most_registers = 128  # so that a multiprocessor holds two blocks
    return implicit_gemm_kernel
