"""How implicit GEMM reads the pixels of a step: how many neighbours as one vector, and the taps one by one or in one list."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from numbaconv.cuda.geometry import KC, LIST, TAP_BITS
from numbaconv.cuda.storing import VECTOR, in_vectors
from numbaconv.spec import ConvSpec

__all__ = ["Reading", "listed", "reading_of", "steps"]


class Reading(NamedTuple):
    """How many neighbouring pixels a thread brings at once, and whether the channels of all taps are one list.

    Otherwise the KC channels of a step are of one tap, so that there are steps of few channels beside zeros.
    """

    many: int
    listed: bool


def listed(spec: ConvSpec) -> bool:
    """Whether a list of all taps' channels is short enough for shared memory, and makes fewer steps than the taps one by one."""
    fits = math.prod(spec.kernel_size) * spec.weight_shape[2] <= LIST and sum(spec.kernel_size) <= TAP_BITS
    return spec.padding_mode == "zeros" and fits and _steps(spec, True) < _steps(spec, False)


def steps(spec: ConvSpec) -> int:
    """How many steps of KC channels there are."""
    return _steps(spec, listed(spec))


def _steps(spec: ConvSpec, in_one: bool) -> int:
    taps, channels = math.prod(spec.kernel_size), spec.weight_shape[2]
    return -(-taps * channels // KC) if in_one else taps * -(-channels // KC)


def reading_of(spec: ConvSpec, input: np.ndarray, copied: bool) -> Reading:
    """Return how an input is read; `copied`: as it is, so that vectors of it can be."""
    many = VECTOR // input.itemsize
    pointwise = spec.kernel_size == spec.stride == (1, 1, 1) and not any(map(any, spec.padding))
    together = copied and pointwise and not spec.channels_last and in_vectors(input, False, many)
    return Reading(many if together else 1, listed(spec) and _near(spec, input))


def _near(spec: ConvSpec, input: np.ndarray) -> bool:
    """Whether the elements of a pixel's taps lie so near that 32 bits count the bytes between."""
    extents = spec.weight_shape[2], *spec.kernel_extent
    return sum((n - 1) * abs(stride) for n, stride in zip(extents, input.strides[2:], strict=True)) < 2**31
