"""What one call does, decided beforehand: a plan, and a plan bound to arrays of known shapes, dtypes and strides.

The first call of a kind is checked and planned (:mod:`numbaconv.execute`). Where its operands are aligned NumPy arrays
(:func:`numbaconv.arrays.seen`) it leaves a :class:`Bound` behind, and calls alike do what that says: see the operands in six
axes, allocate, run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Generic, Protocol, TypeVar, runtime_checkable
from weakref import WeakSet

import numpy as np
from numpy import empty

from numbaconv import arrays
from numbaconv.algorithm import Operands, Runner
from numbaconv.arrays import View, same_view
from numbaconv.backend import Backend
from numbaconv.dispatch import Plan
from numbaconv.problem import Part, Problem

__all__ = ["Bound", "Memo", "Planned", "Step", "bind", "pack"]

T = TypeVar("T")
Step = Callable[..., None]  # of input, weight, result, bias and residual, an array or None each


@runtime_checkable
class Bindable(Protocol):
    """What runs on operands, and can be bound to arrays which those are views of."""

    def bind(self, operands: Operands, bases: tuple[np.ndarray | None, ...]) -> Step | None:
        """Return what computes with arrays like `bases`; operands whose base is None are bound themselves. Or None."""


@dataclass(frozen=True)
class Planned:
    """A problem, and for each of its parts the algorithm that computes it."""

    problem: Problem
    plans: tuple[Plan, ...]

    @property
    def backend(self) -> Backend:
        """Where all of it runs."""
        return self.plans[0].backend

    @cached_property
    def packed_form(self) -> tuple[Any, ...]:
        """What the packed weights depend on, beside the weight."""
        forms = [(str(p.weight), a.algorithm.name, a.algorithm.packing(p.spec), p.spec.dtypes.compute) for p, a in self]
        return (self.backend.name, *forms)

    def __iter__(self) -> Iterator[tuple[Part, Plan]]:
        return zip(self.problem.parts, self.plans, strict=True)


def pack(planned: Planned, weight: np.ndarray, stream: Any = None) -> list[Any]:
    """Bring a weight into the form that the algorithm of each part reads."""
    view = planned.problem.view_weight(weight)
    return [plan.algorithm.pack(plan.spec, view[part.weight], stream) for part, plan in planned]


class Bound:
    """A plan bound to arrays: of any content, at any address, but of one shape, dtype and order each.

    Parameters
    ----------
    steps
        What computes the parts, one after the other.
    stored, result
        An array as the result is allocated, and what the caller sees of that.
    """

    __slots__ = ("_dtype", "_seen_as", "_shape", "_steps")

    def __init__(self, steps: list[Step], stored: np.ndarray, result: np.ndarray) -> None:
        self._steps, self._shape, self._dtype = steps, stored.shape, stored.dtype
        self._seen_as = None if result is stored else (result.shape, result.strides)

    def takes(self, out: np.ndarray, *operands: np.ndarray | None) -> bool:
        """Whether the result may be computed in such an `out` itself."""
        return out.flags.writeable and not any(a is not None and np.may_share_memory(out, a) for a in operands)

    def compute(self, input: np.ndarray, weight: Any, bias: Any, residual: Any, out: np.ndarray | None) -> np.ndarray:
        """Compute, in `out` if it was bound to such. A weight and bias that are bound themselves are None here."""
        result = out
        if result is None:
            result = empty(self._shape, self._dtype)
            if self._seen_as is not None:
                shape, strides = self._seen_as
                result = np.ndarray(shape, self._dtype, result, 0, strides)
        for step in self._steps:
            step(input, weight, result, bias, residual)
        return result


def bind(
    planned: Planned,
    input: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    residual: np.ndarray | None,
    out: np.ndarray | None,
    packed: list[Any] | None = None,
) -> Bound | None:
    """Bind a plan to arrays like these, if it takes them as they are and computes in ``out``, if there is one, itself.

    With `packed`, what :func:`pack` returned, weight and bias are bound themselves, and not arrays like them.
    """
    problem, operands = planned.problem, {"input": input, "weight": weight}
    if planned.backend.place != "host" or not all(a is None or a.dtype.isnative for a in (input, weight, bias, residual)):
        return None
    if problem.conjugate is not None and operands[problem.conjugate].dtype.kind == "c":
        return None
    if out is not None and not arrays.writes_directly(out, problem.out_dtype, (input, weight, bias, residual)):
        return None
    stored = np.empty(problem.stored_shape, problem.out_dtype)
    result = problem.see_result(stored) if out is None else out
    inputs, weights, results = problem.view_input(input), problem.view_weight(weight), problem.view_output(result)
    addend = None if bias is None else arrays.view_bias(bias, problem.groups)
    added = None if residual is None else problem.view_output(residual)
    steps = []
    for number, (part, plan) in enumerate(planned):
        now = packed[number] if packed is not None else plan.algorithm.pack(plan.spec, weights[part.weight], None)
        rest = None if added is None else added[part.output]
        views = Operands(inputs[part.input], now, addend, rest, results[part.output])
        step = None
        if packed is None and isinstance(plan.run, Bindable) and np.may_share_memory(now, weight):  # it is packed as it lies
            step = plan.run.bind(views, (input, weight, result, bias, residual))
        if step is None:
            bases = (input, None, result, None, residual) if packed is not None else (input, now, result, bias, residual)
            step = plan.run.bind(views, bases) if isinstance(plan.run, Bindable) else None
            step = step or _viewing(plan.run, views, bases, problem, part)
            if packed is None:
                step = _packing(step, plan, _view_of(weight, weights[part.weight], _route(problem.view_weight, part.weight)))
        steps.append(step)
    return Bound(steps, stored, result)


def _viewing(run: Runner, views: Operands, bases: tuple[np.ndarray | None, ...], problem: Problem, part: Part) -> Step:
    """A step that sees arrays like the bases as the views see those, anew each time."""
    operands = views.input, views.weight, views.output, views.bias, views.residual
    to_input, to_output = _route(problem.view_input, part.input), _route(problem.view_output, part.output)
    routes: list[View] = [to_input, lambda a: a, to_output, lambda bias: arrays.view_bias(bias, problem.groups), to_output]
    view_input, view_weight, view_output, view_bias, view_residual = map(_view_of, bases, operands, routes)

    def step(input: np.ndarray, weight: Any, result: np.ndarray, bias: Any, residual: Any) -> None:
        run(Operands(view_input(input), view_weight(weight), view_bias(bias), view_residual(residual), view_output(result)))

    return step


def _view_of(base: np.ndarray | None, view: Any, route: View) -> Callable[[Any], Any]:
    """What sees arrays like a base: in one step if that is in C order, else on the route that led to its view."""
    if base is None:
        return lambda given: view
    if base is view:
        return lambda given: given
    return same_view(base, view) if base.flags.c_contiguous else route


def _route(view: View, index: Any) -> View:
    return lambda array: view(array)[index]


def _packing(step: Step, plan: Plan, view: View) -> Step:
    """A step that packs the weight first."""
    pack, spec = plan.algorithm.pack, plan.spec

    def packing(input: np.ndarray, weight: Any, result: np.ndarray, bias: Any, residual: Any) -> None:
        step(input, pack(spec, view(weight), None), result, bias, residual)

    return packing


class Memo(Generic[T]):
    """A table of bound or recorded calls that starts anew rather than grow without end.

    Threads may share it: at worst they bind the same twice. A copy, and what is unpickled, is empty.
    """

    LIMIT = 1024
    _all: ClassVar[WeakSet] = WeakSet()

    def __init__(self) -> None:
        self._entries: dict[tuple, T] = {}
        self.get = self._entries.get
        Memo._all.add(self)

    def remember(self, key: tuple, bound: T) -> None:
        """Keep a call."""
        if len(self._entries) >= self.LIMIT:
            self.clear()
        self._entries[key] = bound

    def clear(self) -> None:
        """Start anew."""
        self._entries.clear()

    @classmethod
    def forget(cls) -> None:
        """Empty every table there is."""
        for memo in list(cls._all):
            memo.clear()

    def __reduce__(self) -> tuple:
        return type(self), ()
