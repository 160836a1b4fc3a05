"""Minimal filtering after Winograd, in Toom and Cook's construction: F(m, k) is m outputs of k taps from m + k - 1 products.

For data d and filter g it is ``A (G g * B d)``. In two dimensions the transforms are applied along both axes. The matrices
follow from the points at which polynomials are evaluated. The usual 0, 1, -1, 2, -2 (Lavin and Gray, arXiv:1509.09308) cost six
products 3.9 times the rounding error of a direct sum of 64 channels, the points below 1.8 times: pairs of points that share
their transforms' sums, near each other's reciprocals (Alam et al., doi:10.1145/3524069, look for such), and exact in binary.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, reduce
from itertools import combinations
from typing import Any

import numpy as np

from numbaconv.cpu.simd import Code, Value, vector_function

__all__ = ["POINTS", "input_transform", "output_transform", "transforms", "weight_transform"]

POINTS = {
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    6: (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
    8: (Fraction(0), Fraction(1, 2), Fraction(-1, 2), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2)),
}  # beside infinity, by the number of products
Matrix = tuple[tuple[Fraction, ...], ...]


@cache
def transforms(m: int, k: int) -> tuple[Matrix, Matrix, Matrix]:
    """Return the matrices A ``(m, n)``, G ``(n, k)`` and B ``(n, n)`` of F(m, k), where n = m + k - 1."""
    n = m + k - 1
    if n == 1:
        one = ((Fraction(1),),)
        return one, one, one
    points = POINTS[n]
    a = [[p**i for p in points] + [Fraction(i == m - 1)] for i in range(m)]
    g = [[p**i / _product(p - q for q in points if q != p) for i in range(k)] for p in points]
    b = [_polynomial([q for q in points if q != p]) + [Fraction(0)] for p in points]
    return _frozen(a), _frozen([*g, [Fraction(i == k - 1) for i in range(k)]]), _frozen([*b, _polynomial(points)])


@cache
def weight_transform(m: tuple[int, ...], k: tuple[int, ...], dtype: np.dtype) -> Any:
    """Compile ``target[i, l] = sum over j, n of G[i, j] * source[j, n] * G'[l, n]`` for vectors of output channels.

    Its words are as those of :func:`input_transform`.
    """
    down, across = (transforms(*axis)[1] for axis in zip(m, k, strict=True))

    def emit(code: Code, source: Value, row: Value, column: Value, target: Value, element: Value, vectors: Value) -> None:
        with code.loop(vectors) as v:
            at, to = source + v * code.bytes, target + v * code.bytes
            grid = [[code.load(at + row * i + column * j) for j in range(k[1])] for i in range(k[0])]
            _store(code, _sandwich(down, grid, across), to, element * len(across), element)

    return vector_function(emit, dtype, m, k)


@cache
def input_transform(m: tuple[int, ...], k: tuple[int, ...], dtype: np.dtype) -> Any:
    """Compile ``target[i, l] = sum over j, n of B[i, j] * source[j, n] * B'[l, n]`` for vectors of channels.

    Its words are the address of the source, the bytes from a row of it to the next and from a column to the next, the address
    of the target, the bytes from one ``(i, l)`` to the next, and how many vectors of channels lie side by side in both.
    """
    down, across = (transforms(*axis)[2] for axis in zip(m, k, strict=True))
    # Where the registers do not hold them all, rows that share sums go together: to load again costs less than to spill.
    groups = _twins(down) if len(down) * len(across) > 16 else [list(range(len(down)))]

    def emit(code: Code, source: Value, row: Value, column: Value, target: Value, element: Value, vectors: Value) -> None:
        with code.loop(vectors) as v:
            at, to = source + v * code.bytes, target + v * code.bytes
            for rows in groups:
                used = [j for j in range(len(down)) if any(down[i][j] for i in rows)]
                part = tuple(tuple(down[i][j] for j in used) for i in rows)
                grid = [[code.load(at + row * i + column * j) for j in range(len(across))] for i in used]
                for i, line in zip(rows, _sandwich(part, grid, across), strict=True):
                    _store(code, [line], to + element * (i * len(across)), element, element)

    return vector_function(emit, dtype, m, k)


@cache
def output_transform(m: tuple[int, ...], k: tuple[int, ...], dtype: np.dtype) -> Any:
    """Compile ``target[i, l] = sum over j, n of A[i, j] * source[j, n] * A'[l, n]`` for vectors of channels.

    Its words are the address of the source, the bytes from one ``(j, n)`` to the next, the address of the target, the bytes
    from a row of it to the next and from a column to the next, and how many vectors of channels lie side by side in both.
    """
    down, across = (transforms(*axis)[0] for axis in zip(m, k, strict=True))
    high, wide = len(down[0]), len(across[0])

    def emit(code: Code, source: Value, element: Value, target: Value, row: Value, column: Value, vectors: Value) -> None:
        with code.loop(vectors) as v:
            at = source + v * code.bytes
            grid = [[code.load(at + element * (i * wide + j)) for j in range(wide)] for i in range(high)]
            _store(code, _sandwich(down, grid, across), target + v * code.bytes, row, column)

    return vector_function(emit, dtype, m, k)


def _store(code: Code, grid: list, target: Value, row: Value, column: Value) -> None:
    for i, line in enumerate(grid):
        for j, value in enumerate(line):
            code.store(value, target + row * i + column * j)


def _sandwich(down: Matrix, grid: list, across: Matrix) -> list:
    """``down @ grid @ across.T``."""
    columns = [times(down, column) for column in zip(*grid, strict=True)]
    return [times(across, row) for row in zip(*columns, strict=True)]


def times(matrix: Matrix, vector: Sequence[Any]) -> list:
    """``matrix @ vector`` with few operations, for a vector of anything that can be added and multiplied by numbers.

    The matrices have a row, or a column, for a point and another for its negative, which differ in signs only. Such rows share
    the sums of the terms that they agree on and of those that they do not; such columns enter as their sum and difference.
    """
    matrix, vector = _pair_columns(matrix, list(vector))
    results: list = [None] * len(matrix)
    for i, row in enumerate(matrix):
        if results[i] is not None:
            continue
        twin = next((j for j in range(i + 1, len(matrix)) if _differ_in_signs(row, matrix[j])), None)
        if twin is None:
            results[i] = _combine(row, vector)
            continue
        same = _combine([a if a == b else Fraction(0) for a, b in zip(row, matrix[twin], strict=True)], vector)
        other = _combine([a if a != b else Fraction(0) for a, b in zip(row, matrix[twin], strict=True)], vector)
        results[i], results[twin] = same + other, same - other
    return results


def _pair_columns(matrix: Matrix, vector: list) -> tuple[Matrix, list]:
    """Replace two columns that differ in signs only by one for the sum of their elements and one for the difference."""
    columns = list(zip(*matrix, strict=True))
    for i, j in combinations(range(len(columns)), 2):
        a, b = columns[i], columns[j]
        if len(matrix) < len(columns) and _differ_in_signs(a, b):
            columns[i] = tuple(x if x == y else Fraction(0) for x, y in zip(a, b, strict=True))
            columns[j] = tuple(x if x != y else Fraction(0) for x, y in zip(a, b, strict=True))
            vector[i], vector[j] = vector[i] + vector[j], vector[i] - vector[j]
    return _frozen(zip(*columns, strict=True)), vector


def _twins(matrix: Matrix) -> list[list[int]]:
    """The rows of a matrix, those together that share sums."""
    groups: list[list[int]] = []
    for i, row in enumerate(matrix):
        twin = next((g for g in groups if _differ_in_signs(matrix[g[0]], row)), None)
        if twin is None:
            groups.append([i])
        else:
            twin.append(i)
    return groups


def _differ_in_signs(a: Sequence[Fraction], b: Sequence[Fraction]) -> bool:
    """Whether two rows agree in some of their elements that are not zero, and in the others but for the sign."""
    signs = {x == y for x, y in zip(a, b, strict=True) if x or y}
    return signs == {True, False} and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True))


def _combine(row: Sequence[Fraction], vector: Sequence[Any]) -> Any:
    """The sum of products, units first, so that every other term is one fused multiply-add."""
    terms = sorted(((c, v) for c, v in zip(row, vector, strict=True) if c), key=lambda term: (abs(term[0]) != 1, term[0] < 0))
    (first, total), *rest = terms
    if first != 1:
        total = total * float(first)
    for c, v in rest:
        total = total + v if c == 1 else total - v if c == -1 else total + v * float(c)
    return total


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of ``x - root``, lowest first."""
    result = [Fraction(1)]
    for root in roots:
        result = [a - root * b for a, b in zip([Fraction(0), *result], [*result, Fraction(0)], strict=True)]
    return result


def _product(factors: Any) -> Fraction:
    return reduce(lambda a, b: a * b, factors, Fraction(1))


def _frozen(rows: Any) -> Matrix:
    return tuple(map(tuple, rows))
