"""Implicit GEMM on the tensor cores of sm_90a whose pixels lie in shared memory once, with their halo, for all taps.

Rows are positions of the padded images, counted line by line: so a tap reads what lies `shift` rows further on, and positions at
the end of a line, from where a tap would read the next, are computed in vain. The pixels' matrix has no swizzle, so that it may
begin at any row: the parts, of 16 bytes, of all rows lie together, one part's after the other's. A block keeps the weights of its
output channels in shared memory, and takes tile after tile of positions: while its warpgroups multiply 128 bytes of channels of
all taps, those that come next are on their way to a second place. The simple case to read first: one tile, few channels.
"""

from numba import cuda, float32, int32, int64, uint32

from numbaconv.cuda import ptx, warpgroup
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import HALO_BLOCKS, HALO_BYTES, PART, ZEROS
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import NOWHERE, inside, source, split_32
from numbaconv.cuda.kernels.results import storing
from numbaconv.cuda.kernels.warpgroup_tile import aligned, bytes_of_sums, pitch_of_sums
from numbaconv.cuda.storing import CHANNELS

__all__ = ["halo_gemm"]

PARTS = warpgroup.ROW // PART
K = warpgroup.BYTES_OF_K
place = inlined(warpgroup.place)


@inlined
def position_of(number, high, wide):
    """The image of a position of the padded images, and its line and column."""
    rest, x = split_32(number, wide)
    n, y = split_32(rest, high)
    return n, y, x


