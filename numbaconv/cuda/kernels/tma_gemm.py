"""Implicit GEMM on the tensor cores of sm_90a, as ``warpgroup_gemm``, its operands brought by the Tensor Memory Accelerator.

A step is 128 bytes of input channels of one tap: a column of pixels, and the rows of weights. One thread of a warp of its own
asks for step after step, as many ahead as shared memory has stages; the warpgroups multiply a stage when its barrier in `full`
says that it came, and give it back through its barrier in `empty`. They store their sums through the memory of a tile's last
stage, some columns at a time, while the next tile comes to the others.

The blocks of a cluster have neighbouring tiles: those beside each other have the same pixels, those above each other the same
weights, and each asks for its share of them for all of these.

The kernel is handed tensor maps as integers; each block writes them to memory of its own, where the accelerator reads them. The
simple case to read first: a cluster of one block, and one tile.
"""

from functools import cache

from numba import cuda, float32, int32, int64, uint32

from numbaconv.cuda import cluster, ptx, tma, warpgroup
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import most_registers, resident
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import pixel_32, split_32, tile_of
from numbaconv.cuda.kernels.warpgroup_tile import aligned, bytes_of_sums, warpgroup_tile
from numbaconv.cuda.target import MULTIPROCESSORS
from numbaconv.cuda.tensor_map import WORDS

__all__ = ["ASKING", "BLOCKS", "tma_gemm"]

