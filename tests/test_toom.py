"""The transforms of minimal filtering: exact as matrices, and the vector code against their definition."""

import ctypes
from fractions import Fraction

import numpy as np
import pytest
from helpers import random_array

from numbaconv.cpu.simd import lanes
from numbaconv.cpu.toom import POINTS, input_transform, output_transform, times, transforms, weight_transform

PAIRS = [(1, 1), *[(m, n - m + 1) for n in POINTS for m in (2, 4) if n > m]]
TILES = [((m, m), (3, 3)) for m in (2, 4)] + [((1, m), (1, 3)) for m in (2, 4)] + [((m, 1), (3, 1)) for m in (2, 4)]
FLOATS = [np.dtype(np.float32), np.dtype(np.float64)]
every_pair = pytest.mark.parametrize(("m", "k"), PAIRS)


@every_pair
def test_filtering_is_a_correlation(m, k):
    """In fractions, without any error."""
    a, g, b = (np.array(matrix, object) for matrix in transforms(m, k))
    assert (a.shape, g.shape, b.shape) == ((m, m + k - 1), (m + k - 1, k), (m + k - 1,) * 2)
    rng = np.random.default_rng(m * k)
    data, taps = ([Fraction(int(n), 7) for n in rng.integers(-50, 50, count)] for count in (m + k - 1, k))
    assert (a @ ((g @ taps) * (b @ data))).tolist() == [sum(taps[j] * data[i + j] for j in range(k)) for i in range(m)]


@every_pair
def test_times_is_a_matrix_times_a_vector(m, k):
    """Exactly, where the points are exact in binary; and transposed, where columns pair up instead of rows."""
    for matrix in transforms(m, k):
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
@pytest.mark.parametrize(("m", "k"), TILES)
def test_input_transform(m, k, dtype):
    high, wide = (a + b - 1 for a, b in zip(m, k, strict=True))
    source, whole, part = arrays(high, wide, high * wide, 1, dtype)
    call(input_transform(m, k, dtype), source, *source.strides[:2], part, whole.strides[0], 2)
    matrices = [transforms(*axis)[2] for axis in zip(m, k, strict=True)]
    check(whole, _grid(part, high, wide), matrices, source[:, :wide, : part.shape[2]], dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("m", "k"), TILES)
def test_weight_transform(m, k, dtype):
    high, wide = (a + b - 1 for a, b in zip(m, k, strict=True))
    source, whole, part = arrays(*k, high * wide, 1, dtype)
    call(weight_transform(m, k, dtype), source, *source.strides[:2], part, whole.strides[0], 2)
    matrices = [transforms(*axis)[1] for axis in zip(m, k, strict=True)]
    check(whole, _grid(part, high, wide), matrices, source[:, : k[1], : part.shape[2]], dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("m", "k"), TILES)
def test_output_transform(m, k, dtype):
    high, wide = (a + b - 1 for a, b in zip(m, k, strict=True))
    source, whole, part = arrays(high * wide, 0, *m, dtype)
    call(output_transform(m, k, dtype), source, source.strides[0], part, *whole.strides[:2], 2)
    matrices = [transforms(*axis)[0] for axis in zip(m, k, strict=True)]
    check(whole, part, matrices, source[:, 0, : part.shape[2]].reshape(high, wide, -1), dtype)


def _grid(part, high, wide):
    """See one element after the other as rows and columns."""
    shape, (element, _, size) = (high, wide, part.shape[2]), part.strides
    return np.lib.stride_tricks.as_strided(part, shape, (wide * element, element, size))
