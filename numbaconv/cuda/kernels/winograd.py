"""Winograd's algorithm around a batched product: tiles of input, of weights and of products, a thread a tile of a channel.

F(m x m, 3 x 3) makes an m x m tile of outputs of an n x n tile of inputs, n = m + 2, by n * n products a pair of channels, which
are as many matrix products over all tiles (Lavin and Gray, arXiv:1509.09308). A thread holds its tile in registers. What the
kernels hand on lies element by element, then group by group: ``[element, group, channel, tile]``. The simple case to read first:
one image, one group.
"""

from numba import cuda, float32, float64, int32, int64, uint64

from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import LANES_OF_CHANNELS, SECTOR, THREADS_OF_TILES
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import at, epilogue, source, split_32
from numbaconv.cuda.transforms import sandwich
from numbaconv.toom import Filter, transforms

__all__ = ["input_transform", "output_transform", "weight_transform"]

TAPS = 3


@inlined
def pair(number, together, channels):
    """Count `together` neighbours for each channel, then the next ones: the number of the neighbour, and the channel."""
    rest, low = split_32(number, together)
    high, channel = split_32(rest, channels)
    return high * together + low, channel


@inlined
def corner(tile, m, t):
    """The image of a tile, and the place of its first output there."""
    line, column = split_32(tile, t.wide)
    n, row = split_32(line, t.high)
    return n, row * m, column * m


@factory
def input_transform(m, mode):
    """Return the kernel that transforms the input, padded in a mode, of the tiles from t.first on."""
    axis = Filter(m, TAPS)
    n = axis.products
    elements = n * n
    transform = sandwich(transforms(axis)[2], n)

    def input_transform_kernel(input, values, strides, g, t, together):
        tile = cuda.local.array(elements, float32)
        y, x = cuda.local.array(n, int32), cuda.local.array(n, int32)
        rows, columns = cuda.local.array(n, int64), cuda.local.array(n, int64)
        channels = g.groups * g.channels
        for index in range(cuda.grid(1), -(-t.many // together) * together * channels, cuda.gridsize(1)):
            number, c = pair(index, together, channels)
            if number < t.many:
                image, h0, w0 = corner(t.first + number, m, t)
                group, channel = split_32(c, g.channels)
                first = at(strides, image, group, channel, 0, 0, 0)
                for i in range(n):
                    y[i] = source(h0 + i - g.low_h, g.size_h, mode)
                    x[i] = source(w0 + i - g.low_w, g.size_w, mode)
                    rows[i], columns[i] = first + y[i] * strides[4], x[i] * strides[5]
                for i in range(n):
                    for j in range(n):
                        tile[i * n + j] = 0
                        if y[i] >= 0 and x[j] >= 0:
                            tile[i * n + j] = input[rows[i] + columns[j]]
                transform(tile)
                to, plane = int64(c) * t.pitch + number, channels * t.pitch
                for e in range(elements):
                    values[to + e * plane] = tile[e]

    return input_transform_kernel


@factory
def weight_transform(m):
    """Return the kernel that transforms weights, in float64, to ``[element, group, channel, output channel]``."""
    axis = Filter(m, TAPS)
    n = axis.products
    elements = n * n
    transform = sandwich(transforms(axis)[1], n)

    def weight_transform_kernel(weight, target, strides, g):
        tile = cuda.local.array(elements, float64)
        channels = g.groups * g.channels
        for index in range(cuda.grid(1), -(-g.outs // SECTOR) * SECTOR * channels, cuda.gridsize(1)):
            o, c = pair(index, SECTOR, channels)
            if o < g.outs:
                group, channel = split_32(c, g.channels)
                for i in range(TAPS):
                    for j in range(TAPS):
                        tile[i * n + j] = weight[at(strides, group, o, channel, 0, i, j)]
                transform(tile)
                for e in range(elements):
                    target[(e * channels + c) * g.outs + o] = tile[e]

    return weight_transform_kernel


@factory
def output_transform(m, channels_last, activation=None):
    """Return the kernel that transforms the products of tiles, applies a scalar function and stores the results.

    Neighbouring threads read the products of neighbouring tiles, and exchange results through shared memory, so as to store
    neighbours too: of channels where those come last, else of columns, of which a thread has those of m channels then.
    """
    store = epilogue(float32, activation)
    axis = Filter(m, TAPS)
    n = axis.products
    elements = n * n
    transform = sandwich(transforms(axis)[0], n)
    deep = LANES_OF_CHANNELS if channels_last else m
    across = THREADS_OF_TILES // deep
    pitch = across + 1  # so that what a warp reads lies in many banks
    shared_size = m * m * deep * pitch

    def output_transform_kernel(products, bias, residual, output, s, g, t):
        shared = cuda.shared.array(shared_size, float32)
        tile = cuda.local.array(elements, float32)
        thread = cuda.threadIdx.x
        plane = g.groups * g.outs * t.pitch
        lots_o, lots_t = -(-g.outs // deep), -(-t.many // across)
        for block in range(cuda.blockIdx.x, g.groups * lots_o * lots_t, cuda.gridDim.x):
            rest, lot_t = split_32(block, lots_t)
            group, lot_o = split_32(rest, lots_o)
            c, number = thread // across, lot_t * across + thread % across
            if number < t.many and lot_o * deep + c < g.outs:
                first = (int64(group) * g.outs + lot_o * deep + c) * t.pitch + number
                for e in range(elements):
                    tile[e] = products[first + e * plane]
                transform(tile)
                for i in range(m):
                    for j in range(m):
                        shared[uint64(((i * m + j) * deep + c) * pitch + thread % across)] = tile[i * n + j]
            cuda.syncthreads()

            number = lot_t * across + thread // deep
            image, h0, w0 = corner(t.first + number, m, t)
            for a in range(m):
                for b in range(m):
                    i, j, c = (a, b, thread % deep) if channels_last else (b, thread % deep, a)
                    o, h, w = lot_o * deep + c, h0 + i, w0 + j
                    if number < t.many and o < g.outs and h < g.out_h and w < g.out_w:
                        total = shared[uint64(((i * m + j) * deep + c) * pitch + thread // deep)]
                        store(output, bias, residual, s, image, group, o, 0, h, w, total, g)
            cuda.syncthreads()

    return output_transform_kernel
