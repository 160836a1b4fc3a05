"""How one call travels: its arrays are seen, the problem normalised, an algorithm selected, the result computed.

Nothing is written to ``out`` before everything has been checked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
from numba.core.dispatcher import Dispatcher

from numbaconv import adjoint, arrays, spec
from numbaconv import options as parse
from numbaconv.algorithm import Operands
from numbaconv.arrays import HOST, Memory, Place, place_of, seen
from numbaconv.backend import BACKENDS, Backend, choose, chosen
from numbaconv.bound import Bound, Memo, Planned, bind
from numbaconv.bound import pack as pack_now
from numbaconv.dispatch import Explanation, check_algorithm, check_precision, select
from numbaconv.dispatch import explain as explain_specs
from numbaconv.errors import bad_type, bad_value, shown
from numbaconv.options import DEEPEST, ConvOptions, frozen, plain
from numbaconv.problem import Problem, Specs, convolution
from numbaconv.recorded import Looks, Recorded, look_at
from numbaconv.spec import ArraySpec

__all__ = [
    "Call",
    "Packer",
    "Request",
    "Views",
    "check",
    "compute",
    "convolve",
    "describe",
    "explain",
    "forget",
    "indexed",
    "memory_at",
    "memory_of",
    "move",
    "plan_for_out",
    "plan_specs",
    "plan_views",
    "record",
    "settle",
]

OPERATORS: dict[str, Callable[[int, Specs, ConvOptions], Problem]] = {
    "conv": convolution,
    "corr": partial(convolution, names=("X", "K")),
    "conv_transpose": adjoint.transposed,
    "input_gradient": adjoint.input_gradient,
    "weight_gradient": adjoint.weight_gradient,
}
# What the operands are called, where not input and weight.
ARGUMENTS = {
    "corr": ("X", "K", "bias", "residual"),
    "input_gradient": ("grad_output", "weight", "bias", "residual"),
    "weight_gradient": ("input", "grad_output", "bias", "residual"),
}
OPTIONAL = ("bias", "residual")
Packer = Callable[[Planned, np.ndarray, Any], list[Any]]
_bound: Memo[Bound] = Memo()
_recorded: Memo[Recorded] = Memo()
_SIMPLE = frozenset((int, str, type(None), type))


class Call(NamedTuple):
    """The arrays of one call, as the caller gave them."""

    input: Any
    weight: Any
    bias: Any = None
    residual: Any = None
    out: Any = None


class Request(NamedTuple):
    """What is asked for, beside the arrays; and how the weight is packed, and which arrays are the same in all such calls."""

    operator: str
    ndim: int
    options: ConvOptions
    backend: str | None
    pack: Packer = pack_now
    owned: Sequence[str] = ()


class Views(NamedTuple):
    """The operands of one call where the backend computes, as NumPy arrays or shadows."""

    input: np.ndarray
    weight: np.ndarray
    bias: np.ndarray | None
    residual: np.ndarray | None


@cache
def memory_at(place: Place) -> Memory:
    """Return a kind of memory."""
    return HOST if place == "host" else BACKENDS["cuda"].module.MEMORY


def memory_of(array: Any) -> Memory:
    """Return the memory that an array, or what NumPy makes one of, lives in."""
    return memory_at(arrays.place_of(array))


def convolve(operator: str, ndim: int, arrays: tuple, options: tuple, backend: str | None = None, stream: Any = None) -> Any:
    """Compute one call: as one like it did, or the long way.

    Parameters
    ----------
    arrays, options
        What :class:`Call` and :class:`ConvOptions` hold, in their order. (Making those takes as long as computing.)

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As the public functions say.
    """
    input, weight, bias, residual, out = arrays
    key: tuple | None = None
    if (
        stream is None
        and (first := seen(input)) is not None
        and all(rest := (seen(weight), bias is None or seen(bias), residual is None or seen(residual), out is None or seen(out)))
    ):
        words = _meaning((*options, backend))
        if words is not None:
            key = operator, ndim, first, rest, words, chosen.get()
            bound = _bound.get(key)
            if bound is not None and (out is None or bound.takes(out, input, weight, bias, residual)):
                return bound.compute(input, weight, bias, residual, out)
    elif place_of(input) == "cuda":
        words = _meaning((*options, backend))
        if words is not None:
            looks = look_at(memory_at("cuda"), (operator, ndim, words), arrays)
            if looks is not None:
                given, addresses, alike = looks
                recorded = _recorded.get(alike)
                if recorded is not None and recorded.takes(addresses):
                    return recorded.compute(given, addresses, stream)
            return record(_recorded, looks, Request(operator, ndim, ConvOptions(*options), backend), Call(*arrays), stream)
    result, planned = compute(operator, ndim, Call(*arrays), ConvOptions(*options), backend, stream)
    if key is not None and planned is not None:
        bound = bind(planned, input, weight, bias, residual, out)
        if bound is not None:
            _bound.remember(key, bound)
    return result


def record(memo: Memo[Recorded], looks: Looks | None, asked: Request, call: Call, stream: Any) -> Any:
    """Compute a call whose data lives on a device, the long way; so that calls that look the same only do that again."""
    operator, ndim, options, backend, pack, _ = asked
    result, planned = compute(operator, ndim, call, options, backend, stream, pack)
    if looks is not None and planned is not None and planned.backend.place == "cuda":
        recorded = _record(planned, call, asked)
        if recorded is not None:
            memo.remember(looks[-1], recorded)
    return result


def _record(planned: Planned, call: Call, asked: Request) -> Recorded | None:
    """Record what a call does, unless it computes its result elsewhere than in ``out``. Owned arrays stay what they are."""
    problem, memory = planned.problem, memory_at("cuda")
    views = Views._make(None if a is None else memory.view(a, "input") for a in call[:4])
    if call.out is None:
        result = problem.see_result(np.empty(problem.stored_shape, problem.out_dtype))
    else:
        result = memory.view_out(call.out)
        if not arrays.writes_directly(result, problem.out_dtype, views):
            return None
    moving = {name: view for name, view in zip(Views._fields, views, strict=True) if view is not None and name not in asked.owned}

    def run(shadows: list[np.ndarray | None], stream: Any) -> None:
        *operands, result = shadows
        _run(planned, memory, views._replace(**dict(zip(moving, operands, strict=True))), result, asked.pack, stream)  # type: ignore

    with memory.session({"input": call.input}, None):
        return Recorded(memory, memory.site(None), problem, [*moving.values(), result], call.out, call.input, run)


def compute(
    operator: str,
    ndim: int,
    call: Call,
    options: ConvOptions,
    backend: str | None = None,
    stream: Any = None,
    pack: Packer = pack_now,
) -> tuple[Any, Planned | None]:
    """Check, plan and compute one call. Also return the plan, if it is that of calls without `out` as well."""
    home = arrays.place_of(call.input)
    target = choose(backend, home)
    if stream is not None and target.place == "host":
        raise bad_value("stream", f"None on the {target.name} backend", shown(stream))
    names = ARGUMENTS.get(operator, Views._fields)
    given = {name: a for name, a in zip((*names, "out"), call, strict=True) if a is not None and place_of(a) == target.place}
    with memory_at(target.place).session(given, stream) as on:
        return _compute(operator, ndim, call, options, target, names, on, pack)


def _compute(
    operator: str,
    ndim: int,
    call: Call,
    options: ConvOptions,
    target: Backend,
    names: Sequence[str],
    stream: Any,
    pack: Packer,
) -> tuple[Any, Planned | None]:
    home, memory = arrays.place_of(call.input), memory_at(target.place)
    operands = [_brought(a, name, home, target.place, stream) for a, name in zip(call[:4], names, strict=True)]
    views = Views._make(
        None if a is None and name in OPTIONAL else memory.view(a, name) for a, name in zip(operands, names, strict=True)
    )
    prepared = pack is not pack_now
    planned = plan_views(operator, ndim, views, options, target, prepared)

    out = None if call.out is None else memory_at(home).view_out(call.out)
    usual = planned
    if out is not None:
        planned = plan_for_out(out, planned, operator, ndim, views, options, prepared)
    general = planned if planned is usual else None
    problem = planned.problem
    if out is not None and home == target.place and arrays.writes_directly(out, problem.out_dtype, views):
        _run(planned, memory, views, out, pack, stream)
        return call.out, general
    stored = memory.empty(problem.stored_shape, problem.out_dtype, call.input, stream)
    result = problem.see_result(memory.view_out(stored))
    _run(planned, memory, views, result, pack, stream)
    computed = memory.restride(stored, result)
    if home != target.place:
        computed = memory_at(home).from_host(memory.to_host(computed, stream), call.input, stream)
    if out is None:
        return computed, general
    memory_at(home).copy(call.out, computed, stream)
    return call.out, general


def _run(planned: Planned, memory: Memory, views: Views, result: np.ndarray, pack: Packer, stream: Any) -> None:
    problem = planned.problem
    if problem.conjugate is not None and np.iscomplexobj(getattr(views, problem.conjugate)):
        views = views._replace(**{problem.conjugate: memory.conjugate(getattr(views, problem.conjugate), stream)})
    input, output = problem.view_input(views.input), problem.view_output(result)
    bias = None if views.bias is None else arrays.view_bias(views.bias, problem.groups)
    residual = None if views.residual is None else problem.view_output(views.residual)
    runners = [plan.run for plan in planned.plans]  # all compiled before anything is written
    weights = pack(planned, views.weight, stream)
    for part, run, weight in zip(problem.parts, runners, weights, strict=True):
        rest = None if residual is None else residual[part.output]
        run(Operands(input[part.input], weight, bias, rest, output[part.output], stream))


# ---------------------------------------------------------------- places


def settle(planned: Planned, stream: Any) -> None:
    """Wait until what was begun on a stream, where the plan computes, is done."""
    memory_at(planned.backend.place).settle(stream)


def _brought(array: Any, argument: str, home: Place, target: Place, stream: Any) -> Any:
    """An operand where the backend computes. It has to be there already, or where the input lives."""
    place = target if array is None else arrays.place_of(array)
    if place not in (home, target):
        where = {"host": "in host memory", "cuda": "on the CUDA device"}
        raise bad_type(argument, f"an array {where[home]}, as input is", f"one {where[place]}")
    return array if place == target else move(array, argument, target, stream)


def move(array: Any, argument: str, target: Place, stream: Any = None) -> Any:
    """Copy an operand to another place, or to another device."""
    if target == "host":
        return memory_of(array).to_host(array, stream)
    if place_of(array) == "cuda":
        array = memory_of(array).to_host(array, stream)
    return memory_at(target).from_host(HOST.view(array, argument), None, stream)


def indexed(array: Any, argument: str, index: Any) -> Any:
    """``array[index]`` for any kind of array, lists too, without a copy; `index` may add and drop axes of size 1."""
    if type(array) is np.ndarray:
        return array[index]
    memory = memory_of(array)
    return memory.restride(array, memory.view(array, argument)[index])


# ---------------------------------------------------------------- planning


def describe(array: Any, shape_dtype: np.dtype, ndim: int, layout: Any, argument: str = "input") -> ArraySpec:
    """Return what planning needs to know of an operand, or of one that is given as a tuple: its shape."""
    if issubclass(type(array), tuple):
        if not all(type(n) is int and n >= 0 for n in array):
            raise bad_value(argument, "an array or a shape of non-negative ints", shown(array))
        last = argument == "input" and parse.ends_in_channels(layout)
        return ArraySpec(array, shape_dtype, last)
    view = memory_of(array).view(array, argument)
    return arrays.describe(view, ndim, layout) if argument == "input" else ArraySpec(view.shape, view.dtype)


def plan_specs(operator: str, ndim: int, specs: Specs, options: ConvOptions, backend: Backend, prepared: bool = False) -> Planned:
    """Return the plan for operands like these; remembered for calls alike."""
    words = _meaning(options)
    if words is None:
        return _plan(operator, ndim, specs, frozen(options), backend, prepared)
    return _planned(operator, ndim, specs, ConvOptions._make(words), backend, prepared)


def plan_views(operator: str, ndim: int, views: Views, options: ConvOptions, backend: Backend, prepared: bool) -> Planned:
    """Return the plan for these arrays."""
    first = arrays.describe(views.input, ndim, options.layout)
    specs = Specs._make((first, *(None if a is None else ArraySpec(a.shape, a.dtype) for a in views[1:])))
    return plan_specs(operator, ndim, specs, options, backend, prepared)


def plan_for_out(
    out: np.ndarray, planned: Planned, operator: str, ndim: int, views: Views, options: ConvOptions, prepared: bool
) -> Planned:
    """Check `out`; where no dtype was asked for, its dtype is what the result is stored in, with no rounding between."""
    arrays.check_out(out, planned.problem.shape, planned.problem.out_dtype)
    if options.out_dtype is not None or out.dtype == planned.problem.out_dtype:
        return planned
    return plan_views(operator, ndim, views, options._replace(out_dtype=out.dtype.newbyteorder("=")), planned.backend, prepared)


def check(operator: str, ndim: int, weight: ArraySpec, bias: ArraySpec | None, options: ConvOptions, backend: Backend) -> None:
    """Raise ValueError or TypeError for a weight, bias and options that make sense with no data."""
    probe = adjoint.probe if operator == "conv_transpose" else spec.probe
    OPERATORS[operator](ndim, Specs(probe(ndim, weight, options), weight, bias), options)
    check_precision(parse.word("precision", options.precision), backend)
    check_algorithm(parse.word("algorithm", options.algorithm), backend)


def explain(
    operator: str, ndim: int, specs: Specs, options: ConvOptions, backend: Backend, prepared: bool = False
) -> Explanation:
    """Say what a call with operands like these does, and why."""
    planned = plan_specs(operator, ndim, specs, options, backend, prepared)
    return explain_specs(planned.problem.title, [part.spec for part in planned.problem.parts], backend, prepared)


def _plan(operator: str, ndim: int, specs: Specs, options: ConvOptions, backend: Backend, prepared: bool) -> Planned:
    problem = OPERATORS[operator](ndim, specs, options)
    return Planned(problem, tuple(select(part.spec, backend, prepared) for part in problem.parts))


_planned = lru_cache(maxsize=4096)(_plan)


def forget() -> None:
    """Choose and bind anew from now on: what algorithms are chosen by has changed."""
    for remembered in (select, _planned):
        remembered.cache_clear()
    Memo.forget()


def _meaning(words: tuple) -> tuple | None:
    """Return what these options say, in values that are equal where they say the same; None for what says it in other ways."""
    if _SIMPLE.issuperset(map(type, words)) or all(map(_has_one_meaning, words)):
        return words
    words = tuple(map(plain, words))
    return words if all(map(_has_one_meaning, words)) else None


def _has_one_meaning(value: Any, depth: int = DEEPEST) -> bool:
    """Whether equal values of an option mean the same; True == 1.0 == 1 must not find each other's plans."""
    kind = type(value)
    if kind is tuple:
        return depth > 0 and all(_has_one_meaning(item, depth - 1) for item in value)
    return kind in _SIMPLE or issubclass(kind, (np.dtype, Dispatcher))
