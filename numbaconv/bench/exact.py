"""What results are held against: float64 sums, tap by tap, in plain NumPy, which share no code with what is measured."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from numbaconv.bench.case import Case

__all__ = ["exact", "relative_error"]


def exact(case: Case) -> np.ndarray:
    """Return a layer's result in float64 (complex128 for complex numbers), channels first."""
    x, weight = case.operands()
    wide: Any = np.complex128 if x.dtype.kind == "c" else np.float64
    batch, outs, *space = case.output_shape
    padded = np.pad(x.astype(wide), ((0, 0), (0, 0), *((p, p) for p in case.padding)))
    grouped = weight.astype(wide).reshape(case.groups, outs // case.groups, *weight.shape[1:])
    total: Any = np.zeros((batch, case.groups, outs // case.groups, math.prod(space)), wide)
    for tap in np.ndindex(*case.kernel):
        axes = zip(tap, case.dilation, case.stride, space, strict=True)
        window: Any = (Ellipsis, *(slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, s, n in axes))
        read = padded[window].reshape(batch, case.groups, -1, math.prod(space))
        total += grouped[(Ellipsis, *tap)] @ read
    return total.reshape(case.output_shape)


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    """Return the root mean square of the error over that of what was expected; infinite where the shapes differ."""
    if result.shape != expected.shape:
        return math.inf
    error, size = (float(np.mean(np.abs(a) ** 2)) for a in (result.astype(expected.dtype) - expected, expected))
    return math.sqrt(error / size) if size else math.sqrt(error)
