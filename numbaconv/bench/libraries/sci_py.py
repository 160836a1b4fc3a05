"""SciPy, which has no sum over channels: one call for each pair of an input and an output channel, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from numbaconv.bench.case import Case, Prepared, UnableError

__all__ = ["prepare"]

MOST = 64  # calls for a layer; beyond, it is Python's loop that would be measured
TAKES = ("float32", "float64", "int32", "int64")


def prepare(case: Case) -> Prepared:
    """Return the fastest of SciPy's ways to filter an image, by one trial of each."""
    from scipy import ndimage, signal

    if case.dtype not in TAKES:
        raise UnableError(f"SciPy filters {', '.join(TAKES)} here, not {case.dtype}")
    if max(case.stride + case.dilation) > 1:
        raise UnableError("SciPy has no stride and no dilation")
    x, weight = case.operands()
    calls = x.shape[0] * weight.shape[0] * weight.shape[1]
    if calls > MOST:
        raise UnableError(f"SciPy would take {calls} calls, one for each pair of channels; up to {MOST} are measured")
    ways = {f"signal, {method}": partial(signal.correlate, mode="valid", method=method) for method in ("direct", "fft")}
    computed = {name: partial(_convolve, way, case, x, weight, case.padding) for name, way in ways.items()}
    if all(k == 2 * p + 1 for k, p in zip(case.kernel, case.padding, strict=True)):
        pads_itself = partial(ndimage.correlate, mode="constant")
        computed["ndimage"] = partial(_convolve, pads_itself, case, x, weight, (0,) * case.ndim)
    taken = min(computed, key=lambda name: _seconds(computed[name]))
    return Prepared(computed[taken], computed[taken], f"{taken}; one thread")


def _convolve(way: Callable[..., Any], case: Case, x: np.ndarray, weight: np.ndarray, padding: tuple[int, ...]) -> np.ndarray:
    """Sum the responses of all input channels, for each image and output channel."""
    outs, ins = weight.shape[0] // case.groups, weight.shape[1]
    if any(padding):
        x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    result = np.empty(case.output_shape, x.dtype)
    for n, o in np.ndindex(*case.output_shape[:2]):
        channels = x[n, o // outs * ins :]
        result[n, o] = way(channels[0], weight[o, 0])
        for c in range(1, ins):
            result[n, o] += way(channels[c], weight[o, c])
    return result


def _seconds(call: Callable[[], Any]) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
