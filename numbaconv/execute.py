"""How one call travels: its arrays are seen, the problem normalised, an algorithm selected, the result computed.

Nothing is written to ``out`` before everything has been checked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from numbaconv import arrays, cuda
from numbaconv.algorithm import Operands
from numbaconv.arrays import HOST, Memory, Place
from numbaconv.backend import Backend, choose
from numbaconv.dispatch import Plan, select
from numbaconv.errors import bad_type, bad_value
from numbaconv.spec import ArraySpec, ConvOptions, DataFormat, normalise

__all__ = ["Call", "Packer", "Specs", "convolve", "describe", "indexed", "memory_of", "move", "pack", "plan_specs"]

_MEMORIES: dict[Place, Memory] = {"host": HOST, "cuda": cuda.MEMORY}
Packer = Callable[[Plan, np.ndarray], Any]


class Call(NamedTuple):
    """The arrays of one call, as the caller gave them."""

    input: Any
    weight: Any
    bias: Any = None
    residual: Any = None
    out: Any = None


class Views(NamedTuple):
    """The operands of one call where the backend computes, as NumPy arrays or shadows."""

    input: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    residual: np.ndarray | None


class Specs(NamedTuple):
    """What planning needs to know of the operands."""

    input: ArraySpec
    weight: ArraySpec
    bias: ArraySpec | None = None
    residual: ArraySpec | None = None


def memory_of(array: Any) -> Memory:
    """Return the memory that an array, or what NumPy makes one of, lives in."""
    return _MEMORIES[arrays.place_of(array)]


def pack(plan: Plan, weight: np.ndarray) -> Any:
    """Bring a weight into the form that the plan's algorithm reads."""
    return plan.algorithm.pack(plan.spec, arrays.view_weight(weight, plan.spec.groups))


def convolve(
    ndim: int, call: Call, options: ConvOptions, backend: str | None = None, stream: Any = None, pack: Packer = pack
) -> Any:
    """Compute one convolution.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the public functions say.
    """
    home = arrays.place_of(call.input)
    target = choose(backend, home)
    if stream is not None and target.place == "host":
        raise bad_value("stream", f"None on the {target.name} backend", repr(stream))
    memory = _MEMORIES[target.place]
    operands = _brought(call, home, target.place, stream)
    views = Views._make(None if a is None else memory.view(a, n) for n, a in zip(Call._fields, operands, strict=False))
    plan, data_format = _plan_views(ndim, views, options, target)

    out = None if call.out is None else _MEMORIES[home].view_out(call.out)
    if out is not None:
        plan, data_format = _plan_for_out(out, plan, data_format, ndim, views, options)
    if out is not None and home == target.place and arrays.writes_directly(out, plan.spec.dtypes.out, views):
        _compute(plan, data_format, views, out, pack, stream)
        return call.out
    stored = memory.empty(arrays.stored_shape(plan.spec, data_format), plan.spec.dtypes.out, call.input, stream)
    result = arrays.result_view(memory.view_out(stored), plan.spec, data_format)
    _compute(plan, data_format, views, result, pack, stream)
    computed = memory.restride(stored, result)
    if home != target.place:
        computed = _MEMORIES[home].from_host(memory.to_host(computed, stream), call.input, stream)
    if out is None:
        return computed
    _MEMORIES[home].copy(call.out, computed, stream)
    return call.out


def _compute(plan: Plan, data_format: DataFormat, views: Views, result: np.ndarray, pack: Packer, stream: Any) -> None:
    groups = plan.spec.groups
    plan.run(
        Operands(
            arrays.view_input(views.input, data_format, groups),
            pack(plan, views.weight),
            None if views.bias is None else arrays.view_bias(views.bias, groups),
            None if views.residual is None else arrays.view_data(views.residual, data_format, groups),
            arrays.view_data(result, data_format, groups),
            stream,
        )
    )


# ---------------------------------------------------------------- places


def _brought(call: Call, home: Place, target: Place, stream: Any) -> list[Any]:
    """The operands where the backend computes. Each has to be there already, or where the input lives."""
    operands = []
    for argument, array in zip(Call._fields, call[:4], strict=False):
        place = target if array is None else arrays.place_of(array)
        if place not in (home, target):
            where = {"host": "in host memory", "cuda": "on the CUDA device"}
            raise bad_type(argument, f"an array {where[home]}, as input is", f"one {where[place]}")
        operands.append(array if place == target else move(array, argument, target, stream))
    return operands


def move(array: Any, argument: str, target: Place, stream: Any = None) -> Any:
    """Copy an operand to the other place."""
    if target == "host":
        return memory_of(array).to_host(array, stream)
    return _MEMORIES[target].from_host(HOST.view(array, argument), None, stream)


def indexed(array: Any, argument: str, index: Any) -> Any:
    """``array[index]`` for any kind of array, lists too, without a copy; `index` may add and drop axes of size 1."""
    memory = memory_of(array)
    return memory.restride(array, memory.view(array, argument)[index])


# ---------------------------------------------------------------- planning


def describe(array: Any, shape_dtype: np.dtype, ndim: int, layout: Any, argument: str = "input") -> ArraySpec:
    """Return what planning needs to know of an operand, or of one that is given as a tuple: its shape."""
    if isinstance(array, tuple):
        if not all(isinstance(n, int) and n >= 0 for n in array):
            raise bad_value(argument, "an array or a shape of non-negative ints", repr(array))
        last = argument == "input" and isinstance(layout, str) and layout.endswith("C")
        return ArraySpec(array, shape_dtype, last)
    view = memory_of(array).view(array, argument)
    return arrays.describe(view, ndim, layout) if argument == "input" else ArraySpec(view.shape, view.dtype)


def plan_specs(ndim: int, specs: Specs, options: ConvOptions, backend: Backend) -> tuple[Plan, DataFormat]:
    """Return the plan for operands like these; remembered for calls alike."""
    options = ConvOptions(*(tuple(o) if type(o) is list else o for o in options))
    plan = _remembered if all(map(_has_one_meaning, options)) else _plan
    return plan(ndim, specs, options, backend)


def _plan_views(ndim: int, views: Views, options: ConvOptions, backend: Backend) -> tuple[Plan, DataFormat]:
    first = arrays.describe(views.input, ndim, options.layout)
    specs = Specs._make((first, *(None if a is None else ArraySpec(a.shape, a.dtype) for a in views[1:])))
    return plan_specs(ndim, specs, options, backend)


def _plan_for_out(
    out: np.ndarray, plan: Plan, data_format: DataFormat, ndim: int, views: Views, options: ConvOptions
) -> tuple[Plan, DataFormat]:
    """Check `out`; where no dtype was asked for, its dtype is what the result is stored in, with no rounding between."""
    arrays.check_out(out, plan.spec, data_format)
    if options.out_dtype is not None or out.dtype == plan.spec.dtypes.out:
        return plan, data_format
    return _plan_views(ndim, views, options._replace(out_dtype=out.dtype.newbyteorder("=")), plan.backend)


def _plan(ndim: int, specs: Specs, options: ConvOptions, backend: Backend) -> tuple[Plan, DataFormat]:
    spec, data_format = normalise(ndim, specs.input, specs.weight, specs.bias, specs.residual, options)
    return select(spec, backend), data_format


_remembered = lru_cache(maxsize=4096)(_plan)


def _has_one_meaning(value: Any) -> bool:
    """Whether equal values of an option mean the same; True == 1.0 == 1 must not find each other's plans."""
    kind = type(value)
    return kind is int or kind is str or value is None or (kind is tuple and all(map(_has_one_meaning, value)))
