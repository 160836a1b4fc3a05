"""Where the elements of a tensor-core product lie: the fragments of ``mma.sync``'s m16n8 shapes, in the registers of 32 lanes.

A fragment is counted in words of 4 bytes, one element of tf32 or two of 16 bits, so that one table serves all of these types: a
row of A is 8 words (k = 8 or 16), and so is a column of B. The functions take integers or arrays of them, and run in kernels
as well as in NumPy. Each says ``(row or column, word)`` of a lane's i-th register (PTX ISA, "Matrix fragments for mma.m16n8k8"
and "mma.m16n8k16").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["A_REGISTERS", "B_REGISTERS", "C_REGISTERS", "LANES", "WORDS", "M", "N", "a_place", "b_place", "c_place", "matrix_row"]

LANES = 32
M, N, WORDS = 16, 8, 8
A_REGISTERS, B_REGISTERS, C_REGISTERS = 4, 2, 4


def a_place(lane: Any, i: Any) -> tuple[Any, Any]:
    """The row, and the word in it, of register i of A."""
    return lane // 4 + 8 * (i % 2), lane % 4 + 4 * (i // 2)


def b_place(lane: Any, i: Any) -> tuple[Any, Any]:
    """The column, and the word in it, of register i of B."""
    return lane // 4, lane % 4 + 4 * i


def c_place(lane: Any, i: Any) -> tuple[Any, Any]:
    """The row and the column of register i of C and D, which are float32."""
    return lane // 4 + 8 * (i // 2), 2 * (lane % 4) + i % 2


def matrix_row(lane: Any) -> tuple[Any, Any]:
    """What a lane hands ``ldmatrix.x4``, so that its four registers are A's, or two fragments of B: the row, and the half of it.

    Matrices 0 and 1 are rows 0 to 7 and 8 to 15 of the first 16 bytes, matrices 2 and 3 those of the second.
    """
    return lane % 16, lane // 16


def _cover(place: Callable[[Any, Any], tuple[Any, Any]], registers: int, rows: int, columns: int) -> bool:
    """Whether the registers of a warp hold every element of a fragment, each once."""
    lane, i = np.divmod(np.arange(LANES * registers), registers)
    row, column = place(lane, i)
    return sorted(row * columns + column) == list(range(rows * columns))


assert _cover(a_place, A_REGISTERS, M, WORDS)
assert _cover(b_place, B_REGISTERS, N, WORDS)
assert _cover(c_place, C_REGISTERS, M, N)
