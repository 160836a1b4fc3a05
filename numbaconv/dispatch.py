"""Which algorithm computes a problem, and why: ordered tables, a cost model or measurements, and the explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from numbaconv import tuning
from numbaconv.algorithm import Algorithm, Runner
from numbaconv.backend import BACKENDS, Backend
from numbaconv.errors import bad_value, shown
from numbaconv.spec import ConvSpec

__all__ = [
    "Explanation",
    "Plan",
    "Row",
    "aligned",
    "check_algorithm",
    "check_precision",
    "explain",
    "in_seconds",
    "select",
    "usable",
]

PRECISIONS = {"cpu": ("ieee",), "cuda": ("ieee", "tf32", "bf16"), "reference": ("ieee",)}


class Row(NamedTuple):
    """One algorithm in an explanation: its predicted and measured seconds, or why it cannot take the problem."""

    backend: str
    algorithm: str
    summary: str
    cost: float | None
    why_not: str | None
    measured: float | None = None


@dataclass(frozen=True)
class Plan:
    """A problem and the algorithm that computes it."""

    spec: ConvSpec
    backend: Backend
    algorithm: Algorithm

    @property
    def run(self) -> Runner:
        """What computes; made, and compiled, on first use."""
        if "_run" not in self.__dict__:  # cached_property of Python 3.11 holds a lock meanwhile, which forked children inherit
            self.__dict__["_run"] = self.algorithm.prepare(self.spec)
        return self.__dict__["_run"]


def candidates(backend: Backend) -> tuple[Algorithm, ...]:
    """Return a backend's algorithms, in order; on the host the reference, which takes everything, comes last."""
    last = BACKENDS["reference"].algorithms if backend.name == "cpu" else ()
    return backend.algorithms + last


@lru_cache(maxsize=4096)
def select(spec: ConvSpec, backend: Backend, prepared: bool = True) -> Plan:
    """Choose the algorithm: the one named, or the fastest of those that can, the first of equals.

    Where some were measured on this machine, that is the least measured time, else the least predicted: the two are not compared.
    To both comes the predicted time to pack the weight, unless a prepared operator did that before. To a batch a prepared
    operator takes what rounds as one item's algorithm (:func:`_of_one_item`).

    Raises
    ------
    ValueError
        If the named algorithm does not exist or cannot take the problem, or the precision is not to be had; with the reason.
    """
    check_precision(spec.precision, backend)
    able = usable(spec, backend)
    if not able:
        _refuse(spec, backend)
    seconds = _measured(spec, backend)
    one = _of_one_item(spec, backend, prepared)
    able = [a for a in able if one is None or _rounds_as(a, one)]
    whole = {a: _whole(a, spec, prepared, seconds) for a in able if a.name in seconds}
    if whole:
        return Plan(spec, backend, min(whole, key=lambda algorithm: whole[algorithm] or 0.0))
    return Plan(spec, backend, min(able, key=lambda algorithm: algorithm.seconds(spec, prepared)))


def _whole(algorithm: Algorithm, spec: ConvSpec, prepared: bool, seconds: Mapping[str, float]) -> float | None:
    """The measured seconds of an algorithm, if there are any, and what it takes to pack."""
    if algorithm.name not in seconds:
        return None
    return seconds[algorithm.name] + (0.0 if prepared else algorithm.packing_cost(spec))


def _of_one_item(spec: ConvSpec, backend: Backend, prepared: bool) -> Algorithm | None:
    """The algorithm whose bits a batch has to have, as a prepared operator gives an item the same ones alone and in a batch.

    Where the batch was measured and one item was not, measuring it was a decision.
    """
    one = replace(spec, batch=1)
    if not prepared or spec.batch <= 1 or backend.name != "cpu" or (_measured(spec, backend) and not _measured(one, backend)):
        return None
    return select(one, backend).algorithm


def _rounds_as(algorithm: Algorithm, other: Algorithm) -> bool:
    return algorithm is other or algorithm.summation == other.summation is not None


def usable(spec: ConvSpec, backend: Backend) -> list[Algorithm]:
    """Return the algorithms that can take a problem, in order."""
    return [a for a in candidates(backend) if _objection(a, spec) is None]


def _measured(spec: ConvSpec, backend: Backend) -> Mapping[str, float]:
    """The seconds by algorithm that choose in place of the cost model, where there are any."""
    return tuning.measured(spec) if backend.name == "cpu" and spec.algorithm in ("auto", "accurate") else {}


def _objection(algorithm: Algorithm, spec: ConvSpec) -> str | None:
    """Why this algorithm is not to be taken: the caller's wish first, then its own limits."""
    if spec.algorithm == "accurate":
        if not algorithm.sums_directly:
            return "algorithm='accurate' asks for the sum of the products themselves"
    elif spec.algorithm not in ("auto", algorithm.name):
        return f"algorithm={spec.algorithm!r} was asked for"
    return algorithm.why_not(spec)


