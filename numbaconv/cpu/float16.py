"""16-bit floats on CPUs: stored in 16 bits, computed in float32.

Numba has no float16 on CPUs, so these are two types of our own, whose arrays are NumPy's as they lie in memory, and
conversions in integer arithmetic, which LLVM vectorises on every machine.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import float32, njit, types, uint16, uint32
from numba.extending import intrinsic, models, register_model

__all__ = ["BFLOAT16", "FLOAT16", "load", "round_to"]


class Float16Type(types.Type):
    """The type of an element of 16 bits."""


FLOAT16 = Float16Type("stored_float16")
BFLOAT16 = Float16Type("stored_bfloat16")


@register_model(Float16Type)
class _Float16Model(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, ir.IntType(16))


def _reinterpret(result: types.Type, argument: types.Type | None = None) -> Any:
    @intrinsic
    def reinterpret(typing_context, value):
        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(result))

        return result(argument or value), codegen

    return reinterpret


_stored_bits = _reinterpret(uint16)
_as_float16 = _reinterpret(FLOAT16, uint16)
_as_bfloat16 = _reinterpret(BFLOAT16, uint16)
_as_float = _reinterpret(float32, uint32)
_float_bits = _reinterpret(uint32, float32)


@njit(error_model="numpy")
def float16_to_float(h):
    """The float32 of the same value: the exponent rebiased by 112; Inf and NaN by 224; subnormals through a subtraction."""
    magnitude = uint32(h & uint16(0x7FFF)) << uint32(13)
    rebiased = magnitude + uint32(112 << 23)
    if magnitude < uint32(1 << 23):
        rebiased = _float_bits(_as_float(magnitude + uint32(113 << 23)) - _as_float(uint32(113 << 23)))
    if magnitude >= uint32(31 << 23):
        rebiased = magnitude + uint32(224 << 23)
    return _as_float(rebiased | (uint32(h & uint16(0x8000)) << uint32(16)))


@njit(error_model="numpy")
def float_to_float16(x):
    """The nearest float16, ties to even; the rounding of subnormals is that of adding 0.5, whose last bit is theirs."""
    bits = _float_bits(x)
    sign = bits & uint32(0x80000000)
    bits ^= sign
    nearest = (bits - uint32(112 << 23) + uint32(0xFFF) + ((bits >> uint32(13)) & uint32(1))) >> uint32(13)
    if bits < uint32(113 << 23):
        nearest = _float_bits(_as_float(bits) + float32(0.5)) - uint32(126 << 23)
    if bits >= uint32(143 << 23):
        nearest = uint32(0x7E00) if bits > uint32(255 << 23) else uint32(0x7C00)
    return uint16(nearest | (sign >> uint32(16)))


@njit(error_model="numpy")
def bfloat16_to_float(h):
    """The float32 of the same value: its upper half."""
    return _as_float(uint32(h) << uint32(16))


@njit(error_model="numpy")
def float_to_bfloat16(x):
    """The nearest bfloat16, ties to even; NaN stays NaN."""
    bits = _float_bits(x)
    if bits & uint32(0x7FFFFFFF) > uint32(255 << 23):
        return uint16((bits >> uint32(16)) | uint32(0x40))
    return uint16((bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16))


@intrinsic
def load(typing_context: Any, value: Any) -> Any:
    """Return an element of an array as a number: float32 for the stored 16-bit types, itself for all others."""
    widen = {FLOAT16: float16_to_float, BFLOAT16: bfloat16_to_float}.get(value)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if widen is None:
            return args[0]
        return context.compile_internal(builder, lambda value: widen(_stored_bits(value)), signature, args)

    return (value if widen is None else float32)(value), codegen


@intrinsic
def round_to(typing_context: Any, array: Any, value: Any) -> Any:
    """Return a number as an element of `array`: rounded for the stored 16-bit types, itself for all others."""
    narrow = {FLOAT16: (float_to_float16, _as_float16), BFLOAT16: (float_to_bfloat16, _as_bfloat16)}.get(array.dtype)
    result = value if narrow is None else array.dtype

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if narrow is None:
            return args[1]
        rounded, typed = narrow
        return context.compile_internal(builder, lambda value: typed(rounded(float32(value))), result(value), args[1:])

    return result(array, value), codegen
