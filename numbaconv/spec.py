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

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from numbaconv import dtypes
from numbaconv.errors import bad_type, bad_value

__all__ = ["ArraySpec", "ConvOptions", "ConvSpec", "DataFormat", "Pads", "Size", "Triple", "normalise", "probe"]

Triple = tuple[int, int, int]
Pads = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
Size = tuple[int, ...]

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
PRECISIONS = ("ieee", "tf32", "bf16")
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
_AXES = ("D", "H", "W")
# Positions and strides in bytes must fit 64-bit signed integers with room to add.
_MAX_EXTENT = 2**40


class ArraySpec(NamedTuple):
    """What planning needs to know of an array: no data."""

    shape: Size
    dtype: np.dtype
    channels_last: bool = False  # its channels are adjacent in memory


class ConvOptions(NamedTuple):
    """The arguments of a call that are not arrays, as the caller wrote them."""

    stride: Any = 1
    padding: Any = 0
    dilation: Any = 1
    groups: Any = 1
    padding_mode: Any = "zeros"
    layout: Any = None
    activation: Any = None
    out_dtype: Any = None
    algorithm: Any = "auto"
    precision: Any = "ieee"


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

    @cached_property
    def kernel_extent(self) -> Triple:
        """The kernel's size with its holes, ``dilation * (k - 1) + 1`` an axis."""
        return _triple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @cached_property
    def output_size(self) -> Triple:
        """``(input + padding - extent) // stride + 1`` an axis."""
        rows = zip(self.input_size, self.padding, self.kernel_extent, self.stride, strict=True)
        return _triple((n + lo + hi - extent) // s + 1 for n, (lo, hi), extent, s in rows)

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
) -> tuple[ConvSpec, DataFormat]:
    """Check one call and bring it to canonical form.

    Raises
    ------
    ValueError
        For shapes and option values; the message names the argument, what was expected and what came.
    TypeError
        For dtypes, and options of a wrong Python type.
    """
    channels_last = _layout(options.layout, ndim)
    batched, batch, channels, size = _split_input(input, ndim, channels_last)
    groups = _int("groups", options.groups, least=1)
    kernel = _check_weight(weight, ndim, channels, groups)
    stride = _per_axis("stride", options.stride, ndim, least=1)
    dilation = _per_axis("dilation", options.dilation, ndim, least=1)
    dilation = tuple(1 if k == 1 else d for k, d in zip(kernel, dilation, strict=True))
    mode = _choice("padding_mode", options.padding_mode, PADDING_MODES)
    padding = _padding(options.padding, ndim, size, kernel, stride, dilation)
    crop, size, padding = _crop(size, padding)
    _check_space(ndim, mode, size, kernel, padding, dilation)
    stride = _clip_stride(size, kernel, stride, padding, dilation)

    if bias is not None and bias.shape != weight.shape[:1]:
        raise bad_value("bias", f"shape {weight.shape[:1]}, one value per output channel", f"shape {bias.shape}")
    addends = tuple(a.dtype for a in (bias, residual) if a is not None)
    out_dtype = None if options.out_dtype is None else dtypes.check(options.out_dtype, "out_dtype")
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
        dtypes=dtypes.resolve(input.dtype, weight.dtype, addends, out_dtype),
        channels_last=input.channels_last,
        has_bias=bias is not None,
        has_residual=residual is not None,
        activation=options.activation,
        algorithm=_word("algorithm", options.algorithm),
        precision=_choice("precision", options.precision, PRECISIONS),
    )
    data_format = DataFormat(ndim, batched, channels_last, _pad3(crop, (0, 0)))
    shape = data_format.shape(spec.batch, spec.out_channels, spec.output_size)
    if residual is not None and residual.shape != shape:
        raise bad_value("residual", f"the result's shape {shape}", f"shape {residual.shape}")
    _check_memory(shape, spec, options.padding)
    return spec, data_format


