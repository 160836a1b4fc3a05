"""From shadows to a running kernel: types, compilation, streams, launches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from numbaconv.activation import scalar
from numbaconv.algorithm import Operands
from numbaconv.cuda.geometry import Geometry, Strides
from numbaconv.cuda.shadow import element_strides, pointer
from numbaconv.cuda.target import simulated
from numbaconv.errors import bad_type
from numbaconv.spec import ConvSpec

__all__ = ["arguments", "as_stream", "convolve", "launch", "signature"]

# numba-cuda warns of smaller grids. A block without work returns at once: every kernel strides over its work by the grid.
LEAST_BLOCKS = 128
MOST_BLOCKS = 2**31 - 1

_kernels: dict[tuple, Any] = {}


def convolve(
    make: Callable, spec: ConvSpec, ops: Operands, g: Geometry, blocks: int, threads: int | tuple[int, int, int]
) -> None:
    """Launch ``make(compute type, activation)`` on the operands of a call, unless the result is empty."""
    from numba import from_dtype

    if ops.output.size:
        launch(make(from_dtype(spec.dtypes.compute), scalar(spec.activation)), blocks, threads, ops.stream, *arguments(ops, g))


def arguments(ops: Operands, g: Geometry) -> tuple[Any, ...]:
    """Return what a convolution kernel takes. The output stands in for absent operands, which are not read."""
    output = ops.output
    bias = output if ops.bias is None else np.broadcast_to(ops.bias[None, :, :, None, None, None], output.shape)
    residual = output if ops.residual is None else ops.residual
    views = (ops.input, ops.weight, bias, residual, output)
    return (*views, Strides(*map(element_strides, views)), g)


def launch(function: Callable, blocks: int, threads: int | tuple[int, int, int], stream: Any, *args: Any) -> None:
    """Launch a kernel on shadows, integers and named tuples of integers. It is compiled on first use for their dtypes."""
    from numba import cuda

    key = (function, *(a.dtype if isinstance(a, np.ndarray) else type(a) for a in args))
    if key not in _kernels:
        _kernels[key] = cuda.jit(signature(args))(function)
    least = 1 if simulated() else LEAST_BLOCKS
    configured = _kernels[key][min(max(blocks, least), MOST_BLOCKS), threads, as_stream(stream)]
    configured(*(pointer(a) if isinstance(a, np.ndarray) else a for a in args))


def signature(args: tuple[Any, ...]) -> Any:
    """Return the signature of a kernel for such arguments: arrays are pointers, truth values bytes."""
    from numba import from_dtype, typeof
    from numba.cuda import types

    def of(arg: Any) -> Any:
        if not isinstance(arg, np.ndarray):
            return typeof(arg)
        return types.CPointer(types.uint8 if arg.dtype == np.bool_ else from_dtype(arg.dtype))

    return types.void(*map(of, args))


def as_stream(stream: Any) -> Any:
    """Return what Numba takes as a stream; raw pointers, and the streams of CuPy, torch and cuda.core, are wrapped.

    Raises
    ------
    TypeError
        If it is nothing of the kind.
    """
    from numba import cuda

    if hasattr(stream, "auto_synchronize"):  # Numba's own
        return stream
    address = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    if hasattr(stream, "__cuda_stream__"):
        _, address = stream.__cuda_stream__()
    if address is None or address == 0:
        return 0
    if not isinstance(address, int):
        raise bad_type("stream", "None, a Numba, CuPy or torch stream, or a raw pointer", repr(stream))
    return cuda.external_stream(address)
