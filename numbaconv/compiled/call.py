"""The code of one call in the user's function: look up, allocate, run.

A table is a list of nodes, which Python fills: each has the words by which it is found, and the program for such calls. A call
that is not found, or that only Python can compute, asks Python, whose errors become the function's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.callconv import RETCODE_USEREXC, Status, excinfo_ptr_t
from numba.core.imputils import impl_ret_borrowed, impl_ret_new_ref
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from numbaconv.compiled.request import ArrayType, Request, later
from numbaconv.cpu import program
from numbaconv.table import NEXT

__all__ = ["HEAD", "NBYTES", "PLACES", "PROGRAM", "RUNNER", "SHAPE", "calling", "result_type"]

# Words of a node, behind the address of the next; behind the shape are the strides, and what it is found by.
RUNNER, PROGRAM, NBYTES, SHAPE = range(1, 5)
# Words of a block, for arrays by what they are; what a call is found by is behind them.
PLACES = {
    "input": program.INPUT, "weight": program.WEIGHT, "bias": program.BIAS, "residual": program.RESIDUAL, "out": program.RESULT,
}  # fmt: skip
HEAD = program.OPERANDS
WORD, POINTER = ir.IntType(64), ir.IntType(8).as_pointer()
SLOW = "numbaconv.compiled.resolve"


def result_type(result: ArrayType) -> types.Array:
    """Return Numba's type of a result."""
    return types.Array(from_dtype(np.dtype(result.dtype)), result.ndim, "C" if result.in_order else "A")


