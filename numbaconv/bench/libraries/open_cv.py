"""OpenCV: ``filter2D`` where each channel has a filter of its own, and ``cv2.dnn`` for sums over channels.

``cv2.dnn`` takes a copy of its input in each call, as that is how it is used, and packs the weight beforehand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.bench.case import Case, Prepared, UnableError
from numbaconv.bench.libraries.onnx_model import onnx_model

__all__ = ["prepare"]

MOST = 16  # planes for filter2D, a call each; cv2.dnn takes more at once


def prepare(case: Case) -> Prepared:
    """Return a layer on images."""
    import cv2

    if case.ndim != 2:
        raise UnableError("OpenCV is measured on images, of two spatial axes")
    cv2.setNumThreads(case.threads)
    return _by_filter2d(case) if _is_filter(case) else _by_dnn(case)


def _is_filter(case: Case) -> bool:
    """Whether the layer filters planes, and the result lies within what ``filter2D`` returns."""
    images, channels = case.layer.input[:2]
    one_each = case.groups == channels == case.layer.weight[0]
    inside = all(p <= min(k // 2, k - 1 - k // 2) for k, p in zip(case.kernel, case.padding, strict=True))
    return one_each and images * channels <= MOST and inside and max(case.stride + case.dilation) == 1


def _by_filter2d(case: Case) -> Prepared:
    import cv2

    if case.dtype not in ("float32", "float64"):
        raise UnableError(f"OpenCV's filter2D is measured in float32 and float64, not in {case.dtype}")
    x, weight = case.operands()
    starts = [k // 2 - p for k, p in zip(case.kernel, case.padding, strict=True)]
    inside = tuple(slice(a, a + n) for a, n in zip(starts, case.output_shape[2:], strict=True))
    filters = [(x[n, c], weight[c, 0]) for n, c in np.ndindex(*x.shape[:2])]

    def call() -> list[Any]:
        return [cv2.filter2D(plane, -1, kernel, borderType=cv2.BORDER_CONSTANT) for plane, kernel in filters]

    def result() -> np.ndarray:
        return np.stack([plane[inside] for plane in call()]).reshape(case.output_shape)

    return Prepared(call, result, "filter2D")


def _by_dnn(case: Case) -> Prepared:
    import cv2

    if case.dtype != "float32":
        raise UnableError(f"OpenCV's dnn is measured in float32, not in {case.dtype}")
    if case.mode == "functional":
        raise UnableError("OpenCV's dnn packs the weight beforehand")
    net = cv2.dnn.readNetFromONNX(np.frombuffer(onnx_model(case), np.uint8))
    x = case.operands()[0]

    def call() -> np.ndarray:
        net.setInput(x)
        return net.forward()

    return Prepared(call, call, "dnn")
