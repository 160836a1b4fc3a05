"""What may be applied to a result before it leaves the cache: named functions, and any of the caller's own.

The definitions are scalar Python, which each backend compiles into its epilogue; those for real numbers are PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import erf, exp
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from numbaconv.dtypes import Dtypes, kind_of
from numbaconv.errors import bad_type, bad_value, shown

__all__ = ["SCALARS", "apply", "check", "name_of", "scalar"]


# Constants are of the argument's type, or Numba would compute in float64 what is float32.


def relu(x):
    zero = type(x)(0)
    return zero if x < zero else x


def relu6(x):
    zero, six = type(x)(0), type(x)(6)
    return zero if x < zero else (six if x > six else x)


def leaky_relu(x):
    return type(x)(0.01) * x if x < 0 else x


def sigmoid(x):
    one = type(x)(1)
    return one / (one + exp(-x))


def tanh(x):
    return math.tanh(x)


def silu(x):
    return x / (type(x)(1) + exp(-x))


def gelu(x):
    half, root = type(x)(0.5), type(x)(0.7071067811865476)
    return half * x * (type(x)(1) + erf(x * root))


def hardswish(x):
    three, sixth = type(x)(3), type(x)(1 / 6)
    return type(x)(0) * x if x < -three else (x if x > three else x * (x + three) * sixth)


SCALARS: dict[str, Callable] = {
    f.__name__: f for f in (relu, relu6, leaky_relu, sigmoid, tanh, silu, gelu, hardswish)
}  # fmt: skip
_ON_INTEGERS = ("relu", "relu6")

# The same over whole arrays, in NumPy, for the reference.
_ARRAYS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "leaky_relu": lambda x: np.where(x < 0, 0.01 * x, x),
    "sigmoid": lambda x: np.reciprocal(1 + np.exp(-x)),
    "tanh": np.tanh,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2))),
    "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
}


def check(activation: Any, dtypes: Dtypes) -> tuple[Any, Dtypes]:
    """Return a valid activation, and the dtypes to compute in: floats where integers are to become floats by way of it.

    Raises
    ------
    ValueError
        For a name that is not known.
    TypeError
        For what is neither None, a name, nor a function compiled with ``@njit``, and for a name that is not defined on the dtype.
    """
    kind = type(activation)  # not isinstance, which asks the object
    if activation is None or issubclass(kind, Dispatcher):
        return activation, dtypes
    if not issubclass(kind, str):
        raise bad_type("activation", "None, a name, or a scalar function compiled with @njit", shown(activation))
    activation = str.__str__(activation)
    if activation not in SCALARS:
        raise bad_value("activation", f"one of {', '.join(map(repr, SCALARS))}, or an @njit function", shown(activation))
    compute = dtypes.compute
    if compute.kind in "iu" and activation not in _ON_INTEGERS and kind_of(dtypes.out) == "f":
        return activation, dtypes._replace(compute=np.result_type(compute, dtypes.out))
    if compute.kind == "c" or (compute.kind in "iu" and activation not in _ON_INTEGERS):
        raise bad_type("activation", f"one that is defined on {compute} results", shown(activation))
    # Of what has no sign, relu is nothing; and Numba would take the 0 of its definition and a uint64 to float64.
    return None if activation == "relu" and compute.kind == "u" else activation, dtypes


def scalar(activation: Any) -> Callable | None:
    """Return an activation as a function of Python that a backend can compile, or None."""
    if activation is None:
        return None
    return SCALARS[activation] if isinstance(activation, str) else activation.py_func


def name_of(activation: Any) -> str:
    """How to call an activation in a table."""
    return activation if isinstance(activation, str) else activation.py_func.__name__


def apply(activation: Any, array: np.ndarray) -> np.ndarray:
    """Apply an activation to a whole array, in NumPy; the caller's own one element after the other."""
    if activation is None:
        return array
    if isinstance(activation, str):
        with np.errstate(all="ignore"):
            return _ARRAYS[activation](array).astype(array.dtype)
    if not array.size:
        return array
    try:
        return np.vectorize(activation.py_func, otypes=[array.dtype])(array)
    except Exception as error:
        expected = f"a function of one {array.dtype} scalar that returns one"
        raise bad_type("activation", expected, f"{shown(activation)} ({shown(error)})") from error
