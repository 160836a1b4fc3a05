"""A block computes a tile of pixels by output channels as a matrix product, with tiles of sums in registers."""

from __future__ import annotations

from typing import Any

from numba import cuda, float32, int64, uint64

from numbaconv.cuda.device.window import number_type, reader, window, with_launch
from numbaconv.cuda.inlined import inlined
from numbaconv.errors import bad_value
from numbaconv.options import integer, per_axis

__all__ = ["gemm_tile"]


def gemm_tile(
    kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, compute: Any = float32, load: Any = None,
    shape: Any = (128, 64), each: Any = (8, 4), step: int = 8,
) -> Any:  # fmt: skip
    """Make a device function by which a block computes a tile of the implicit matrix product.

    Its rows are the output pixels of the image, numbered ``m = h * out_w + w``, its columns the output channels, and what is
    summed are the ``K = C * kh * kw`` products of a pixel, ``step`` of them at a time, which the block brings to shared memory.
    It is called as ``function(sums, shared, image, size, weight, out_w, m0, o0)`` by all threads of a block of
    ``shape[0] / each[0] * shape[1] / each[1]`` threads, in one dimension, with the same arguments but for ``sums``.

    Parameters
    ----------
    kernel, stride, padding, dilation, compute
        As for :func:`pixel`.
    load
        As for :func:`pixel`. It is called ``kh * kw`` times for most inputs of a tile.
    shape
        Pixels and output channels of the tile.
    each
        Pixels and output channels of a thread, which divide those of the tile.
    step
        Products of a pixel in shared memory at a time.

    Returns
    -------
    function
        The device function. Its arguments:

        - ``sums``: ``cuda.local.array(function.sums, compute)``, of shape ``each``, which the caller has set to zeros or to a
          bias.
          With ``across = shape[0] / each[0]``, thread t holds in ``sums[i, j]`` output pixel ``m0 + t % across + i * across``
          and output channel ``o0 + t // across * each[1] + j``: neighbouring threads have neighbouring pixels.
        - ``shared``: an array in shared memory of type `compute`, static or dynamic, of ``function.shared`` elements or more:
          ``step * (shape[0] + shape[1] + 4)``.
        - ``image``, ``size``: as for :func:`pixel`.
        - ``weight``: an array ``(O, C, kh, kw)`` of any dtype and strides.
        - ``out_w``: the width of the result, at least 1.
        - ``m0``, ``o0``: the tile's first pixel and output channel, not negative.

        Attributes, which are numbers outside of kernels only, as those of :func:`tile`: ``threads``, the shape of the block;
        ``sums``; ``across``; ``shared`` and ``shared_bytes``.

    Raises
    ------
    ValueError, TypeError
        For an argument that is none of these, for more than 1024 threads, and for a number of threads that neither divides the
        tile's pixels nor is a multiple of them.

    Notes
    -----
    Every thread has to call it, as for :func:`tile`, whose notes hold here too. Products are always added up in registers. What
    is in ``sums`` afterwards stays there if the compiler unrolls the loops in which the caller uses it, as it does with 32 sums,
    a bias and a ReLU; with 64 it is written to local memory, once.

    Examples
    --------
    >>> from numbaconv.cuda import device
    >>> convolve = device.gemm_tile(3, padding=1)
    >>> convolve.threads, convolve.sums, convolve.across, convolve.shared_bytes
    ((256,), (8, 4), 16, 6272)
    """
    kh, kw, stride_h, stride_w, low_h, low_w, dilation_h, dilation_w = window(kernel, stride, padding, dilation)
    (BM, BN), (MR, NR), step = per_axis("shape", shape, 2, 1), per_axis("each", each, 2, 1), integer("step", step, 1)
    if BM % MR or BN % NR:
        raise bad_value("each", f"two divisors of shape, {(BM, BN)}", (MR, NR))
    compute = number_type(compute)
    read = reader(compute, load)
    across, taps = BM // MR, kh * kw
    pitch = BN + 4  # so that what neighbouring threads bring goes to different banks
    threads = across * (BN // NR)
    lanes = min(threads, BM)  # that bring neighbouring pixels
    if max(threads, BM) % lanes:
        raise bad_value("each", f"as many threads as divide the {BM} pixels of shape, or a multiple", f"{threads} threads")
    pixels = BM // lanes

    @inlined
    def stage_input(shared, image, size, terms, k0, y0, x0, thread):
        """shared[k, m] = factor k0 + k of pixel m of the tile, or 0 past the last."""
        for k in range(thread // lanes, step, threads // lanes):
            c, i, j = (k0 + k) // taps, (k0 + k) % taps // kw, (k0 + k) % taps % kw
            for q in range(pixels):
                value = compute(0)
                if k0 + k < terms:
                    value = read(image, size, c, y0[q] + i * dilation_h, x0[q] + j * dilation_w)
                shared[uint64(k * BM + thread % lanes + q * lanes)] = value

    @inlined
    def stage_weight(shared, weight, terms, k0, o0, thread):
        """shared[step * BM + (k, o)] = factor k0 + k of output channel o0 + o, or 0 past the last."""
        for e in range(thread, step * BN, threads):
            o, k = e // step, k0 + e % step
            value = compute(0)
            if k < terms and o0 + o < weight.shape[0]:
                value = compute(weight[o0 + o, k // taps, k % taps // kw, k % taps % kw])
            shared[uint64(step * BM + e % step * pitch + o)] = value

    @inlined
    def add_tile(sums, shared, image, size, weight, out_w, m0, o0):
        # In registers whatever the caller does with its own array: here all loops over them are unrolled.
        totals = cuda.local.array((MR, NR), compute)
        a, b = cuda.local.array(MR, compute), cuda.local.array(NR, compute)
        y0, x0 = cuda.local.array(pixels, int64), cuda.local.array(pixels, int64)
        thread = int64(cuda.threadIdx.x)
        mine, outs = thread % across, thread // across * NR
        for q in range(pixels):
            m = m0 + thread % lanes + q * lanes
            y0[q], x0[q] = m // out_w * stride_h - low_h, m % out_w * stride_w - low_w
        for i in range(MR):
            for j in range(NR):
                totals[i, j] = sums[i, j]
        terms = weight.shape[1] * taps
        for k0 in range(0, terms, step):
            cuda.syncthreads()
            stage_input(shared, image, size, terms, k0, y0, x0, thread)
            stage_weight(shared, weight, terms, k0, o0, thread)
            cuda.syncthreads()
            for k in range(step):
                for i in range(MR):
                    a[i] = shared[uint64(k * BM + i * across + mine)]
                for j in range(NR):
                    b[j] = shared[uint64(step * BM + k * pitch + outs + j)]
                for i in range(MR):
                    for j in range(NR):
                        totals[i, j] = compute(totals[i, j] + a[i] * b[j])
        for i in range(MR):
            for j in range(NR):
                sums[i, j] = totals[i, j]

    add_tile.across = across
    return with_launch(add_tile, (threads,), (MR, NR), step * (BM + pitch), compute)
