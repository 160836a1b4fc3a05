"""The arguments of a task as words in memory, so that all tasks are called alike: ``task(number, frame)``.

Numba takes each array of a call apart anew, which costs a tenth of a microsecond each and a specialisation of the caller for
each signature. Here that is done once, in a :class:`Frame`. Of the arrays that differ from call to call (the first few
arguments) it holds what lies between their address and that of the caller's array, which alone travels with the call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import NativeValue, intrinsic, register_model, unbox

__all__ = ["ADDRESS", "BASES", "Frame", "FrameType", "arguments", "spilled"]

BASES = 5  # arguments, at most, whose arrays may differ from call to call
HEAD = 5  # words of an array before its shape and strides: owner, owner's object, size, itemsize, address


class Frame(np.ndarray):
    """Words of arguments."""

    kept: object  # has to live as long

    @classmethod
    def of(cls, args: tuple, bases: Sequence[np.ndarray | None] = ()) -> Frame:
        """Write down arguments, arrays and integers; what is the view of a base is remembered by its place in that."""
        words: list[int] = []
        for number, arg in enumerate(args):
            if isinstance(arg, np.ndarray):
                base = bases[number] if number < len(bases) else None
                origin = 0 if base is None else base.ctypes.data
                words += (0, 0, arg.size, arg.itemsize, arg.ctypes.data - origin, *arg.shape, *arg.strides)
            else:
                words.append(int(arg))
        return np.array(words, np.int64).view(cls)


class FrameType(types.Type):
    """Numba's type of the address of a frame and its bases, for arguments of some types: arrays and 64-bit integers."""

    def __init__(self, signature: tuple[types.Type, ...]) -> None:
        self.arguments = signature
        super().__init__(f"frame{signature}")


@register_model(FrameType)
class _FrameModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, ir.IntType(64))


class _Address(types.Type):
    """The address of an array's first element, or 0 for None, as an argument from Python."""


ADDRESS = _Address("address of an array")


@register_model(_Address)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, ir.IntType(64))


@unbox(_Address)
def _look(typ: Any, array: Any, c: Any) -> NativeValue:
    """Read ``PyArrayObject_fields.data``, which follows Python's head of an object."""
    builder, word = c.builder, ir.IntType(64)
    address = cgutils.alloca_once_value(builder, ir.Constant(word, 0))
    with builder.if_then(builder.icmp_unsigned("!=", array, c.pyapi.borrow_none())):
        field = cgutils.gep_inbounds(builder, builder.bitcast(array, word.as_pointer()), object.__basicsize__ // 8)
        builder.store(builder.load(field), address)
    return NativeValue(builder.load(address))


@intrinsic
def spilled(typing_context: Any, frame: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    """Where the address of a frame and its bases lie on this function's stack: one word, which every thread may have.

    Behind them is a word for :func:`numbaconv.cpu.intrinsics.attempt`.
    """

    def codegen(context: Any, builder: Any, signature: Any, words: Any) -> Any:
        block = cgutils.alloca_once_value(builder, cgutils.pack_array(builder, [*words, ir.IntType(64)(0)]))
        return builder.ptrtoint(block, ir.IntType(64))

    return types.int64(*[ADDRESS] * (1 + BASES)), codegen


@intrinsic
def arguments(typing_context: Any, frame: Any) -> Any:
    """The tuple that the frame was made of."""
    word = ir.IntType(64)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        block = builder.inttoptr(args[0], word.as_pointer())

        def at(pointer: Any, index: int) -> Any:
            return builder.load(cgutils.gep_inbounds(builder, pointer, index))

        words, first, values = builder.inttoptr(at(block, 0), word.as_pointer()), 0, []
        for number, typ in enumerate(frame.arguments):
            if not isinstance(typ, types.Array):
                values.append(at(words, first))
                first += 1
                continue
            data, ndim = at(words, first + 4), typ.ndim
            if number < BASES:
                data = builder.add(data, at(block, 1 + number))
            view = context.make_array(typ)(context, builder)
            shape, strides = ([at(words, first + HEAD + k * ndim + i) for i in range(ndim)] for k in range(2))
            context.populate_array(
                view, data=builder.inttoptr(data, view.data.type), shape=cgutils.pack_array(builder, shape),
                strides=cgutils.pack_array(builder, strides), itemsize=at(words, first + 3), meminfo=None,
            )  # fmt: skip
            values.append(view._getvalue())
            first += HEAD + 2 * ndim
        return context.make_tuple(builder, signature.return_type, values)

    return types.BaseTuple.from_types(frame.arguments)(frame), codegen
