"""Depthwise convolution: a block stages the input of a tile in shared memory, and a thread sums ROWS outputs of a column.

The threads of a block are ``(x, y, z)``. Those along x work on neighbours in memory: on columns while y counts channels, or, with
channels last, on channels while y counts columns; z counts strips of ROWS rows (side by side, what strips read lies in the same
banks). For each plane ``kd`` of the kernel all threads bring the input that the tile reads, with its halo and padded, and the
weights to shared memory: by 16 bytes where memory allows, with several loads under way. Then each goes through the columns of
taps: it loads a column of inputs into registers, and uses each of them for up to TAPS sums. The simple case to read first: one
tile, one channel, TAPS = SPAN = 1.
"""

from functools import cache

from numba import cuda, int32, int64, uint64

from numbaconv.cuda import ptx, staging
from numbaconv.cuda.binary import factory
from numbaconv.cuda.geometry import STAGE_BYTES, ZEROS
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import at, epilogue, inside, source, split_32
from numbaconv.cuda.target import simulated

__all__ = ["depthwise"]

NOWHERE = -(2**63)
extent = inlined(staging.extent)
row_pitch = inlined(staging.row_pitch)
tap_place = inlined(staging.tap_place)
weight_pitch = inlined(staging.weight_pitch)
weight_space = inlined(staging.weight_space)


@inlined
def parts(number, size):
    """Into how many parts of a size so many, one or more, are cut."""
    return split_32(number + size - 1, size)[0]


@inlined
def tile_of(number, tiles, g):
    """Which image, channels, plane, rows, columns and output channel of a group a tile has."""
    rest, o = split_32(number, g.outs)
    rest, w = split_32(rest, tiles[2])
    rest, h = split_32(rest, tiles[1])
    rest, d = split_32(rest, g.out_d)
    n, c = split_32(rest, tiles[0])
    return n, c, d, h, w, o


@inlined
def load_one(pointer, index):
    return (pointer[index],)


