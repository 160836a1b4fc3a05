"""What is to be computed: every argument of a call, normalised and checked once.

Below this module nobody sees ``"same"``, an int stride or a missing batch dimension. All problems, 1-D to 3-D, have three
spatial axes here (depth, height, width; leading ones have size 1) and the arrays of a problem have six:

====== ==========================================================
data   ``(batch, groups, in_channels / groups, D, H, W)``
weight ``(groups, out_channels / groups, in_channels / groups, kd, kh, kw)``
result ``(batch, groups, out_channels / groups, D', H', W')``
====== ==========================================================
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from numbaconv import activation, dtypes
from numbaconv import options as parse
from numbaconv.errors import bad_value
from numbaconv.options import PADDING_MODES, PRECISIONS, ConvOptions, Size

__all__ = [
    "ArraySpec",
    "ConvOptions",
    "ConvSpec",
    "DataFormat",
    "Pads",
    "Size",
    "Triple",
    "check_addends",
    "check_memory",
    "normalise",
    "probe",
    "split_data",
]

Triple = tuple[int, ...]  # one for each of the three spatial axes
Pads = tuple[tuple[int, int], ...]  # likewise

_AXES = ("D", "H", "W")
# Positions and strides in bytes must fit 64-bit signed integers with room to add.
_MAX_EXTENT = 2**40


class ArraySpec(NamedTuple):
    """What planning needs to know of an array: no data."""

    shape: Size
    dtype: np.dtype
    channels_last: bool = False  # its channels are adjacent in memory


class DataFormat(NamedTuple):
    """How the caller's arrays are to be seen in canonical form; the computation does not depend on it."""

    ndim: int
    batched: bool
    channels_last: bool  # the order of the axes, whatever the order in memory
    crop: Pads  # of the data, before everything else

    def shape(self, batch: int, channels: int, size: Sequence[int]) -> Size:
        """Return the shape that the caller sees for these dimensions."""
        space = tuple(size[3 - self.ndim :])
        item = (*space, channels) if self.channels_last else (channels, *space)
        return (batch, *item) if self.batched else item


