"""Streams and devices: on which of them a call runs, and what it has to wait for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from numbaconv.cuda import foreign
from numbaconv.cuda.driver import capture_status
from numbaconv.cuda.target import current_device, simulated
from numbaconv.errors import bad_type, bad_value

__all__ = ["address_of", "as_stream", "bound_to", "capturing", "device_of", "follow", "on_device", "one_device"]

_LEGACY_DEFAULT = 1  # the default stream's number in the CUDA array interface


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


def address_of(stream: Any) -> int:
    """Return a stream as a raw pointer, 0 for the default one."""
    if stream is None or isinstance(stream, int):
        return stream or 0
    wrapped = as_stream(stream)
    return int(wrapped.handle or 0) if wrapped and not simulated() else 0


def bound_to(array: Any) -> Any:
    """Return the stream that a Numba array is bound to, which a call is on that names none; None for other arrays."""
    return getattr(array, "stream", None) or None


def follow(stream: Any, arrays: Sequence[Any]) -> None:
    """Let a stream wait for those on which arrays are being computed, where these name them; not while it is being captured."""
    if simulated():
        return
    named = {exported for array in arrays if (exported := _exported(array)) is not None}
    if named:
        _wait_for(named, stream)


def _wait_for(producers: set[int], stream: Any) -> None:
    address = address_of(stream)
    others = producers - ({0, _LEGACY_DEFAULT} if address == 0 else {address})
    if not others or capturing(address):
        return
    from numba import cuda

    for producer in others:
        event = cuda.event(timing=False)
        event.record(cuda.external_stream(producer))
        event.wait(as_stream(stream) or cuda.default_stream())


def _exported(array: Any) -> int | None:
    """The stream in an array's interface, which takes long to make; torch's names none."""
    family = foreign.family(array)
    silent = type(array).__module__.startswith("torch") if family is None else type(array) in foreign.SILENT
    return None if silent else array.__cuda_array_interface__.get("stream")


def capturing(address: int) -> bool:
    """Whether a stream is being captured into a graph."""
    return not simulated() and capture_status(address) != 0


# ---------------------------------------------------------------- devices


def device_of(array: Any) -> int:
    """Return the number of the GPU that an array lives on."""
    if simulated():
        return 0
    family = foreign.family(array)
    if family is not None:
        return family.device(array)
    from cuda.bindings import driver

    attribute = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, number = driver.cuPointerGetAttribute(attribute, array.__cuda_array_interface__["data"][0])
    return current_device() if error else int(number)  # an empty array has no address


def one_device(arrays: dict[str, Any]) -> int | None:
    """Return the GPU that all of these arrays live on; None if there are no arrays.

    Raises
    ------
    ValueError
        If they live on several.
    """
    numbers = {name: device_of(array) for name, array in arrays.items()}
    first = next(iter(numbers.items()), None)
    for name, number in numbers.items():
        if first is not None and number != first[1]:
            raise bad_value(name, f"an array on GPU {first[1]}, as {first[0]} is", f"one on GPU {number}")
    return None if first is None else first[1]


@contextmanager
def on_device(number: int | None) -> Iterator[None]:
    """Make a GPU the current one for a while; None: leave it."""
    if number is None or number == current_device():
        yield
        return
    from numba import cuda

    with cuda.gpus[number]:
        yield
