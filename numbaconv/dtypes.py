"""Which dtype goes in, is summed in, and comes out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from numbaconv.errors import bad_type, shown

__all__ = ["Dtypes", "check", "resolve"]

SUPPORTED = tuple(np.dtype(name) for name in (
    "float16", "float32", "float64", "complex64", "complex128", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
))  # fmt: skip
BFLOAT16 = "bfloat16"  # ml_dtypes'; known by name, so that it need not be installed
_NAMES = ", ".join([d.name for d in SUPPORTED] + [BFLOAT16])


class Dtypes(NamedTuple):
    """The dtypes of a convolution: data is read as `input`, products are summed in `compute`, results stored in `out`."""

    input: np.dtype
    compute: np.dtype
    out: np.dtype
    weight: np.dtype


def check(dtype: object, argument: str) -> np.dtype:
    """Return `dtype` as a supported native dtype.

    Raises
    ------
    TypeError
        If it is no dtype, or one that no kernel computes in.
    """
    try:
        native = np.dtype(dtype).newbyteorder("=")  # type: ignore[call-overload]
    except Exception:  # whatever an object of the caller's raises
        raise bad_type(argument, f"one of the dtypes {_NAMES}", shown(dtype)) from None
    if native not in SUPPORTED and native.name != BFLOAT16:
        raise bad_type(argument, f"one of the dtypes {_NAMES}", native)
    return native


def resolve(
    input: np.dtype,
    weight: np.dtype,
    addends: tuple[np.dtype, ...] = (),
    out: np.dtype | None = None,
    argument: str = "input",
) -> Dtypes:
    """Apply the dtype rules.

    Parameters
    ----------
    input, weight
        dtypes of the data and of the kernel.
    addends
        dtypes of bias and residual, where there are any.
    out
        What the caller wants, or None for the default.
    argument
        What the data is called.

    Raises
    ------
    TypeError
        If NumPy has no common dtype, or `out` is of a lesser kind than the result (integers for floats, say).

    Notes
    -----
    8-bit integers give int32 (as ONNX ConvInteger), other integers what ``np.sum`` gives, everything else ``np.result_type``.
    What gives 16-bit floats is summed in float32. A wider `out` widens the sum, so nothing is rounded on the way.
    """
    result = _promote(_sum_dtype(input, weight, argument), (input, weight), addends)
    if out is None:
        out = result
    elif not can_hold(out, result):
        raise bad_type("out_dtype", f"a dtype that can hold a {result} result", out)
    compute = np.dtype(np.float32) if kind_of(result) == "f" and result.itemsize == 2 else result
    return Dtypes(input, _widen(compute, out), out, weight)


def kind_of(dtype: np.dtype) -> str:
    """NumPy's letter for the kind of a dtype: "b", "i", "u", "f" (bfloat16 too) or "c"."""
    return "f" if dtype.name == BFLOAT16 else dtype.kind


def can_hold(out: np.dtype, result: np.dtype) -> bool:
    """Whether a result may be stored as `out`: integers wrap, floats may be rounded, no kind may be lost."""
    rank = {"b": 0, "i": 0, "u": 0, "f": 1, "c": 2}
    return rank[kind_of(out)] >= rank[kind_of(result)]


def _widen(compute: np.dtype, out: np.dtype) -> np.dtype:
    """The dtype to sum in so that storing as `out` loses nothing that summing could have kept."""
    if compute.kind in "iu":
        return np.dtype(f"int{8 * out.itemsize}") if out.kind in "iu" and out.itemsize > compute.itemsize else compute
    return np.result_type(compute, np.empty(0, out).real.dtype if out.kind == "c" and compute.kind == "f" else out)


def _sum_dtype(input: np.dtype, weight: np.dtype, argument: str) -> np.dtype:
    operand = _common(argument, input, weight)
    if operand.kind not in "biu":
        return operand
    if operand.kind != "b" and input.itemsize == weight.itemsize == 1:
        return np.dtype(np.int32)
    return np.sum(np.empty(0, operand)).dtype


def _promote(result: np.dtype, operands: tuple[np.dtype, ...], addends: tuple[np.dtype, ...]) -> np.dtype:
    """Take in bias and residual. Float addends to integers promote the operands themselves: int8 and float32 are float32."""
    if any(kind_of(d) in "fc" for d in addends) and result.kind in "iu":
        return _common("bias", *operands, *addends)
    return _common("bias", result, *addends)


def _common(argument: str, *dtypes: np.dtype) -> np.dtype:
    """``numpy.result_type``, which knows no common dtype for float16 and bfloat16, and longdouble for some."""
    try:
        return check(np.result_type(*dtypes), argument)
    except TypeError:
        names = " and ".join(dict.fromkeys(d.name for d in dtypes))
        raise bad_type(argument, f"operands whose common dtype is one of {_NAMES}", names) from None
