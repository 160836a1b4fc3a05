"""A call on device arrays, written down: what calls alike do with arrays of the same shapes, strides, dtypes and devices.

As :mod:`numbaconv.bound` does for NumPy arrays: the first call of a kind is checked, planned and computed the long way
(:mod:`numbaconv.execute`), and recorded after that. Others find the recording by what their arrays look like.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from numbaconv.arrays import Memory, Recording
from numbaconv.backend import chosen
from numbaconv.problem import Problem

__all__ = ["Looks", "Recorded", "look_at"]


# Of the arrays of a call, the input first and `out` last if there is one: themselves, their addresses, and a key that calls share
# which ask for the same of arrays that look the same. (A tuple, as one with names takes as long to make as to look at an array.)
Looks = tuple[list[Any], list[int], tuple]


def look_at(memory: Memory, asked: Hashable, arrays: Sequence[Any]) -> Looks | None:
    """Look at the arrays of a call, None for those that it lacks. None if one of them is not to be recorded with."""
    given: list[Any] = []
    addresses: list[int] = []
    key: list[Any] = [asked, chosen.get()]
    known = memory.lookers
    for array in arrays:
        if array is None:
            key.append(None)
            continue
        look = known.get(type(array), memory.look)(array)
        if look is None:
            return None
        given.append(array)
        addresses.append(look[0])
        key.append(look[1])
    return given, addresses, tuple(key)


class Recorded:
    """A plan, recorded for arrays that look the same.

    Parameters
    ----------
    memory, site, problem
        Where the arrays live, and what is computed.
    shadows
        Those of the arrays of the first such call, in the order of its looks, the result last.
    out
        That of such a call, or None: the result is allocated.
    like
        An array of the call, of whose family results are.
    run
        What computes with such shadows on a stream.
    """

    def __init__(
        self,
        memory: Memory,
        site: Hashable,
        problem: Problem,
        shadows: list[np.ndarray],
        out: Any,
        like: Any,
        run: Callable[[list[np.ndarray | None], Any], None],
    ) -> None:
        self._memory, self._site = memory, site
        self._recording: Recording = memory.record(shadows, run)
        self._too_near = [_too_near(operand, shadows[-1]) for operand in shadows[:-1]]
        self._make: Callable[[Any, Any], tuple[Any, int]] | None = None
        if out is None:
            stored = np.empty(problem.stored_shape, problem.out_dtype)
            self._make = memory.maker(stored, problem.see_result(stored), like)

    def takes(self, addresses: Sequence[int]) -> bool:
        """Whether ``out``, if there is one, is apart from all that is read."""
        if self._make is None:
            out = addresses[-1]
            for address, (low, high) in zip(addresses, self._too_near, strict=False):
                if low < out - address < high:
                    return False
        return True

    def compute(self, arrays: Sequence[Any], addresses: Sequence[int], stream: Any) -> Any:
        """Compute, in ``out`` if it is given."""
        memory, like = self._memory, arrays[0]
        if memory.site(None) != self._site:
            with memory.session({f"array {n}": array for n, array in enumerate(arrays)}, stream):
                return self.compute(arrays, addresses, stream)
        stream = memory.ordered(arrays, stream)
        if self._make is None:
            self._recording.play(addresses, stream, like)
            return arrays[-1]
        result, address = self._make(like, stream)
        self._recording.play([*addresses, address], stream, like)
        return result


def _too_near(operand: np.ndarray, out: np.ndarray) -> tuple[int, int]:
    """Between which differences of their addresses two arrays overlap: more bytes than the first, fewer than the second."""
    (low, high), (first, last) = _extent(operand), _extent(out)
    return low - last, high - first


def _extent(shadow: np.ndarray) -> tuple[int, int]:
    """The bytes that an array spans, from its first element on."""
    steps = [(n - 1) * s for n, s in zip(shadow.shape, shadow.strides, strict=True)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + shadow.itemsize
