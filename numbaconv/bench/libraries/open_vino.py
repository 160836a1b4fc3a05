"""OpenVINO: channels first, the weight packed beforehand, the result's memory kept."""

from __future__ import annotations

import numpy as np

from numbaconv.bench.case import Case, Prepared, UnableError

__all__ = ["prepare"]

PRECISIONS = {"float32": "f32", "float16": "f16"}


def prepare(case: Case) -> Prepared:
    """Return a request of one layer, which computes in the dtype of its data."""
    import openvino as ov
    from openvino import opset13 as ops

    if case.mode == "functional":
        raise UnableError("OpenVINO packs the weight beforehand")
    if case.dtype not in PRECISIONS:
        raise UnableError(f"OpenVINO is asked for {' and '.join(PRECISIONS)} here, not {case.dtype}")
    x, weight = case.operands()
    data = ops.parameter(x.shape, x.dtype.type, name="x")
    options = list(case.stride), list(case.padding), list(case.padding), list(case.dilation)
    if case.groups == 1:
        node = ops.convolution(data, ops.constant(weight), *options)
    else:
        grouped = weight.reshape(case.groups, -1, *weight.shape[1:])
        node = ops.group_convolution(data, ops.constant(grouped), *options)
    settings = {
        "INFERENCE_NUM_THREADS": case.threads,
        "INFERENCE_PRECISION_HINT": PRECISIONS[case.dtype],
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # as the others: where the process may run, not where the library would
    }
    request = ov.Core().compile_model(ov.Model([node], [data], "layer"), "CPU", settings).create_infer_request()
    tensor = ov.Tensor(x, shared_memory=True)
    request.set_input_tensor(tensor)

    def call() -> None:
        request.infer(share_outputs=True)

    def after_call() -> np.ndarray:
        call()
        return request.get_output_tensor().data.copy()

    return Prepared(call, after_call, kept=(x, tensor))
