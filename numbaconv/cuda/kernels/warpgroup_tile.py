"""What blocks of warpgroups do with a stage of operands in shared memory, and with their sums."""

from functools import cache

from numba import cuda, float32, uint32, uint64

from numbaconv.cuda import ptx, warpgroup
from numbaconv.cuda.kernels.results import results

__all__ = ["aligned", "bytes_of_sums", "warpgroup_tile"]

further, K = warpgroup.further, warpgroup.BYTES_OF_K


@cuda.jit(device=True, inline="always")
def aligned(shared):
    """The first address of shared memory at which a matrix may begin."""
    begin = ptx.shared_address(shared)
    return ptx.moved(begin, -begin & warpgroup.EIGHT_ROWS - 1)


def _pitch(N):
    """Floats from a row of sums to the next, so that threads which store together store to different banks."""
    return N + 8


def bytes_of_sums(warpgroups, N):
    """Shared memory that the sums take on their way."""
    return warpgroup.M * warpgroups * _pitch(N) * 4


@cache
def warpgroup_tile(kind, warpgroups, N, activation):
    """Return three functions for tiles of 64 rows a warpgroup, and N columns.

    ``find_rows`` is that of ``results``; ``multiply(sums, stage)`` begins the products of a stage, the rows of A and after them
    those of B, 128 bytes each; ``store`` writes the sums to the output, through shared memory, so that neighbouring threads store
    neighbours.
    """
    BM, threads, pitch = warpgroup.M * warpgroups, warpgroup.THREADS * warpgroups, _pitch(N)
    product = warpgroup.products(kind, N)
    add, hold, to_shared = product.add, product.hold, product.store
    find_rows, put = results(float32, activation, BM, threads)

    @cuda.jit(device=True, inline="always")
    def multiply(sums, stage):
        sums = hold(sums)
        warpgroup.fence()
        rows = cuda.threadIdx.x // warpgroup.THREADS * warpgroup.M
        a = warpgroup.descriptor(ptx.moved(stage, rows * warpgroup.ROW))
        b = warpgroup.descriptor(ptx.moved(stage, BM * warpgroup.ROW))
        sums = add(sums, a, b)
        sums = add(sums, further(a, K), further(b, K))
        sums = add(sums, further(a, 2 * K), further(b, 2 * K))
        sums = add(sums, further(a, 3 * K), further(b, 3 * K))
        warpgroup.commit()
        return sums

    @cuda.jit(device=True, inline="always")
    def store(sums, shared, output, bias, residual, outputs, residuals, group, o0, s, g):
        base, thread = aligned(shared), cuda.threadIdx.x
        skipped = (base - ptx.shared_address(shared)) // 4
        rows = thread // warpgroup.THREADS * warpgroup.M
        to_shared(sums, ptx.moved(base, rows * pitch * 4), uint32(pitch * 4), uint32(thread % warpgroup.THREADS))
        cuda.syncthreads()
        for e in range(thread, BM * N, threads):
            r, c = e // N, e % N
            if s.output[2] != 1:
                r, c = e % BM, e // BM
            value = shared[uint64(skipped + r * pitch + c)]
            put(output, bias, residual, outputs, residuals, r, group, o0 + c, value, s, g)

    return find_rows, multiply, store
