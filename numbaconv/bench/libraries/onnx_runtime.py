"""onnxruntime: channels first, the weight packed beforehand, the result's memory kept."""

from __future__ import annotations

import numpy as np

from numbaconv.bench.case import Case, Prepared, UnableError
from numbaconv.bench.libraries.onnx_model import onnx_model, result_type

__all__ = ["prepare"]

TAKES = ("float32", "float16", "int8", "uint8")


def prepare(case: Case) -> Prepared:
    """Return a session of one layer, bound to its arrays."""
    import onnxruntime as ort

    if case.mode == "functional":
        raise UnableError("onnxruntime packs the weight beforehand")
    if case.dtype not in TAKES:
        raise UnableError(f"onnxruntime convolves {', '.join(TAKES)} on CPUs, not {case.dtype}")
    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.inter_op_num_threads = case.threads, 1
    session = ort.InferenceSession(onnx_model(case), settings, providers=["CPUExecutionProvider"])
    x, y = case.operands()[0], np.empty(case.output_shape, result_type(case))
    data, result = (ort.OrtValue.ortvalue_from_numpy(a) for a in (x, y))
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", data)
    binding.bind_ortvalue_output("y", result)

    def call() -> None:
        session.run_with_iobinding(binding)

    def after_call() -> np.ndarray:
        call()
        return result.numpy()

    return Prepared(call, after_call, kept=(x, y, data))
