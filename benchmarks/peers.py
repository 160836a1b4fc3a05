"""Other libraries that compute the same convolution: each returns a call, or raises NotImplementedError where it cannot."""

import numpy as np

from benchmarks.common import operands


def torch(problem, layout, threads):
    """PyTorch, eager, its tensors in the same order in memory."""
    import torch

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    order = torch.contiguous_format if layout == "channels first" else torch.channels_last
    x, weight, options = operands(problem)
    x, weight = (torch.from_numpy(a).contiguous(memory_format=order) for a in (x, weight))
    return lambda: torch.nn.functional.conv2d(x, weight, **options)


def onnxruntime(problem, layout, threads):
    """Channels first alone; the weight is packed before."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    if layout != "channels first":
        raise NotImplementedError("onnxruntime computes channels first")
    x, weight, options = operands(problem)
    strides, pads = (np.broadcast_to(options.get(name, default), 2).tolist() for name, default in (("stride", 1), ("padding", 0)))
    attributes = {"strides": strides, "pads": 2 * pads, "group": options.get("groups", 1)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], **attributes)
    ends = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in "xy")
    graph = helper.make_graph([node], "conv", *([end] for end in ends), [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return lambda: session.run(["y"], {"x": x})[0]


def scipy(problem, layout, threads):
    """One channel and stride 1, on one thread."""
    from scipy import ndimage

    x, weight, options = operands(problem)
    if x.shape[:2] != (1, 1) or weight.shape[0] != 1 or options.get("stride", 1) != 1:
        raise NotImplementedError("scipy.ndimage filters one plane")
    if options.get("padding", 0) != weight.shape[-1] // 2:
        raise NotImplementedError("scipy.ndimage keeps the size")
    out = np.empty_like(x[0, 0])
    return lambda: ndimage.correlate(x[0, 0], weight[0, 0], out, mode="constant")


PEERS = {"torch": torch, "onnxruntime": onnxruntime, "scipy": scipy}
