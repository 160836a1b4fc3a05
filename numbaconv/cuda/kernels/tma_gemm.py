"""Implicit GEMM on the tensor cores of sm_90a, as ``warpgroup_gemm``, its operands brought by the Tensor Memory Accelerator.

A step is 128 bytes of input channels of one tap, for which one thread asks: a column of pixels, and the rows of weights. In a
step all wait for the tile's barrier, the warpgroups begin its products, and the thread asks for a later step, in the place of the
step before the last, whose products are done. The kernel is handed tensor maps as integers; each block writes them to memory of
its own, where the accelerator reads them.
"""

from functools import cache

from numba import cuda, float32, int32, int64, uint32

from numbaconv.cuda import ptx, tma, warpgroup
from numbaconv.cuda.binary import factory
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import pixel_32, split_32, tile_of
from numbaconv.cuda.kernels.warpgroup_tile import aligned, bytes_of_sums, warpgroup_tile
from numbaconv.cuda.tensor_map import WORDS

__all__ = ["BLOCKS", "tma_gemm"]

BLOCKS = 528  # at most, four times an H200's multiprocessors: each has its maps


@inlined
def publish_maps(maps, input_map, weight_map):
    """Write a block's two maps; return the first one's address."""
    first = cuda.blockIdx.x * 2 * WORDS
    tma.put_words(maps, first, input_map)
    tma.put_words(maps, first + WORDS, weight_map)
    address = ptx.address_of(maps) + first * 8
    tma.release()
    tma.acquire(address)
    tma.acquire(address + WORDS * 8)
    return address


@inlined
def signed(number):
    """A number of 32 bits as instructions take it."""
    return uint32(int64(number) & 0xFFFFFFFF)


@inlined
def channel_and_tap(step, chunks, g):
    """The chunk of channels of a step, its tap, and this one's row and column."""
    tap, chunk = split_32(step, chunks)
    i, j = split_32(tap, int32(g.kernel_w))
    return chunk, tap, i, j


@inlined
def following(step, chunks, g):
    """The same of the next step."""
    chunk, tap, i, j = step
    chunk = int32(chunk + 1)
    if chunk == chunks:
        chunk, tap, j = int32(0), int32(tap + 1), int32(j + 1)
        if j == g.kernel_w:
            i, j = int32(i + 1), int32(0)
    return chunk, tap, i, j


@cache
def asking(channels, BM, N):
    """Return what asks for a step: so many channels of BM pixels and of N output channels."""

    @inlined
    def bring(step, to, barrier, maps, first, o0, g):
        """Ask for a step, as ``channel_and_tap`` says it, of the tile whose first pixel reads from (n, y, x) on."""
        (chunk, tap, i, j), (n, y, x) = step, first
        c, right, down = uint32(chunk * channels), uint32(j * g.dilation_w), uint32(i * g.dilation_h)
        tma.expect(barrier, uint32((BM + N) * warpgroup.ROW))
        tma.load_pixels(to, maps, c, signed(x), signed(y), uint32(n), barrier, right, down)
        weights = ptx.moved(to, BM * warpgroup.ROW)
        tma.load_rows(weights, maps + WORDS * 8, c, uint32(tap), uint32(o0), barrier)

    return bring


@factory
def tma_gemm(kind, warpgroups, N, stages, form, activation=None):
    """Return the kernel for numbers of a kind ("tf32", "f16" or "bf16"): tiles of 64 rows a warpgroup, and N columns."""
    channels = warpgroup.ROW // (4 if kind == "tf32" else 2)
    BM = warpgroup.M * warpgroups
    product = warpgroup.products(kind, N)
    find_rows, multiply, store = warpgroup_tile(kind, warpgroups, N, form, activation)
    bring = asking(channels, BM, N)
    stage, ahead = (BM + N) * warpgroup.ROW, stages - 2
    zeros, settle, wait_for_products = product.zeros, product.settle, product.wait_for_all_but_1

    def tma_gemm_kernel(input, weight, bias, residual, output, s, g, maps, input_map, weight_map):
        shared = cuda.shared.array(0, float32)
        barriers = cuda.shared.array(stages, int64)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        thread, base, first_barrier = cuda.threadIdx.x, aligned(shared), ptx.shared_address(barriers)
        pixels = int32(g.batch * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM - 1) // BM), int32((g.outs + N - 1) // N)
        chunks = int32((g.channels + channels - 1) // channels)
        steps = int32(g.kernel_h * g.kernel_w * chunks)
        here = int64(0)
        if thread == 0:
            here = publish_maps(maps, input_map, weight_map)
            for i in range(stages):
                tma.prepare(ptx.moved(first_barrier, 8 * i), uint32(1))
            tma.fence_barriers()
        cuda.syncthreads()

        tile, done = int32(cuda.blockIdx.x), int32(0)  # steps of the block's earlier tiles
        while tile < g.splits * tiles_m * tiles_n:
            row, column, group, split, begin, end = tile_of(tile, tiles_m, tiles_n, steps, g)
            m0, o0 = int32(row * BM), int32(column * N)
            n, d, h, w = pixel_32(m0, g)
            y, x = h * g.stride_h - g.low_h, w * g.stride_w - g.low_w
            chunk, tap, i, j = channel_and_tap(begin, chunks, g)
            find_rows((outputs, residuals), (m0, group, split), pixels, thread, s, g)

            for step in range(begin, min(begin + ahead, end)):
                if thread == 0:
                    place = uint32(done + step - begin) % uint32(stages)
                    barrier = ptx.moved(first_barrier, 8 * place)
                    bring((chunk, tap, i, j), ptx.moved(base, place * uint32(stage)), barrier, here, (n, y, x), o0, g)
                    chunk, tap, i, j = following((chunk, tap, i, j), chunks, g)
            sums, step = zeros(), begin
            while True:  # at least once: sums that may be zeros after the loop would make products wait for each other
                number = uint32(done + step - begin)
                turn = number // uint32(stages)
                place = number - turn * uint32(stages)
                tma.wait(ptx.moved(first_barrier, 8 * place), turn & uint32(1))
                cuda.syncthreads()
                sums = multiply(sums, ptx.moved(base, place * uint32(stage)))
                if thread == 0 and step + ahead < end:
                    place = (number + uint32(ahead)) % uint32(stages)
                    barrier = ptx.moved(first_barrier, 8 * place)
                    bring((chunk, tap, i, j), ptx.moved(base, place * uint32(stage)), barrier, here, (n, y, x), o0, g)
                    chunk, tap, i, j = following((chunk, tap, i, j), chunks, g)
                wait_for_products()
                step = int32(step + 1)
                if step >= end:
                    break
            sums = settle(sums)
            done = int32(done + end - begin)

            cuda.syncthreads()
            store(sums, shared, (output, bias, residual), (outputs, residuals), group, o0, s, g)
            warpgroup.publish()  # what was read of the sums, before what comes next in their place
            cuda.syncthreads()
            tile = int32(tile + cuda.gridDim.x)

    tma_gemm_kernel.shared_bytes = max(stages * stage, bytes_of_sums(warpgroups, N, form)) + warpgroup.EIGHT_ROWS
    tma_gemm_kernel.most_blocks = BLOCKS
    return tma_gemm_kernel