def calling(request: Request, arrays: Sequence[str], numbers: Sequence[str]) -> Callable:
    """Return what makes a call in compiled code.

    It takes what is called, a pair of the addresses of its table and of the object, or None for what the request names; a tuple
    of the arrays of these names, None where there is none; and one of the options of these names.
    """
    result = result_type(request.result)

    @intrinsic
    def call(typing_context: Any, callee: Any, operands: Any, ints: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = _Call(context, builder, request)
            table, address = (code.own_table(), WORD(0)) if callee == types.none else cgutils.unpack_tuple(builder, args[0])
            given = zip(operands, cgutils.unpack_tuple(builder, args[1]), strict=True)
            options = zip(ints, cgutils.unpack_tuple(builder, args[2]), strict=True)
            values = dict(zip(arrays, given, strict=True)), dict(zip(numbers, options, strict=True))
            return code.emit(table, address, *values, result)

        out = dict(zip(arrays, operands, strict=True)).get("out")
        return (out if isinstance(out, types.Array) else result)(callee, operands, ints), codegen

    return call


class _Call:
    """The code of one call as it grows."""

    def __init__(self, context: Any, builder: Any, request: Request) -> None:
        self._context, self._builder, self._request = context, builder, request

    def emit(self, table: Any, callee: Any, operands: Mapping[str, Any], ints: Mapping[str, Any], result: types.Array) -> Any:
        """Return the result."""
        builder, request = self._builder, self._request
        given = {name: (typ, self._array(typ, value)) for name, (typ, value) in operands.items() if name in request.arrays}
        key = [WORD(request.number), *self._extents(given), *self._ints(ints)]
        block = cgutils.alloca_once(builder, WORD, HEAD + len(key))
        for number in range(HEAD):
            self._put(block, number, WORD(0))
        for name, (_, array) in given.items():
            self._put(block, PLACES[name], builder.ptrtoint(array.data, WORD))
        for number, value in enumerate(key):
            self._put(block, HEAD + number, value)

        node = self._find(table, callee, block, key, result.ndim)
        if "out" in given:
            self._compute(node, callee, block)
            return impl_ret_borrowed(self._context, builder, *operands["out"])
        new = self._allocate(node, result)
        self._put(block, program.RESULT, builder.ptrtoint(new.data, WORD))
        self._compute(node, callee, block, lambda: self._context.nrt.decref(builder, result, new._getvalue()))
        return impl_ret_new_ref(self._context, builder, result, new._getvalue())

    # ------------------------------------------------------------ what it is found by

    def _array(self, typ: Any, value: Any) -> Any:
        return self._context.make_array(typ)(self._context, self._builder, value)

    def _extents(self, given: Mapping[str, Any]) -> list[Any]:
        words = []
        for name, typ in self._request.arrays.items():
            array = given[name][1]
            words += cgutils.unpack_tuple(self._builder, array.shape)
            words += [] if typ.in_order else cgutils.unpack_tuple(self._builder, array.strides)
        return words

    def _ints(self, ints: Mapping[str, Any]) -> list[Any]:
        words = []
        for name, value in self._request.options.items():
            for path in later(value):
                typ, number = ints[name]
                for step in path:
                    typ, number = typ[step], self._builder.extract_value(number, step)
                words.append(self._context.cast(self._builder, number, typ, types.int64))
        return words

    # ------------------------------------------------------------ the table

    def own_table(self) -> Any:
        """The address of a word of this code that holds the address of its table, or 0 at first."""
        module = self._builder.module
        table = ir.GlobalVariable(module, WORD, module.get_unique_name("numbaconv.table"))
        table.linkage, table.initializer = "internal", WORD(0)
        return self._builder.ptrtoint(table, WORD)

    def _find(self, table: Any, callee: Any, block: Any, key: Sequence[Any], ndim: int) -> Any:
        """The node of this call, from the table or from Python."""
        builder = self._builder
        node = cgutils.alloca_once_value(builder, WORD(0))
        head = builder.load_atomic(builder.inttoptr(table, WORD.as_pointer()), "acquire", 8)
        with builder.if_then(builder.icmp_unsigned("!=", head, WORD(0))):
            builder.store(builder.load_atomic(builder.inttoptr(head, WORD.as_pointer()), "acquire", 8), node)
        search, compare, found = (builder.append_basic_block(f"numbaconv.{name}") for name in ("search", "compare", "found"))
        ask = builder.append_basic_block("numbaconv.ask")
        builder.branch(search)
        builder.position_at_end(search)
        here = builder.load(node)
        builder.cbranch(builder.icmp_unsigned("==", here, WORD(0)), ask, compare)
        builder.position_at_end(compare)
        differ: Any = WORD(0)
        for number, value in enumerate(key):
            differ = builder.or_(differ, builder.xor(self._word(here, SHAPE + 2 * ndim + number), value))
        builder.store(self._word(here, NEXT), node)
        builder.cbranch(builder.icmp_unsigned("==", differ, WORD(0)), found, search)
        builder.position_at_end(ask)
        asked = self._python("resolve", table, callee, block)
        leaving = builder.block
        builder.branch(found)
        builder.position_at_end(found)
        result = builder.phi(WORD)
        result.add_incoming(here, compare)
        result.add_incoming(asked, leaving)
        return result

    # ------------------------------------------------------------ the result

    def _allocate(self, node: Any, typ: types.Array) -> Any:
        """An array like the node says."""
        context, builder = self._context, self._builder
        memory = context.nrt.meminfo_alloc_aligned(builder, self._word(node, NBYTES), ir.IntType(32)(64))
        array = context.make_array(typ)(context, builder)
        shape, strides = ([self._word(node, SHAPE + k * typ.ndim + i) for i in range(typ.ndim)] for k in range(2))
        size = WORD(context.get_abi_sizeof(context.get_data_type(typ.dtype)))
        context.populate_array(
            array, data=builder.bitcast(context.nrt.meminfo_data(builder, memory), array.data.type),
            shape=cgutils.pack_array(builder, shape), strides=cgutils.pack_array(builder, strides), itemsize=size, meminfo=memory,
        )  # fmt: skip
        return array

    def _compute(self, node: Any, callee: Any, block: Any, clean: Callable[[], None] = lambda: None) -> None:
        """Run the program, or have Python compute."""
        context, builder = self._context, self._builder
        left = cgutils.alloca_once_value(builder, WORD(1))
        code = self._word(node, RUNNER)
        with builder.if_then(builder.icmp_unsigned("!=", code, WORD(0))):
            kind = context.call_conv.get_function_type(types.int64, (types.int64, types.int64))
            function, words = builder.inttoptr(code, kind.as_pointer()), (types.int64, types.int64)
            given = [self._word(node, PROGRAM), builder.ptrtoint(block, WORD)]
            status, answer = context.call_conv.call_function(builder, function, types.int64, words, given)
            with builder.if_then(status.is_error, likely=False):
                clean()
                context.call_conv.return_status_propagate(builder, status)
            builder.store(answer, left)
        with builder.if_then(builder.icmp_unsigned("!=", builder.load(left), WORD(0)), likely=False):
            self._python("compute", node, callee, block, clean)

    # ------------------------------------------------------------ Python

    def _python(self, name: str, first: Any, callee: Any, block: Any, clean: Callable[[], None] = lambda: None) -> Any:
        """Call a function of :mod:`numbaconv.compiled.resolve`, which returns less than 0 where there is an error to raise."""
        builder, context = self._builder, self._context
        api = context.get_python_api(builder)
        state = api.gil_ensure()
        answer = cgutils.alloca_once_value(builder, WORD(0))
        found = cgutils.alloca_once_value(builder, cgutils.get_null_value(api.pyobj))
        text = builder.ptrtoint(context.insert_const_string(builder.module, self._request.text), WORD)
        module = api.import_module(context.insert_const_string(builder.module, SLOW))
        with builder.if_then(cgutils.is_not_null(builder, module)):
            function = api.object_getattr_string(module, name)
            words = [api.long_from_longlong(word) for word in (text, first, callee, builder.ptrtoint(block, WORD))]
            builder.store(api.call_function_objargs(function, words), found)
            for value in (*words, function, module):
                api.decref(value)
        lost = cgutils.is_null(builder, builder.load(found))  # Python was interrupted on the way
        with builder.if_else(lost, likely=False) as (then, otherwise):
            with then:
                api.gil_release(state)
                clean()
                context.call_conv.return_exc(builder)
            with otherwise:
                builder.store(api.long_as_longlong(builder.load(found)), answer)
                api.decref(builder.load(found))
                api.gil_release(state)
        number = builder.load(answer)
        with builder.if_then(builder.icmp_signed("<", number, WORD(0)), likely=False):
            clean()
            self._raise(builder.neg(number))
        return number

    def _raise(self, address: Any) -> None:
        """Raise what Numba's record of an exception at an address says."""
        convention, builder, true, false = self._context.call_conv, self._builder, cgutils.true_bit, cgutils.false_bit
        record = builder.inttoptr(address, excinfo_ptr_t)
        convention.return_status_propagate(
            builder,
            Status(
                code=RETCODE_USEREXC, is_ok=false, is_none=false, is_error=true, is_stop_iteration=false, is_python_exc=false,
                is_user_exc=true, excinfoptr=record,
            ),
        )  # fmt: skip

    # ------------------------------------------------------------ words

    def _word(self, address: Any, number: int) -> Any:
        return self._builder.load(cgutils.gep_inbounds(self._builder, self._builder.inttoptr(address, WORD.as_pointer()), number))

    def _put(self, block: Any, number: int, value: Any) -> None:
        self._builder.store(value, cgutils.gep_inbounds(self._builder, block, number))
