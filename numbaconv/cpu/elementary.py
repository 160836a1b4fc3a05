"""``exp``, ``tanh`` and ``erf`` of float32 numbers without branches or calls, so that LLVM makes vector code of loops over them.

The C library's take one number at a time. Errors are those of the tests: a few units in the last place.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import float32, int32, njit
from numba.extending import intrinsic

__all__ = ["erf", "exp", "tanh"]

function = njit(error_model="numpy", fastmath={"contract"})
LOG2_E = float32(1.4426950408889634)
# ln 2 as two numbers, the first with so few digits that its multiples by up to 2^8 are exact.
LN2_HIGH, LN2_LOW = float32(0.693359375), float32(-2.1219444005469058e-4)
ROUNDING = float32(1.5 * 2.0**23)  # what is added to this is rounded to an integer, in the last digits of the sum
LEAST, MOST = float32(-104.0), float32(88.8)  # beyond, exp is 0 and infinite
ONE, TWO = float32(1), float32(2)
SIGN = int32(-(2**31))

# (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, to a relative error of exp(r) - 1 of 2^-31: a minimax fit (Lawson's iteration).
C0, C1, C2 = float32(0.5000000046820527), float32(0.1666666635239673), float32(0.04166634870765169)
C3, C4, C5 = float32(0.008333391637065701), float32(0.0013941652702476202), float32(0.00019845958324774473)

# erf(x) / x for 0 <= x <= FLAT, from where it is 1, as a quotient of polynomials in x^2: fitted to an error of erf of 2^-25.
FLAT = float32(3.92)
P0, P1, P2 = float32(1.128379022325407), float32(0.1927640201399813), float32(0.053060483116482475)
P3, P4, P5 = float32(0.0038683287550892653), float32(0.00028747994034754434), float32(2.0347412929088588e-06)
Q1, Q2, Q3 = float32(0.5041643311678988), float32(0.11508461029901151), float32(0.015172296778906231)
Q4, Q5 = float32(0.001188116532425508), float32(3.807073730416383e-05)


@intrinsic
def as_integer(typing_context: Any, number: Any) -> Any:
    """``number.view(int32)``."""
    return int32(float32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic
def as_float(typing_context: Any, number: Any) -> Any:
    """``number.view(float32)``."""
    return float32(int32), lambda context, builder, signature, args: builder.bitcast(args[0], ir.FloatType())


@function
def power_of_2(n):
    """2^n for -126 <= n <= 127."""
    return as_float(int32(int32(n + int32(127)) << int32(23)))


@function
def reduced(x):
    """n and exp(r) - 1, where x = n ln(2) + r."""
    shifted = x * LOG2_E + ROUNDING
    n = shifted - ROUNDING
    r = (x - n * LN2_HIGH) - n * LN2_LOW
    more = ((((C5 * r + C4) * r + C3) * r + C2) * r + C1) * r + C0
    return int32(as_integer(shifted) - as_integer(ROUNDING)), r * r * more + r


@function
def exp(x):
    """e^x."""
    x = LEAST if x < LEAST else (MOST if x > MOST else x)
    n, less = reduced(x)
    half = int32(n >> int32(1))  # 2^n itself may be too small or too large a number
    return (less + ONE) * power_of_2(half) * power_of_2(int32(n - half))


@function
def tanh(x):
    """(e^2x - 1) / (e^2x + 1)."""
    y = TWO * abs(x)
    y = float32(20) if y > float32(20) else y
    n, less = reduced(y)
    scale = power_of_2(n)
    more = scale * less + (scale - ONE)  # e^y - 1
    sign = int32(as_integer(x) & SIGN)
    return as_float(int32(as_integer(more / (more + TWO)) | sign))


@function
def erf(x):
    """The error function."""
    y = FLAT if x > FLAT else (-FLAT if x < -FLAT else x)
    z = y * y
    above = ((((P5 * z + P4) * z + P3) * z + P2) * z + P1) * z + P0
    below = ((((Q5 * z + Q4) * z + Q3) * z + Q2) * z + Q1) * z + ONE
    return y * above / below
