"""Copying matrices whose columns lie together in the source and whose rows lie together in the target.

A block reads a tile along its columns, and writes it along its rows from shared memory, ``shared[column * pitch + row]``. Tiles
have ``1 << TILE_BITS`` elements, and are as high and wide as the matrix asks for, but neither side is longer than a block has
threads. So a thread reads parts of one row, and writes parts of columns side by side. The simple case to read first: many = 1,
three axes.
"""

from numba import cuda, int32, int64, uint32

from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import BANKS, THREADS_OF_COPY, TILE_BITS
from numbaconv.cuda.kernels.common import split_32
from numbaconv.cuda.kernels.copy import beginning, conversion, movers

__all__ = ["transpose"]


@factory
def transpose(kind, many=1, conjugate=False, boolean=False):
    """Return the kernel that copies as :func:`copy` does, and stores `many` neighbours at a time.

    The last two axes are the rows and the columns. Tiles are ``1 << bits`` rows high, and there are so many of them.
    """
    convert = conversion(kind, conjugate, boolean)
    load, _ = movers(kind, 1)
    _, store = movers(kind, many)
    each, space = (1 << TILE_BITS) // THREADS_OF_COPY, (1 << TILE_BITS) + max(THREADS_OF_COPY, BANKS)
    stores = each // many

    def transpose_kernel(target, source, layout, bits, tiles):
        shared, values = cuda.shared.array(space, kind), cuda.local.array(each, kind)
        axes = len(layout.shape) - 2
        rows, columns = int32(layout.shape[axes]), int32(layout.shape[axes + 1])
        row_to, column_to = layout.target[axes], layout.target[axes + 1]
        row_of, column_of = layout.source[axes], layout.source[axes + 1]

        bits, wide_bits = int32(bits), int32(TILE_BITS - bits)
        high, wide = int32(1 << bits), int32(1 << wide_bits)
        down, across = (rows + high - 1) >> bits, (columns + wide - 1) >> wide_bits
        # Threads that read neighbours of a row, or of several short ones, do so from different banks.
        pitch = int32(high + max(1, BANKS >> wide_bits))
        thread = int32(cuda.threadIdx.x)
        row_in, column_in, columns_on = thread & high - 1, thread >> bits, int32(THREADS_OF_COPY >> bits)
        row_out, column_out, rows_on = thread * many >> wide_bits, thread * many & wide - 1, THREADS_OF_COPY * many >> wide_bits
        row_out, column_out, rows_on = int32(row_out), int32(column_out), int32(rows_on)
        step_of, step_to = columns_on * column_of, rows_on * row_to

        tile = int64(cuda.blockIdx.x)
        while tile < tiles:
            rest, x = split_32(tile, across)
            rest, y = split_32(rest, down)
            to, of = beginning(rest, axes, layout)
            row, column = int32((y << bits) + row_in), int32((x << wide_bits) + column_in)
            of += row * row_of + column * column_of
            for i in range(each):
                if row < rows and column < columns:
                    load(source, of, row_of, 1, values, i)
                column, of = int32(column + columns_on), of + step_of
            cuda.syncthreads()  # for the tile before this one
            place = int32(column_in * pitch + row_in)
            for i in range(each):
                shared[uint32(place)] = convert(values[i])
                place = int32(place + columns_on * pitch)
            cuda.syncthreads()
            row, column = int32((y << bits) + row_out), int32((x << wide_bits) + column_out)
            to += row * row_to + column * column_to
            place = int32(column_out * pitch + row_out)
            for _ in range(stores):
                for v in range(many):
                    values[v] = shared[uint32(place + v * pitch)]
                if row < rows and column < columns:
                    store(target, to, column_to, int32(columns - column), values, 0)
                row, place, to = int32(row + rows_on), int32(place + rows_on), to + step_to
            tile += cuda.gridDim.x

    return transpose_kernel
