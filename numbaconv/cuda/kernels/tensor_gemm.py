"""Implicit GEMM on tensor cores: as ``implicit_gemm.py``, with products of fragments in place of products of numbers.

Rows of A are output pixels, columns of B output channels, and a step is 64 bytes of input channels of one tap or of several.
Both matrices lie in memory with 16 bytes of channels together, which is what a thread copies, asynchronously, for STAGES - 1
steps ahead; padding, and channels beyond the last, are bytes that the copy fills with zeros. In shared memory the four parts of
a row are exchanged by its number, so that the eight rows which ``ldmatrix`` reads at once lie in different banks. The simple
case to read first: one warp, one fragment.
"""

from functools import cache

from numba import cuda, float32, int32, int64, uint32, uint64

from numbaconv.cuda import mma, ptx
from numbaconv.cuda.geometry import ROW_BYTES, STAGES
from numbaconv.cuda.kernels.common import epilogue, pixel, source
from numbaconv.cuda.target import simulated

__all__ = ["tensor_gemm"]

PART = 16  # bytes that are copied together
PARTS = ROW_BYTES // PART
c_place = cuda.jit(device=True, inline="always")(mma.c_place)
matrix_row = cuda.jit(device=True, inline="always")(mma.matrix_row)


@cuda.jit(device=True, inline="always")
def place(row, part):
    """Where a part of a row lies in a stage."""
    return row * ROW_BYTES + (part ^ (row // 2 & PARTS - 1)) * PART


@cuda.jit(device=True, inline="always")
def tap_of(position, parts, g):
    """The tap that the part at a position of a row of A belongs to, as kd, kh, kw, and its number among the tap's parts."""
    rest, part = position // parts, position % parts
    rest, kw = rest // g.kernel_w, rest % g.kernel_w
    return rest // g.kernel_h, rest % g.kernel_h, kw, part


@cache
def tensor_gemm(kind, itemsize, warps_m, warps_n, MF, NF, activation=None):
    """Return the kernel for numbers of a kind (``"tf32"`` or ``"f16"``): warps_m x warps_n warps of MF x NF fragments each."""
    store = epilogue(float32, activation)
    product = {"tf32": ptx.mma_tf32, "f16": ptx.mma_f16}[kind]
    wait = ptx.wait_for_all_but(STAGES - 2)
    rounds = kind == "tf32"
    threads = mma.LANES * warps_m * warps_n
    BM, BN = mma.M * MF * warps_m, mma.N * NF * warps_n
    loads_a, loads_b, rows = BM * PARTS // threads, BN * PARTS // threads, threads // PARTS
    stage = (BM + BN) * ROW_BYTES
    words = STAGES * stage // 4
    many = PART // itemsize  # channels of a part
    alignment = None if simulated() else 128  # of what is copied by 16 bytes; the simulator knows none
    band, pitch = mma.M * warps_m, BN + 4  # of the sums on their way out

    @cuda.jit(device=True, inline="always")
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

    @cuda.jit(device=True, inline="always")
    def multiply(sums, a, b):
        for i in range(MF):
            for j in range(NF):
                sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3] = product(
                    a[i, 0], a[i, 1], a[i, 2], a[i, 3], b[j, 0], b[j, 1],
                    sums[i, j, 0], sums[i, j, 1], sums[i, j, 2], sums[i, j, 3],
                )  # fmt: skip

    def tensor_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(words, uint32, alignment)
        sums = cuda.local.array((MF, NF, 4), float32)
        a, b = cuda.local.array((MF, 4), uint32), cuda.local.array((NF, 2), uint32)
        first, z0 = cuda.local.array(loads_a, int64), cuda.local.array(loads_a, int32)
        y0, x0 = cuda.local.array(loads_a, int32), cuda.local.array(loads_a, int32)
        thread = cuda.threadIdx.x
        lane, warp = thread & mma.LANES - 1, thread // mma.LANES
        warp_m, warp_n = warp // warps_n, warp % warps_n
        row, half = matrix_row(lane)
        my_row, my_part = thread // PARTS, thread & PARTS - 1
        memory, weights, base = ptx.address_of(input), ptx.address_of(weight), ptx.shared_address(shared)
        pixels = g.batch * g.out_d * g.out_h * g.out_w
        tiles_m, tiles_n = -(-pixels // BM), -(-g.outs // BN)
        parts = -(-g.channels // many)
        total = g.kernel_d * g.kernel_h * g.kernel_w * parts
        steps = -(-total // PARTS)

        for tile in range(cuda.blockIdx.x, g.splits * g.groups * tiles_m * tiles_n, cuda.gridDim.x):
            rest, o0 = tile // tiles_n, tile % tiles_n * BN
            rest, m0 = rest // tiles_m, rest % tiles_m * BM
            split, group = rest // g.groups, rest % g.groups
            begin, end = split * steps // g.splits, (split + 1) * steps // g.splits
            for i in range(loads_a):
                n, d, h, w = pixel(min(m0 + my_row + i * rows, pixels - 1), g)
                first[i] = n * s.input[0] + group * s.input[1]
                z0[i] = d * g.stride_d - g.low_d
                y0[i] = h * g.stride_h - g.low_h
                x0[i] = w * g.stride_w - g.low_w
            for i in range(MF):
                for j in range(NF):
                    for k in range(4):
                        sums[i, j, k] = float32(0)

            for now in range(begin + 1 - STAGES, end):
                coming = now + STAGES - 1
                if now >= begin:
                    wait()
                    cuda.syncthreads()
                if coming < end:
                    position = coming * PARTS + my_part
                    kd, kh, kw, part = tap_of(min(position, total - 1), parts, g)
                    size = min(PART, (g.channels - part * many) * itemsize) if position < total else 0
                    to = ptx.moved(base, coming % STAGES * stage)
                    for i in range(loads_a):
                        z = source(z0[i] + kd * g.dilation_d, g.size_d, g.mode)
                        y = source(y0[i] + kh * g.dilation_h, g.size_h, g.mode)
                        x = source(x0[i] + kw * g.dilation_w, g.size_w, g.mode)
                        inside = z >= 0 and y >= 0 and x >= 0
                        at = first[i] + part * many
                        if inside:
                            at += z * s.input[3] + y * s.input[4] + x * s.input[5]
                        count = size if inside else 0
                        origin = memory + at * itemsize if count else memory
                        ptx.copy_async_16(ptx.moved(to, place(my_row + i * rows, my_part)), origin, uint32(count))
                    for i in range(loads_b):
                        o = o0 + my_row + i * rows
                        count = size if o < g.outs else 0
                        at = ((int64(group) * g.outs + o) * total + position) * PART
                        origin = weights + at if count else weights
                        ptx.copy_async_16(
                            ptx.moved(to, BM * ROW_BYTES + place(my_row + i * rows, my_part)), origin, uint32(count)
                        )
                ptx.commit()
                if now >= begin:
                    at_stage = ptx.moved(base, now % STAGES * stage)
                    for k in range(PARTS // 2):
                        fragments(a, b, at_stage, warp_m, warp_n, row, 2 * k + half)
                        multiply(sums, a, b)

            # Through shared memory, a row of fragments at a time, so that neighbouring threads store neighbours.
            for i in range(MF):
                cuda.syncthreads()
                for j in range(NF):
                    for k in range(4):
                        r, c = c_place(lane, k)
                        at = (warp_m * mma.M + r) * pitch + (warp_n * NF + j) * mma.N + c
                        shared[uint64(at)] = ptx.float_bits(sums[i, j, k])
                cuda.syncthreads()
                for e in range(thread, band * BN, threads):
                    r, c = e // BN, e % BN
                    if s.output[2] != 1:
                        r, c = e % band, e // band
                    m = m0 + (r // mma.M * MF + i) * mma.M + r % mma.M
                    if m < pixels and o0 + c < g.outs:
                        n, d, h, w = pixel(m, g)
                        value = ptx.bits_float(shared[uint64(r * pitch + c)])
                        store(output, bias, residual, s, n + split * g.batch, group, o0 + c, d, h, w, value, g)
            cuda.syncthreads()

    return tensor_gemm_kernel
