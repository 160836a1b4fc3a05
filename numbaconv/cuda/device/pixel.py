"""One output value by the definition: a thread, no shared memory."""

from __future__ import annotations

from typing import Any

from numba import float32

from numbaconv.cuda.device.window import number_type, reader, window
from numbaconv.cuda.inlined import inlined

__all__ = ["pixel"]


def pixel(kernel: Any, *, stride: Any = 1, padding: Any = 0, dilation: Any = 1, compute: Any = float32, load: Any = None) -> Any:
    """Make a device function that computes one output value.

    It is called as ``total = function(image, size, weight, h, w)``, by any thread of any block, and takes no shared memory.

    Parameters
    ----------
    kernel
        Height and width of the kernel, an int or two.
    stride, dilation
        An int or two, at least 1.
    padding
        Zeros above and left of the input, an int or two. Below and to the right there are as many as an output pixel needs.
    compute
        Numba's type (or NumPy's dtype) of the sums; inputs and weights are converted to it before they are multiplied.
    load
        A function ``load(image, c, y, x)`` that gives the input, for ``0 <= y < size[0]`` and ``0 <= x < size[1]`` alone: a
        device function, or a Python function that Numba can make one of. None is ``image[c, y, x]``.

    Returns
    -------
    function
        The device function. Its arguments:

        - ``image``: what ``load`` takes; by default an array ``(C, H, W)`` of any dtype and strides.
        - ``size``: the tuple ``(H, W)``, for an array ``image.shape[1:]``.
        - ``weight``: an array ``(C, kh, kw)`` of any dtype, such as ``weights[o]``; C is taken from here.
        - ``h``, ``w``: the place of the output pixel, not negative.

        It returns the sum, of type `compute`.

    Raises
    ------
    ValueError, TypeError
        For an argument that is none of these.
    """
    kh, kw, stride_h, stride_w, low_h, low_w, dilation_h, dilation_w = window(kernel, stride, padding, dilation)
    compute = number_type(compute)
    read = reader(compute, load)

    @inlined
    def value(image, size, weight, h, w):
        total = compute(0)
        for c in range(weight.shape[0]):
            for i in range(kh):
                for j in range(kw):
                    y, x = h * stride_h + i * dilation_h - low_h, w * stride_w + j * dilation_w - low_w
                    # Zeros are multiplied too, so that an infinite weight makes NaN, as in all algorithms.
                    total = compute(total + read(image, size, c, y, x) * compute(weight[c, i, j]))
        return total

    return value
