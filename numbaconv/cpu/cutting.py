"""How counts are cut into even pieces, and positions into register tiles; and which of many ways to cut is the fastest.

What predicts is given all ways at once, as an array for each number, so that a problem of a new size costs a fraction of a
millisecond. :func:`even`, :func:`pieces`, :func:`over_pieces` and :func:`tile_cycles` take numbers and arrays alike, which hold
floats, as sizes without end fit into these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np

from numbaconv.cpu.jit import inner
from numbaconv.cpu.microkernel import RUN

__all__ = ["L1_BYTES", "LINE", "cuts_for", "even", "find_cut", "least", "over_pieces", "pieces", "tile_cycles", "tiles_of"]

Cut = TypeVar("Cut", bound=NamedTuple)

L1_BYTES, LINE = 32 * 1024, 64  # of a cache, and of a line of it
FEW = 20  # sums, at most, of which a run's end and the next one's beginning overlap


def even(total: int, part: int) -> int:
    """A part no larger than `part` that cuts the total into as many, but even, pieces."""
    return -(-total // -(-total // part))


def pieces(count: int, most: int) -> tuple[int, int, int, int]:
    """Cut a count into even pieces no larger than `most`: so many of one size, so many of a size one less."""
    parts = -(-count // most)
    size = -(-count // parts)
    smaller = parts * size - count
    return parts - smaller, size, smaller, (size - 1) * (smaller > 0)


def tiles_of(count: int, most: int) -> list[tuple[int, int]]:
    """The same as pairs (how many, size)."""
    a, size_a, b, size_b = pieces(count, most)
    return [(n, size) for n, size in ((a, size_a), (b, size_b)) if n]


def over_pieces(count: Any, most: Any, cost: Callable[[Any], Any]) -> Any:
    """Add up what these pieces cost, by their sizes."""
    a, size_a, b, size_b = pieces(count, most)
    return a * cost(size_a) + b * cost(size_b)


def least(cuts: Sequence[Cut], seconds: Callable[[Cut], np.ndarray]) -> Cut:
    """Return the first of those which take the least ``seconds``, a field of theirs, by a function of all of them at once."""
    numbers = np.fromiter(chain.from_iterable(cuts), float).reshape(len(cuts), -1)  # np.array takes three times as long
    predicted = seconds(type(cuts[0])(*numbers.T))
    best = int(predicted.argmin())
    return cuts[best]._replace(seconds=float(predicted[best]))


def tile_cycles(positions: Any, vectors: Any, taps: int) -> Any:
    """Predict the cycles of one call of the microkernel along channels.

    A cycle a product of vectors, if there are enough to hide their latency of 4 cycles at 2 a cycle, and if the vectors of
    weights arrive in time, which come from the L2 cache at half a vector a cycle; 20 to start, 2 a sum to store, and one for each
    further run of products, unless so few registers are in use that the next run begins meanwhile.
    """
    sums = positions * vectors
    runs = np.where(sums > FEW, -(-taps // RUN) - 1, 0)
    return 20 + taps * np.maximum(np.maximum(8, sums), 2 * vectors + positions / 2) + (2 + runs) * sums


def cuts_for(counts: Iterable[int], most: int, compile: Callable[[int], Any]) -> tuple[np.ndarray, list]:
    """Return what :func:`find_cut` searches, and what to keep as long as that is in use.

    Row by row: the count, then twice how many pieces of what size, and the address of the vector function for such a piece.
    """
    rows, kept = [[[0] * 3] * 3], []
    for count in sorted(set(counts) - {0}):
        a, size_a, b, size_b = pieces(count, most)
        functions = [compile(size) if size else None for size in (size_a, size_b)]
        kept += functions
        addresses = [function.address if function else 0 for function in functions]
        rows.append([[count, 0, 0], [a, size_a, addresses[0]], [b, size_b, addresses[1]]])
    return np.array(rows, np.int64), kept


@inner
def find_cut(cuts, count):
    """The rows (pieces, size, address of the vector function) for a count."""
    for i in range(cuts.shape[0]):
        if cuts[i, 0, 0] == count:
            return cuts[i, 1:]
    return cuts[0, :0]
