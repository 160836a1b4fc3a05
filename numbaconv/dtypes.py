"""Which dtype goes in, is summed in, and comes out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from numbaconv.errors import bad_type

__all__ = ["Dtypes", "check", "resolve"]

SUPPORTED = tuple(np.dtype(name) for name in (
    "float32", "float64", "complex64", "complex128", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
))  # fmt: skip
_NAMES = ", ".join(d.name for d in SUPPORTED)


class Dtypes(NamedTuple):
    """The dtypes of a convolution: data is read as `input`, products are summed in `compute`, results stored in `out`."""

    input: np.dtype
    compute: np.dtype
    out: np.dtype


def check(dtype: object, argument: str) -> np.dtype:
    """Return `dtype` as a supported native dtype.

    Raises
    ------
    TypeError
        If it is no dtype, or one that no kernel computes in.
    """
    try:
        native = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
    except TypeError:
        raise bad_type(argument, f"one of the dtypes {_NAMES}", repr(dtype)) from None
    if native not in SUPPORTED:
        raise bad_type(argument, f"one of the dtypes {_NAMES}", native)
    return native


def resolve(input: np.dtype, weight: np.dtype, addends: tuple[np.dtype, ...] = (), out: np.dtype | None = None) -> Dtypes:
    """Apply the dtype rules.

    Parameters
    ----------
    input, weight
        dtypes of the data and of the kernel.
    addends
        dtypes of bias and residual, where there are any.
    out
        What the caller wants, or None for the default.

    Raises
    ------
    TypeError
        If NumPy has no common dtype, or `out` is of a lesser kind than the result (integers for floats, say).

    Notes
    -----
    8-bit integers are summed in int32 (as ONNX ConvInteger), other integers in what ``np.sum`` gives; everything else
    in ``np.result_type``. A wider `out` widens the sum, so nothing is rounded on the way.
    """
    operand = np.result_type(input, weight)
    compute = _sum_dtype(input, weight, operand)
    if any(d.kind in "fc" for d in addends) and operand.kind in "biu":
        compute = np.result_type(operand, *addends)
    else:
        compute = np.result_type(compute, *addends)
    if compute not in SUPPORTED:
        raise bad_type("input", f"operands whose common dtype is one of {_NAMES}", f"{input} and {weight}")
    if out is None:
        out = compute
    elif not can_hold(out, compute):
        raise bad_type("out_dtype", f"a dtype that can hold a {compute} result", out)
    compute = _widen(compute, out)
    return Dtypes(input, compute, out)


def can_hold(out: np.dtype, result: np.dtype) -> bool:
    """Whether a result may be stored as `out`: integers wrap, floats may be rounded, no kind may be lost."""
    kinds = "biufc"
    rank = {"b": 0, "i": 0, "u": 0, "f": 1, "c": 2}
    return out.kind in kinds and rank[out.kind] >= rank[result.kind]


def _widen(compute: np.dtype, out: np.dtype) -> np.dtype:
    if compute.kind in "iu":
        return np.dtype(f"int{8 * out.itemsize}") if out.kind in "iu" and out.itemsize > compute.itemsize else compute
    return np.result_type(compute, out if out.kind == compute.kind else np.empty(0, out).real.dtype)


def _sum_dtype(input: np.dtype, weight: np.dtype, operand: np.dtype) -> np.dtype:
    if operand.kind not in "biu":
        return operand
    if operand.kind != "b" and input.itemsize == weight.itemsize == 1:
        return np.dtype(np.int32)
    return np.sum(np.empty(0, operand)).dtype