@cache
def input_stager(compute, kind, many, under_way, where, last):
    """Return what brings a tile's input to shared memory, `many` neighbours of type `kind` at a time.

    `under_way` loads are begun before the first of them is stored; `where` says where padding reads from.
    """
    load = load_one if many == 1 else ptx.load_16_bytes
    held = under_way * many

    @inlined
    def place(strides, c, y, x, channels, g):
        """How far from an image's first element (c, y, x) lies, or NOWHERE: it is a zero."""
        y, x = int32(where(int32(y), int32(g.size_h), g.mode)), int32(where(int32(x), int32(g.size_w), g.mode))
        if c >= channels or y < 0 or x < 0:
            return int64(NOWHERE)
        return int64(c * strides[1] + y * strides[4] + x * strides[5])

    @inlined
    def stage(shared, to, input, first, strides, y0, x0, box, channels, thread, threads, g):
        """Stage a box of (channels, rows, columns) from row y0 and column x0 on, of which so many `channels` exist.

        It lies from shared[to] on in the order of (c, y, x) or, channels last, (y, x, c); input[first] is its first channel's.
        """
        values, unit = cuda.local.array(held, kind), cuda.local.array(many, compute)
        box_c, box_h, box_w = box
        units, lines = (box_c // many, box_w) if last else (box_w // many, box_h)
        total = int32(units * lines * (box_h if last else box_c))
        e0 = thread
        while e0 < total:  # and not range(), which divides to count
            for i in range(under_way):
                line, part = split_32(e0 + i * threads, units)
                outer, inner = split_32(line, lines)
                offset = int64(NOWHERE)
                if e0 + i * threads < total:
                    if last:
                        offset = place(strides, part * many, y0 + outer, x0 + inner, channels, g)
                    else:
                        offset = place(strides, outer, y0 + inner, x0 + part * many, channels, g)
                for v in range(many):
                    values[i * many + v] = 0
                if offset != NOWHERE:
                    found = load(input, first + offset)
                    for v in range(many):
                        values[i * many + v] = found[v]
            for i in range(under_way):
                e = int32(e0 + i * threads)
                if e < total:
                    for v in range(many):
                        unit[v] = compute(values[i * many + v])
                    for v in range(many):  # by themselves, so that they become vectors
                        shared[uint64(to + e * many + v)] = unit[v]
            e0 = int32(e0 + under_way * threads)

    return stage


@factory
def depthwise(compute, kind, many, ROWS, TAPS, SPAN, deep, last, activation=None):
    """Return the kernel that sums in type `compute` and applies a scalar function to the results.

    Inputs are held as type `kind` between memory and shared memory, and `many` of them are 16 bytes.
    TAPS and SPAN are the kernel's height and the stride along it, of problems without dilation there; or None: any.
    `deep` says that the kernel has several planes, `last` that channels are neighbours in memory, and not columns.
    """
    store = epilogue(compute, activation)
    fixed = TAPS is not None
    taps, span = (TAPS, SPAN) if fixed else (1, 1)
    taps_room = staging.padded(taps)
    COLUMN = (ROWS - 1) * span + taps
    under_way = max(1, min(4, 32 // many))
    stage_vectors = input_stager(compute, kind, many, under_way, inside, last)
    stage_elements = input_stager(compute, kind, 1, 4, inside, last)
    stage_padded = input_stager(compute, kind, 1, 1, source, last)
    elements = STAGE_BYTES // (compute.bitwidth // 8)
    alignment = None if simulated() else 16  # of vector loads and stores; the simulator knows none

    @inlined
    def in_vectors(input, strides, tile_c, g):
        """Whether each `many` neighbours that a tile stages are 16 aligned bytes of the input, or all of them padding."""
        rest = strides[0] | strides[3] | strides[4] | ptx.address_of(input) // (16 // many)
        if last:
            return g.mode == ZEROS and strides[1] == 1 and (rest | strides[5] | g.groups | tile_c) % many == 0
        return g.mode == ZEROS and strides[5] == 1 and (rest | strides[1] | g.size_w) % many == 0

    @inlined
    def stage_weight(shared, weight, strides, c0, o, kd, tile_c, pitch, thread, threads, g):
        """shared[c * pitch + tap_place(kh, kw)] = weight[c0 + c, o, 0, kd, kh, kw], or 0 past the last channel."""
        plane = int32(g.kernel_h * g.kernel_w)
        e = thread
        while e < tile_c * plane:
            c, tap = split_32(e, plane)
            kh, kw = split_32(tap, g.kernel_w)
            to = c * pitch + tap_place(kh, kw, g.kernel_w, taps, taps_room)
            if c0 + c < g.groups:
                shared[uint64(to)] = weight[at(strides, c0 + c, o, 0, kd, kh, kw)]
            else:
                shared[uint64(to)] = 0
            e = int32(e + threads)

    @inlined
    def multiply(sums, column, shared, weights, mine, step_y, step_x, g):
        """Add the products of a plane of taps; what the first of a thread's outputs reads first lies at `mine`."""
        row = step_y if fixed else int32(g.stride_h * step_y)
        for band in range(1 if fixed else g.kernel_h):
            for kw in range(g.kernel_w):
                first = int32(mine + band * g.dilation_h * step_y + kw * g.dilation_w * step_x)
                for i in range(COLUMN):
                    column[i] = shared[uint64(first + i * row)]
                for k in range(taps):
                    tap = shared[uint64(weights + tap_place(band * taps + k, kw, g.kernel_w, taps, taps_room))]
                    for r in range(ROWS):
                        # Padded zeros are multiplied too, so that an infinite weight makes NaN, as in all algorithms.
                        sums[r] = compute(sums[r] + column[r * span + k] * tap)

    def depthwise_kernel(input, weight, bias, residual, output, s, g):
        shared = cuda.shared.array(elements, compute, alignment)
        sums, column = cuda.local.array(ROWS, compute), cuda.local.array(COLUMN, compute)
        threads = int32(cuda.blockDim.x * cuda.blockDim.y * cuda.blockDim.z)
        thread = int32((cuda.threadIdx.z * cuda.blockDim.y + cuda.threadIdx.y) * cuda.blockDim.x + cuda.threadIdx.x)
        my_x, my_c, tile_w, tile_c = cuda.threadIdx.x, cuda.threadIdx.y, int32(cuda.blockDim.x), int32(cuda.blockDim.y)
        if last:
            my_x, my_c, tile_w, tile_c = my_c, my_x, tile_c, tile_w
        my_row, tile_h = int32(ROWS * cuda.threadIdx.z), int32(ROWS * cuda.blockDim.z)

        # No loop over tiles: what it does not change would stay in registers through all of it, half as many again.
        tiles = parts(g.groups, tile_c), parts(g.out_h, tile_h), parts(g.out_w, tile_w)
        if cuda.blockIdx.x >= g.batch * tiles[0] * g.out_d * tiles[1] * tiles[2] * g.outs:
            return
        n, c, d, h, w, o = tile_of(cuda.blockIdx.x, tiles, g)
        c0, h0, w0 = int32(c * tile_c), int32(h * tile_h), int32(w * tile_w)
        y0, x0 = int32(h0 * g.stride_h - g.low_h), int32(w0 * g.stride_w - g.low_w)

        rows = int32(extent(tile_h, g.kernel_h, g.stride_h, g.dilation_h))
        columns = int32(extent(tile_w, g.kernel_w, g.stride_w, g.dilation_w))
        before = int32(0)  # columns that are staged from a multiple of 16 bytes on
        step_c, step_y, step_x = int32(1), int32(columns * tile_c), tile_c
        if not last:
            columns, before = int32(row_pitch(columns, many)), int32(x0 & many - 1)
            step_c, step_y, step_x = int32(rows * columns), columns, int32(1)
        pitch = int32(weight_pitch(g.kernel_h, g.kernel_w, taps, taps_room))
        inputs = int32(weight_space(tile_c, pitch))
        mine = inputs + my_c * step_c + my_row * g.stride_h * step_y + (before + my_x * g.stride_w) * step_x
        box, x0 = (tile_c, rows, columns), int32(x0 - before)
        vectors = in_vectors(input, s.input, tile_c, g)

        for r in range(ROWS):
            sums[r] = 0
        for kd in range(g.kernel_d if deep else 1):
            z = source(d * g.stride_d + kd * g.dilation_d - g.low_d, g.size_d, g.mode)
            first = n * s.input[0] + c0 * s.input[1] + z * s.input[3]
            channels = int32(min(tile_c, g.groups - c0)) if z >= 0 else int32(0)
            cuda.syncthreads()
            stage_weight(shared, weight, s.weight, c0, o, kd, tile_c, pitch, thread, threads, g)
            if vectors:
                stage_vectors(shared, inputs, input, first, s.input, y0, x0, box, channels, thread, threads, g)
            elif g.mode == ZEROS:
                stage_elements(shared, inputs, input, first, s.input, y0, x0, box, channels, thread, threads, g)
            else:
                stage_padded(shared, inputs, input, first, s.input, y0, x0, box, channels, thread, threads, g)
            cuda.syncthreads()
            multiply(sums, column, shared, my_c * pitch, int32(mine), step_y, step_x, g)

        # Through shared memory: a loop over registers is unrolled or they spill, and an activation may be long.
        cuda.syncthreads()
        for r in range(ROWS):
            shared[uint64(r * threads + thread)] = sums[r]
        c, w = c0 + my_c, w0 + my_x
        if c < g.groups and w < g.out_w:
            for r in range(min(ROWS, g.out_h - h0 - my_row)):
                total = shared[uint64(r * threads + thread)]
                store(output, bias, residual, s, n, c, o, d, h0 + my_row + r, w, total, g)

    return depthwise_kernel
