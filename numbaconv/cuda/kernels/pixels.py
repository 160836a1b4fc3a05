"""How a block of implicit GEMM brings the pixels of a step: KC channels of one tap, or KC of a list of the channels of all taps.

Both are a number of addresses, a thread's, and three functions. ``find`` notes of the tile's pixels, in shared memory, where they
begin to read. ``begin`` finds the addresses from which a thread reads with a tap, or with any of the list. ``bring`` brings its
elements of a step: (k, m) of the tile is the k-th channel of pixel m. They are handed a thread's `state`, two local arrays: the
addresses, and what is noted of each.
"""

from numba import cuda, int32, int64, uint32, uint64

from numbaconv.cuda import ptx
from numbaconv.cuda.geometry import KC, TAP_BITS, ZEROS
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.kernels.common import inside, pixel_32, source, split_32

__all__ = ["pixels_by_tap", "pixels_of_list"]

END = 1 << TAP_BITS  # of a list's entries after the last: no pixel reads with them


def copying(compute, asynchronous, many):
    """Return what puts `many` elements in the place of shared memory, or zeros. Addresses count bytes, or else elements."""
    itemsize = compute.bitwidth // 8
    copy = {4: ptx.copy_async_4, 8: ptx.copy_async_8, 16: ptx.copy_async_16}.get(many * itemsize)

    @inlined
    def put(to, place, input, where, there):
        shared, base = to
        if asynchronous:
            copy(ptx.moved(base, place * itemsize), where, uint32(many * itemsize if there else 0))
        else:
            shared[uint64(place)] = compute(input[where]) if there else compute(0)

    return put


