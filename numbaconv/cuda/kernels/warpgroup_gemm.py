"""Implicit GEMM on the tensor cores of sm_90a: warpgroups multiply matrices in shared memory while others are brought there.

A step is 128 bytes of input channels of one tap or of several, brought `stages` - 2 steps ahead (see ``gather.py``): in a step
all wait for their copies, the warpgroups begin its products, and while these are under way the threads begin the copies of a
later step, in the place of the step before the last, whose products are done. The simple case to read first: one warpgroup.
"""

from numba import cuda, float32, int32, int64, uint32

from numbaconv.cuda import ptx, warpgroup
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import ALL_BLOCKS, PART, most_registers, resident
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import tile_of
from numbaconv.cuda.kernels.gather import gather
from numbaconv.cuda.kernels.warpgroup_tile import aligned, bytes_of_sums, warpgroup_tile

__all__ = ["warpgroup_gemm"]

ROW_PARTS = warpgroup.ROW // PART
place = inlined(warpgroup.place)


@factory
def warpgroup_gemm(kind, warpgroups, N, stages, mode, form, activation=None):
    """Return the kernel for numbers of a kind ("tf32", "f16" or "bf16"): tiles of 64 rows a warpgroup, and N columns."""
    itemsize = 4 if kind == "tf32" else 2
    BM, threads = warpgroup.M * warpgroups, warpgroup.THREADS * warpgroups
    product = warpgroup.products(kind, N)
    rows_of_thread, begin_tile, bring = gather(itemsize, threads, BM, N, ROW_PARTS, place, mode)
    find_rows, multiply, store = warpgroup_tile(kind, warpgroups, N, form, activation)
    stage, ahead = (BM + N) * warpgroup.ROW, stages - 2
    wait = ptx.wait_for_all_but(ahead - 1)
    zeros, settle, wait_for_products = product.zeros, product.settle, product.wait_for_all_but_1

    def warpgroup_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(0, float32)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        first, at = cuda.local.array(rows_of_thread, int64), cuda.local.array(rows_of_thread, int64)
        origin, now = cuda.local.array((rows_of_thread, 3), int32), cuda.local.array(5, int32)
        thread, base = cuda.threadIdx.x, aligned(shared)
        pixels = int32(g.batch * g.out_d * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM - 1) // BM), int32((g.outs + N - 1) // N)
        total = int32(g.kernel_d * g.kernel_h * g.kernel_w * -(-g.channels // (PART // itemsize)))
        steps = int32(max(1, (total + ROW_PARTS - 1) // ROW_PARTS))  # of zeros, where there are no channels

        row, column, group, split, begin, end = tile_of(cuda.blockIdx.x, tiles_m, tiles_n, steps, g)
        m0, o0 = int32(row * BM), int32(column * N)
        state = first, origin, at, now
        weights = begin_tile((input, weight), state, (m0, o0, group, begin), pixels, total, thread, s.input, g)
        find_rows((outputs, residuals), (m0, group, split), pixels, thread, s, g)

        for step in range(begin, int32(begin + ahead)):
            if step < end:
                to_a = ptx.moved(base, uint32(step) % uint32(stages) * uint32(stage))
                bring(to_a, weights, state, o0, total, thread, s.input, g)
            ptx.commit()
        sums, step = zeros(), begin
        while True:  # at least once: sums that may be zeros after the loop would make products wait for each other
            wait()
            warpgroup.publish()
            cuda.syncthreads()
            sums = multiply(sums, ptx.moved(base, uint32(step) % uint32(stages) * uint32(stage)))
            if step + ahead < end:
                to_a = ptx.moved(base, uint32(step + ahead) % uint32(stages) * uint32(stage))
                bring(to_a, weights, state, o0, total, thread, s.input, g)
            ptx.commit()
            wait_for_products()
            step = int32(step + 1)
            if step >= end:
                break
        sums = settle(sums)

        cuda.syncthreads()
        store(sums, shared, base, (output, bias, residual), (outputs, residuals), (group, o0), s, g)
        cuda.syncthreads()

    warpgroup_gemm_kernel.shared_bytes = max(stages * stage, bytes_of_sums(warpgroups, N, form)) + warpgroup.EIGHT_ROWS
    warpgroup_gemm_kernel.most_blocks = ALL_BLOCKS
    warpgroup_gemm_kernel.most_registers = most_registers(threads, resident(stages * stage))
    return warpgroup_gemm_kernel
