"""One layer as an ONNX model, its weight a constant, for the libraries that read such models."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.bench.case import Case

__all__ = ["onnx_model", "result_type"]


def result_type(case: Case) -> np.dtype:
    """Return the dtype of the model's result: int32 for 8-bit integers."""
    operand = np.dtype(case.dtype)
    return np.dtype(np.int32) if operand.kind in "iu" else operand


def onnx_model(case: Case) -> bytes:
    """Return a model with the input "x" and the result "y"."""
    from onnx import helper, numpy_helper

    x, weight = case.operands()
    operator = "ConvInteger" if x.dtype.kind in "iu" else "Conv"
    options: dict[str, Any] = {"strides": case.stride, "pads": case.padding * 2, "dilations": case.dilation, "group": case.groups}
    node = helper.make_node(operator, ["x", "w"], ["y"], kernel_shape=case.kernel, **options)
    kinds = (helper.np_dtype_to_tensor_dtype(dtype) for dtype in (x.dtype, result_type(case)))
    shapes = (x.shape, case.output_shape)
    source, target = (helper.make_tensor_value_info(*row) for row in zip("xy", kinds, shapes, strict=True))
    graph = helper.make_graph([node], "layer", [source], [target], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
