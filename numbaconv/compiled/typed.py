"""Reading the types that Numba found for the arguments of a call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.np.numpy_support import as_dtype

from numbaconv import activation, dtypes
from numbaconv.compiled.named import is_name, name_of
from numbaconv.compiled.request import LATER, ArrayType

__all__ = ["array_type", "backend_name", "given", "options", "result_dtype"]

WORDS = ("padding_mode", "layout", "algorithm", "precision")


def given(value: Any) -> bool:
    """Whether an argument is there at all."""
    return not (value is None or isinstance(value, types.NoneType) or (isinstance(value, types.Omitted) and value.value is None))


def array_type(argument: str, value: Any) -> ArrayType:
    """Return what Numba knows of an array."""
    if isinstance(value, types.Optional):
        raise refused(argument, value, "an array that is there, or None, wherever the program has come from; test for None first")
    if not isinstance(value, types.Array):
        raise refused(argument, value, "an array; make one with np.array()")
    if not value.aligned:
        raise refused(argument, value, "an aligned array; copy it")
    if argument == "out" and not value.mutable:
        raise refused(argument, value, "a writeable array")
    return ArrayType(as_dtype(value.dtype).name, value.ndim, value.layout == "C")


def options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by name, as values, with :data:`LATER` for ints that are known when the call runs."""
    return {name: _word(name, value) if name in WORDS else _option(name, value) for name, value in values.items()}


def backend_name(value: Any) -> str | None:
    """Return the backend that was asked for."""
    return _word("backend", value)


def _word(argument: str, value: Any) -> str | None:
    if not given(value):
        return None
    value = value.value if isinstance(value, types.Omitted) else value
    if isinstance(value, str):
        return value
    if isinstance(value, types.StringLiteral):
        return value.literal_value
    raise refused(argument, value, "a literal str: one that stands in the call itself")


def _option(argument: str, value: Any) -> Any:
    if not given(value):
        return None
    value = value.value if isinstance(value, types.Omitted) else value
    if isinstance(value, (int, str, tuple)):
        return value
    if argument == "out_dtype":
        return _dtype(value)
    if argument == "activation":
        return name_of(value.dispatcher) if isinstance(value, types.Dispatcher) else _word(argument, value)
    if argument == "padding" and isinstance(value, types.StringLiteral):
        return value.literal_value
    return _ints(argument, value, value)


def _ints(argument: str, value: Any, whole: Any) -> Any:
    if isinstance(value, types.BaseTuple):
        return tuple(_ints(argument, item, whole) for item in value)
    if isinstance(value, types.IntegerLiteral):
        return value.literal_value
    if isinstance(value, types.Integer):
        return LATER
    raise refused(argument, whole, "an int, or a tuple of ints" + (", or a literal str" if argument == "padding" else ""))


def _dtype(value: Any) -> str:
    if isinstance(value, types.StringLiteral):
        return value.literal_value
    if isinstance(value, (types.NumberClass, types.DType)):
        return as_dtype(value.dtype).name
    raise refused("out_dtype", value, "a dtype like np.float32, or a literal str")


def result_dtype(arrays: Mapping[str, ArrayType], out_dtype: Any, fused: Any) -> np.dtype:
    """Return the result's dtype; any where the call is to raise."""
    known = {name: np.dtype(typ.dtype) for name, typ in arrays.items()}
    addends = tuple(known[name] for name in ("bias", "residual") if name in known)
    if out_dtype == "float16":
        raise refused("out_dtype", out_dtype, "a dtype that Numba has on the CPU")
    try:
        wanted = None if out_dtype is None else dtypes.check(out_dtype, "out_dtype")
        resolved = dtypes.resolve(known["input"], known["weight"], addends, wanted)
        return resolved.out if is_name(fused) else activation.check(fused, resolved)[1].out
    except (TypeError, ValueError):
        return np.dtype(np.float64)


def refused(argument: str, value: Any, expected: str) -> TypingError:
    """Return the error for an argument of a type that does not do, in words that say which would."""
    return TypingError(f"{argument}: expected {expected}; got {value}")