@dataclass(frozen=True)
class ConvSpec:
    """One convolution problem: sizes, geometry, dtypes, and what is fused to it. Hashable, and free of data."""

    batch: int
    groups: int
    in_channels: int
    out_channels: int
    input_size: Triple
    kernel_size: Triple
    stride: Triple
    padding: Pads
    dilation: Triple
    padding_mode: str
    dtypes: dtypes.Dtypes
    channels_last: bool  # in memory: the result's order, and the input's where it has a clear one
    has_bias: bool = False
    has_residual: bool = False
    activation: Any = None
    algorithm: str = "auto"
    precision: str = "ieee"

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(getattr(self, field.name) for field in fields(self)))

    @cached_property
    def kernel_extent(self) -> Triple:
        """The kernel's size with its holes, ``dilation * (k - 1) + 1`` an axis."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @cached_property
    def output_size(self) -> Triple:
        """``(input + padding - extent) // stride + 1`` an axis."""
        rows = zip(self.input_size, self.padding, self.kernel_extent, self.stride, strict=True)
        return tuple((n + lo + hi - extent) // s + 1 for n, (lo, hi), extent, s in rows)

    @property
    def input_shape(self) -> Size:
        """The canonical shape of the data."""
        return (self.batch, self.groups, self.in_channels // self.groups, *self.input_size)

    @property
    def weight_shape(self) -> Size:
        """The canonical shape of the kernel."""
        return (self.groups, self.out_channels // self.groups, self.in_channels // self.groups, *self.kernel_size)

    @property
    def output_shape(self) -> Size:
        """The canonical shape of the result."""
        return (self.batch, self.groups, self.out_channels // self.groups, *self.output_size)

    @cached_property
    def multiply_adds(self) -> int:
        """How many products the definition sums, those with padding included."""
        return _product(self.output_shape) * _product(self.weight_shape[2:])

    @cached_property
    def bytes_moved(self) -> int:
        """The bytes of data, kernel and result: what must cross the memory bus at least once."""
        return (
            _product(self.input_shape) * self.dtypes.input.itemsize
            + _product(self.weight_shape) * self.dtypes.compute.itemsize
            + _product(self.output_shape) * self.dtypes.out.itemsize
        )

    def __str__(self) -> str:
        def size(values: Sequence[int]) -> str:
            return "x".join(map(str, values[1:] if values[0] == 1 else values))

        parts = [
            f"{self.batch}x{self.in_channels}x{size(self.input_size)} -> "
            f"{self.batch}x{self.out_channels}x{size(self.output_size)}",
            f"kernel {size(self.kernel_size)}",
            f"stride {size(self.stride)}" if set(self.stride) != {1} else "",
            f"padding {self._padding_text()}" if any(map(any, self.padding)) else "",
            f"dilation {size(self.dilation)}" if set(self.dilation) != {1} else "",
            f"groups {self.groups}" if self.groups != 1 else "",
            self.dtypes.input.name if self.dtypes.input == self.dtypes.out
            else f"{self.dtypes.input.name} -> {self.dtypes.out.name}",
            f"{activation.name_of(self.activation)} fused" if self.activation is not None else "",
            "channels last" if self.channels_last else "channels first",
        ]  # fmt: skip
        return ", ".join(filter(None, parts))

    def _padding_text(self) -> str:
        pairs = self.padding[1:] if self.padding[0] == (0, 0) else self.padding
        text = "x".join(str(lo) if lo == hi else f"({lo}, {hi})" for lo, hi in pairs)
        return text if self.padding_mode == "zeros" else f"{text} {self.padding_mode}"


def normalise(
    ndim: int,
    input: ArraySpec,
    weight: ArraySpec,
    bias: ArraySpec | None,
    residual: ArraySpec | None,
    options: ConvOptions,
    input_name: str = "input",
    weight_name: str = "weight",
) -> tuple[ConvSpec, DataFormat]:
    """Check one call and bring it to canonical form.

    Raises
    ------
    ValueError
        For shapes and option values; the message names the argument, what was expected and what came.
    TypeError
        For dtypes, and options of a wrong Python type.
    """
    data_format, batch, channels, size = split_data(input, ndim, options.layout, input_name)
    groups = parse.integer("groups", options.groups, least=1)
    kernel = _check_weight(weight, ndim, channels, groups, weight_name)
    stride = parse.per_axis("stride", options.stride, ndim, least=1)
    dilation = parse.per_axis("dilation", options.dilation, ndim, least=1)
    dilation = tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    mode = parse.choice("padding_mode", options.padding_mode, PADDING_MODES)
    padding = parse.padding(options.padding, ndim, size, kernel, stride, dilation)
    crop, cropped, padding_left = _crop(size, padding)
    _check_space(mode, size, kernel, padding, dilation, input_name)
    size, padding = cropped, padding_left
    stride = _clip_stride(size, kernel, stride, padding, dilation)
    addends = tuple(a.dtype for a in (bias, residual) if a is not None)
    out_dtype = None if options.out_dtype is None else dtypes.check(options.out_dtype, "out_dtype")
    resolved = dtypes.resolve(input.dtype, weight.dtype, addends, out_dtype, input_name)
    fused, resolved = activation.check(options.activation, resolved)
    spec = ConvSpec(
        batch=batch,
        groups=groups,
        in_channels=channels,
        out_channels=weight.shape[0],
        input_size=_pad3(size, 1),
        kernel_size=_pad3(kernel, 1),
        stride=_pad3(stride, 1),
        padding=_pad3(padding, (0, 0)),
        dilation=_pad3(dilation, 1),
        padding_mode=mode if any(map(any, padding)) else "zeros",
        dtypes=resolved,
        channels_last=input.channels_last and not channels == weight.shape[0] == 1,  # one channel lies the same either way
        has_bias=bias is not None,
        has_residual=residual is not None,
        activation=fused,
        algorithm=parse.word("algorithm", options.algorithm),
        precision=parse.choice("precision", options.precision, PRECISIONS),
    )
    shape = data_format.shape(spec.batch, spec.out_channels, spec.output_size)
    check_addends(bias, residual, spec.out_channels, shape)
    check_memory(shape, spec.dtypes.out, input_name, f"a result of shape {shape} (padding={options.padding!r})")
    return spec, data_format._replace(crop=_pad3(crop, (0, 0)))


def probe(ndim: int, weight: ArraySpec, options: ConvOptions) -> ArraySpec:
    """Return the smallest data that a weight and options make sense for, to check them by before there is any.

    Raises
    ------
    ValueError, TypeError
        As :func:`normalise`.
    """
    groups = parse.integer("groups", options.groups, least=1)
    channels = weight.shape[1] * groups if len(weight.shape) == ndim + 2 else 0
    kernel = _check_weight(weight, ndim, channels, groups)
    dilation = parse.per_axis("dilation", options.dilation, ndim, least=1)
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    pads = parse.padding(options.padding, ndim, extent, kernel, (1,) * ndim, dilation)
    size = tuple(e + max(0, -lo) + max(0, -hi) for e, (lo, hi) in zip(extent, pads, strict=True))
    shape = (*size, channels) if parse.channels_last(options.layout, ndim) else (channels, *size)
    return ArraySpec((1, *shape), weight.dtype)


# ---------------------------------------------------------------- arrays


def split_data(data: ArraySpec, ndim: int, layout: Any, argument: str = "input") -> tuple[DataFormat, int, int, Size]:
    """Return the format, batch size, channels and spatial size of data in a layout."""
    last = parse.channels_last(layout, ndim)
    item = (*_AXES[-ndim:], "C") if last else ("C", *_AXES[-ndim:])
    if len(data.shape) not in (ndim + 1, ndim + 2):
        expected = f"({', '.join(item)}) or (N, {', '.join(item)})"
        raise bad_value(argument, f"{ndim + 1} or {ndim + 2} dimensions, {expected}", f"shape {data.shape}")
    batched = len(data.shape) == ndim + 2
    batch, shape = (data.shape[0], data.shape[1:]) if batched else (1, data.shape)
    data_format = DataFormat(ndim, batched, last, ((0, 0),) * 3)
    return (data_format, batch, shape[-1], shape[:-1]) if last else (data_format, batch, shape[0], shape[1:])


def check_addends(bias: ArraySpec | None, residual: ArraySpec | None, channels: int, shape: Size) -> None:
    """Raise ValueError unless bias and residual fit a result of `shape` with this many channels."""
    if bias is not None and bias.shape != (channels,):
        raise bad_value("bias", f"shape {(channels,)}, one value per output channel", f"shape {bias.shape}")
    if residual is not None and residual.shape != shape:
        raise bad_value("residual", f"the result's shape {shape}", f"shape {residual.shape}")


def _check_weight(weight: ArraySpec, ndim: int, channels: int, groups: int, argument: str = "weight") -> Size:
    names = ", ".join(f"k{axis.lower()}" for axis in _AXES[-ndim:])
    if len(weight.shape) != ndim + 2:
        expected = f"{ndim + 2} dimensions, (out_channels, in_channels / groups, {names})"
        raise bad_value(argument, expected, f"shape {weight.shape}")
    if min(weight.shape[2:]) < 1:
        raise bad_value(argument, "a kernel of at least one element", f"shape {weight.shape}")
    if channels % groups:
        raise bad_value("groups", f"a divisor of the input's {channels} channels", groups)
    if weight.shape[0] % groups:
        raise bad_value("groups", f"a divisor of the weight's {weight.shape[0]} output channels", groups)
    if weight.shape[1] != channels // groups:
        expected = f"{channels // groups} input channels ({channels} of the input / {groups} groups)"
        raise bad_value(argument, expected, f"{weight.shape[1]} in shape {weight.shape}")
    return weight.shape[2:]


# ---------------------------------------------------------------- padding


def _crop(size: Size, padding: tuple) -> tuple[tuple, Size, tuple]:
    """Take negative padding off the data first, so that nobody below sees it."""
    crop = tuple((max(0, -lo), max(0, -hi)) for lo, hi in padding)
    left = tuple(n - lo - hi for n, (lo, hi) in zip(size, crop, strict=True))
    if min(left) < 0:
        raise bad_value("padding", f"to crop no more than the input's size {size}", padding)
    return crop, left, tuple((max(0, lo), max(0, hi)) for lo, hi in padding)


def _check_space(mode: str, size: Size, kernel: Size, padding: tuple, dilation: Size, argument: str) -> None:
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(size, padding, strict=True))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if any(abs(p) > _MAX_EXTENT for pair in padding for p in pair):
        raise bad_value("padding", f"at most {_MAX_EXTENT} a side", padding)
    if any(p < e for p, e in zip(padded, extent, strict=True)):
        expected = f"a padded size of at least the kernel's extent {extent}"
        raise bad_value(argument, expected, f"{padded} (size {size}, padding {padding}, dilation {dilation})")
    rows = zip(size, padding, strict=True)
    if mode != "zeros" and any(n + min(0, lo) + min(0, hi) <= 0 < max(lo, hi) for n, (lo, hi) in rows):
        raise bad_value(argument, f"elements to pad with for padding_mode={mode!r}", f"size {size}, padding {padding}")


def _clip_stride(size: Size, kernel: Size, stride: Size, padding: tuple, dilation: Size) -> Size:
    """A stride past the last position acts like any other such stride, and might exceed every integer type."""
    rows = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple(min(s, n + lo + hi - d * (k - 1)) for n, k, s, (lo, hi), d in rows)


def check_memory(shape: Size, dtype: np.dtype, argument: str, what: str) -> None:
    """Raise ValueError for a result that this machine cannot hold."""
    nbytes = _product(shape) * dtype.itemsize
    if nbytes > _physical_memory():
        expected = f"a result that fits this machine's {_physical_memory():.3g} bytes of memory"
        raise bad_value(argument, expected, f"{what}, {nbytes:.3g} bytes")


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**42


def _pad3(values: Sequence[Any], fill: Any) -> Any:
    return (fill,) * (3 - len(values)) + tuple(values)


def _product(values: Sequence[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result
