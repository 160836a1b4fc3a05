"""What one call does, decided beforehand: a plan, and a plan bound to plain arrays of known shapes and dtypes.

The first call of a kind is checked and planned (:mod:`numbaconv.execute`). Where its operands are plain NumPy arrays
(:func:`numbaconv.arrays.is_plain`) it leaves a :class:`Bound` behind, and calls alike do what that says: see the operands in six
axes, allocate, run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar
from weakref import WeakSet

import numpy as np
from numpy import empty

from numbaconv import arrays
from numbaconv.algorithm import Operands
from numbaconv.arrays import View, is_plain, same_view
from numbaconv.backend import Backend
from numbaconv.dispatch import Plan
from numbaconv.options import Size
from numbaconv.problem import Part, Problem

__all__ = ["Bound", "Memo", "Planned", "Step", "bind", "pack"]

Step = Callable[[np.ndarray, Any, Any, np.ndarray], None]  # of input, weight, bias, result
_operands = partial(tuple.__new__, Operands)  # what Operands() does, which is Python, without its keywords


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


def pack(planned: Planned, weight: np.ndarray) -> list[Any]:
    """Bring a weight into the form that the algorithm of each part reads."""
    view = planned.problem.view_weight(weight)
    return [plan.algorithm.pack(plan.spec, view[part.weight]) for part, plan in planned]


class Bound:
    """A plan bound to plain arrays: of any content, at any address, but of one shape and dtype each.

    Parameters
    ----------
    steps
        What computes the parts, one after the other.
    shape, dtype
        Of the result, which is in C order.
    """

    __slots__ = ("_dtype", "_shape", "_steps")

    def __init__(self, steps: list[Step], shape: Size, dtype: np.dtype) -> None:
        self._steps, self._shape, self._dtype = steps, shape, dtype

    def takes(self, out: Any, *operands: np.ndarray | None) -> bool:
        """Whether the result may be computed in `out` itself."""
        plain = is_plain(out) and out.shape == self._shape and out.dtype == self._dtype and out.flags.writeable
        return plain and not any(a is not None and np.may_share_memory(out, a) for a in operands)

    def compute(self, input: np.ndarray, weight: Any, bias: Any, out: np.ndarray | None) -> np.ndarray:
        """Compute, in `out` if it is given. A weight and bias that are bound themselves are None here."""
        result = empty(self._shape, self._dtype) if out is None else out
        for step in self._steps:
            step(input, weight, bias, result)
        return result


def bind(
    planned: Planned, input: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, packed: list[Any] | None = None
) -> Bound | None:
    """Bind a plan to plain arrays like these, if it takes them as they are and computes the result in C order.

    With `packed`, what :func:`pack` returned, weight and bias are bound themselves, and not arrays like them.
    """
    problem, operands = planned.problem, {"input": input, "weight": weight}
    if planned.backend.place != "host" or not all(a is None or a.dtype.isnative for a in (input, weight, bias)):
        return None
    if problem.conjugate is not None and operands[problem.conjugate].dtype.kind == "c":
        return None
    result = np.empty(problem.stored_shape, problem.out_dtype)
    if problem.see_result(result) is not result:
        return None
    inputs, weights, results = problem.view_input(input), problem.view_weight(weight), problem.view_output(result)
    addend = view_bias = None
    if bias is not None:
        addend = arrays.view_bias(bias, problem.groups)
        view_bias = same_view(bias, addend)
    steps = []
    for number, (part, plan) in enumerate(planned):
        view_input, view_result = same_view(input, inputs[part.input]), same_view(result, results[part.output])
        if packed is not None:
            steps.append(_step_of(packed[number], addend, plan, view_input, view_result))
        else:
            steps.append(_step(same_view(weight, weights[part.weight]), view_bias, plan, view_input, view_result))
    return Bound(steps, result.shape, result.dtype)


def _step(view_weight: View, view_bias: View | None, plan: Plan, view_input: View, view_result: View) -> Step:
    run, pack, spec = plan.run, plan.algorithm.pack, plan.spec

    def step(input: np.ndarray, weight: np.ndarray, bias: np.ndarray, result: np.ndarray) -> None:
        addend = None if view_bias is None else view_bias(bias)
        run(_operands((view_input(input), pack(spec, view_weight(weight)), addend, None, view_result(result), None)))

    return step


def _step_of(packed: Any, addend: np.ndarray | None, plan: Plan, view_input: View, view_result: View) -> Step:
    run = plan.run

    def step(input: np.ndarray, weight: None, bias: None, result: np.ndarray) -> None:
        run(_operands((view_input(input), packed, addend, None, view_result(result), None)))

    return step


class Memo:
    """A table of bound calls that starts anew rather than grow without end.

    Threads may share it: at worst they bind the same twice. A copy, and what is unpickled, is empty.
    """

    LIMIT = 1024
    _all: ClassVar[WeakSet[Memo]] = WeakSet()

    def __init__(self) -> None:
        self._entries: dict[tuple, Bound] = {}
        self.get = self._entries.get
        Memo._all.add(self)

    def remember(self, key: tuple, bound: Bound) -> None:
        """Keep a bound call."""
        if len(self._entries) >= self.LIMIT:
            self._entries.clear()
        self._entries[key] = bound

    @classmethod
    def forget(cls) -> None:
        """Empty every table there is."""
        for memo in list(cls._all):
            memo._entries.clear()

    def __reduce__(self) -> tuple:
        return Memo, ()