def probe(ndim: int, weight: ArraySpec, options: ConvOptions) -> ArraySpec:
    """Return the smallest data that a weight and options make sense for, to check them by before there is any.

    Raises
    ------
    ValueError, TypeError
        As :func:`normalise`.
    """
    groups = _int("groups", options.groups, least=1)
    channels = weight.shape[1] * groups if len(weight.shape) == ndim + 2 else 0
    kernel = _check_weight(weight, ndim, channels, groups)
    dilation = _per_axis("dilation", options.dilation, ndim, least=1)
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    pads = _padding(options.padding, ndim, extent, kernel, (1,) * ndim, dilation)
    size = tuple(e + max(0, -lo) + max(0, -hi) for e, (lo, hi) in zip(extent, pads, strict=True))
    shape = (*size, channels) if _layout(options.layout, ndim) else (channels, *size)
    return ArraySpec((1, *shape), weight.dtype)


# ---------------------------------------------------------------- arrays


def _split_input(input: ArraySpec, ndim: int, channels_last: bool) -> tuple[bool, int, int, Size]:
    item = (*_AXES[-ndim:], "C") if channels_last else ("C", *_AXES[-ndim:])
    if len(input.shape) not in (ndim + 1, ndim + 2):
        expected = f"({', '.join(item)}) or (N, {', '.join(item)})"
        raise bad_value("input", f"{ndim + 1} or {ndim + 2} dimensions, {expected}", f"shape {input.shape}")
    batched = len(input.shape) == ndim + 2
    batch, shape = (input.shape[0], input.shape[1:]) if batched else (1, input.shape)
    return (batched, batch, shape[-1], shape[:-1]) if channels_last else (batched, batch, shape[0], shape[1:])


def _check_weight(weight: ArraySpec, ndim: int, channels: int, groups: int) -> Size:
    names = ", ".join(f"k{axis.lower()}" for axis in _AXES[-ndim:])
    if len(weight.shape) != ndim + 2:
        expected = f"{ndim + 2} dimensions, (out_channels, in_channels / groups, {names})"
        raise bad_value("weight", expected, f"shape {weight.shape}")
    if min(weight.shape[2:]) < 1:
        raise bad_value("weight", "a kernel of at least one element", f"shape {weight.shape}")
    if channels % groups:
        raise bad_value("groups", f"a divisor of the input's {channels} channels", groups)
    if weight.shape[0] % groups:
        raise bad_value("groups", f"a divisor of the weight's {weight.shape[0]} output channels", groups)
    if weight.shape[1] != channels // groups:
        expected = f"{channels // groups} input channels ({channels} of the input / {groups} groups)"
        raise bad_value("weight", expected, f"{weight.shape[1]} in shape {weight.shape}")
    return weight.shape[2:]


# ---------------------------------------------------------------- padding


def _padding(value: Any, ndim: int, size: Size, kernel: Size, stride: Size, dilation: Size) -> tuple:
    """Return one (low, high) pair an axis."""
    forms = f"an int, {ndim} ints, {ndim} (low, high) pairs, 'valid', 'same' or 'same_lower'"
    if isinstance(value, str):
        if value == "valid":
            return ((0, 0),) * ndim
        if value not in ("same", "same_lower"):
            raise bad_value("padding", forms, repr(value))
        same = tuple(_same(*row) for row in zip(size, kernel, stride, dilation, strict=True))
        return same if value == "same" else tuple((hi, lo) for lo, hi in same)
    items = _items(value)
    if items is None:
        return ((_int("padding", value, forms=forms),) * 2,) * ndim
    if all(_items(item) is None for item in items):
        each = tuple(_int("padding", item, forms=forms) for item in items)
        if len(each) == 1:
            each *= ndim
        if len(each) != ndim:
            raise bad_value("padding", forms, repr(value))
        return tuple((p, p) for p in each)
    pairs = tuple(_items(item) or () for item in items)
    if len(pairs) != ndim or any(len(pair) != 2 for pair in pairs):
        raise bad_value("padding", forms, repr(value))
    return tuple((_int("padding", lo, forms=forms), _int("padding", hi, forms=forms)) for lo, hi in pairs)


