"""A block computes a tile of output pixels for several output channels, from shared memory.

The threads of a block are ``(x, y, z)``: each sums ROWS pixels of column x, ``blockDim.y`` rows apart, for the z-th outs output
channels of the tile. For each plane ``kd`` of the kernel the block goes through the input channels, ``g.staged`` at a time: all
threads bring the part of the input that the tile reads (with its halo, padded) and the weights of those channels to shared
memory, then each adds up its products from there. The simple case to read first: one tile, one channel.
"""

from numba import cuda, uint64

from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import ROWS, SHARED_BYTES, outs_per_thread
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import at, epilogue, source
from numbaconv.cuda.target import simulated

__all__ = ["tiled"]


@inlined
def stage_input(staged, first, input, strides, n, group, c0, count, z, y0, x0, rows, columns, g):
    """staged[first + (c, i, j)] = input[n, group, c0 + c, z, y0 + i, x0 + j] for c < count, padded; staged is flat."""
    for c in range(cuda.threadIdx.z, count, cuda.blockDim.z):
        for i in range(cuda.threadIdx.y, rows, cuda.blockDim.y):
            y = source(y0 + i, g.size_h, g.mode)
            for j in range(cuda.threadIdx.x, columns, cuda.blockDim.x):
                x = source(x0 + j, g.size_w, g.mode)
                to = first + (c * rows + i) * columns + j
                if z >= 0 and y >= 0 and x >= 0:
                    staged[uint64(to)] = input[at(strides, n, group, c0 + c, z, y, x)]
                else:
                    staged[uint64(to)] = 0


@inlined
def stage_weight(staged, weight, strides, group, o0, tile_o, c0, count, kd, g):
    """staged[(c, kh, kw), o] = weight[group, o0 + o, c0 + c, kd, kh, kw] for c < count, o < tile_o, or 0 past the end."""
    for o in range(cuda.threadIdx.z * cuda.blockDim.y + cuda.threadIdx.y, tile_o, cuda.blockDim.z * cuda.blockDim.y):
        for tap in range(cuda.threadIdx.x, count * g.kernel_h * g.kernel_w, cuda.blockDim.x):
            rest, kw = tap // g.kernel_w, tap % g.kernel_w
            c, kh = rest // g.kernel_h, rest % g.kernel_h
            to = tap * tile_o + o
            if o0 + o < g.outs:
                staged[uint64(to)] = weight[at(strides, group, o0 + o, c0 + c, kd, kh, kw)]
            else:
                staged[uint64(to)] = 0


@factory
def tiled(compute, activation=None):
    """Return the kernel that sums in type `compute` and applies a scalar function to the results."""
    store = epilogue(compute, activation)
    itemsize = compute.bitwidth // 8
    elements = SHARED_BYTES // itemsize
    outs = outs_per_thread(itemsize)
    alignment = None if simulated() else 16  # of vector loads; the simulator knows none

    def tiled_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(elements, compute, alignment)
        sums = cuda.local.array((ROWS, outs), compute)
        column = cuda.local.array(ROWS, compute)

        tile_o, tile_h, tile_w = outs * cuda.blockDim.z, ROWS * cuda.blockDim.y, cuda.blockDim.x
        tiles_o, tiles_h, tiles_w = -(-g.outs // tile_o), -(-g.out_h // tile_h), -(-g.out_w // tile_w)
        rows = (tile_h - 1) * g.stride_h + (g.kernel_h - 1) * g.dilation_h + 1
        columns = (tile_w - 1) * g.stride_w + (g.kernel_w - 1) * g.dilation_w + 1
        inputs = g.staged * g.kernel_h * g.kernel_w * tile_o
        my_pixel = inputs + cuda.threadIdx.y * g.stride_h * columns + cuda.threadIdx.x * g.stride_w
        row_step = cuda.blockDim.y * g.stride_h * columns
        threads = cuda.blockDim.x * cuda.blockDim.y * cuda.blockDim.z
        thread = (cuda.threadIdx.z * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x

        for tile in range(cuda.blockIdx.x, g.batch * g.groups * g.out_d * tiles_h * tiles_w * tiles_o, cuda.gridDim.x):
            rest, o0 = tile // tiles_o, tile % tiles_o * tile_o
            rest, w0 = rest // tiles_w, rest % tiles_w * tile_w
            rest, h0 = rest // tiles_h, rest % tiles_h * tile_h
            rest, d = rest // g.out_d, rest % g.out_d
            n, group = rest // g.groups, rest % g.groups

            for r in range(ROWS):
                for o in range(outs):
                    sums[r, o] = 0
            for kd in range(g.kernel_d):
                z = source(d * g.stride_d + kd * g.dilation_d - g.low_d, g.size_d, g.mode)
                y0, x0 = h0 * g.stride_h - g.low_h, w0 * g.stride_w - g.low_w
                for c0 in range(0, g.channels, g.staged):
                    count = min(g.staged, g.channels - c0)
                    cuda.syncthreads()
                    stage_input(shared, inputs, input, s.input, n, group, c0, count, z, y0, x0, rows, columns, g)
                    stage_weight(shared, weight, s.weight, group, o0, tile_o, c0, count, kd, g)
                    cuda.syncthreads()
                    for c in range(count):
                        for kh in range(g.kernel_h):
                            for kw in range(g.kernel_w):
                                pixel = my_pixel + (c * rows + kh * g.dilation_h) * columns + kw * g.dilation_w
                                tap = (((c * g.kernel_h + kh) * g.kernel_w + kw) * cuda.blockDim.z + cuda.threadIdx.z) * outs
                                for r in range(ROWS):
                                    column[r] = shared[uint64(pixel + r * row_step)]
                                for o in range(outs):
                                    value = shared[uint64(tap + o)]
                                    for r in range(ROWS):
                                        sums[r, o] = compute(sums[r, o] + column[r] * value)

            # Through shared memory: a loop over registers is unrolled or they spill, and an activation may be long.
            cuda.syncthreads()
            for r in range(ROWS):
                for o in range(outs):
                    shared[uint64((r * outs + o) * threads + thread)] = sums[r, o]
            w = w0 + cuda.threadIdx.x
            for k in range(ROWS * outs):
                h = h0 + k // outs * cuda.blockDim.y + cuda.threadIdx.y
                o = o0 + cuda.threadIdx.z * outs + k % outs
                if w < g.out_w and h < g.out_h and o < g.outs:
                    store(output, bias, residual, s, n, group, o, d, h, w, shared[uint64(k * threads + thread)], g)

    return tiled_kernel