def check_precision(precision: str, backend: Backend) -> None:
    """Raise ValueError if the backend offers no such precision."""
    if precision not in PRECISIONS[backend.name]:
        choices = ", ".join(map(repr, PRECISIONS[backend.name]))
        raise bad_value("precision", f"one of {choices} on the {backend.name} backend", shown(precision))


def check_algorithm(name: str, backend: Backend) -> None:
    """Raise ValueError if the backend has no algorithm of this name."""
    choices = ("auto", "accurate", *(a.name for a in candidates(backend)))
    if name not in choices:
        raise bad_value("algorithm", f"one of {', '.join(map(repr, choices))} on the {backend.name} backend", shown(name))


def _refuse(spec: ConvSpec, backend: Backend) -> None:
    check_algorithm(spec.algorithm, backend)
    asked = [a for a in candidates(backend) if spec.algorithm in ("auto", "accurate", a.name)]
    reasons = "; ".join(f"{a.name}: {_objection(a, spec)}" for a in asked)
    expected = f"one that can take this problem on the {backend.name} backend"
    raise bad_value("algorithm", expected, f"{spec.algorithm!r} ({reasons})")


# ---------------------------------------------------------------- explanation


@dataclass(frozen=True)
class Explanation:
    """What :func:`numbaconv.explain` returns; print it.

    Attributes
    ----------
    problem : str
        The problem in words.
    backend, algorithm : str
        What a call takes; where its parts take several algorithms, all of them.
    rows : tuple of Row
        Every algorithm of every backend: ``backend``, ``algorithm``, ``summary``, ``cost`` (predicted seconds, None where it is
        not possible), ``why_not`` (None for the one taken) and ``measured`` (seconds, None where they were not measured). One
        after the other where there are parts.
    parts : tuple of Explanation
        The convolutions that the problem falls into, where there is more than one.
    """

    problem: str
    backend: str
    algorithm: str
    rows: tuple[Row, ...]
    parts: tuple[Explanation, ...] = ()

    def __str__(self) -> str:
        if self.parts:
            return "\n".join([f"{self.problem}, as convolutions of stride 1:", *map(str, self.parts)])
        tuned = any(row.measured is not None for row in self.rows)
        table = [("", "backend", "algorithm", "predicted", *["measured"] * tuned, "why (not)")]
        taken = "taken, measured fastest" if tuned else "taken"
        for row in self.rows:
            mark = ">" if (row.backend, row.algorithm) == (self.backend, self.algorithm) else ""
            times = [in_seconds(row.cost), *[in_seconds(row.measured)] * tuned]
            table.append((mark, row.backend, row.algorithm, *times, row.why_not or f"{taken}: {row.summary}"))
        return "\n".join([self.problem, *aligned(table)])


def explain(title: str, specs: Sequence[ConvSpec], backend: Backend, prepared: bool) -> Explanation:
    """Say what :func:`select` decides for the parts of a problem, and why not otherwise."""
    parts = tuple(_explain(spec, str(spec) if len(specs) > 1 else title, backend, prepared) for spec in specs)
    if len(parts) == 1:
        return parts[0]
    algorithms = " + ".join(dict.fromkeys(part.algorithm for part in parts))
    return Explanation(title, parts[0].backend, algorithms, sum((part.rows for part in parts), ()), parts)


def _explain(spec: ConvSpec, title: str, backend: Backend, prepared: bool) -> Explanation:
    plan, seconds = select(spec, backend, prepared), _measured(spec, backend)
    rows = tuple(_row(a, b, plan, prepared, seconds) for b in BACKENDS.values() for a in b.algorithms)
    return Explanation(title, plan.algorithm.backend, plan.algorithm.name, rows)


def _row(algorithm: Algorithm, backend: Backend, plan: Plan, prepared: bool, seconds: Mapping[str, float]) -> Row:
    cost = measured = None
    one = _of_one_item(plan.spec, plan.backend, prepared)
    if algorithm is plan.algorithm:
        reason, cost, measured = None, algorithm.seconds(plan.spec, prepared), _whole(algorithm, plan.spec, prepared, seconds)
    elif (reason := backend.why_unavailable()) is None and (reason := _objection(algorithm, plan.spec)) is None:
        cost = algorithm.seconds(plan.spec, prepared)
        if algorithm not in candidates(plan.backend):
            reason = f"the call goes to the {plan.backend.name} backend"
        elif one is not None and not _rounds_as(algorithm, one):
            reason = f"one item takes {one.name}, which rounds otherwise"
        elif plan.algorithm.name not in seconds:
            reason = "predicted slower"
        else:
            measured = _whole(algorithm, plan.spec, prepared, seconds)
            reason = "not measured" if measured is None else "measured slower"
    return Row(backend.name, algorithm.name, algorithm.summary, cost, reason, measured)


def in_seconds(value: float | None) -> str:
    """Return a time in words."""
    if value is None:
        return "-"
    unit, scale = next((u for u in (("s", 1.0), ("ms", 1e-3)) if value >= u[1]), ("us", 1e-6))
    return f"{value / scale:.3g} {unit}"


def aligned(table: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table, its columns as wide as they have to be."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in table]