def places(BM, threads, pitch, channels_last, many):
    """Where a thread's elements lie: how often it brings some, of how many pixels, and what is between two times.

    That is channels of the step, pixels, and elements of the tile; and a function from a thread to the first one's (k, m).
    """
    lines = BM // many

    @inlined
    def first(thread):
        return (thread % KC, thread // KC) if channels_last else (thread // lines, thread % lines * many)

    loads = -(-KC * lines // threads)
    channels, pixels = (0, threads // KC) if channels_last else (threads // lines, 0)
    return loads, loads if channels_last else 1, channels, pixels, channels * pitch + pixels, first


def pixels_by_tap(compute, BM, threads, pitch, mode, channels_last, asynchronous, many):
    """Return the functions for steps of one tap. What is noted of an address is how many channels are left from there on."""
    loads, pixels_of_thread, channels_apart, pixels_apart, apart, first = places(BM, threads, pitch, channels_last, many)
    put = copying(compute, asynchronous, many)
    scale = compute.bitwidth // 8 if asynchronous else 1
    all_bring = KC * BM // many % threads == 0
    read = inside if mode == ZEROS else source

    @inlined
    def find(tables, m0, pixels, group, thread, s, g):
        """images[r], corners[:, r] = where the image of pixel m0 + r begins, and the first coordinates that the pixel reads."""
        images, corners, _ = tables
        for r in range(thread, BM, threads):
            n, d, h, w = pixel_32(min(m0 + r, pixels - many), g)
            images[r] = n * s.input[0] + group * s.input[1]
            corners[0, r], corners[1, r] = d * g.stride_d - g.low_d, h * g.stride_h - g.low_h
            corners[2, r] = w * g.stride_w - g.low_w

    @inlined
    def begin(state, tables, tap, c0, start, thread, strides, g):
        """at[i] = where a thread's i-th pixel reads with a tap, from c0 on; left[i] = channels from there on, none of zeros."""
        (at, left), (images, corners, _) = state, tables
        rest, kw = split_32(tap, g.kernel_w)
        kd, kh = split_32(rest, g.kernel_h)
        k, m = first(thread)
        for i in range(pixels_of_thread):
            r = m + i * pixels_apart
            z = read(int32(corners[0, r] + kd * g.dilation_d), int32(g.size_d), mode)
            y = read(int32(corners[1, r] + kh * g.dilation_h), int32(g.size_h), mode)
            x = read(int32(corners[2, r] + kw * g.dilation_w), int32(g.size_w), mode)
            place = images[r] + z * strides[3] + y * strides[4] + x * strides[5] + (c0 + k) * strides[2]
            at[i] = start + place * scale
            left[i] = g.channels - c0 - k
            if z < 0 or y < 0 or x < 0:
                left[i] = 0

    @inlined
    def bring(to, place, input, state, tables, row, thread, channel):
        """Bring what is left of a step's channels, which are `channel` apart, and go on to the next ones."""
        at, left = state
        k, m = first(thread)
        for i in range(loads):
            pixel = i if channels_last else 0
            there = int32(i * channels_apart) < left[pixel]
            if all_bring or k + i * channels_apart < KC:
                put(to, int32(place + k * pitch + m) + i * apart, input, at[pixel] + i * channels_apart * channel, there)
        for i in range(pixels_of_thread):
            at[i] += KC * channel
            left[i] -= KC

    return pixels_of_thread, find, begin, bring


def pixels_of_list(compute, BM, threads, pitch, channels_last, asynchronous):
    """Return the functions for steps of KC entries of a list, each an offset and the bits of its tap's three coordinates.

    What is noted of an address are the bits of the coordinates with which the pixel reads padding, zeros.
    """
    loads, pixels_of_thread, channels_apart, pixels_apart, apart, first = places(BM, threads, pitch, channels_last, 1)
    entries_of_thread = 1 if channels_last else loads
    put = copying(compute, asynchronous, 1)
    scale = compute.bitwidth // 8 if asynchronous else 1

    @inlined
    def outside(low, size, kernel, dilation, bit):
        """The bits, from one on, of the coordinates of a kernel with which an axis is left."""
        bits = int32(0)
        for k in range(kernel):
            if inside(low + k * dilation, size, ZEROS) < 0:
                bits |= int32(1 << bit + k)
        return bits

    @inlined
    def find(tables, m0, pixels, group, thread, s, g):
        """images[r], corners[0, r] = where pixel m0 + r reads with the first tap, and the bits of padding. And the list."""
        images, corners, entries = tables
        for r in range(thread, BM, threads):
            n, d, h, w = pixel_32(min(m0 + r, pixels - 1), g)
            z, y, x = d * g.stride_d - g.low_d, h * g.stride_h - g.low_h, w * g.stride_w - g.low_w
            corner = z * s.input[3] + y * s.input[4] + x * s.input[5]
            images[r] = n * s.input[0] + group * s.input[1] + corner
            bits = outside(z, g.size_d, g.kernel_d, g.dilation_d, 0)
            bits |= outside(y, g.size_h, g.kernel_h, g.dilation_h, g.kernel_d)
            bits |= outside(x, g.size_w, g.kernel_w, g.dilation_w, g.kernel_d + g.kernel_h)
            corners[0, r] = bits | int32(END)
        list_taps(entries, thread, s.input, g)

    @inlined
    def list_taps(entries, thread, strides, g):
        """Each entry in one number: the offset above the bits, which the entries of zeros after the last have not."""
        channels = int32(g.channels)
        last = int32(g.kernel_d * g.kernel_h * g.kernel_w * channels)
        for r in range(thread, (last + KC - 1) // KC * KC, threads):
            entry = int64(END)
            if r < last:
                tap, c = split_32(int32(r), channels)
                rest, kw = split_32(tap, int32(g.kernel_w))
                kd, kh = split_32(rest, int32(g.kernel_h))
                offset = c * strides[2] + kd * g.dilation_d * strides[3]
                offset += kh * g.dilation_h * strides[4] + kw * g.dilation_w * strides[5]
                bits = 1 << kd | 1 << g.kernel_d + kh | 1 << g.kernel_d + g.kernel_h + kw
                entry = int64(offset * scale) << 32 | int64(bits)
            entries[r] = entry

    @inlined
    def begin(state, tables, tap, c0, start, thread, strides, g):
        """at[i], padded[i] = where a thread's i-th pixel reads with the first tap, and the bits of padding."""
        (at, padded), (images, corners, _) = state, tables
        _, m = first(thread)
        for i in range(pixels_of_thread):
            r = m + i * pixels_apart
            at[i], padded[i] = start + images[r] * scale, corners[0, r]

    @inlined
    def bring(to, place, input, state, tables, row, thread, channel):
        """Bring what the list says from an entry on."""
        (at, padded), (_, _, entries) = state, tables
        k, m = first(thread)
        found = cuda.local.array(entries_of_thread, int64)
        for i in range(entries_of_thread):  # before all copies: between them the assembler would wait for each
            found[i] = entries[uint64(uint32(row + k)) + uint64(i * channels_apart)]
        for i in range(loads):
            pixel, entry = (i, found[0]) if channels_last else (0, found[i])
            there = (uint32(entry) & uint32(padded[pixel])) == 0
            put(to, int32(place + k * pitch + m) + i * apart, input, at[pixel] + int32(entry >> 32), there)

    return pixels_of_thread, find, begin, bring
