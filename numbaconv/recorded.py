"""A call on device arrays, written down: what calls alike do with arrays of the same shapes, strides, dtypes and devices.

As :mod:`numbaconv.bound` does for plain NumPy arrays: the first call of a kind is checked, planned and computed the long way
(:mod:`numbaconv.execute`), and recorded after that. Others find the recording by what their arrays look like.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import numpy as np

from numbaconv import arrays
from numbaconv.arrays import Memory, Recording
from numbaconv.problem import Problem

__all__ = ["Looks", "Recorded", "look_at"]


class Looks(NamedTuple):
    """Where the arrays of a call are, and all else that a recording depends on."""

    given: dict[str, Any]  # those that there are, by name
    addresses: list[int]
    rest: Hashable


def look_at(memory: Memory, call: dict[str, Any]) -> Looks | None:
    """Look at arrays of a call, by name; None if one of them is not to be recorded with."""
    given = {name: array for name, array in call.items() if array is not None}
    addresses, rest = [], []
    for array in given.values():
        look = memory.look(array) if arrays.place_of(array) == "cuda" else None
        if look is None:
            return None
        addresses.append(look[0])
        rest.append(look[1])
    return Looks(given, addresses, (tuple(given), tuple(rest)))


class Recorded:
    """A plan, recorded for arrays that look the same.

    Parameters
    ----------
    memory, site, problem
        Where the arrays live, and what is computed.
    shadows
        Those of the arrays of the first such call, in the order of its looks, the result last.
    run
        What computes with such shadows on a stream.
    """

    def __init__(
        self,
        memory: Memory,
        site: Hashable,
        problem: Problem,
        shadows: list[np.ndarray],
        run: Callable[[list[np.ndarray | None], Any], None],
    ) -> None:
        self._memory, self._site, self._problem = memory, site, problem
        self._recording: Recording = memory.record(shadows, run)
        stored = np.empty(problem.stored_shape, problem.out_dtype)
        self._stored_in_order = problem.see_result(stored) is stored
        self._extents = [_extent(shadow) for shadow in shadows]

    def takes(self, looks: Looks) -> bool:
        """Whether ``out``, if there is one, is apart from all that is read."""
        if "out" not in looks.given:
            return True
        spans = [(a + low, a + high) for a, (low, high) in zip(looks.addresses, self._extents, strict=True)]
        *others, (low, high) = spans
        return not any(begin < high and low < end for begin, end in others)

    def compute(self, looks: Looks, stream: Any) -> Any:
        """Compute, in ``out`` if it is given."""
        if self._memory.site(None) == self._site:
            return self._play(looks, self._memory.ordered(looks.given, stream))
        with self._memory.session(looks.given, stream) as on:
            return self._play(looks, on)

    def _play(self, looks: Looks, stream: Any) -> Any:
        given, addresses = looks.given, looks.addresses
        like, out = given["input"], given.get("out")
        if out is None:
            stored = self._memory.empty(self._problem.stored_shape, self._problem.out_dtype, like, stream)
            out, address = self._seen(stored)
            addresses = [*addresses, address]
        self._recording.play(addresses, stream, like)
        return out

    def _seen(self, stored: Any) -> tuple[Any, int]:
        """The caller's view of a new result, and its address."""
        if self._stored_in_order:
            look = self._memory.look(stored)
            assert look is not None
            return stored, look[0]
        view = self._memory.view_out(stored)
        return self._memory.restride(stored, self._problem.see_result(view)), view.ctypes.data


def _extent(shadow: np.ndarray) -> tuple[int, int]:
    """The bytes that an array spans, from its first element on."""
    steps = [(n - 1) * s for n, s in zip(shadow.shape, shadow.strides, strict=True)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + shadow.itemsize
