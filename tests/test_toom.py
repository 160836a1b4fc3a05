"""The transforms of minimal filtering: exact as matrices, and the vector code against their definition."""

import ctypes
import math
from fractions import Fraction

import numpy as np
import pytest
from helpers import random_array

from numbaconv.cpu.simd import lanes
from numbaconv.cpu.transforms import input_transform, output_transform, weight_transform
from numbaconv.toom import POINTS, Filter, times, transforms

SHORT = [Filter(m, n - m + 1) for n in POINTS for m in (2, 4) if n > m]
STRIDED = [Filter(m, k, stride) for m in (2, 4) for k, stride in ((3, 2), (4, 2), (5, 2), (3, 3), (5, 3), (7, 4))]
LONG = [Filter(2, 7, 1, 3), Filter(4, 9, 1, 3), Filter(4, 11, 2, 3), Filter(2, 5, 4, 1)]
FILTERS = [Filter(1, 1), Filter(1, 3), Filter(1, 3, 2), Filter(4, 1), *SHORT, *STRIDED, *LONG]
TILES = [
    *[(Filter(m, 3), Filter(m, 3)) for m in (2, 4)],
    *[(Filter(1, 1), Filter(m, 3)) for m in (2, 4)],
    *[(Filter(m, 3), Filter(1, 1)) for m in (2, 4)],
    *[(Filter(m, 3, 2), Filter(m, 3, 2)) for m in (2, 4)],
    (Filter(4, 5, 2), Filter(4, 5, 1, 3)),
    (Filter(1, 2, 2), Filter(4, 3, 2)),
]
FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
every_filter = pytest.mark.parametrize("axis", FILTERS, ids=str)


@every_filter
def test_filtering_is_a_correlation(axis):
    """In fractions, without any error."""
    a, g, b = (np.array(matrix, object) for matrix in transforms(axis))
    assert (a.shape, g.shape, b.shape) == ((axis.m, axis.products), (axis.products, axis.k), (axis.products, axis.extent))
    rng = np.random.default_rng(axis.m * axis.k)
    data, taps = ([Fraction(int(n), 7) for n in rng.integers(-50, 50, count)] for count in (axis.extent, axis.k))
    exact = [sum(taps[j] * data[i * axis.stride + j] for j in range(axis.k)) for i in range(axis.m)]
    assert (a @ ((g @ taps) * (b @ data))).tolist() == exact


@pytest.mark.parametrize(
    ("axis", "products"),
    [
        (Filter(4, 3), 6),
        (Filter(2, 3, 2), 5),
        (Filter(4, 3, 2), 9),
        (Filter(4, 5, 2), 11),
        (Filter(4, 9, 1, 3), 18),
        (Filter(1, 7), 7),
    ],
    ids=str,
)
def test_how_many_products(axis, products):
    assert axis.products == products <= axis.m * axis.k


@every_filter
def test_times_is_a_matrix_times_a_vector(axis):
    """Exactly, where the points are exact in binary; and transposed, where columns pair up instead of rows."""
    for matrix in transforms(axis):
        for each in (matrix, tuple(zip(*matrix, strict=True))):
            vector = np.round(8 * random_array((len(each[0]),), np.float64))
            exact = np.array(each, np.float64) @ vector
            np.testing.assert_allclose(times(each, vector), exact, rtol=1e-14, atol=1e-13)


def call(function, *words):
    words = [w.ctypes.data if isinstance(w, np.ndarray) else w for w in words]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(function.address)(*words, *[0] * (8 - len(words)))


def arrays(high, wide, rows, columns, dtype):
    """A source with more around it, and a target for ``(rows, columns)`` vectors: all of it, and the part that is to change."""
    width = 2 * lanes(dtype)
    source = random_array((high, wide + 1, width + 3), dtype)
    whole = np.full((rows, columns + 1, width + 5), 77, dtype)
    return source, whole, whole[:, :columns, 2 : 2 + width]


def check(whole, part, matrices, source, dtype):
    down, across = (np.array(matrix, np.float64) for matrix in matrices)
    exact = np.einsum("ij,jnv,ln->ilv", down, source.astype(np.float64), across)
    size = np.einsum("ij,jnv,ln->ilv", abs(down), abs(source.astype(np.float64)), abs(across))
    assert (abs(part - exact) <= 16 * np.finfo(dtype).eps * size).all()
    part[...] = 77
    assert (whole == 77).all()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("down", "across"), TILES, ids=str)
def test_input_transform(down, across, dtype):
    high, wide, elements = down.extent, across.extent, (down.products, across.products)
    source, whole, part = arrays(high, wide, math.prod(elements), 1, dtype)
    call(input_transform(down, across, dtype), source, *source.strides[:2], part, whole.strides[0], 2)
    matrices = [transforms(axis)[2] for axis in (down, across)]
    check(whole, _grid(part, *elements), matrices, source[:, :wide, : part.shape[2]], dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("down", "across"), TILES, ids=str)
def test_weight_transform(down, across, dtype):
    elements = down.products, across.products
    source, whole, part = arrays(down.k, across.k, math.prod(elements), 1, dtype)
    call(weight_transform(down, across, dtype), source, *source.strides[:2], part, whole.strides[0], 2)
    matrices = [transforms(axis)[1] for axis in (down, across)]
    check(whole, _grid(part, *elements), matrices, source[:, : across.k, : part.shape[2]], dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("down", "across"), TILES, ids=str)
def test_output_transform(down, across, dtype):
    high, wide = down.products, across.products
    source, whole, part = arrays(high * wide, 0, down.m, across.m, dtype)
    call(output_transform(down, across, dtype), source, source.strides[0], part, *whole.strides[:2], 2)
    matrices = [transforms(axis)[0] for axis in (down, across)]
    check(whole, part, matrices, source[:, 0, : part.shape[2]].reshape(high, wide, -1), dtype)


def _grid(part, high, wide):
    """See one element after the other as rows and columns."""
    shape, (element, _, size) = (high, wide, part.shape[2]), part.strides
    return np.lib.stride_tricks.as_strided(part, shape, (wide * element, element, size))
