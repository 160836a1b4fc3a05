"""What Numba finds when it compiles a call of one of the functions: the types of its arguments become a :class:`Request`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from numba.extending import overload, typeof_impl

from numbaconv import functional, grad
from numbaconv.prepared import Prepared

__all__ = ["register"]

DEFINITIONS = import_module("numbaconv.corr2d")  # whose name in the package is its function's
NUMBERS = ("stride", "padding", "dilation", "groups")  # in the order in which implementations pass them


def compiled_call(
    function: str, arrays: dict[str, Any], options: dict[str, Any], ndim: int, backend: Any = None, stream: Any = None
) -> Callable:
    """Return what makes a call of these types in compiled code; TypingError, with what would do, where there is none."""
    from numbaconv.compiled import call, typed
    from numbaconv.compiled.request import ArrayType, Request

    if typed.given(stream):
        raise typed.refused("stream", stream, "None, as compiled functions compute on the host")
    found = {name: typed.array_type(argument(function, name), typ) for name, typ in arrays.items() if typed.given(typ)}
    values = typed.options(options)
    dtype = typed.result_dtype(found, values.get("out_dtype"), values.get("activation"))
    in_order = function.endswith("_weight") or found["input"].in_order
    request = Request(function, found, values, ArrayType(dtype.name, ndim, in_order), typed.backend_name(backend))
    numbers = [name for name in options if name in (*NUMBERS, "output_padding", "size")]
    return call.calling(request, list(arrays), numbers)


def argument(function: str, name: str) -> str:
    """What a function calls an operand."""
    names = {"corr2d": {"input": "X", "weight": "K"}, "_input": {"input": "grad_output"}, "_weight": {"weight": "grad_output"}}
    return next((own.get(name, name) for part, own in names.items() if part in function), name)


def ndim_of(argument: str, value: Any, tuples: bool = False) -> int:
    """The number of dimensions of an array, or that a tuple of sizes names."""
    from numba import types

    from numbaconv.compiled.typed import array_type, refused

    if not tuples:
        return array_type(argument, value).ndim
    if not isinstance(value, types.BaseTuple):
        raise refused(argument, value, "a tuple of ints, as a shape is")
    return len(value)


def register_conv(ndim: int) -> None:
    """The convolution in so many dimensions."""
    name = f"conv{ndim}d"

    @overload(getattr(functional, name), prefer_literal=True)
    def conv(
        input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", layout=None, residual=None,
        activation=None, out=None, out_dtype=None, algorithm="auto", precision="ieee", backend=None, stream=None,
    ):  # fmt: skip
        arrays = {"input": input, "weight": weight, "bias": bias, "residual": residual, "out": out}
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "padding_mode": padding_mode,
            "layout": layout, "activation": activation, "out_dtype": out_dtype, "algorithm": algorithm, "precision": precision,
        }  # fmt: skip
        call = compiled_call(name, arrays, options, ndim_of("input", input), backend, stream)

        def implementation(
            input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, padding_mode="zeros", layout=None, residual=None,
            activation=None, out=None, out_dtype=None, algorithm="auto", precision="ieee", backend=None, stream=None,
        ):  # fmt: skip
            return call(None, (input, weight, bias, residual, out), (stride, padding, dilation, groups))

        return implementation


def register_conv_transpose(ndim: int) -> None:
    """The transposed convolution in so many dimensions."""
    name = f"conv_transpose{ndim}d"

    @overload(getattr(functional, name), prefer_literal=True)
    def conv_transpose(
        input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, layout=None, residual=None,
        activation=None, out=None, out_dtype=None, algorithm="auto", precision="ieee", backend=None, stream=None,
    ):  # fmt: skip
        arrays = {"input": input, "weight": weight, "bias": bias, "residual": residual, "out": out}
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "output_padding": output_padding,
            "layout": layout, "activation": activation, "out_dtype": out_dtype, "algorithm": algorithm, "precision": precision,
        }  # fmt: skip
        call = compiled_call(name, arrays, options, ndim_of("input", input), backend, stream)

        def implementation(
            input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1, layout=None, residual=None,
            activation=None, out=None, out_dtype=None, algorithm="auto", precision="ieee", backend=None, stream=None,
        ):  # fmt: skip
            return call(None, (input, weight, bias, residual, out), (stride, padding, dilation, groups, output_padding))

        return implementation


def register_gradients(ndim: int) -> None:
    """The gradients of a convolution in so many dimensions."""
    of_input, of_weight = f"conv{ndim}d_input", f"conv{ndim}d_weight"

    @overload(getattr(grad, of_input), prefer_literal=True)
    def input_gradient(input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1, algorithm="auto"):
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "size": input_size,
            "algorithm": algorithm,
        }  # fmt: skip
        call = compiled_call(
            of_input, {"input": grad_output, "weight": weight}, options, ndim_of("input_size", input_size, tuples=True)
        )

        def implementation(input_size, weight, grad_output, stride=1, padding=0, dilation=1, groups=1, algorithm="auto"):
            return call(None, (grad_output, weight), (stride, padding, dilation, groups, input_size))

        return implementation

    @overload(getattr(grad, of_weight), prefer_literal=True)
    def weight_gradient(input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1, algorithm="auto"):
        options = {
            "stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "size": weight_size,
            "algorithm": algorithm,
        }  # fmt: skip
        call = compiled_call(
            of_weight, {"input": input, "weight": grad_output}, options, ndim_of("weight_size", weight_size, tuples=True)
        )

        def implementation(input, weight_size, grad_output, stride=1, padding=0, dilation=1, groups=1, algorithm="auto"):
            return call(None, (input, grad_output), (stride, padding, dilation, groups, weight_size))

        return implementation


def register_corr2d(name: str) -> None:
    """One of the definitions."""

    @overload(getattr(DEFINITIONS, name))
    def corr(X, K):  # noqa: N803
        ndim = 3 if "O" in DEFINITIONS.AXES[name][1] else 2
        call = compiled_call(name, {"input": X, "weight": K}, {}, ndim)

        def implementation(X, K):  # noqa: N803
            return call(None, (X, K), ())

        return implementation


def type_of(operator: Prepared, context: Any) -> Any:
    """Return the type of a prepared operator."""
    if operator.numba_type is None:
        from numbaconv.compiled import operators

        operator.numba_type = operators.type_of(operator)
    return operator.numba_type


def register() -> None:
    """Tell Numba of all functions, and of operators."""
    typeof_impl.register(Prepared)(type_of)
    for ndim in (1, 2, 3):
        register_conv(ndim)
        register_conv_transpose(ndim)
        register_gradients(ndim)
    for name in DEFINITIONS.AXES:
        register_corr2d(name)
