"""Prepared operators as arguments of compiled functions: two addresses, of the operator and of the table of its compiled calls.

Its type holds what types of results depend on, so that a function compiled for one operator takes others of the kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.core.typing.templates import AttributeTemplate, bound_function, infer_getattr, signature
from numba.core.utils import pysignature
from numba.extending import NativeValue, box, intrinsic, lower_builtin, register_model, unbox

from numbaconv.compiled import typed
from numbaconv.compiled.call import calling, result_type
from numbaconv.compiled.request import ArrayType, Request
from numbaconv.prepared import Prepared, owned

__all__ = ["OperatorType", "type_of"]

_WORD = ir.IntType(64)
CALL = ("input", "residual", "out")


class OperatorType(types.Type):
    """Numba's type of a prepared operator."""

    def __init__(self, name: str, weight: str, bias: str | None, out_dtype: Any, activation: Any) -> None:
        self.operator, self.weight, self.bias, self.out_dtype, self.activation = name, weight, bias, out_dtype, activation
        super().__init__(f"{name}({weight}, {bias}, {out_dtype}, {activation})")

    def request(self, arrays: Mapping[str, types.Type]) -> Request:
        """Describe a call with arrays of these types."""
        found = {name: typed.array_type(name, typ) for name, typ in arrays.items() if typed.given(typ)}
        known = found | {"weight": ArrayType(self.weight, 0, True)}
        known |= {} if self.bias is None else {"bias": ArrayType(self.bias, 0, True)}
        dtype = typed.result_dtype(known, self.out_dtype, self.activation)
        return Request("prepared", found, {}, ArrayType(dtype.name, found["input"].ndim, found["input"].in_order))


def type_of(operator: Prepared) -> OperatorType:
    """Return the type of an operator."""
    own = owned(operator)
    bias = None if own.bias is None else own.bias.dtype.name
    out = None if own.options.out_dtype is None else str(own.options.out_dtype)
    named = own.options.activation if isinstance(own.options.activation, str) else None
    return OperatorType(type(operator).__name__, own.weight.dtype.name, bias, out, named)


@register_model(OperatorType)
class _OperatorModel(models.StructModel):
    def __init__(self, manager: Any, frontend: Any) -> None:
        super().__init__(manager, frontend, [("table", types.int64), ("address", types.int64)])


@unbox(OperatorType)
def _unbox(typ: OperatorType, operator: Any, c: Any) -> NativeValue:
    """The caller's arguments keep it alive."""
    value = cgutils.create_struct_proxy(typ)(c.context, c.builder)
    table = c.pyapi.object_getattr_string(operator, "table")
    address = c.pyapi.object_getattr_string(table, "address")
    value.table = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    c.pyapi.decref(table)
    value.address = c.builder.ptrtoint(operator, _WORD)
    return NativeValue(value._getvalue(), is_error=c.pyapi.c_api_error())


@box(OperatorType)
def _box(typ: OperatorType, value: Any, c: Any) -> Any:
    operator = c.builder.inttoptr(cgutils.create_struct_proxy(typ)(c.context, c.builder, value).address, c.pyapi.pyobj)
    c.pyapi.incref(operator)
    return operator


_constants: list[Prepared] = []  # which compiled code holds the addresses of


@lower_constant(OperatorType)
def _constant(context: Any, builder: Any, typ: OperatorType, operator: Prepared) -> Any:
    """A global of the function, which Numba does not keep on disk then."""
    _constants.append(operator)
    value = cgutils.create_struct_proxy(typ)(context, builder)
    for field, address in (("table", operator.table.address), ("address", id(operator))):
        setattr(value, field, builder.ptrtoint(context.add_dynamic_addr(builder, address, info="prepared operator"), _WORD))
    return value._getvalue()


@intrinsic
def addresses(typing_context: Any, operator: Any) -> Any:
    """Of its table, and its own."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = cgutils.create_struct_proxy(operator)(context, builder, args[0])
        return context.make_tuple(builder, signature.return_type, [value.table, value.address])

    return types.UniTuple(types.int64, 2)(operator), codegen


def _arguments(input: Any, residual: Any = None, out: Any = None) -> None:
    """What a call takes."""


@infer_getattr
class _OperatorAttributes(AttributeTemplate):
    key = OperatorType

    @bound_function("operator.__call__")
    def resolve___call__(self, operator: OperatorType, args: Any, kws: Any) -> Any:
        given = pysignature(_arguments).bind(*args, **kws).arguments
        arrays = {name: given.get(name, types.Omitted(None)) for name in CALL}
        out = arrays["out"]
        result = out if typed.given(out) else result_type(operator.request(arrays).result)
        return signature(result, *arrays.values(), recvr=operator).replace(pysig=pysignature(_arguments))


@lower_builtin(OperatorType, types.VarArg(types.Any))
def _lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    operator, *kinds = signature.args
    call = calling(operator.request(dict(zip(CALL, kinds, strict=True))), CALL, ())

    def compute(operator: Any, input: Any, residual: Any, out: Any) -> Any:
        return call(addresses(operator), (input, residual, out), ())

    return context.compile_internal(builder, compute, signature, args)


# It may be in the midst of typing a function that Numba learns of all this.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
