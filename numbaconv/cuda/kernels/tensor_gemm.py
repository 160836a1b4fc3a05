"""Implicit GEMM on tensor cores by the instructions of a warp: products of fragments in place of products of numbers.

A step is 64 bytes of input channels of one tap or of several, brought asynchronously STAGES - 1 steps ahead (see
``gather.py``). In shared memory the four parts of a row are exchanged by its number, so that the eight rows which ``ldmatrix``
reads at once lie in different banks. The simple case to read first: one warp, one fragment.
"""

from numba import cuda, float32, int32, int64, uint32, uint64

from numbaconv.cuda import mma, ptx
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import ALL_BLOCKS, PART, ROW_BYTES, STAGES
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import tile_of
from numbaconv.cuda.kernels.gather import gather
from numbaconv.cuda.kernels.results import one_of, rows_of, storing
from numbaconv.cuda.storing import CHANNELS
from numbaconv.cuda.target import simulated

__all__ = ["tensor_gemm"]

PARTS = ROW_BYTES // PART
c_place = inlined(mma.c_place)
matrix_row = inlined(mma.matrix_row)


@inlined
def place(row, part):
    """Where a part of a row lies in a stage."""
    return row * ROW_BYTES + (part ^ (row // 2 & PARTS - 1)) * PART


@factory
def tensor_gemm(kind, warps_m, warps_n, MF, NF, mode, form, activation=None):
    """Return the kernel for numbers of a kind ("tf32", "f16" or "bf16"): warps_m x warps_n warps of MF x NF fragments each."""
    product = {"tf32": ptx.mma_tf32, "f16": ptx.mma_f16, "bf16": ptx.mma_bf16}[kind]
    wait = ptx.wait_for_all_but(STAGES - 2)
    rounds = kind == "tf32"
    itemsize = 4 if rounds else 2
    threads = mma.LANES * warps_m * warps_n
    BM, BN = mma.M * MF * warps_m, mma.N * NF * warps_n
    rows_of_thread, begin_tile, bring = gather(itemsize, threads, BM, BN, PARTS, place, mode)
    find_rows = rows_of(BM, threads)
    stage = (BM + BN) * ROW_BYTES
    alignment = None if simulated() else 128  # of what is copied by 16 bytes; the simulator knows none
    band, channels = mma.M * warps_m, form.along == CHANNELS
    pitch = BN + 8 if channels else band + 4  # of the sums on their way out, so that a warp stores to many banks

    @inlined
    def fragments(a, b, shared, warp_m, warp_n, row, half):
        """Load what a warp multiplies of 32 bytes of a row: `half` says which."""
        for i in range(MF):
            r = (warp_m * MF + i) * mma.M + row
            a[i, 0], a[i, 1], a[i, 2], a[i, 3] = ptx.ldmatrix_x4(ptx.moved(shared, place(r, half)))
        for j in range(0, NF, 2):
            r = (warp_n * NF + j) * mma.N + row
            b[j, 0], b[j + 1, 0], b[j, 1], b[j + 1, 1] = ptx.ldmatrix_x4(ptx.moved(shared, BM * ROW_BYTES + place(r, half)))
        if rounds:
            for i in range(MF):
                for k in range(4):
                    a[i, k] = ptx.round_to_tf32(a[i, k])
            for j in range(NF):
                for k in range(2):
                    b[j, k] = ptx.round_to_tf32(b[j, k])

    @inlined
    def multiply(sums, a, b):
        for i in range(MF):
            for j in range(NF):
                sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3] = product(
                    a[i, 0], a[i, 1], a[i, 2], a[i, 3], b[j, 0], b[j, 1],
                    sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3],
                )  # fmt: skip

    @inlined
    def place_of(r, piece):
        return (r // mma.M * MF + piece) * mma.M + r % mma.M

    put = storing(float32, activation, form, band, BN, pitch, threads, place_of, ptx.bits_float)

    def write(i):
        """The function that writes a row of fragments to shared memory. Sums stay in registers: their places are known."""

        @inlined
        def one(piece, shared, sums, lane, warp):
            for j in range(NF):
                for k in range(4):
                    r, c = c_place(lane, k)
                    r, c = warp // warps_n * mma.M + r, (warp % warps_n * NF + j) * mma.N + c
                    shared[uint64(r * pitch + c if channels else c * pitch + r)] = ptx.float_bits(sums[i, j, k])

        return one

    write_piece = one_of([write(i) for i in range(MF)])

    def tensor_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(0, uint32, alignment)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        sums = cuda.local.array((MF, NF, 4), float32)
        a, b = cuda.local.array((MF, 4), uint32), cuda.local.array((NF, 2), uint32)
        first, at = cuda.local.array(rows_of_thread, int64), cuda.local.array(rows_of_thread, int64)
        origin, now = cuda.local.array((rows_of_thread, 3), int32), cuda.local.array(5, int32)
        thread = cuda.threadIdx.x
        lane, warp = thread & mma.LANES - 1, thread // mma.LANES
        warp_m, warp_n = warp // warps_n, warp % warps_n
        row, half = matrix_row(lane)
        base = ptx.shared_address(shared)
        pixels = int32(g.batch * g.out_d * g.out_h * g.out_w)
        tiles_m, tiles_n = int32((pixels + BM - 1) // BM), int32((g.outs + BN - 1) // BN)
        total = int32(g.kernel_d * g.kernel_h * g.kernel_w * -(-g.channels // (PART // itemsize)))
        steps = int32((total + PARTS - 1) // PARTS)

        tile_row, column, group, split, begin, end = tile_of(cuda.blockIdx.x, tiles_m, tiles_n, steps, g)
        m0, o0 = int32(tile_row * BM), int32(column * BN)
        state = first, origin, at, now
        weights = begin_tile((input, weight), state, (m0, o0, group, begin), pixels, total, thread, s.input, g)
        find_rows((outputs, residuals), (m0, group, split), pixels, thread, s, g)
        for i in range(MF):
            for j in range(NF):
                for k in range(4):
                    sums[i, j, k] = float32(0)

        for step in range(int32(begin + 1 - STAGES), end):
            if step >= begin:
                wait()
                cuda.syncthreads()
            if step + STAGES - 1 < end:
                to_a = ptx.moved(base, uint32(step + STAGES - 1) % uint32(STAGES) * uint32(stage))
                bring(to_a, weights, state, o0, total, thread, s.input, g)
            ptx.commit()
            if step >= begin:
                at_stage = ptx.moved(base, uint32(step) % uint32(STAGES) * uint32(stage))
                for k in range(PARTS // 2):
                    fragments(a, b, at_stage, warp_m, warp_n, row, 2 * k + half)
                    multiply(sums, a, b)

        cuda.syncthreads()
        for piece in range(MF):
            write_piece(piece, shared, sums, lane, warp)
            cuda.syncthreads()
            put(shared, 0, (output, bias, residual), (outputs, residuals), (group, o0, piece), thread, s, g)
            cuda.syncthreads()

    tensor_gemm_kernel.shared_bytes = max(STAGES * stage, (band if channels else BN) * pitch * 4)
    tensor_gemm_kernel.most_blocks = ALL_BLOCKS
    return tensor_gemm_kernel