BLOCKS = 528  # at most, four times an H200's multiprocessors: each has its maps
COLUMNS = 32  # of sums that are stored at a time, so that they fit a stage
ASKING = 32  # threads of the warp that asks


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
def stages_in_turn(stages):
    """Return what says in which stage a block's n-th step is, and the parity of the phase that fills it."""

    @inlined
    def stage_of(number):
        turn = uint32(number // uint32(stages))
        return uint32(number - turn * uint32(stages)), uint32(turn & uint32(1))

    return stage_of


@cache
def asking(kind, BM, N, stages, down, across):
    """Return what asks for all steps of a block's tiles of BM pixels and N output channels, in clusters of down x across."""
    channels = warpgroup.ROW // (4 if kind == "tf32" else 2)
    stage, pixels, weights = (BM + N) * warpgroup.ROW, BM // across, N // down
    beside, above = (1 << across) - 1, sum(1 << i * across for i in range(down))  # the first row's blocks, the first column's
    stage_of = stages_in_turn(stages)

    @inlined
    def bring(step, to, barrier, maps, first, o0, own):
        """Ask for a block's share of a step, as ``channel_and_tap`` says it, from pixels that read from (n, y, x) on."""
        (chunk, tap, i, j), (n, y, x), (row, column, g) = step, first, own
        c, right, below = uint32(chunk * channels), uint32(j * g.dilation_w), uint32(i * g.dilation_h)
        tma.expect(barrier, uint32(stage))
        to_a = ptx.moved(to, column * uint32(pixels * warpgroup.ROW))
        to_b = ptx.moved(to, uint32(BM * warpgroup.ROW) + row * uint32(weights * warpgroup.ROW))
        if across == 1:
            tma.load_pixels(to_a, maps, c, signed(x), signed(y), uint32(n), barrier, right, below)
        else:
            blocks = uint32(uint32(beside) << uint32(row * uint32(across)))
            cluster.load_pixels(to_a, maps, c, signed(x), signed(y), uint32(n), barrier, right, below, blocks)
        if down == 1:
            tma.load_rows(to_b, maps + WORDS * 8, c, uint32(tap), uint32(o0), barrier)
        else:
            blocks = uint32(uint32(above) << column)
            cluster.load_rows(to_b, maps + WORDS * 8, c, uint32(tap), uint32(o0), barrier, blocks)

    @inlined
    def ask(walk, sizes, own, barriers, base, maps):
        """Ask for the steps of every tile in turn, each as soon as all who are sent a part of it gave its stage back."""
        (tile, tiles, stride), (tiles_m, tiles_n, steps, chunks), (row, column, g), (full, empty) = walk, sizes, own, barriers
        number = uint32(0)  # steps before
        while tile < tiles:
            high, wide, _, _, begin, end = tile_of(tile, tiles_m, tiles_n, steps, g)
            n, _, h, w = pixel_32(int32((high * down + row) * BM + column * pixels), g)
            first = n, h * g.stride_h - g.low_h, w * g.stride_w - g.low_w
            o0 = (wide * across + column) * N + row * weights
            step = channel_and_tap(begin, chunks, g)
            for _ in range(begin, end):
                place, parity = stage_of(number)
                before = uint32(parity ^ uint32(1))  # at first there is no such phase, and nothing to wait for
                tma.wait(ptx.moved(empty, 8 * place), before)
                bring(step, ptx.moved(base, place * uint32(stage)), ptx.moved(full, 8 * place), maps, first, o0, own)
                step, number = following(step, chunks, g), uint32(number + uint32(1))
            tile = int32(tile + stride)

    return ask


@cache
def giving_back(down, across):
    """Return what says, by a thread of each warpgroup, to all blocks that send parts of a stage that it may be overwritten."""

    @inlined
    def give_back(barrier, thread, row, column):
        if down * across == 1:
            if thread == 0:
                tma.arrive(barrier)
        else:
            other_row, other_column = thread // uint32(across), thread % uint32(across)
            if thread < down * across and (other_row == row or other_column == column):
                cluster.arrive_at(barrier, thread)

    return give_back


@factory
def tma_gemm(kind, warpgroups, N, stages, down, across, form, activation=None):
    """Return the kernel for numbers of a kind ("tf32", "f16" or "bf16"): tiles of 64 rows a warpgroup, and N columns.

    A cluster has `down` times `across` blocks.
    """
    channels = warpgroup.ROW // (4 if kind == "tf32" else 2)
    BM, threads, together = warpgroup.M * warpgroups, warpgroup.THREADS * warpgroups, down * across
    product, columns = warpgroup.products(kind, N), min(N, COLUMNS)
    find_rows, multiply, store = warpgroup_tile(kind, warpgroups, N, form, activation, 1, columns)
    ask = asking(kind, BM, N, stages, down, across)
    give_back = giving_back(down, across)
    stage_of, meet = stages_in_turn(stages), ptx.meeting(1, threads)
    stage, given = (BM + N) * warpgroup.ROW, warpgroups * (down + across - 1)
    assert bytes_of_sums(warpgroups, columns, form) <= stage
    zeros, settle, wait_for_products = product.zeros, product.settle, product.wait_for_all_but_1

    @inlined
    def multiply_and_store(walk, sizes, own, barriers, shared, results, pixels, thread):
        """Sum the products of every tile in turn, and store them."""
        (tile, tiles, stride), (tiles_m, tiles_n, steps, _), (row, column, g), (full, empty) = walk, sizes, own, barriers
        arrays, places, s = results
        base, lane = aligned(shared), uint32(thread) % uint32(warpgroup.THREADS)
        number = uint32(0)  # steps of earlier tiles, and of this one
        while tile < tiles:
            high, wide, group, split, begin, end = tile_of(tile, tiles_m, tiles_n, steps, g)
            m0, o0 = int32((high * down + row) * BM), int32((wide * across + column) * N)
            find_rows(places, (m0, group, split), pixels, thread, s, g)
            sums, step = zeros(), begin
            while True:  # at least once: sums that may be zeros after the loop would make products wait for each other
                place, parity = stage_of(number)
                tma.wait(ptx.moved(full, 8 * place), parity)
                sums = multiply(sums, ptx.moved(base, place * uint32(stage)))
                wait_for_products()
                if step > begin:
                    place, _ = stage_of(uint32(number - uint32(1)))
                    give_back(ptx.moved(empty, 8 * place), lane, row, column)
                number, step = uint32(number + uint32(1)), int32(step + 1)
                if step >= end:
                    break
            sums = settle(sums)

            meet()
            place, _ = stage_of(uint32(number - uint32(1)))
            store(sums, shared, ptx.moved(base, place * uint32(stage)), arrays, places, (group, o0), s, g)
            warpgroup.publish()  # what was read of the sums, before what comes next in their place
            meet()
            give_back(ptx.moved(empty, 8 * place), lane, row, column)
            tile = int32(tile + stride)

    def tma_gemm_kernel(input, weight, bias, residual, output, s, g, maps, input_map, weight_map):
        shared = cuda.shared.array(0, float32)
        full = cuda.shared.array(stages, int64)
        empty = cuda.shared.array(stages, int64)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        thread, barriers = cuda.threadIdx.x, (ptx.shared_address(full), ptx.shared_address(empty))
        pixels = int32(g.batch * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM * down - 1) // (BM * down)), int32((g.outs + N * across - 1) // (N * across))
        chunks = int32((g.channels + channels - 1) // channels)
        sizes = tiles_m, tiles_n, int32(g.kernel_h * g.kernel_w * chunks), chunks
        walk = int32(cuda.blockIdx.x // together), int32(g.splits * tiles_m * tiles_n), int32(cuda.gridDim.x // together)
        rank = cluster.rank() if together > 1 else uint32(0)
        own = rank // uint32(across), rank % uint32(across), g
        if thread == 0:
            for i in range(stages):
                tma.prepare(ptx.moved(barriers[0], 8 * i), uint32(1))
                tma.prepare(ptx.moved(barriers[1], 8 * i), uint32(given))
            tma.fence_barriers()
        here = publish_maps(maps, input_map, weight_map) if thread == threads else int64(0)
        if together > 1:
            cluster.meet_ready()
        else:
            cuda.syncthreads()

        if thread == threads:
            ask(walk, sizes, own, barriers, aligned(shared), here)
        elif thread < threads:
            results = (output, bias, residual), (outputs, residuals), s
            multiply_and_store(walk, sizes, own, barriers, shared, results, pixels, thread)
        if together > 1:
            cluster.meet()  # no block ends while others may still tell it something

    held = resident(stages * stage)
    tma_gemm_kernel.shared_bytes = stages * stage + warpgroup.EIGHT_ROWS
    tma_gemm_kernel.most_registers = most_registers(threads + ASKING, held)
    tma_gemm_kernel.most_blocks = min(BLOCKS, held * MULTIPROCESSORS)  # so that a block's next tile comes while it stores one
    tma_gemm_kernel.cluster = together
    return tma_gemm_kernel
