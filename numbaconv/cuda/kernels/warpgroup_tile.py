"""What blocks of warpgroups do with a stage of operands in shared memory, and with their sums."""

from functools import cache

from numba import cuda, float32, int32, uint32

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


def _lines(rows, columns, form):
    """How a rectangle of sums lies on its way: its lines, and the floats from one to the next.

    With these distances threads which store together store to different banks.
    """
    return (rows, columns + 8) if form.along == CHANNELS else (columns, rows + 4)


def pitch_of_sums(warpgroups, columns, form):
    """The floats from one line of sums to the next."""
    return _lines(warpgroup.M * warpgroups, columns, form)[1]


def bytes_of_sums(warpgroups, columns, form):
    """Shared memory that so many columns of sums take on their way."""
    lines, pitch = _lines(warpgroup.M * warpgroups, columns, form)
    return lines * pitch * 4


@cache
def warpgroup_tile(kind, warpgroups, N, form, activation, number=0, columns=None):
    """Return three functions for tiles of 64 rows a warpgroup, and N columns. The warpgroups meet at a barrier by its number.

    ``find_rows`` is that of ``results``; ``multiply(sums, stage)`` begins the products of a stage, the rows of A and after them
    those of B, 128 bytes each; ``store`` writes the sums to the output in a form, through shared memory from an address on, all
    columns at once or so many; the corner is the tile's group and its first output channel.
    """
    BM, threads, columns = warpgroup.M * warpgroups, warpgroup.THREADS * warpgroups, columns or N
    assert N % columns == 0, "whole pieces"
    pitch, pieces, sums_of_piece = pitch_of_sums(warpgroups, columns, form), N // columns, columns // 2
    product, part = warpgroup.products(kind, N), warpgroup.products(kind, columns)
    add, hold = product.add, product.hold
    to_shared, row_step = (part.store_rows, pitch * 4) if form.along == CHANNELS else (part.store_columns, 4)
    meet = ptx.meeting(number, threads)
    find_rows = rows_of(BM, threads)
    put = storing(float32, activation, form, BM, columns, pitch, threads)

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

    def storing_from(piece):
        """Return what stores the columns of a piece and those after it: one after the other, their sums make room."""
        first, last = piece * sums_of_piece, (piece + 1) * sums_of_piece
        rest = storing_from(piece + 1) if piece + 1 < pieces else None

        @inlined
        def store(sums, shared, at, arrays, places, corner, s, g):
            group, o0 = corner
            thread, o = int32(ptx.this_thread()), o0 + piece * columns
            rows = thread // warpgroup.THREADS * warpgroup.M
            to_shared(sums[first:last], ptx.moved(at, rows * row_step), uint32(pitch * 4), uint32(thread % warpgroup.THREADS))
            meet()
            put(shared, (at - ptx.shared_address(shared)) // 4, arrays, places, (group, o, 0), thread, s, g)
            if rest is not None and o + columns < g.outs:
                meet()
                rest(sums, shared, at, arrays, places, corner, s, g)

        return store

    return find_rows, multiply, storing_from(0)