def copying(itemsize, threads, BM, N, mode):
    """Return what brings the rows of a tile, and what brings the weights. No bytes, no read."""
    read = inside if mode == ZEROS else source

    @inlined
    def bytes_left(chunk, part, g):
        """How many bytes of a part of 128 bytes of channels there are."""
        return int32(min(PART, max(0, g.channels * itemsize - chunk * warpgroup.ROW - part * PART)))

    @inlined
    def bring_pixels(to, input, tile, rows, size, thread, strides, g):
        """Bring a chunk of channels of all the rows of a tile ``(first position, group, chunk)``; images are of `size`."""
        (p0, group, chunk), (high, wide) = tile, size
        part, positions = thread % PARTS, int32(g.batch * high * wide)
        many = bytes_left(chunk, part, g)
        start = ptx.address_of(input) + group * strides[1] * itemsize + chunk * warpgroup.ROW + part * PART
        for r in range(thread // PARTS, rows, threads // PARTS):
            n, y, x = position_of(min(p0 + r, positions - 1), high, wide)
            y, x = read(int32(y - g.low_h), int32(g.size_h), mode), read(int32(x - g.low_w), int32(g.size_w), mode)
            there = y >= 0 and x >= 0 and p0 + r < positions
            at = start + (n * strides[0] + max(y, 0) * strides[4] + max(x, 0) * strides[5]) * itemsize
            ptx.copy_async_16(ptx.moved(to, (part * rows + r) * PART), at, uint32(many if there else 0))

    @inlined
    def bring_weights(to, weight, o0, group, taps, chunks, thread, g):
        """Bring those of all taps: for a chunk of channels and a tap a matrix whose rows are output channels."""
        tap_bytes = int32((g.channels * itemsize + PART - 1) // PART * PART)
        for e in range(thread, chunks * taps * N * PARTS, threads):
            part, row, number = e % PARTS, e // PARTS % N, e // (PARTS * N)
            chunk, tap = split_32(int32(number), taps)
            many = bytes_left(chunk, part, g) if o0 + row < g.outs else int32(0)
            at = ((int64(group) * g.outs + o0 + row) * taps + tap) * tap_bytes + chunk * warpgroup.ROW + part * PART
            where = ptx.address_of(weight) + (at if many > 0 else 0)
            ptx.copy_async_16(ptx.moved(to, number * N * warpgroup.ROW + place(row, part)), where, uint32(many))

    return bring_pixels, bring_weights


@factory
def halo_gemm(kind, warpgroups, N, mode, form, activation=None):
    """Return the kernel for numbers of a kind ("tf32", "f16" or "bf16"): tiles of 64 rows a warpgroup, and N columns."""
    itemsize = 4 if kind == "tf32" else 2
    BM, threads = warpgroup.M * warpgroups, warpgroup.THREADS * warpgroups
    product = warpgroup.products(kind, N)
    add, hold, zeros, settle, wait_for_products = product.add, product.hold, product.zeros, product.settle, product.wait_for_all
    bring_pixels, bring_weights = copying(itemsize, threads, BM, N, mode)
    wait = ptx.wait_for_all_but(0)
    pitch = pitch_of_sums(1, N, form)
    to_shared, row_step = (product.store_rows, pitch * 4) if form.along == CHANNELS else (product.store_columns, 4)
    sums_bytes = -(-bytes_of_sums(1, N, form) // warpgroup.EIGHT_ROWS) * warpgroup.EIGHT_ROWS
    whole = N * warpgroup.ROW  # bytes of the weights of a tap's chunk

    @inlined
    def row_of(r, piece):
        return piece * warpgroup.M + r

    put = storing(float32, activation, form, warpgroup.M, N, pitch, threads, row_of)

    @inlined
    def multiply(sums, a, b, plane):
        """Add the products of a chunk of channels of a tap, whose parts' rows are `plane` bytes apart."""
        sums = hold(sums)
        warpgroup.fence()
        left, right = warpgroup.descriptor_of_parts(a, plane), warpgroup.descriptor(b)
        sums = add(sums, left, right)
        sums = add(sums, warpgroup.further(left, 2 * plane), warpgroup.further(right, K))
        sums = add(sums, warpgroup.further(left, 4 * plane), warpgroup.further(right, 2 * K))
        sums = add(sums, warpgroup.further(left, 6 * plane), warpgroup.further(right, 3 * K))
        warpgroup.commit()
        return sums

    @inlined
    def find_rows(outputs, residuals, p0, group, size, thread, s, g):
        """outputs[r], residuals[r] = where the first channel of position p0 + r's result lies, or NOWHERE."""
        high, wide = size
        for r in range(thread, BM, threads):
            outputs[r] = NOWHERE
            n, y, x = position_of(p0 + r, high, wide)
            if n < g.batch and y < g.out_h and x < g.out_w:
                outputs[r] = n * s.output[0] + group * s.output[1] + y * s.output[4] + x * s.output[5]
                residuals[r] = n * s.residual[0] + group * s.residual[1] + y * s.residual[4] + x * s.residual[5]

    def halo_gemm_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(0, float32)
        outputs = cuda.shared.array(BM, int64)
        residuals = cuda.shared.array(BM, int64)
        thread, base = cuda.threadIdx.x, aligned(shared)
        skipped = (base - ptx.shared_address(shared)) // 4
        mine = thread // warpgroup.THREADS
        wide, high = int32(g.out_w + (g.kernel_w - 1) * g.dilation_w), int32(g.out_h + (g.kernel_h - 1) * g.dilation_h)
        down, size = int32(g.dilation_h * wide), (high, wide)
        rows = int32(BM + (g.kernel_h - 1) * down + (g.kernel_w - 1) * g.dilation_w | 1)  # odd: parts go to different banks
        plane = int32(rows * PART)
        tiles = int32((g.batch * high * wide + BM - 1) // BM)
        taps, chunks = int32(g.kernel_h * g.kernel_w), int32((g.channels * itemsize + warpgroup.ROW - 1) // warpgroup.ROW)
        weights = ptx.moved(base, sums_bytes)
        places = ptx.moved(weights, chunks * taps * whole)

        columns = int32((g.outs + N - 1) // N * g.groups)
        tile, column = split_32(int32(cuda.blockIdx.x), columns)
        stride, _ = split_32(int32(cuda.gridDim.x), columns)
        group, number = split_32(column, int32((g.outs + N - 1) // N))
        o0 = int32(number * N)
        bring_weights(weights, weight, o0, group, taps, chunks, thread, g)
        bring_pixels(places, input, (tile * BM, group, 0), rows, size, thread, s.input, g)
        ptx.commit()
        turn = int32(0)
        while tile < tiles:
            find_rows(outputs, residuals, int32(tile * BM), group, size, thread, s, g)
            sums, chunk = zeros(), int32(0)
            while True:  # at least once, as the loop in it: sums that may be zeros after one would make products wait
                wait()
                warpgroup.publish()
                cuda.syncthreads()
                a = ptx.moved(places, turn * PARTS * plane + mine * (warpgroup.M * PART))
                tap, shift, line = int32(0), int32(0), int32(0)
                while True:
                    b = ptx.moved(weights, (chunk * taps + tap) * whole)
                    sums = multiply(sums, ptx.moved(a, (line + shift) * PART), b, plane)
                    if tap == 0:
                        turn = int32(1 - turn)
                        coming, after = tile, int32(chunk + 1)
                        if after == chunks:
                            coming, after = int32(tile + stride), int32(0)
                        if coming < tiles:
                            to = ptx.moved(places, turn * PARTS * plane)
                            bring_pixels(to, input, (coming * BM, group, after), rows, size, thread, s.input, g)
                        ptx.commit()
                    tap, shift = int32(tap + 1), int32(shift + g.dilation_w)
                    if shift == g.kernel_w * g.dilation_w:
                        shift, line = int32(0), int32(line + down)
                    if tap == taps:
                        break
                wait_for_products()
                chunk = int32(chunk + 1)
                if chunk >= chunks:
                    break
            sums = settle(sums)

            for piece in range(warpgroups):
                if mine == piece:
                    to_shared(sums, base, uint32(pitch * 4), uint32(thread % warpgroup.THREADS))
                cuda.syncthreads()
                put(shared, skipped, (output, bias, residual), (outputs, residuals), (group, o0, piece), thread, s, g)
                cuda.syncthreads()
            tile = int32(tile + stride)

    halo_gemm_kernel.shared_bytes = HALO_BYTES
    halo_gemm_kernel.most_blocks = HALO_BLOCKS
    return halo_gemm_kernel
