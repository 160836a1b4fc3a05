"""What Numba's Python cannot say: small functions written in its code generator. Each docstring states the meaning."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed
from numba.extending import intrinsic

__all__ = ["address_of", "apply", "as_contiguous", "copy_bytes", "invoke", "keep", "owned", "typed_as"]


@intrinsic
def as_contiguous(typing_context: Any, array: Any) -> Any:
    """``array``, a one-dimensional array whose stride is known to be the item size, typed so that loops over it vectorise.

    ``as_contiguous(a)[i] == a[i]``. The caller keeps `array` alive.
    """
    result = types.Array(array.dtype, 1, "C", readonly=not array.mutable)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, args[0])
        view = context.make_array(result)(context, builder)
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
        context.populate_array(
            view, data=source.data, shape=source.shape, strides=cgutils.pack_array(builder, [size]),
            itemsize=source.itemsize, meminfo=None,
        )  # fmt: skip
        return view._getvalue()

    return result(array), codegen


@intrinsic
def typed_as(typing_context: Any, array: Any, like: Any) -> Any:
    """``array``, known to have the dtype of `like` where this runs, typed so. The caller keeps `array` alive."""
    result = types.Array(like.dtype, array.ndim, "A", readonly=not array.mutable)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, args[0])
        view = context.make_array(result)(context, builder)
        context.populate_array(
            view, data=builder.bitcast(source.data, view.data.type), shape=source.shape, strides=source.strides,
            itemsize=source.itemsize, meminfo=None,
        )  # fmt: skip
        return view._getvalue()

    return result(array, like), codegen


@intrinsic
def owned(typing_context: Any, array: Any) -> Any:
    """As :func:`as_contiguous`, and keeps the memory alive."""
    result = types.Array(array.dtype, 1, "C", readonly=not array.mutable)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return impl_ret_borrowed(context, builder, result, args[0])

    return result(array), codegen


@intrinsic
def apply(typing_context: Any, address: Any, row: Any) -> Any:
    """``function(row.ctypes.data, row.size)`` for the C function ``void (T *, int64_t)`` at `address`; `row` is in C order."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[1])(context, builder, args[1])
        word = ir.IntType(64)
        function = ir.FunctionType(ir.VoidType(), [view.data.type, word]).as_pointer()
        builder.call(builder.inttoptr(args[0], function), [view.data, builder.extract_value(view.shape, 0)])
        return context.get_dummy_value()

    return types.void(types.int64, row), codegen


@intrinsic
def address_of(typing_context: Any, array: Any) -> Any:
    """``array.ctypes.data``, for elements of any type. The caller keeps `array` alive."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.ptrtoint(view.data, ir.IntType(64))

    return types.int64(array), codegen


@intrinsic
def copy_bytes(typing_context: Any, target: Any, source: Any, count: Any) -> Any:
    """``memcpy(target, source, count)`` for addresses."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        to, origin = (builder.inttoptr(a, byte) for a in args[:2])
        cgutils.raw_memcpy(builder, to, origin, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def keep(typing_context: Any, array: Any) -> Any:
    """Nothing: an array whose address is in use has to be named after its last use, or Numba frees it before."""
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


@intrinsic
def invoke(typing_context: Any, address: Any, number: Any, frame: Any) -> Any:
    """``task(number, frame)`` for the compiled task at `address`, which returns nothing and may raise."""
    types_of = (types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        convention = context.call_conv
        function = builder.inttoptr(values[0], convention.get_function_type(types.none, types_of).as_pointer())
        status, _ = convention.call_function(builder, function, types.none, types_of, values[1:])
        with builder.if_then(status.is_error, likely=False):
            convention.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen
