"""What is measured: a layer, in a dtype, and how; its data, and the counts that follow from its shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from numbaconv import dtypes
from numbaconv.networks import Layer
from numbaconv.options import Size, per_axis

__all__ = ["Case", "Failure", "Prepared", "UnableError", "number_type"]


@dataclass(frozen=True)
class Case:
    """What a library is asked to prepare.

    Attributes
    ----------
    layer
        Shapes, channels first, and options.
    dtype
        Of data and weight, by its name.
    layout
        "NCHW" or "NHWC", with one spatial axis or three likewise: the order of numbaconv's data.
    threads
        Of each library.
    mode
        "prepared", or "functional": the weight is packed in each call.
    algorithm
        numbaconv's.
    """

    layer: Layer
    dtype: str = "float32"
    layout: str = "NCHW"
    threads: int = 1
    mode: str = "prepared"
    algorithm: str = "auto"

    @property
    def ndim(self) -> int:
        """How many spatial axes there are."""
        return self.layer.ndim

    @property
    def groups(self) -> int:
        """Into how many groups the channels fall."""
        return self.layer.options.get("groups", 1)

    @property
    def stride(self) -> Size:
        """One for each spatial axis."""
        return self._each("stride", 1, 1)

    @property
    def padding(self) -> Size:
        """One for each spatial axis, before and after."""
        return self._each("padding", 0, 0)

    @property
    def dilation(self) -> Size:
        """One for each spatial axis."""
        return self._each("dilation", 1, 1)

    @property
    def kernel(self) -> Size:
        """The spatial size of the weight."""
        return self.layer.weight[2:]

    @property
    def channels_last(self) -> bool:
        """Whether numbaconv's data have the channels last."""
        return self.layout == "NHWC"

    @property
    def output_shape(self) -> Size:
        """The result's, channels first."""
        sizes = zip(self.layer.input[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True)
        space = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes)
        return self.layer.input[0], self.layer.weight[0], *space

    @property
    def flops(self) -> int:
        """The operations of the definition, those with padding among them: 2 a product, 8 for complex numbers."""
        each = 8 if number_type(self.dtype).kind == "c" else 2
        return each * math.prod(self.output_shape) * math.prod(self.layer.weight[1:])

    @property
    def bytes(self) -> int:
        """Of input, weight and result, each moved once."""
        operand = number_type(self.dtype)
        result = dtypes.resolve(operand, operand).out
        read = math.prod(self.layer.input) + math.prod(self.layer.weight)
        return read * operand.itemsize + math.prod(self.output_shape) * result.itemsize

    def operands(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the input and the weight, channels first, the same in every process."""
        rng, dtype = np.random.default_rng(0), number_type(self.dtype)
        x, weight = (_numbers(rng, shape, dtype) for shape in (self.layer.input, self.layer.weight))
        return x, weight

    def _each(self, option: str, default: int, least: int) -> Size:
        return per_axis(option, self.layer.options.get(option, default), self.ndim, least)


class Prepared:
    """A layer as a library computes it.

    Parameters
    ----------
    call
        Computes it once.
    result
        Computes it, and returns the result, channels first.
    note
        A word on how.
    kept
        What has to live as long.
    """

    def __init__(self, call: Any, result: Any, note: str = "", kept: tuple = ()) -> None:
        self.call, self.result, self.note, self.kept = call, result, note, kept


class UnableError(Exception):
    """Why a library does not take a layer: a sentence."""


@dataclass(frozen=True)
class Failure:
    """Why a library has no answer."""

    reason: str


def number_type(name: str) -> np.dtype:
    """Return a dtype by its name.

    Raises
    ------
    TypeError
        If there is none, or numbaconv does not compute in it.
    ImportError
        For bfloat16, if ml_dtypes is not installed.
    """
    if name == dtypes.BFLOAT16:
        try:
            import ml_dtypes  # noqa: F401, whose import gives NumPy the name
        except ImportError:
            raise ImportError("bfloat16 needs ml_dtypes: pip install ml_dtypes") from None
    return dtypes.check(name, "dtype")


def _numbers(rng: np.random.Generator, shape: Size, dtype: np.dtype) -> np.ndarray:
    """Normal numbers, or small integers, whose sums are exact."""
    if dtype.kind in "iub":
        return rng.integers(-4 if dtype.kind == "i" else 0, 2 if dtype.kind == "b" else 5, shape).astype(dtype)
    values = rng.standard_normal(shape, np.float32)
    return (values + 1j * rng.standard_normal(shape, np.float32) if dtype.kind == "c" else values).astype(dtype)
