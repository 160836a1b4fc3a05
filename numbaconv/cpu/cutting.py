"""How counts are cut into even pieces, and positions into register tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from numbaconv.cpu.jit import inner
from numbaconv.cpu.microkernel import RUN

__all__ = ["L1_BYTES", "LINE", "cuts_for", "even", "find_cut", "pieces", "tile_cycles", "tiles_of"]

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
    return parts - smaller, size, smaller, size - 1 if smaller else 0


def tiles_of(count: int, most: int) -> list[tuple[int, int]]:
    """The same as pairs (how many, size)."""
    a, size_a, b, size_b = pieces(count, most)
    return [(n, size) for n, size in ((a, size_a), (b, size_b)) if n]


def tile_cycles(positions: int, vectors: int, taps: int) -> float:
    """Predict the cycles of one call of the microkernel along channels.

    A cycle a product of vectors, if there are enough to hide their latency of 4 cycles at 2 a cycle, and if the vectors of
    weights arrive in time, which come from the L2 cache at half a vector a cycle; 20 to start, 2 a sum to store, and one for each
    further run of products, unless so few registers are in use that the next run begins meanwhile.
    """
    sums = positions * vectors
    runs = -(-taps // RUN) - 1 if sums > FEW else 0
    return 20 + taps * max(8, sums, 2 * vectors + positions / 2) + (2 + runs) * sums


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
