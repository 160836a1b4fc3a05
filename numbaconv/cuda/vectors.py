"""Several neighbours in memory as one vector, to and from the registers of a thread.

This module imports Numba's CUDA, so that only kernels import it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from llvmlite import ir
from numba.cuda import types
from numba.cuda.extending import intrinsic

from numbaconv.cuda.ptx import address_of
from numbaconv.cuda.target import simulated

__all__ = ["vectors"]

_WORD = ir.IntType(32)


@cache
def vectors(many: int) -> tuple[Callable, Callable]:
    """Return ``load(pointer, index, values, first)`` and ``store`` with the same arguments.

    They move pointer[index], ... of so many elements, real and aligned as a whole, to and from values[first], ... of a local
    array, and convert them.
    """
    return _simulated(many) if simulated() else _compiled(many)


def _compiled(many: int) -> tuple[Callable, Callable]:
    @intrinsic
    def load(typing_context: Any, pointer: Any, index: Any, values: Any, first: Any) -> Any:
        of, to = pointer.dtype, values.dtype

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            model, held = context.data_model_manager[of], context.data_model_manager[to]
            address, places = _addresses(context, builder, signature, args, ir.VectorType(model.get_data_type(), many))
            vector = builder.load(address, align=many * of.bitwidth // 8)
            for i, place in enumerate(places):
                element = model.from_data(builder, builder.extract_element(vector, _WORD(i)))
                builder.store(held.as_data(builder, context.cast(builder, element, of, to)), place)
            return context.get_dummy_value()

        return types.void(pointer, types.int64, values, types.int64), codegen

    @intrinsic
    def store(typing_context: Any, pointer: Any, index: Any, values: Any, first: Any) -> Any:
        of, to = values.dtype, pointer.dtype

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            held, model = context.data_model_manager[of], context.data_model_manager[to]
            kind = ir.VectorType(model.get_data_type(), many)
            address, places = _addresses(context, builder, signature, args, kind)
            vector = ir.Constant(kind, ir.Undefined)
            for i, place in enumerate(places):
                element = context.cast(builder, held.from_data(builder, builder.load(place)), of, to)
                vector = builder.insert_element(vector, model.as_data(builder, element), _WORD(i))
            builder.store(vector, address, align=many * to.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(pointer, types.int64, values, types.int64), codegen

    return load, store


def _addresses(context: Any, builder: Any, signature: Any, args: Any, vector: Any) -> tuple[Any, list[Any]]:
    """The address of a vector of an LLVM type, and those of its elements in the local array."""
    pointer, index, values, first = args
    place = builder.gep(context.make_array(signature.args[2])(context, builder, value=values).data, [first])
    address = builder.bitcast(builder.gep(pointer, [index]), vector.as_pointer())
    return address, [builder.gep(place, [_WORD(i)]) for i in range(vector.count)]


def _simulated(many: int) -> tuple[Callable, Callable]:
    def check(pointer: Any, index: Any) -> None:
        itemsize = pointer.memory.itemsize
        if (address_of(pointer) + index * itemsize) % (many * itemsize):
            raise ValueError(f"an address is no multiple of {many * itemsize}")

    def load(pointer: Any, index: Any, values: Any, first: Any) -> None:
        check(pointer, index)
        for v in range(many):
            values[first + v] = pointer[index + v]

    def store(pointer: Any, index: Any, values: Any, first: Any) -> None:
        check(pointer, index)
        for v in range(many):
            pointer[index + v] = values[first + v]

    return load, store
