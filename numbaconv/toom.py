"""Minimal filtering after Winograd, in Toom and Cook's construction: F(m, k) is m outputs of k taps from m + k - 1 products.

For data d and filter g it is ``A (G g * B d)``. In two dimensions the transforms are applied along both axes. The matrices
follow from the points at which polynomials are evaluated. The usual 0, 1, -1, 2, -2 (Lavin and Gray, arXiv:1509.09308) cost six
products 3.9 times the rounding error of a direct sum of 64 channels, the points below 1.8 times: pairs of points that share
their transforms' sums, near each other's reciprocals (Alam et al., doi:10.1145/3524069, look for such), and exact in binary.

A filter of stride s is the sum of s filters of stride 1, each of every s-th tap on every s-th input, and a long one that of
short ones on shifted inputs: their matrices stand side by side, and the sum is part of A (Huang et al., arXiv:2002.00552).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache, reduce
from itertools import combinations, pairwise
from typing import Any, NamedTuple

__all__ = ["POINTS", "TERMS", "Filter", "Matrix", "sandwich", "times", "transforms", "twins"]

POINTS = {
    3: (Fraction(1), Fraction(-1)),
    4: (Fraction(0), Fraction(1), Fraction(-1)),
    5: (Fraction(3, 8), Fraction(-3, 8), Fraction(5, 4), Fraction(-5, 4)),
    6: (Fraction(0), Fraction(5, 8), Fraction(-5, 8), Fraction(3, 2), Fraction(-3, 2)),
    7: (Fraction(1, 2), Fraction(-1, 2), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2)),
    8: (Fraction(0), Fraction(1, 2), Fraction(-1, 2), Fraction(1), Fraction(-1), Fraction(2), Fraction(-2)),
}  # beside infinity, by the number of products
TERMS = 8  # channels of a sum, at least, for transforms of more than four products
Matrix = tuple[tuple[Fraction, ...], ...]


class Filter(NamedTuple):
    """F(m, k) along an axis: m outputs of k taps, the inputs of which lie `stride` further each, by parts of few taps."""

    m: int
    k: int
    stride: int = 1
    most: int = 7  # taps of a part

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """The first tap of each of the filters of stride 1 that it consists of, and how many taps it has."""
        found = []
        for first in range(min(self.k, self.stride)):
            taps = len(range(first, self.k, self.stride))
            count = -(-taps // self.most)
            ends = [taps * i // count for i in range(count + 1)]
            found += [(first + low * self.stride, high - low) for low, high in pairwise(ends)]
        return tuple(found)

    @property
    def products(self) -> int:
        """How many products it takes."""
        return sum(self.m + taps - 1 for _, taps in self.parts)

    @property
    def step(self) -> int:
        """How far the inputs of its next m outputs are from its own."""
        return self.m * self.stride

    @property
    def extent(self) -> int:
        """How many neighbouring inputs it spans."""
        return (self.m - 1) * self.stride + self.k


@cache
def transforms(axis: Filter) -> tuple[Matrix, Matrix, Matrix]:
    """Return the matrices A ``(m, products)``, G ``(products, k)`` and B ``(products, extent)`` of a filter."""
    firsts = [first for first, _ in axis.parts]
    parts = [_of_stride_1(axis.m, taps) for _, taps in axis.parts]
    a = [[x for part in parts for x in part[0][i]] for i in range(axis.m)]
    g, b = (
        [_spread(row, first, axis.stride, size) for first, part in zip(firsts, parts, strict=True) for row in part[which]]
        for which, size in ((1, axis.k), (2, axis.extent))
    )
    return _frozen(a), _frozen(g), _frozen(b)


def _spread(row: Sequence[Fraction], first: int, step: int, size: int) -> list[Fraction]:
    """The elements of a row at every step-th of `size` places, from `first` on, and zeros between them."""
    line = [Fraction(0)] * size
    line[first : first + len(row) * step : step] = row
    return line


@cache
def _of_stride_1(m: int, k: int) -> tuple[Matrix, Matrix, Matrix]:
    """A, G and B of F(m, k); one output or one tap leaves nothing to save."""
    n = m + k - 1
    if 1 in (m, k):
        unit, ones = _unit(n), _frozen([[Fraction(1)] * n])
        return (unit, tuple(zip(*ones, strict=True)), unit) if k == 1 else (ones, unit, unit)
    points = POINTS[n]
    a = [[p**i for p in points] + [Fraction(i == m - 1)] for i in range(m)]
    g = [[p**i / _product(p - q for q in points if q != p) for i in range(k)] for p in points]
    b = [_polynomial([q for q in points if q != p]) + [Fraction(0)] for p in points]
    return _frozen(a), _frozen([*g, [Fraction(i == k - 1) for i in range(k)]]), _frozen([*b, _polynomial(points)])


def _unit(n: int) -> Matrix:
    return _frozen([[Fraction(i == j) for j in range(n)] for i in range(n)])


def sandwich(down: Matrix, grid: Sequence[Sequence[Any]], across: Matrix) -> list:
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


def twins(matrix: Matrix) -> list[list[int]]:
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
