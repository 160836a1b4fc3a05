"""Between device arrays and their shadows: NumPy arrays of the same address, shape and strides whose elements nobody touches.

Under the simulator a device array wraps a NumPy array, and that is its shadow.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from numbaconv import dtypes
from numbaconv.cuda.target import simulated
from numbaconv.errors import bad_type

__all__ = [
    "ALIGNMENT", "Place", "beginning", "cast_shadow", "element_strides", "imagined", "lend", "place_of", "pointer", "relocated",
]  # fmt: skip

ALIGNMENT = 16  # bytes: what kernels tell the addresses of operands apart by


class _Raw:
    """What NumPy builds a shadow from; it keeps the device array alive as long as the shadow."""

    def __init__(self, interface: dict[str, Any], owner: Any) -> None:
        fields = ("shape", "typestr", "data", "strides")
        self.__array_interface__ = {"version": 3, **{f: interface.get(f) for f in fields}}
        self.owner = owner


class _Lent:
    """What Numba builds a device array from; it keeps the shadow alive, and so the array that cast it."""

    def __init__(self, shadow: np.ndarray) -> None:
        fields = ("shape", "typestr", "data")
        interface = shadow.__array_interface__
        self.__cuda_array_interface__ = {"version": 3, "strides": shadow.strides, **{f: interface[f] for f in fields}}
        self.shadow = shadow


class _SimulatedPointer:
    """A pointer for the simulator: indices count elements from the array's first, and may be negative, but not leave it."""

    def __init__(self, shadow: np.ndarray) -> None:
        lowest = shadow[tuple(slice(None, None, -1 if s < 0 else 1) for s in shadow.strides)]
        spans = [(n - 1) * s // shadow.itemsize for n, s in zip(shadow.shape, shadow.strides, strict=True)]
        self.before = sum(-span for span in spans if span < 0) if shadow.size else 0
        count = sum(map(abs, spans)) + 1 if shadow.size else 0
        self.memory = np.lib.stride_tricks.as_strided(lowest, (count,), (shadow.itemsize,))

    def __getitem__(self, index: int) -> Any:
        return self.memory[self._position(index)]

    def __setitem__(self, index: int, value: Any) -> None:
        self.memory[self._position(index)] = np.asarray(value).astype(self.memory.dtype)

    def _position(self, index: int) -> int:
        position = self.before + index
        if not 0 <= position < len(self.memory):
            raise IndexError(f"element {index} of an array of {len(self.memory)}, the first of which is {-self.before}")
        return position


def cast_shadow(array: Any, argument: str) -> np.ndarray:
    """Return the shadow of a device array.

    Raises
    ------
    TypeError
        If it is no device array, or one whose dtype, byte order or strides the kernels cannot read, or masked.
    """
    try:
        interface = getattr(array, "__cuda_array_interface__", None)
    except RuntimeError as error:  # of torch, for a tensor that requires grad
        raise bad_type(argument, "an array that may be read", str(error)) from None
    if interface is not None:
        shadow = _shadow(array, interface, argument)
    elif type(array).__name__ == "FakeCUDAArray":
        shadow = np.asarray(array)
    else:
        raise bad_type(argument, "an array on the CUDA device", type(array).__name__)
    if shadow.dtype.kind == "V":  # bfloat16's name in the array interfaces
        shadow = _bfloat16(array, shadow, argument)
    dtypes.check(shadow.dtype, argument)
    whole = not any(n > 1 and s % shadow.itemsize for n, s in zip(shadow.shape, shadow.strides, strict=True))
    if not (shadow.dtype.isnative and shadow.flags.aligned and whole):
        got = f"dtype {shadow.dtype.str} and strides {shadow.strides}"
        raise bad_type(argument, "a device array in native byte order, aligned, its strides multiples of an element", got)
    return shadow


def _bfloat16(array: Any, shadow: np.ndarray, argument: str) -> np.ndarray:
    """See words of 16 bits as bfloat16, if the array's dtype says so."""
    name = str(getattr(array, "dtype", shadow.dtype)).rpartition(".")[2]
    if name != dtypes.BFLOAT16 or shadow.itemsize != 2:
        raise bad_type(argument, "an array of numbers", name)
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise bad_type(argument, "a dtype that NumPy knows (with the package ml_dtypes it knows bfloat16)", name) from None
    return shadow.view(bfloat16)


def _shadow(array: Any, interface: dict[str, Any], argument: str) -> np.ndarray:
    if interface.get("mask") is not None:
        raise bad_type(argument, "an array without a mask", "a masked array")
    if 0 in interface["shape"]:  # its address may be null, which NumPy takes for none at all
        return np.empty(interface["shape"], interface["typestr"])
    return np.asarray(_Raw(interface, array))


def lend(shadow: np.ndarray) -> Any:
    """Return the Numba device array that a shadow describes."""
    from numba import cuda

    if simulated():
        from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

        return FakeCUDAArray(shadow)
    array = cuda.as_cuda_array(_Lent(shadow))
    return array.view(shadow.dtype) if array.dtype != shadow.dtype else array  # bfloat16, of which the interface says "V2"


def pointer(shadow: np.ndarray) -> Any:
    """Return the address of a shadow's first element, as kernels take it; truth values are bytes to them."""
    if not simulated():
        return shadow.ctypes.data
    return _SimulatedPointer(shadow.view(np.uint8) if shadow.dtype == np.bool_ else shadow)


# ---------------------------------------------------------------- imagined operands

# No address of this machine's: shadows of arrays that are not there yet begin in the middle of regions of this size. There is one
# for each number and each address modulo ALIGNMENT.
_FIRST, _REGION = 1 << 56, 1 << 48


class Place(NamedTuple):
    """Where an imagined shadow begins: so many bytes from the beginning of what was imagined in a region."""

    region: int
    offset: int


def imagined(shadow: np.ndarray, region: int) -> np.ndarray:
    """Return a shadow like this one, as aligned, in a region of its own."""
    return relocated(shadow, beginning(region, shadow.ctypes.data % ALIGNMENT))


def beginning(region: int, remainder: int = 0) -> int:
    """Return the address where a region's array begins, which is so much modulo ALIGNMENT."""
    return _FIRST + (region * ALIGNMENT + remainder) * _REGION + _REGION // 2 + remainder


def place_of(shadow: np.ndarray) -> Place | None:
    """Return the place of an imagined shadow, None for others."""
    number = shadow.ctypes.data - _FIRST
    if number < 0 or shadow.size == 0:
        return None
    region, remainder = divmod(number // _REGION, ALIGNMENT)
    return Place(region, number % _REGION - _REGION // 2 - remainder)


def relocated(shadow: np.ndarray, address: int) -> np.ndarray:
    """Return a shadow of other memory. Nothing keeps that memory alive."""
    if shadow.size == 0:
        return shadow
    interface = {"shape": shadow.shape, "strides": shadow.strides, "typestr": f"|V{shadow.itemsize}", "data": (address, False)}
    return np.asarray(_Raw(interface, None)).view(shadow.dtype)


def element_strides(shadow: np.ndarray) -> tuple[int, ...]:
    """Return the strides, counted in elements. Those of axes of one element mean nothing, and are 0."""
    return tuple(s // shadow.itemsize if n > 1 else 0 for n, s in zip(shadow.shape, shadow.strides, strict=True))
