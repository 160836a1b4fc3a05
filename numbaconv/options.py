"""The arguments of a call that are not arrays, and how each is read: what callers may write, and what it means."""

from __future__ import annotations

import operator
from typing import Any, NamedTuple

import numpy as np

from numbaconv.errors import bad_type, bad_value, shown

__all__ = [
    "DEEPEST",
    "ConvOptions",
    "Size",
    "channels_last",
    "choice",
    "ends_in_channels",
    "frozen",
    "integer",
    "padding",
    "per_axis",
    "plain",
    "shape",
    "word",
]

Size = tuple[int, ...]
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")
PRECISIONS = ("ieee", "tf32", "bf16")
DEEPEST = 2  # of sequences in one another: paddings
_BITS = 1000  # of an int that is no size at all, and too long for messages
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


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
    output_padding: Any = 0  # of transposed operators
    size: Any = None  # of gradients: the shape of what they are gradients of


def frozen(options: ConvOptions) -> ConvOptions:
    """Return the options with tuples in the place of lists and arrays, and ints in that of NumPy's.

    They are hashable, and the caller's to change no more.
    """
    return ConvOptions._make(map(plain, options))


def plain(value: Any, depth: int = DEEPEST) -> Any:
    """Return one of them so."""
    if issubclass(type(value), np.integer):
        return int(value)
    found = items(value)
    return value if found is None or depth == 0 else tuple(plain(item, depth - 1) for item in found)


def padding(value: Any, ndim: int, size: Size, kernel: Size, stride: Size, dilation: Size) -> tuple:
    """Return one (low, high) pair an axis."""
    forms = f"an int, {ndim} ints, {ndim} (low, high) pairs, 'valid', 'same' or 'same_lower'"
    if issubclass(type(value), str):
        value = str.__str__(value)
        if value == "valid":
            return ((0, 0),) * ndim
        if value not in ("same", "same_lower"):
            raise bad_value("padding", forms, shown(value))
        same = tuple(_same(*row) for row in zip(size, kernel, stride, dilation, strict=True))
        return same if value == "same" else tuple((hi, lo) for lo, hi in same)
    found = items(value)
    if found is None:
        return ((integer("padding", value, forms=forms),) * 2,) * ndim
    if all(items(item) is None for item in found):
        each = tuple(integer("padding", item, forms=forms) for item in found)
        if len(each) == 1:
            each *= ndim
        if len(each) != ndim:
            raise bad_value("padding", forms, shown(value))
        return tuple((p, p) for p in each)
    pairs = tuple(items(item) or () for item in found)
    if len(pairs) != ndim or any(len(pair) != 2 for pair in pairs):
        raise bad_value("padding", forms, shown(value))
    return tuple((integer("padding", lo, forms=forms), integer("padding", hi, forms=forms)) for lo, hi in pairs)


def _same(n: int, k: int, s: int, d: int) -> tuple[int, int]:
    """The smallest padding that gives ceil(n / s) outputs; the odd element goes high."""
    total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
    return total // 2, total - total // 2


def ends_in_channels(layout: Any) -> bool:
    """Whether that would be a layout with the channels last, if it is one at all."""
    return issubclass(type(layout), str) and str.endswith(layout, "C")


def channels_last(layout: Any, ndim: int) -> bool:
    """Whether a layout has the channels after the spatial axes."""
    return layout is not None and choice("layout", layout, LAYOUTS[ndim]) == LAYOUTS[ndim][1]


def choice(argument: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return one of `choices`."""
    chosen = word(argument, value)
    if chosen not in choices:
        raise bad_value(argument, "one of " + ", ".join(map(repr, choices)), shown(chosen))
    return chosen


def word(argument: str, value: Any) -> str:
    """Return a str."""
    if not issubclass(type(value), str):
        raise bad_type(argument, "a str", shown(value))
    return str.__str__(value)


def integer(argument: str, value: Any, least: int | None = None, forms: str = "") -> int:
    """Return an int, which bools and floats are not."""
    expected = forms or (f"an int of at least {least}" if least is not None else "an int")
    if type(value) in (bool, np.bool_):
        raise bad_type(argument, expected, shown(value))
    try:
        number = int(operator.index(value))
    except Exception:  # whatever an object of the caller's raises
        raise bad_type(argument, expected, shown(value)) from None
    if number.bit_length() > _BITS or (least is not None and number < least):
        raise bad_value(argument, expected, number)
    return number


def shape(argument: str, value: Any) -> Size:
    """Return a shape: non-negative ints."""
    found = items(value)
    if found is None:
        raise bad_type(argument, "a sequence of ints", shown(value))
    return tuple(integer(argument, item, least=0) for item in found)


def per_axis(argument: str, value: Any, ndim: int, least: int) -> Size:
    """Return one int an axis, from one for all or one for each."""
    forms = f"an int or {ndim} ints of at least {least}"
    found = items(value)
    if found is None:
        found = (value,)
    if len(found) not in (1, ndim):
        raise bad_value(argument, forms, shown(value))
    numbers = tuple(integer(argument, item, forms=forms) for item in found)
    if any(n < least for n in numbers):
        raise bad_value(argument, forms, shown(value))
    return numbers * ndim if len(numbers) == 1 else numbers


def items(value: Any) -> tuple | None:
    """Return the items of a sequence of numbers, or None for anything else."""
    kind = type(value)  # not isinstance, which asks the object
    if issubclass(kind, np.ndarray) and not issubclass(kind, np.ma.MaskedArray):
        return tuple(np.asarray(value)) if value.ndim else None
    if issubclass(kind, tuple):
        return tuple(tuple.__iter__(value))
    return tuple(list.__iter__(value)) if issubclass(kind, list) else None
