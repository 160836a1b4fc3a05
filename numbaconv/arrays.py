"""What an array is, where it lives, and how it is seen in canonical form.

The view functions take NumPy arrays. An array on a device goes through them as its *shadow*: a NumPy array of the same
address, shape and strides whose elements nobody touches, so that one set of functions serves every kind of array.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from numbaconv import dtypes
from numbaconv.errors import bad_type, bad_value, shown
from numbaconv.options import ends_in_channels
from numbaconv.spec import ArraySpec, ConvSpec, DataFormat, Size

__all__ = [
    "HOST", "Looker", "Memory", "Place", "Recording", "View", "check_out", "describe", "place_of", "result_view",
    "same_view", "seen", "stored_shape", "view_bias", "view_data", "view_input", "view_weight", "writes_directly",
]  # fmt: skip

Place = Literal["host", "cuda"]
View = Callable[[np.ndarray], np.ndarray]
Looker = Callable[[Any], tuple[int, Hashable] | None]
_SIMULATOR = ("numba.cuda.simulator", "numba_cuda.numba.cuda.simulator")


def place_of(array: Any) -> Place:
    """Where an array lives. What is no CUDA array is NumPy's to convert."""
    kind = type(array)
    if kind is np.ndarray:
        return "host"
    module = str(kind.__module__)
    library = module.partition(".")[0]
    if library in _TELLS:  # asking for the interface, they would make it
        return _TELLS[library](array)
    if module.startswith(_SIMULATOR):
        return "cuda"
    try:
        return "cuda" if issubclass(type(array.__cuda_array_interface__), dict) else "host"
    except Exception:  # whatever an object of the caller's raises: NumPy makes it an array, or not
        return "host"


_TELLS: dict[str, Callable[[Any], Place]] = {
    "torch": lambda array: "cuda" if getattr(array, "is_cuda", False) else "host",
    "cupy": lambda array: "cuda",
}


def seen(array: Any) -> tuple | None:
    """All of a NumPy array that what is bound to it depends on: shape, dtype and, out of C order, strides.

    None for other objects, and for what kernels do not read as it lies.
    """
    if type(array) is not np.ndarray:
        return None
    flags = array.flags
    if flags.carray:  # in C order, aligned, and writeable
        return array.shape, array.dtype
    if not flags.aligned:
        return None
    return (array.shape, array.dtype) if flags.c_contiguous else (array.shape, array.dtype, array.strides)


class Memory(Protocol):
    """What a kind of memory offers to the dispatch layer."""

    lookers: ClassVar[dict[type, Looker]]  # by kind of array, what :meth:`look` calls, as far as that is known

    def session(self, arrays: dict[str, Any], stream: Any) -> AbstractContextManager[Any]:
        """Enter where these operands live, after all that they wait for; what comes is the stream that the call is on.

        Raises ValueError if they live on several devices.
        """

    def ordered(self, arrays: Sequence[Any], stream: Any) -> Any:
        """Return the stream that a call is on, having it wait for all that these operands wait for."""

    def site(self, array: Any) -> Hashable:
        """Say where an array lives, more exactly than :func:`place_of`; None: where such arrays are made now."""

    def view(self, array: Any, argument: str) -> np.ndarray:
        """Return an operand as a NumPy array (or a shadow) of a supported dtype, native and aligned; TypeError if it is none."""

    def view_out(self, out: Any) -> np.ndarray:
        """Return ``out`` as a NumPy array (or a shadow) of just its memory; TypeError if it is of another kind."""

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: Any) -> Any:
        """Allocate an array in C order, of the family of `like` where that is of this memory."""

    def restride(self, array: Any, view: np.ndarray) -> Any:
        """Return the array that `view`, derived from the view of `array`, describes."""

    def maker(self, stored: np.ndarray, view: np.ndarray, like: Any) -> Callable[[Any, Any], tuple[Any, int]]:
        """Return what does that for arrays like `stored` and its `view`, of the family and on the device of `like`.

        Given an array as `like` and a stream, it returns what is described, and its address.
        """

    def to_host(self, array: Any, stream: Any) -> np.ndarray:
        """Copy to NumPy."""

    def from_host(self, array: np.ndarray, like: Any, stream: Any) -> Any:
        """Copy from NumPy, to the family of `like` where that is of this memory."""

    def copy(self, target: Any, source: Any, stream: Any) -> None:
        """target[...] = source, within this memory, as ``numpy.ndarray.astype`` converts."""

    def conjugate(self, view: np.ndarray, stream: Any) -> np.ndarray:
        """Return the view of a conjugated copy of what `view` shows."""

    def settle(self, stream: Any) -> None:
        """Wait until what was begun on a stream is done."""

    def look(self, array: Any) -> tuple[int, Hashable] | None:
        """Return an operand's address, and all else of it that a recording depends on; None if calls with it are not recorded."""

    def record(self, shadows: Sequence[np.ndarray | None], run: Callable[[list[np.ndarray | None], Any], None]) -> Recording:
        """Write down what `run` does with arrays like these and a stream."""


