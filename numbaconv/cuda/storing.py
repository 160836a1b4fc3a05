"""Which neighbours of a result are stored together: channels of a pixel or pixels of a channel, and how many as one vector."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from numbaconv.algorithm import Operands

__all__ = ["CHANNELS", "PIXELS", "VECTOR", "Form", "form_of", "in_vectors"]

CHANNELS, PIXELS = "channels", "pixels"
VECTOR = 16  # bytes that a thread moves at once, at most


class Form(NamedTuple):
    """What neighbouring threads store neighbours along, how many of these a thread stores as one vector, and whether as bool."""

    along: str
    many: int
    boolean: bool = False


def form_of(ops: Operands) -> Form:
    """Return the form of a result, whose residual is read in it too.

    Vectors lie on multiples of their size in both, and in one image or one pixel each.
    """
    views = [ops.output] if ops.residual is None else [ops.output, ops.residual]
    itemsize = max(view.itemsize for view in views)
    counts = [VECTOR // itemsize, VECTOR // 2 // itemsize]
    real = not any(view.dtype.kind in "bc" for view in views)
    channels = ops.output.shape[2] > 1 and ops.output.strides[2] == ops.output.itemsize
    allowed = [n for n in counts if n > 2 and real and all(in_vectors(view, channels, n) for view in views)]
    return Form(CHANNELS if channels else PIXELS, max(allowed, default=1), ops.output.dtype == np.bool_)


def in_vectors(view: np.ndarray, channels: bool, many: int) -> bool:
    """Whether so many neighbours are always together, on a multiple of their size."""
    whole = many * view.itemsize
    inner = (2,) if channels else (3, 4, 5)
    outer = (axis for axis in range(6) if axis not in inner and view.shape[axis] > 1)
    dense, together = view.itemsize, True
    for axis in reversed(inner):
        together &= view.shape[axis] == 1 or view.strides[axis] == dense
        dense *= view.shape[axis]
    places = [view.ctypes.data, *(view.strides[axis] for axis in outer)]
    return together and math.prod(view.shape[axis] for axis in inner) % many == 0 and all(place % whole == 0 for place in places)
