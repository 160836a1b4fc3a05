"""The conversions of 16-bit floats, by every bit pattern there is, and at every place where rounding changes its mind."""

import ml_dtypes
import numpy as np
import pytest
from numba import njit

import numbaconv as nc
from numbaconv.cpu import float16

PATTERNS = np.arange(2**16, dtype=np.uint16)


@njit
def widen(function, bits):
    result = np.empty(bits.size, np.float32)
    for i in range(bits.size):
        result[i] = function(bits[i])
    return result


@njit
def narrow(function, values):
    result = np.empty(values.size, np.uint16)
    for i in range(values.size):
        result[i] = function(values[i])
    return result


FORMATS = pytest.mark.parametrize(
    ("dtype", "to_float", "from_float"),
    [
        (np.dtype(np.float16), float16.float16_to_float, float16.float_to_float16),
        (np.dtype(ml_dtypes.bfloat16), float16.bfloat16_to_float, float16.float_to_bfloat16),
    ],
    ids=["float16", "bfloat16"],
)


def rounded(values, dtype):
    """NumPy's or ml_dtypes' own conversion."""
    with np.errstate(all="ignore"):
        return values.astype(dtype).view(np.uint16)


def assert_same(bits, exact, dtype):
    """Equal bits; a NaN may be any, of the same sign."""
    nan = np.isnan(exact.view(dtype).astype(np.float32))
    np.testing.assert_array_equal(np.isnan(bits.view(dtype).astype(np.float32)), nan)
    np.testing.assert_array_equal(bits[~nan], exact[~nan])
    np.testing.assert_array_equal(bits[nan] >> 15, exact[nan] >> 15)


@FORMATS
def test_every_pattern_as_a_float(dtype, to_float, from_float):
    with np.errstate(invalid="ignore"):
        exact = PATTERNS.view(dtype).astype(np.float32)
    result = widen(to_float, PATTERNS)
    nan = np.isnan(exact)
    assert 0 < nan.sum() < 4096
    np.testing.assert_array_equal(np.isnan(result), nan)
    np.testing.assert_array_equal(result.view(np.uint32)[~nan], exact.view(np.uint32)[~nan])
    np.testing.assert_array_equal(np.signbit(result), np.signbit(exact))


@FORMATS
def test_there_and_back_changes_nothing(dtype, to_float, from_float):
    assert_same(narrow(from_float, widen(to_float, PATTERNS)), PATTERNS, dtype)


@FORMATS
def test_at_every_boundary(dtype, to_float, from_float):
    """The floats half way between two neighbours, where ties go to even, and those next to them; all with both signs."""
    with np.errstate(all="ignore"):
        values = PATTERNS.view(dtype).astype(np.float64)
        values = values[np.isfinite(values)]
        steps = np.unique(values)
        middle = ((steps[1:] + steps[:-1]) / 2).astype(np.float32)
    largest = float(ml_dtypes.finfo(dtype).max)
    beyond = np.float32([largest, largest * (1 + 2.0**-12), 65519.99, 65520, 65536, 1e30, 3.4028235e38, np.inf, np.nan])
    tiny = np.float32([0, 2.0**-149, 2.0**-126, 2.0**-25, 2.0**-24, 3 * 2.0**-25, 2.0**-14])
    points = np.concatenate([middle, steps.astype(np.float32), beyond, tiny])
    with np.errstate(all="ignore"):
        points = np.concatenate([points, np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))])
    points = np.concatenate([points, -points])
    assert points.size > 3 * 2**16
    assert_same(narrow(from_float, points), rounded(points, dtype), dtype)


@FORMATS
def test_random_floats(dtype, to_float, from_float):
    """A million bit patterns of all kinds, and a million values of the range that float16 has."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 10**6, np.uint32).view(np.float32)
    scaled = (rng.standard_normal(10**6) * 2.0 ** rng.integers(-27, 17, 10**6)).astype(np.float32)
    for values in (bits, scaled):
        assert_same(narrow(from_float, values), rounded(values, dtype), dtype)


@FORMATS
@pytest.mark.parametrize("step", [1, 2])
def test_every_pattern_through_a_convolution(dtype, to_float, from_float, step):
    """Loaded, multiplied by one, added to zero, stored: contiguous elements and others."""
    one = np.ones((1, 1, 1), dtype)
    for part in np.split(PATTERNS, 4):
        x = np.repeat(part, step).view(dtype)[None, None, ::step]
        result = nc.conv1d(x, one)
        assert result.dtype == dtype
        with np.errstate(invalid="ignore"):
            np.testing.assert_array_equal(result.astype(np.float32), x.astype(np.float32))
            np.testing.assert_array_equal(nc.conv1d(x, one, out_dtype=np.float32), x.astype(np.float32))