class Recording(Protocol):
    """What a call does on a device, for operands anywhere."""

    def play(self, addresses: Sequence[int], stream: Any, like: Any) -> None:
        """Do it on a stream, with the arrays at these addresses; `like` is one of them."""


class _Host:
    """NumPy's memory."""

    lookers: ClassVar[dict[type, Looker]] = {}

    def session(self, arrays: dict[str, Any], stream: Any) -> AbstractContextManager[Any]:
        return nullcontext(stream)

    def ordered(self, arrays: Sequence[Any], stream: Any) -> Any:
        return stream

    def site(self, array: Any) -> Hashable:
        return "host"

    def view(self, array: Any, argument: str) -> np.ndarray:
        return _as_host(array, argument)

    def view_out(self, out: Any) -> np.ndarray:
        kind = type(out)
        if not issubclass(kind, np.ndarray) or issubclass(kind, np.ma.MaskedArray):
            raise bad_type("out", "a NumPy array", kind.__name__)
        return out if kind is np.ndarray else out.view(np.ndarray)

    def empty(self, shape: Size, dtype: np.dtype, like: Any, stream: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def restride(self, array: np.ndarray, view: np.ndarray) -> np.ndarray:
        return view

    def to_host(self, array: np.ndarray, stream: Any) -> np.ndarray:
        return array

    def from_host(self, array: np.ndarray, like: Any, stream: Any) -> np.ndarray:
        return array

    def copy(self, target: np.ndarray, source: np.ndarray, stream: Any) -> None:
        with np.errstate(all="ignore"):  # as the kernels, which store without a word
            np.asarray(target)[...] = source.astype(target.dtype, copy=False)

    def conjugate(self, view: np.ndarray, stream: Any) -> np.ndarray:
        return np.conjugate(view)

    def settle(self, stream: Any) -> None:
        pass

    def maker(self, stored: np.ndarray, view: np.ndarray, like: Any) -> Callable[[Any, Any], tuple[Any, int]]:
        raise NotImplementedError  # as in record

    def look(self, array: Any) -> None:
        return None

    def record(self, shadows: Sequence[np.ndarray | None], run: Callable[[list[np.ndarray | None], Any], None]) -> Recording:
        raise NotImplementedError  # what runs on the host is bound (numbaconv.bound)


HOST: Memory = _Host()


def _as_host(array: Any, argument: str) -> np.ndarray:
    if array is None:
        raise bad_type(argument, "an array or nested lists of numbers", "None")
    if issubclass(type(array), np.ma.MaskedArray):
        raise bad_type(argument, "an array without a mask (see numpy.ma.filled)", "a masked array")
    try:
        result = np.asarray(array)
    except MemoryError:
        raise
    except Exception as error:  # whatever an object of the caller's raises
        raise bad_type(argument, "an array or nested lists of numbers", f"{type(array).__name__} ({shown(error, str)})") from None
    dtype = dtypes.check(result.dtype, argument)
    if not (result.dtype.isnative and result.flags.aligned):
        result = result.astype(dtype)
    return result


def describe(array: np.ndarray, ndim: int, layout: Any) -> ArraySpec:
    """Return what planning needs to know of the data, the order of its axes in memory among it."""
    layout_last = ends_in_channels(layout)
    if array.flags.c_contiguous or array.ndim < ndim + 1:
        return ArraySpec(array.shape, array.dtype, layout_last)
    sizes, strides = array.shape[-ndim - 1 :], [abs(s) for s in array.strides[-ndim - 1 :]]
    channel = ndim if layout_last else 0
    space = [strides[a] for a in range(ndim + 1) if a != channel and sizes[a] > 1]
    ambiguous = sizes[channel] <= 1 or not space or 0 in strides or strides[channel] == min(space)
    return ArraySpec(array.shape, array.dtype, layout_last if ambiguous else strides[channel] < min(space))


def view_input(array: np.ndarray, data_format: DataFormat, groups: int) -> np.ndarray:
    """See the caller's data as ``(batch, groups, channels / groups, D, H, W)``, without what padding crops."""
    view = view_data(array, data_format, groups)
    if not any(map(any, data_format.crop)):
        return view
    d, h, w = (slice(lo, n - hi) for n, (lo, hi) in zip(view.shape[3:], data_format.crop, strict=True))
    return view[..., d, h, w]


def view_data(array: np.ndarray, data_format: DataFormat, groups: int) -> np.ndarray:
    """See an array of the caller's as ``(batch, groups, channels / groups, D, H, W)``. Splitting axes never copies."""
    if not data_format.batched:
        array = array[None]
    if data_format.channels_last:
        array = np.moveaxis(array, -1, 1)
    batch, channels, *space = array.shape
    depth = (1,) * (3 - data_format.ndim)
    return array.reshape(batch, groups, channels // groups, *depth, *space)


def view_weight(weight: np.ndarray, groups: int) -> np.ndarray:
    """See ``(out_channels, in_channels / groups, *kernel)`` in the canonical six axes."""
    outs, ins, *kernel = weight.shape
    return weight.reshape(groups, outs // groups, ins, *(1,) * (3 - len(kernel)), *kernel)


def view_bias(bias: np.ndarray, groups: int) -> np.ndarray:
    """See a bias as ``(groups, out_channels / groups)``."""
    return bias.reshape(groups, len(bias) // groups)


def same_view(array: np.ndarray, view: np.ndarray) -> View:
    """Return what sees any array like this one, in C order, as `view` sees this one; in one step, whatever led to `view`."""
    shape, dtype, strides = view.shape, view.dtype, view.strides
    if view.flags.c_contiguous and view.size == array.size:
        return lambda a: a.reshape(shape)
    offset = view.ctypes.data - array.ctypes.data
    return lambda a: np.ndarray(shape, dtype, a, offset, strides)


def stored_shape(spec: ConvSpec, data_format: DataFormat) -> Size:
    """Return the result's shape with the axes in the order of memory: the input's, where that has a clear one."""
    stored = data_format._replace(channels_last=spec.channels_last)
    return stored.shape(spec.batch, spec.out_channels, spec.output_size)


def result_view(stored: np.ndarray, spec: ConvSpec, data_format: DataFormat) -> np.ndarray:
    """See an array of :func:`stored_shape` with the axes in the order of the layout."""
    if spec.channels_last == data_format.channels_last:
        return stored
    first = int(data_format.batched)
    return np.moveaxis(stored, -1, first) if spec.channels_last else np.moveaxis(stored, first, -1)


def check_out(out: np.ndarray, shape: Size, result: np.dtype) -> None:
    """Raise unless `out` can take the result.

    Raises
    ------
    TypeError
        If its dtype would lose the result's kind.
    ValueError
        If it has another shape, is read-only, or has elements that share memory.
    """
    dtype = dtypes.check(out.dtype, "out")
    if not dtypes.can_hold(dtype, result):
        raise bad_type("out", f"a dtype that can hold a {result} result", dtype)
    if out.shape != shape:
        raise bad_value("out", f"the result's shape {shape}", f"shape {out.shape}")
    if not out.flags.writeable:
        raise bad_value("out", "a writeable array", "a read-only one")
    if _overlaps_itself(out):
        raise bad_value("out", "elements that do not share memory", f"strides {out.strides} for shape {out.shape}")


def writes_directly(out: np.ndarray, dtype: np.dtype, others: tuple[np.ndarray | None, ...]) -> bool:
    """Whether a kernel may store into `out` itself: the right dtype, aligned, and apart from all that it reads."""
    plain = out.dtype == dtype and out.dtype.isnative and out.flags.aligned
    return plain and not any(a is not None and np.may_share_memory(out, a) for a in others)


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether elements may share memory: each axis has to step over all that the smaller ones span."""
    span = array.itemsize
    for step, n in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if step < span:
            return array.size > 0
        span += (n - 1) * step
    return False