def _same(n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """The smallest padding that gives ceil(n / s) outputs; the odd element goes high."""
    total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
    return total // 2, total - total // 2


def _crop(size: Size, padding: tuple) -> tuple[tuple, Size, tuple]:
    """Take negative padding off the data first, so that nobody below sees it."""
    crop = tuple((max(0, -lo), max(0, -hi)) for lo, hi in padding)
    left = tuple(n - lo - hi for n, (lo, hi) in zip(size, crop, strict=True))
    if min(left) < min(0, *size):
        raise bad_value("padding", f"to crop no more than the input's size {size}", padding)
    return crop, left, tuple((max(0, lo), max(0, hi)) for lo, hi in padding)


def _check_space(ndim: int, mode: str, size: Size, kernel: Size, padding: tuple, dilation: Size) -> None:
    padded = tuple(n + lo + hi for n, (lo, hi) in zip(size, padding, strict=True))
    extent = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    if any(abs(p) > _MAX_EXTENT for pair in padding for p in pair):
        raise bad_value("padding", f"at most {_MAX_EXTENT} a side", padding)
    if any(p < e for p, e in zip(padded, extent, strict=True)):
        expected = f"a padded size of at least the kernel's extent {extent}"
        raise bad_value("input", expected, f"{padded} (size {size}, padding {padding}, dilation {dilation})")
    if mode != "zeros" and any(n == 0 and p > 0 for n, p in zip(size, padded, strict=True)):
        raise bad_value("input", f"at least one element an axis for padding_mode={mode!r}", f"size {size}")


def _clip_stride(size: Size, kernel: Size, stride: Size, padding: tuple, dilation: Size) -> Size:
    """A stride past the last position acts like any other such stride, and might exceed every integer type."""
    rows = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple(min(s, n + lo + hi - d * (k - 1)) for n, k, s, (lo, hi), d in rows)


def _check_memory(shape: Size, spec: ConvSpec, padding: Any) -> None:
    nbytes = _product(shape) * spec.dtypes.out.itemsize
    if nbytes > _physical_memory():
        what = f"a result of shape {shape}, {nbytes:.3g} bytes (padding={padding!r})"
        raise bad_value("input", f"a result that fits this machine's {_physical_memory():.3g} bytes of memory", what)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 2**42


# ---------------------------------------------------------------- options


def _layout(layout: Any, ndim: int) -> bool:
    return layout is not None and _choice("layout", layout, LAYOUTS[ndim]) == LAYOUTS[ndim][1]


def _choice(argument: str, value: Any, choices: tuple[str, ...]) -> str:
    word = _word(argument, value)
    if word not in choices:
        raise bad_value(argument, "one of " + ", ".join(map(repr, choices)), repr(word))
    return word


def _word(argument: str, value: Any) -> str:
    if not isinstance(value, str):
        raise bad_type(argument, "a str", repr(value))
    return str(value)


def _int(argument: str, value: Any, least: int | None = None, forms: str = "") -> int:
    expected = forms or (f"an int of at least {least}" if least is not None else "an int")
    if isinstance(value, (bool, np.bool_)):
        raise bad_type(argument, expected, repr(value))
    try:
        number = operator.index(value)
    except TypeError:
        raise bad_type(argument, expected, repr(value)) from None
    if least is not None and number < least:
        raise bad_value(argument, expected, number)
    return number


def _per_axis(argument: str, value: Any, ndim: int, least: int) -> Size:
    forms = f"an int or {ndim} ints of at least {least}"
    items = _items(value)
    if items is None:
        items = (value,)
    if len(items) not in (1, ndim):
        raise bad_value(argument, forms, repr(value))
    numbers = tuple(_int(argument, item, forms=forms) for item in items)
    if any(n < least for n in numbers):
        raise bad_value(argument, forms, repr(value))
    return numbers * ndim if len(numbers) == 1 else numbers


def _items(value: Any) -> tuple | None:
    """The items of a sequence of numbers, or None for anything else."""
    if isinstance(value, np.ndarray):
        return tuple(value) if value.ndim else None
    return tuple(value) if isinstance(value, (tuple, list)) else None


def _pad3(values: Sequence[Any], fill: Any) -> Any:
    return (fill,) * (3 - len(values)) + tuple(values)


def _triple(values: Any) -> Triple:
    d, h, w = values
    return d, h, w


def _product(values: Sequence[int]) -> int:
    result = 1
    for value in values:
        result *= value
    return result
