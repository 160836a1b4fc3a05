"""bfloat16 as kernels see it: a type of 16 bits that becomes a float32 when it is read, and that float32s are rounded to.

Numba's own needs CUDA's headers when kernels are linked. This one is only converted, never computed with.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.cuda import models, types
from numba.cuda.cudaimpl import lower_cast
from numba.cuda.extending import register_model

from numbaconv.dtypes import BFLOAT16

__all__ = ["BFloat16", "bfloat16", "number_type"]

_WORD = ir.IntType(32)


class BFloat16(types.Number):
    """The upper half of a float32."""

    def __init__(self) -> None:
        super().__init__(name=BFLOAT16)
        self.bitwidth = 16

    def can_convert_to(self, context: Any, other: Any) -> str | None:
        """Reading loses nothing."""
        return "safe" if isinstance(other, (types.Float, types.Complex)) else None

    def can_convert_from(self, context: Any, other: Any) -> str | None:
        """Storing rounds."""
        return "unsafe" if isinstance(other, (types.Float, types.Integer)) else None


bfloat16 = BFloat16()


@register_model(BFloat16)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, of: BFloat16) -> None:
        super().__init__(manager, of, ir.IntType(16))


@lower_cast(BFloat16, types.Float)
@lower_cast(BFloat16, types.Complex)
def _widened(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    bits = builder.shl(builder.zext(value, _WORD), _WORD(16))
    return context.cast(builder, builder.bitcast(bits, ir.FloatType()), types.float32, target)


@lower_cast(types.Float, BFloat16)
@lower_cast(types.Integer, BFloat16)
def _rounded(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    """To the nearest, ties to even: add half of the last place, less one unless that place is odd. A NaN stays one."""
    single = context.cast(builder, value, source, types.float32)
    bits = builder.bitcast(single, _WORD)
    odd = builder.and_(builder.lshr(bits, _WORD(16)), _WORD(1))
    rounded = builder.add(bits, builder.add(odd, _WORD(0x7FFF)))
    nan = builder.fcmp_unordered("uno", single, single)
    chosen = builder.select(nan, builder.or_(bits, _WORD(0x400000)), rounded)
    return builder.trunc(builder.lshr(chosen, _WORD(16)), ir.IntType(16))


def number_type(dtype: np.dtype) -> Any:
    """Return the Numba type of a dtype's elements in memory: truth values are bytes."""
    from numba import from_dtype

    if dtype.name == BFLOAT16:
        return bfloat16
    return types.uint8 if dtype == np.bool_ else from_dtype(dtype)
