"""What blocks of warpgroups do with a stage of operands in shared memory, and with their sums."""

from functools import cache

from numba import cuda, float32, uint32

from numbaconv.cuda import ptx, warpgroup
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.results import rows_of, storing
from numbaconv.cuda.storing import CHANNELS

__all__ = ["aligned", "bytes_of_sums", "pitch_of_sums", "warpgroup_tile"]

further, K = warpgroup.further, warpgroup.BYTES_OF_K


@inlined
def aligned(shared):
    """The first address of shared memory at which a matrix may begin."""
    begin = ptx.shared_address(shared)
    return ptx.moved(begin, -begin & warpgroup.EIGHT_ROWS - 1)


def _lines(rows, N, form):
    """How the sums of so many rows lie on their way: their lines, and the floats from one to the next.

    With these distances threads which store together store to different banks.
    """
    return (rows, N + 8) if form.along == CHANNELS else (N, rows + 4)


def pitch_of_sums(warpgroups, N, form):
    """The floats from one line of sums to the next."""
    return _lines(warpgroup.M * warpgroups, N, form)[1]


def bytes_of_sums(warpgroups, N, form):
    """Shared memory that the sums take on their way."""
    lines, pitch = _lines(warpgroup.M * warpgroups, N, form)
    return lines * pitch * 4


@cache
def warpgroup_tile(kind, warpgroups, N, form, activation, number=0):
    """Return three functions for tiles of 64 rows a warpgroup, and N columns. The warpgroups meet at a barrier by its number.

    ``find_rows`` is that of ``results``; ``multiply(sums, stage)`` begins the products of a stage, the rows of A and after them
    those of B, 128 bytes each; ``store`` writes the sums to the output in a form, through shared memory.
    """
    BM, threads = warpgroup.M * warpgroups, warpgroup.THREADS * warpgroups
    pitch = pitch_of_sums(warpgroups, N, form)
    product = warpgroup.products(kind, N)
    add, hold = product.add, product.hold
    to_shared, row_step = (product.store_rows, pitch * 4) if form.along == CHANNELS else (product.store_columns, 4)
    meet = ptx.meeting(number, threads)
    find_rows = rows_of(BM, threads)
    put = storing(float32, activation, form, BM, N, pitch, threads)

    @inlined
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

    @inlined
    def store(sums, shared, arrays, places, group, o0, s, g):
        base, thread = aligned(shared), cuda.threadIdx.x
        skipped = (base - ptx.shared_address(shared)) // 4
        rows = thread // warpgroup.THREADS * warpgroup.M
        to_shared(sums, ptx.moved(base, rows * row_step), uint32(pitch * 4), uint32(thread % warpgroup.THREADS))
        meet()
        put(shared, skipped, arrays, places, (group, o0, 0), thread, s, g)

    return find_rows, multiply, store
