"""A block computes a tile of output pixels for a few output channels, from shared memory."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, int64, uint64

from numbaconv.cuda.device.window import number_type, reader, window, with_launch
from numbaconv.cuda.inlined import inlined
from numbaconv.options import integer, per_axis

__all__ = ["tile"]


def tile(
    kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, compute: Any = float32, load: Any = None,
    shape: Any = (8, 32), outs: int = 4, channels: int = 4,
) -> Any:  # fmt: skip
    """Make a device function by which a block computes a tile of output pixels, through shared memory.

    It is called as ``function(sums, shared, image, size, weight, o0, h0, w0)`` by all threads of a block of
    ``(shape[1], shape[0])`` threads, with the same arguments but for ``sums``. Thread (x, y) adds the sums of output
    pixel ``(h0 + y, w0 + x)`` and of output channels ``o0`` to ``o0 + outs - 1`` to its ``sums``. The block goes through the
    input channels, a few at a time: its threads bring the inputs that the tile reads, with its halo, to shared memory, each
    once, and the weights of these channels.

    Parameters
    ----------
    kernel, stride, padding, dilation, compute
        As for :func:`pixel`.
    load
        As for :func:`pixel`. It is called once for each input of the tile and its halo, and for each block.
    shape
        Height and width of the tile, in output pixels.
    outs
        Output channels of the tile, which are sums in the registers of each thread.
    channels
        Input channels in shared memory at a time.

    Returns
    -------
    function
        The device function. Its arguments:

        - ``sums``: ``cuda.local.array(function.sums, compute)``, of shape ``(outs,)``, which the caller has set to zeros or to a
          bias.
        - ``shared``: an array in shared memory of type `compute`, static or dynamic, of ``function.shared`` elements or more:
          ``channels * (kh * kw * outs + rows * columns)``, where ``rows = (shape[0] - 1) * stride + (kh - 1) * dilation + 1``,
          and columns likewise.
        - ``image``, ``size``: as for :func:`pixel`.
        - ``weight``: an array ``(O, C, kh, kw)`` of any dtype and strides.
        - ``o0``, ``h0``, ``w0``: the first output channel and the tile's first pixel, not negative.

        Attributes, which are numbers outside of kernels only (``elements = function.shared``, of which kernels may make arrays):
        ``threads``, the shape of the block; ``sums``; ``shared`` and ``shared_bytes``.

    Raises
    ------
    ValueError, TypeError
        For an argument that is none of these, and for more than 1024 threads.

    Notes
    -----
    Every thread has to call it, also those whose pixels are beyond the result: it waits for the block (``syncthreads``). They
    read nothing outside of the image, and get sums of what is there and zeros; output channels beyond the last get nothing
    added. When it returns, other threads may still read ``shared``: call ``cuda.syncthreads()`` before you write there. A
    second call does so itself. CUDA refuses more than 48 KiB of ``shared`` in a launch that asks for nothing special.

    Examples
    --------
    >>> from numbaconv.cuda import device
    >>> convolve = device.tile(3, padding=1)
    >>> convolve.threads, convolve.sums, convolve.shared_bytes
    ((32, 8), 4, 6016)
    """
    kh, kw, stride_h, stride_w, low_h, low_w, dilation_h, dilation_w = window(kernel, stride, padding, dilation)
    tile_h, tile_w = per_axis("shape", shape, 2, 1)
    outs, channels = integer("outs", outs, 1), integer("channels", channels, 1)
    compute = number_type(compute)
    read = reader(compute, load)
    threads = tile_h * tile_w
    rows, columns = (tile_h - 1) * stride_h + (kh - 1) * dilation_h + 1, (tile_w - 1) * stride_w + (kw - 1) * dilation_w + 1
    area, taps = rows * columns, kh * kw
    inputs = channels * taps * outs  # after the weights, whose vectors are aligned so

    @inlined
    def stage_input(shared, image, size, c0, count, y0, x0, thread):
        """shared[inputs + (c, i, j)] = the input at (c0 + c, y0 + i, x0 + j) for c < count."""
        for e in range(thread, count * area, threads):
            c, i, j = e // area, e % area // columns, e % area % columns
            shared[uint64(inputs + e)] = read(image, size, c0 + c, y0 + i, x0 + j)

    @inlined
    def stage_weight(shared, weight, c0, count, o0, thread):
        """shared[(c, i, j), o] = weight[o0 + o, c0 + c, i, j] for c < count, or 0 past the last output channel."""
        for e in range(thread, outs * channels * taps, threads):
            o, c, i, j = e // (channels * taps), e // taps % channels, e % taps // kw, e % taps % kw
            if c < count:
                value = compute(0)
                if o0 + o < weight.shape[0]:
                    value = compute(weight[o0 + o, c0 + c, i, j])
                shared[uint64(e % (channels * taps) * outs + o)] = value

    @inlined
    def add_tile(sums, shared, image, size, weight, o0, h0, w0):
        # In registers whatever the caller does with its own array: here all loops over them are unrolled.
        totals = cuda.local.array(outs, compute)
        for o in range(outs):
            totals[o] = sums[o]
        thread = int64(cuda.threadIdx.y) * tile_w + cuda.threadIdx.x
        y0, x0 = h0 * stride_h - low_h, w0 * stride_w - low_w
        mine = inputs + cuda.threadIdx.y * stride_h * columns + cuda.threadIdx.x * stride_w
        for c0 in range(0, weight.shape[1], channels):
            count = min(channels, weight.shape[1] - c0)
            cuda.syncthreads()
            stage_input(shared, image, size, c0, count, y0, x0, thread)
            stage_weight(shared, weight, c0, count, o0, thread)
            cuda.syncthreads()
            for c in range(count):
                for i in range(kh):
                    for j in range(kw):
                        value = shared[uint64(mine + c * area + i * dilation_h * columns + j * dilation_w)]
                        for o in range(outs):
                            totals[o] = compute(totals[o] + value * shared[uint64(((c * kh + i) * kw + j) * outs + o)])
        for o in range(outs):
            sums[o] = totals[o]

    return with_launch(add_tile, (tile_w, tile_h), outs, inputs + channels * area, compute)
