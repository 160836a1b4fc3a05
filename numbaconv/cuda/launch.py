"""From shadows to a running kernel: types, compilation, launches.

A kernel takes words of 8 bytes: addresses and integers, which a :mod:`numbaconv.cuda.frame` keeps in memory. Numba's own launch
looks at every argument again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from numbaconv.activation import scalar
from numbaconv.algorithm import Operands
from numbaconv.cuda.binary import Binary, binary
from numbaconv.cuda.driver import check
from numbaconv.cuda.frame import Call, Frame, Word
from numbaconv.cuda.geometry import ALL_BLOCKS, Geometry, Strides
from numbaconv.cuda.shadow import element_strides, place_of, pointer, relocated
from numbaconv.cuda.streams import address_of
from numbaconv.cuda.target import capability, current_device, simulated
from numbaconv.cuda.tensor_map import WORDS, TensorMap, encoded
from numbaconv.spec import ConvSpec

__all__ = ["Launch", "Launches", "arguments", "convolve", "launch", "signature"]

# Kernels stride over their work by the grid, but for those that say in ``most_blocks`` how many blocks they may have, and refuse
# problems of more. A block without work returns at once.
MOST_BLOCKS = ALL_BLOCKS
GRANTED = 32 * 1024  # bytes of dynamic shared memory that a block gets unasked: 48 KiB, less what it may have beside


class Launch:
    """A kernel, its grid, and its arguments: shadows, integers, named tuples of integers, and tensor maps."""

    def __init__(self, function: Callable, blocks: int, threads: int | tuple, args: tuple, shared: int = 0) -> None:
        block = (threads,) if isinstance(threads, int) else threads
        self.grid = min(max(blocks, 1), getattr(function, "most_blocks", MOST_BLOCKS))
        self.block, self.shared = (*block, 1, 1)[:3], shared
        self.args, self._function = args, function

    def play(self, stream: int, bases: Sequence[int] = ()) -> None:
        """Launch on a stream, given where the arrays of the regions of imagined arguments begin."""
        if simulated():
            self._simulate(bases)
        else:
            Frame([self.call()]).launch(stream, bases)

    def call(self) -> Call:
        """The launch as the driver of the current GPU knows it."""
        return Call(self._load(current_device()), self.grid, self.block, self.shared, [*_flat(self.args)])

    def _load(self, device: int) -> Any:
        """The driver's handle of the kernel on the current GPU, which is granted the dynamic shared memory."""
        from cuda.bindings import driver

        code = binary(self._function, signature(self.args), capability())
        kernel = _loaded(code)
        handle = kernel.handle if hasattr(kernel, "handle") else kernel._handle  # cuda-core 0.5 has no other name
        if self.shared > GRANTED:
            most = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            (error,) = driver.cuKernelSetAttribute(most, self.shared, handle, driver.CUdevice(device))
            check(int(error), f"granting a CUDA kernel {self.shared} bytes of shared memory")
        return handle

    def _simulate(self, bases: Sequence[int]) -> None:
        from numba import cuda

        def real(arg: Any) -> Any:
            if isinstance(arg, TensorMap):
                return encoded(arg.form, _address(arg.array, bases))
            return pointer(relocated(arg, _address(arg, bases))) if isinstance(arg, np.ndarray) else arg

        cuda.jit(self._function)[self.grid, self.block, 0, self.shared](*map(real, self.args))


def _flat(args: tuple) -> Iterator[Word]:
    """What the words of a kernel's arguments stand for; those of a tensor map are it and zeros."""
    for arg in args:
        if isinstance(arg, TensorMap):
            yield arg
            yield from [0] * (WORDS - 1)
        elif isinstance(arg, tuple):
            yield from _flat(arg)
        else:
            yield arg


def _address(shadow: np.ndarray, bases: Sequence[int]) -> int:
    """Where an argument really begins."""
    place = place_of(shadow)
    return int(shadow.ctypes.data) if place is None else bases[place.region] + place.offset


@cache
def _loaded(code: Binary) -> Any:
    """The kernel, for all GPUs of its compute capability. It keeps its code loaded."""
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(code.code).get_kernel(code.name)


class Launches(list[Launch]):
    """What stands in for a stream where launches are written down, to be played later."""


def launch(
    function: Callable, blocks: int, threads: int | tuple[int, int, int], stream: Any, *args: Any, shared: int = 0
) -> None:
    """Launch a kernel, which is compiled on first use for the dtypes, on a stream, or write that down."""
    one = Launch(function, blocks, threads, args, shared)
    if isinstance(stream, Launches):
        stream.append(one)
    else:
        one.play(address_of(stream))


def convolve(
    make: Callable,
    spec: ConvSpec,
    ops: Operands,
    g: Geometry,
    blocks: int,
    threads: int | tuple[int, int, int],
    more: tuple = (),
) -> None:
    """Launch ``make(compute type, activation)`` on the operands of a call, and more arguments, unless the result is empty.

    A kernel says in ``shared_bytes`` how much dynamic shared memory it needs.
    """
    from numba import from_dtype

    if ops.output.size:
        kernel = make(from_dtype(spec.dtypes.compute), scalar(spec.activation))
        shared = getattr(kernel, "shared_bytes", 0)
        launch(kernel, blocks, threads, ops.stream, *arguments(ops, g), *more, shared=shared)


def arguments(ops: Operands, g: Geometry) -> tuple[Any, ...]:
    """Return what a convolution kernel takes. The output stands in for absent operands, which are not read."""
    output = ops.output
    bias = output if ops.bias is None else np.broadcast_to(ops.bias[None, :, :, None, None, None], output.shape)
    residual = output if ops.residual is None else ops.residual
    views = (ops.input, ops.weight, bias, residual, output)
    return (*views, Strides(*map(element_strides, views)), g)


def signature(args: tuple[Any, ...]) -> Any:
    """Return the signature of a kernel for such arguments: arrays are pointers, tensor maps their integers."""
    from numba import typeof
    from numba.cuda import types

    from numbaconv.cuda.bfloat16 import number_type

    def of(arg: Any) -> Any:
        if isinstance(arg, TensorMap):
            return types.UniTuple(types.int64, WORDS)
        return types.CPointer(number_type(arg.dtype)) if isinstance(arg, np.ndarray) else typeof(arg)

    return types.void(*map(of, args))
