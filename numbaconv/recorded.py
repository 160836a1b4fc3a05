"""A call on device arrays, written down: what calls alike do with arrays of the same shapes, strides, dtypes and devices.

As :mod:`numbaconv.bound` does for plain NumPy arrays: the first call of a kind is checked, planned and computed the long way
(:mod:`numbaconv.execute`), and recorded after that. Others find the recording by what their arrays look like.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv.arrays import Memory, Recording
from numbaconv.backend import chosen
from numbaconv.problem import Problem

__all__ = ["Looks", "Recorded", "look_at"]


class Looks(NamedTuple):
    """Where the arrays of a call are, and all else that a recording depends on."""

    arrays: list[Any]  # those that there are, the input first, and `out` last if there is one
    addresses: list[int]
    key: tuple


def look_at(memory: Memory, asked: Hashable, arrays: Sequence[Any]) -> Looks | None:
    """Look at the arrays of a call, or None for those that it lacks; None if one of them is not to be recorded with.

    Calls that ask for the same (`asked`), whose arrays look the same, have the same key.
    """
    given: list[Any] = []
    addresses: list[int] = []
    key: list[Any] = [asked, chosen.get()]
    for array in arrays:
        if array is None:
            key.append(None)
            continue
        look = memory.look(array)
        if look is None:
            return None
        given.append(array)
        addresses.append(look[0])
        key.append(look[1])
    return Looks(given, addresses, tuple(key))


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
        self._extents = [_extent(shadow) for shadow in shadows]
        self._make: Callable[[Any, Any], tuple[Any, int]] | None = None
        if out is None:
            stored = np.empty(problem.stored_shape, problem.out_dtype)
            self._make = memory.maker(stored, problem.see_result(stored), like)

    def takes(self, looks: Looks) -> bool:
        """Whether ``out``, if there is one, is apart from all that is read."""
        if self._make is not None:
            return True
        *operands, out = zip(looks.addresses, self._extents, strict=True)
        begin, end = _span(*out)
        return all(high <= begin or end <= low for low, high in (_span(*operand) for operand in operands))

    def compute(self, looks: Looks, stream: Any) -> Any:
        """Compute, in ``out`` if it is given."""
        if self._memory.site(None) == self._site:
            return self._play(looks, self._memory.ordered(looks.arrays, stream))
        with self._memory.session({f"array {n}": array for n, array in enumerate(looks.arrays)}, stream) as on:
            return self._play(looks, on)

    def _play(self, looks: Looks, stream: Any) -> Any:
        arrays, addresses, _ = looks
        if self._make is None:
            self._recording.play(addresses, stream, arrays[0])
            return arrays[-1]
        result, address = self._make(arrays[0], stream)
        self._recording.play([*addresses, address], stream, arrays[0])
        return result


def _span(address: int, extent: tuple[int, int]) -> tuple[int, int]:
    """The first byte of an array, and that after its last."""
    return address + extent[0], address + extent[1]


def _extent(shadow: np.ndarray) -> tuple[int, int]:
    """The bytes that an array spans, from its first element on."""
    steps = [(n - 1) * s for n, s in zip(shadow.shape, shadow.strides, strict=True)]
    return sum(s for s in steps if s < 0), sum(s for s in steps if s > 0) + shadow.itemsize
