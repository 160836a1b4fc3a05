"""PyTorch, eager, in both memory formats."""

from __future__ import annotations

from typing import Any

import numpy as np

from numbaconv.bench.case import Case, Prepared, UnableError
from numbaconv.options import per_axis

__all__ = ["prepare", "prepare_channels_last", "tensor"]

WRAPS = ("int8", "uint8", "int16", "uint16", "bool")


def prepare(case: Case, memory_format: str = "contiguous_format") -> Prepared:
    """Return a layer with channels first."""
    import torch

    if case.dtype in WRAPS:
        raise UnableError(f"PyTorch sums {case.dtype} in {case.dtype}, and not in as many bits as the sums need")
    torch.set_num_threads(case.threads)
    torch.set_grad_enabled(False)
    x, weight = (tensor(a).contiguous(memory_format=getattr(torch, memory_format)) for a in case.operands())
    convolve = getattr(torch.nn.functional, f"conv{case.ndim}d")
    options = {name: per_axis(name, value, case.ndim, 0) for name, value in case.layer.options.items() if name != "groups"}

    def call() -> Any:
        return convolve(x, weight, **options, groups=case.groups)

    def result() -> np.ndarray:
        y = call().contiguous()
        return (y.float() if y.dtype == torch.bfloat16 else y).numpy()

    return Prepared(call, result)


def prepare_channels_last(case: Case) -> Prepared:
    """Return a layer with channels last in memory."""
    if case.ndim == 1:
        raise UnableError("PyTorch has no channels-last order for one spatial axis")
    return prepare(case, "channels_last" if case.ndim == 2 else "channels_last_3d")


def tensor(array: np.ndarray) -> Any:
    """Return an array as a tensor, bfloat16 too, which PyTorch does not take from NumPy."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(array)
