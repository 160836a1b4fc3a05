"""Convolution as its definition reads, in plain Python. Nothing of the package is used here."""

import itertools

import numpy as np


def source(position, size, mode):
    """Where padded coordinate `position` comes from in an axis of `size` elements; None for a zero."""
    while not 0 <= position < size:
        if mode == "zeros":
            return None
        if mode == "replicate":
            position = 0 if position < 0 else size - 1
        elif mode == "circular":
            position += size if position < 0 else -size
        else:
            position = 0 if size == 1 else -position if position < 0 else 2 * (size - 1) - position
    return position


def correlate(x, w, stride, padding, dilation, mode="zeros"):
    """Canonical arrays: x (N, G, C, D, H, W), w (G, O, C, kd, kh, kw); padding is one (low, high) pair an axis."""
    (batch, groups, ins), (outs, kernel) = x.shape[:3], (w.shape[1], w.shape[3:])
    rows = zip(x.shape[3:], padding, kernel, dilation, stride, strict=True)
    size = [(n + low + high - (d * (k - 1) + 1)) // s + 1 for n, (low, high), k, d, s in rows]
    y = np.zeros((batch, groups, outs, *size), np.result_type(x, w))
    for n, g, o, *at in itertools.product(*map(range, y.shape)):
        for c, *tap in itertools.product(range(ins), *map(range, kernel)):
            rows = zip(at, stride, tap, dilation, padding, x.shape[3:], strict=True)
            place = [source(i * s + k * d - low, size, mode) for i, s, k, d, (low, _), size in rows]
            if None not in place:
                y[(n, g, o, *at)] += x[(n, g, c, *place)] * w[(g, o, c, *tap)]
    return y
