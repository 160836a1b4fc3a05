"""What compiled calls ask Python for: the program of a call that their table lacks, or the result itself."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba.core import serialize

from numbaconv import arrays, execute
from numbaconv.algorithm import Operands
from numbaconv.backend import choose
from numbaconv.bound import Bindable, Planned
from numbaconv.compiled.call import HEAD, NBYTES, PLACES, PROGRAM, RUNNER, SHAPE
from numbaconv.compiled.request import Request, array_at
from numbaconv.corr2d import AXES, check
from numbaconv.cpu import program
from numbaconv.cpu.panels import copying
from numbaconv.dispatch import Plan
from numbaconv.execute import Views
from numbaconv.options import ConvOptions
from numbaconv.prepared import Prepared, owned
from numbaconv.table import Table

__all__ = ["compute", "resolve"]

NOWHERE = program.NOTHING, 0


class Form(NamedTuple):
    """How a function's arrays become an operator's: how many axes of size 1 come before theirs, and before the result's."""

    operator: str
    ndim: int
    input: int = 0
    weight: int = 0
    result: int = 0


FORMS = {
    **{f"conv{n}d": Form("conv", n) for n in (1, 2, 3)},
    **{f"conv_transpose{n}d": Form("conv_transpose", n) for n in (1, 2, 3)},
    **{f"conv{n}d_input": Form("input_gradient", n) for n in (1, 2, 3)},
    **{f"conv{n}d_weight": Form("weight_gradient", n) for n in (1, 2, 3)},
    "corr2d": Form("corr", 2, 1, 2, 1),
    "corr2d_multi_in": Form("corr", 2, 0, 1, 1),
    "corr2d_multi_in_out": Form("corr", 2),
    "corr2d_multi_in_out_1x1": Form("corr", 2),
}


_tables: dict[str, Table] = {}
_lent: dict[int, np.ndarray] = {}  # nodes of calls that no table has room for, until these are computed
_records: dict[bytes, _Raised] = {}  # what was raised, which Numba keeps as well


class _Call:
    """One call, seen from Python.

    Parameters
    ----------
    text
        The address of its request.
    callee
        The address of a prepared operator, or 0.
    block
        The address of its words.
    """

    def __init__(self, text: int, callee: int, block: int) -> None:
        self.request = request = Request.read(ctypes.string_at(text).decode())
        self.words = words = (ctypes.c_int64 * (HEAD + request.words)).from_address(block)[:]
        self.key = tuple(words[HEAD:])
        self.operator: Prepared | None = ctypes.cast(callee, ctypes.py_object).value if callee else None
        self.owned = None if self.operator is None else owned(self.operator)
        self.form = FORMS[request.function] if self.operator is None else Form(self.operator.operator, self.operator.ndim)
        self.given = request.views({name: words[PLACES[name]] for name in request.arrays}, self.key)
        lead = {"input": self.form.input, "weight": self.form.weight, "out": self.form.result}
        seen = {name: a[(None,) * lead.get(name, 0)] for name, a in self.given.items()}
        self.arrays = execute.Call(*(seen.get(name) for name in execute.Call._fields))
        self.options = ConvOptions(**request.values(self.key)) if self.owned is None else self.owned.options

    @property
    def backend(self) -> str | None:
        """The one that was asked for."""
        return self.request.backend if self.owned is None else self.owned.backend

    def compute(self, out: np.ndarray) -> None:
        """Compute it as it would be outside."""
        arrays = self.arrays._replace(out=out[(None,) * self.form.result])
        if self.operator is None:
            execute.convolve(self.form.operator, self.form.ndim, arrays, self.options, self.backend)
        else:
            self.operator(arrays.input, residual=arrays.residual, out=arrays.out)

    def node(self) -> np.ndarray:
        """Check it, plan it, and write its node."""
        if self.request.function in AXES:
            check(self.request.function, self.given["input"], self.given["weight"])
        planned, views = self._planned()
        result = self.arrays.out
        if result is None:
            result = planned.problem.see_result(np.empty(planned.problem.stored_shape, planned.problem.out_dtype))
            result = result[(0,) * self.form.result]
        words = self._program(planned, views, result)
        node = np.array([0] * SHAPE + [*result.shape, *result.strides, *self.key], np.int64).view(_Node)
        node[NBYTES] = result.nbytes
        if words is not None:
            node[RUNNER], node[PROGRAM], node.kept = program.runner(), words.ctypes.data, words
        return node

    def _planned(self) -> tuple[Planned, Views]:
        backend, source = choose(self.backend, "host"), self.owned or self.arrays
        weight, bias = source.weight, source.bias
        views = Views(self.arrays.input, weight, bias, self.arrays.residual)
        how = self.form.operator, self.form.ndim
        planned = execute.plan_views(*how, views, self.options, backend, self.owned is not None)
        out = self.arrays.out
        if out is not None:
            planned = execute.plan_for_out(out, planned, *how, views, self.options, self.owned is not None)
        return planned, views

    def _program(self, planned: Planned, views: Views, result: np.ndarray) -> np.ndarray | None:
        """The words of the program; None where only Python can compute it."""
        problem, out = planned.problem, self.arrays.out
        if planned.backend.name != "cpu" or (out is not None and not arrays.writes_directly(out, problem.out_dtype, ())):
            return None
        if problem.conjugate is not None and getattr(views, problem.conjugate).dtype.kind == "c":
            return None
        written = _Writing(planned, views, result[(None,) * self.form.result], self.owned is not None, out is not None)
        packed = None if self.owned is None else self.owned.pack(planned, views.weight, None)
        return written.words() if written.steps(packed) else None


