"""ONNX's convolutions by this library's: what the attributes of a node mean, and no more.

https://onnx.ai/onnx/operators: Conv, ConvInteger, ConvTranspose. Every function takes a node's inputs in order (None where one is
left out) and its attributes by name.
"""

import numpy as np
from family import CONV, TRANSPOSE

AUTO_PAD = {"VALID": "valid", "SAME_UPPER": "same", "SAME_LOWER": "same_lower"}


def conv(x, w, b=None, *, auto_pad="NOTSET", pads=None, strides=1, dilations=1, group=1, kernel_shape=None, out_dtype=None):
    """``Conv``."""
    check_kernel_shape(kernel_shape, w)
    padding = pairs(pads) if auto_pad == "NOTSET" else AUTO_PAD[auto_pad]
    return CONV[w.ndim - 2](x, w, b, strides, padding, dilations, group, out_dtype=out_dtype)


def conv_integer(x, w, x_zero_point=None, w_zero_point=None, **attributes):
    """``ConvInteger``: the zero points are taken off first, in 32 bits, so that padding with zeros is padding with them."""
    x, w = x.astype(np.int32), w.astype(np.int32)
    if x_zero_point is not None:
        x = x - np.int32(x_zero_point)
    if w_zero_point is not None:  # one for all, or one for each output channel
        w = w - w_zero_point.astype(np.int32).reshape(-1, *(1,) * (w.ndim - 1))
    return conv(x, w, **attributes, out_dtype=np.int32)


def conv_transpose(
    x, w, b=None, *, auto_pad="NOTSET", pads=None, strides=None, dilations=None, group=1, kernel_shape=None,
    output_padding=None, output_shape=None,
):  # fmt: skip
    """``ConvTranspose``."""
    check_kernel_shape(kernel_shape, w)
    ndim = w.ndim - 2
    strides, dilations, output_padding = strides or [1] * ndim, dilations or [1] * ndim, output_padding or [0] * ndim
    if auto_pad in ("SAME_UPPER", "SAME_LOWER") and output_shape is None:
        output_shape = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    padding = pairs(pads)
    if output_shape is not None:
        padding = []
        for *row, out in zip(x.shape[2:], w.shape[2:], strides, dilations, output_padding, output_shape[-ndim:], strict=True):
            n, k, s, d, extra = row
            total = s * (n - 1) + extra + (k - 1) * d + 1 - out
            half = total // 2
            padding.append((half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half))
    return TRANSPOSE[ndim](x, w, b, strides, padding, output_padding, group, dilations)


OPERATORS = {"Conv": conv, "ConvInteger": conv_integer, "ConvTranspose": conv_transpose}


def pairs(pads):
    """ONNX has all low sides first; here each axis has its pair."""
    return 0 if pads is None else tuple(zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True))


def check_kernel_shape(kernel_shape, w):
    """It only repeats what the weight says."""
    if kernel_shape is not None and tuple(kernel_shape) != w.shape[2:]:
        raise ValueError(f"kernel_shape {kernel_shape} for a weight of shape {w.shape}")
