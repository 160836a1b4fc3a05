"""What Numba's Python cannot say: small functions written in its code generator. Each docstring states the meaning."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.extending import intrinsic

__all__ = [
    "address_of",
    "aligned",
    "apply",
    "as_contiguous",
    "attempt",
    "copy_bytes",
    "element",
    "invoke",
    "keep",
    "shaped",
    "typed_as",
    "unowned",
    "word",
    "zeroed",
]


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
def aligned(typing_context: Any, count: Any, like: Any) -> Any:
    """``np.empty(count, like.dtype)`` that begins on a cache line: vectors across two lines cost double.

    With NumPy's own Numba compiles three more functions for each dtype. Nothing is allocated for no elements.
    """
    result = types.Array(like.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        size = word(context.get_abi_sizeof(context.get_data_type(like.dtype)))
        view = context.make_array(result)(context, builder)
        owner = cgutils.alloca_once_value(builder, cgutils.get_null_value(cgutils.voidptr_t))
        data = cgutils.alloca_once_value(builder, cgutils.get_null_value(view.data.type))
        with builder.if_then(builder.icmp_unsigned("!=", args[0], word(0))):
            allocated = context.nrt.meminfo_alloc_aligned(builder, builder.mul(args[0], size), ir.IntType(32)(64))
            builder.store(allocated, owner)
            builder.store(builder.bitcast(context.nrt.meminfo_data(builder, allocated), view.data.type), data)
        memory = builder.load(owner)
        context.populate_array(
            view, data=builder.load(data),
            shape=cgutils.pack_array(builder, [args[0]]), strides=cgutils.pack_array(builder, [size]), itemsize=size,
            meminfo=memory,
        )  # fmt: skip
        return impl_ret_new_ref(context, builder, result, view._getvalue())

    return result(types.int64, like), codegen


@intrinsic
def zeroed(typing_context: Any, array: Any) -> Any:
    """``array``, a one-dimensional one in C order, with zeros in it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(array)(context, builder, args[0])
        size = builder.mul(builder.extract_value(view.shape, 0), view.itemsize)
        cgutils.memset(builder, view.data, size, 0)
        return impl_ret_borrowed(context, builder, array, args[0])

    return array(array), codegen


@intrinsic
def shaped(typing_context: Any, array: Any, shape: Any) -> Any:
    """``array.reshape(-1)[:math.prod(shape)].reshape(shape)`` for an array in C order, which it keeps alive."""
    result = types.Array(array.dtype, len(shape), "C", readonly=not array.mutable)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source = context.make_array(signature.args[0])(context, builder, args[0])
        view = context.make_array(result)(context, builder)
        given = zip(cgutils.unpack_tuple(builder, args[1]), shape, strict=True)
        sizes = [context.cast(builder, size, typ, types.int64) for size, typ in given]
        strides = [source.itemsize]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        context.populate_array(
            view, data=source.data, shape=cgutils.pack_array(builder, sizes), strides=cgutils.pack_array(builder, strides),
            itemsize=source.itemsize, meminfo=source.meminfo, parent=source.parent,
        )  # fmt: skip
        return impl_ret_borrowed(context, builder, result, view._getvalue())

    return result(array, shape), codegen


@intrinsic
def unowned(typing_context: Any, array: Any) -> Any:
    """``array``, whose slices are not counted, which costs an atomic instruction or two each. The caller keeps it alive."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(array)(context, builder, args[0])
        view.meminfo = cgutils.get_null_value(view.meminfo.type)
        return view._getvalue()

    return array(array), codegen


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


def _call(context: Any, builder: Any, address: Any, arguments: Any, types_of: Any) -> Any:
    """Call what is at an address with a tuple of these types, integers as words; return how that went."""
    wanted = tuple(types.int64 if isinstance(typ, types.Integer) else typ for typ in types_of)
    given = zip(cgutils.unpack_tuple(builder, arguments), types_of, wanted, strict=True)
    values = [context.cast(builder, value, typ, to) for value, typ, to in given]
    function = builder.inttoptr(address, context.call_conv.get_function_type(types.none, wanted).as_pointer())
    status, _ = context.call_conv.call_function(builder, function, types.none, wanted, values)
    return status


@intrinsic
def invoke(typing_context: Any, address: Any, arguments: Any) -> Any:
    """``function(*arguments)`` for what was compiled for arguments like these, is at `address`, returns nothing and may raise."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        status = _call(context, builder, args[0], args[1], arguments)
        with builder.if_then(status.is_error, likely=False):
            context.call_conv.return_status_propagate(builder, status)
        return context.get_dummy_value()

    return types.void(types.int64, arguments), codegen


@intrinsic
def attempt(typing_context: Any, address: Any, arguments: Any, failed: Any) -> Any:
    """As :func:`invoke`, unless the word at address `failed` is set, which is what happens if the function raises.

    In threads of a parallel loop, where Numba would lose what is raised.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        flag, word = builder.inttoptr(args[2], ir.IntType(64).as_pointer()), ir.IntType(64)
        with builder.if_then(builder.icmp_unsigned("==", builder.load(flag), word(0))):
            status = _call(context, builder, args[0], args[1], arguments)
            with builder.if_then(status.is_error, likely=False):
                builder.store(word(1), flag)
        return context.get_dummy_value()

    return types.void(types.int64, arguments, types.int64), codegen


@intrinsic
def element(typing_context: Any, address: Any, like: Any) -> Any:
    """The element at an address, of the dtype of `like`: an index may be negative, which Numba's own test one by one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = context.get_data_type(like.dtype).as_pointer()
        return context.unpack_value(builder, like.dtype, builder.inttoptr(args[0], kind))

    return like.dtype(types.int64, like), codegen


@intrinsic
def word(typing_context: Any, address: Any) -> Any:
    """The 64-bit integer at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), codegen
