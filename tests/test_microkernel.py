"""The microkernel: every tile and dtype against its meaning, on this machine and on lesser ones."""

import ctypes
import platform

import numpy as np
import pytest
from helpers import run_python

from numbaconv.cpu.microkernel import has_microkernel, lanes, microkernel
from numbaconv.cpu.target import Tile, tiles

DTYPES = [np.dtype(d) for d in ("float32", "float64", "int32", "int64", "uint64")]


def run(tile, dtype, inputs, offsets, weights):
    """Call a microkernel on arrays; the sums lie in a larger array that has to stay as it was around them."""
    width = tile.NR * lanes(dtype)
    padded = np.full((tile.MR + 2, width + 3), 77, dtype)
    sums = padded[1:-1, 1 : 1 + width]
    kernel = microkernel(tile, dtype)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 6)(kernel.address)
    addresses = (inputs.ctypes.data, offsets.ctypes.data, len(offsets), weights.ctypes.data, sums.ctypes.data, padded.strides[0])
    call(*addresses)
    outside = np.ones(padded.shape, bool)
    outside[1:-1, 1 : 1 + width] = False
    assert (padded[outside] == 77).all()
    return sums


@pytest.mark.parametrize("count", [0, 1, 5, 64])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tile", tiles(), ids=str)
def test_a_tile_is_an_outer_product_summed(tile, dtype, count):
    """Small integers, so that every order of summation gives the same."""
    assert has_microkernel(dtype)
    rng = np.random.default_rng(count)
    width = tile.NR * lanes(dtype)
    inputs = rng.integers(0, 9, 40 + width).astype(dtype)
    starts = rng.integers(0, 40, count)
    weights = rng.integers(0, 9, (count, tile.MR)).astype(dtype)
    expected = sum((np.outer(weights[k], inputs[starts[k] :][:width]) for k in range(count)), np.zeros((tile.MR, width), dtype))
    np.testing.assert_array_equal(run(tile, dtype, inputs, starts * dtype.itemsize, weights), expected)


def test_a_tile_too_large_for_any_machine_is_refused():
    with pytest.raises(AssertionError):
        Tile(16, 2)


LESSER = """
import sys
import numpy as np, numbaconv as nc
from numbaconv.cpu.target import tiles, vector_bytes
assert vector_bytes() == int(sys.argv[1]), vector_bytes()
assert max(t.registers for t in tiles()) <= 16
rng = np.random.default_rng(0)
for dtype in (np.float32, np.int8):
    x, w = (rng.integers(-9, 9, s).astype(dtype) for s in [(2, 6, 19, 21), (10, 3, 3, 3)])
    options = dict(stride=(1, 2), padding=1, groups=2, activation="relu")
    result = nc.conv2d(x, w, algorithm="direct", **options)
    assert (result == nc.conv2d(x, w, backend="reference", **options)).all()
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the features are those of x86-64")
@pytest.mark.parametrize(("features", "width"), [("+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2", 32), ("+sse2,+sse4.2", 16)])
def test_lesser_machines(features, width, tmp_path):
    """Instructions of AVX2, and of none of the two; products and sums of these small integers are exact on all."""
    settings = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": tmp_path}
    run_python(LESSER, width, env={name: str(value) for name, value in settings.items()})