class _Node(np.ndarray):
    """The words of a node."""

    kept: object  # has to live as long


class _Writing:
    """A plan on its way to a program."""

    def __init__(self, planned: Planned, views: Views, result: np.ndarray, prepared: bool, given: bool) -> None:
        self._planned, self._views, self._result, self._prepared = planned, views, result, prepared
        self._program = program.Program(given)

    def words(self) -> np.ndarray:
        """Return the program."""
        views = self._views._asdict() | {"out": self._result}
        owned = ("weight", "bias") if self._prepared else ()
        return self._program.written({PLACES[n]: a for n, a in views.items() if a is not None and n not in owned})

    def steps(self, packed: list[Any] | None) -> bool:
        """Write the steps of all parts; return whether that could be done."""
        problem, views = self._planned.problem, self._views
        input, weight, output = (
            problem.view_input(views.input),
            problem.view_weight(views.weight),
            problem.view_output(self._result),
        )
        bias = None if views.bias is None else arrays.view_bias(views.bias, problem.groups)
        residual = None if views.residual is None else problem.view_output(views.residual)
        for number, (part, plan) in enumerate(self._planned):
            if not isinstance(plan.run, Bindable):
                return False
            if packed is not None:
                found, place, base = packed[number], NOWHERE, None
            else:
                packing = self._pack(plan, weight[part.weight])
                if packing is None:
                    return False
                found, place, base = packing
            rest = None if residual is None else residual[part.output]
            operands = Operands(input[part.input], found, bias, rest, output[part.output])
            given = views.input, base, self._result, None if self._prepared else views.bias, views.residual
            bases = [
                array if view is not None and view.size else None
                for array, view in zip(given, (*operands[:1], found, operands.output, bias, rest), strict=True)
            ]
            launch = plan.run.bind(operands, bases)
            if launch is None:
                return False
            places = (program.INPUT, 0), place, (program.RESULT, 0), (program.BIAS, 0), (program.RESIDUAL, 0)
            self._program.add(launch, [p if base is not None else NOWHERE for p, base in zip(places, bases, strict=True)])
        return True

    def _pack(self, plan: Plan, weight: np.ndarray) -> tuple[np.ndarray, tuple[int, int], np.ndarray | None] | None:
        """Write the steps that pack a weight: what they make, where it is, and what array that is seen in."""
        algorithm, spec, caller = plan.algorithm, plan.spec, self._views.weight
        found = algorithm.pack(spec, weight, None)
        if not found.size:
            return found, NOWHERE, None
        if np.may_share_memory(found, caller):  # it is packed as it lies
            return found, (program.WEIGHT, 0), caller
        packer = algorithm.packer(spec)
        if packer is not None and (launch := packer.bind(weight, found, caller)) is not None:
            place = self._program.scratch(found)
            self._program.add(launch, [(program.WEIGHT, 0), place])
            return found, place, found
        copy = np.empty(weight.shape, spec.dtypes.compute)
        found = algorithm.pack(spec, copy, None)
        if packer is None and not np.may_share_memory(found, copy):
            return None
        copied = self._program.scratch(copy)
        self._program.add(copying(weight, copy, caller), [(program.WEIGHT, 0), copied])
        if packer is None:
            return found, copied, copy
        place = self._program.scratch(found)
        self._program.add(packer.bind(copy, found, copy), [copied, place])
        return found, place, found


def answering(function: Callable[..., int]) -> Callable[..., int]:
    """Have a function return what it raises: less than 0, the address of a record from which compiled code raises it."""

    def answer(*words: int) -> int:
        try:
            return function(*words)
        except BaseException as error:
            data = serialize.dumps((type(error), tuple(map(str, error.args)), None))
            return -ctypes.addressof(_records.setdefault(data, _Raised(data)))

    return answer


class _Raised(ctypes.Structure):
    """An exception, as compiled code hands it on: Numba's ``excinfo_t``."""

    _fields_ = (
        ("data", ctypes.c_char_p), ("size", ctypes.c_int32), ("digest", ctypes.c_char_p), ("boxed", ctypes.c_void_p),
        ("count", ctypes.c_int32),
    )  # fmt: skip

    def __init__(self, data: bytes) -> None:
        super().__init__(data, len(data), hashlib.sha1(data).digest(), None, 0)


@answering
def resolve(text: int, table: int, callee: int, block: int) -> int:
    """Return the address of the node for a call, which its table lacked, and tell the call where that table is."""
    call = _Call(text, callee, block)
    found = _tables.setdefault(call.request.text, Table()) if call.operator is None else call.operator.table
    node = found.get(call.key)
    if node is None:
        made = call.node()
        found.remember(call.key, made)
        node = found.get(call.key)
    if node is None:
        node = _lent[made.ctypes.data] = made
        node[RUNNER] = 0
    ctypes.c_int64.from_address(table).value = found.head.ctypes.data
    return node.ctypes.data


@answering
def compute(text: int, node: int, callee: int, block: int) -> int:
    """Compute a call that no program computes."""
    call = _Call(text, callee, block)
    out = call.given.get("out")
    if out is None:
        ndim, dtype = call.request.result.ndim, np.dtype(call.request.result.dtype)
        extents = (ctypes.c_int64 * (2 * ndim)).from_address(node + 8 * SHAPE)[:]
        out = array_at(call.words[program.RESULT], tuple(extents[:ndim]), tuple(extents[ndim:]), dtype)
    _lent.pop(node, None)
    call.compute(out)
    return 0
