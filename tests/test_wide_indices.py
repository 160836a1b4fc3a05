"""Arrays beyond 2**31 and 2**32 bytes: virtual memory of which few pages are touched, and, on request, real images."""

import sys

import pytest
from helpers import CPU_ALGORITHMS, every_other, run_python

SPARSE = """
import mmap, sys
import numpy as np, numbaconv as nc

algorithm = sys.argv[1]
FAR = 3 * 2**31  # bytes between neighbours
NORESERVE = 0x4000  # Linux's number, for which Python has a name since 3.13
FLAGS = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
memories = [np.frombuffer(mmap.mmap(-1, FAR + 2**20, flags=FLAGS), np.float32) for _ in range(3)]
rng = np.random.default_rng(0)
depthwise = algorithm.startswith("depthwise")
channels, kernel = (16, 1 if algorithm == "pointwise" else 3)
shape, weight = (2, channels, 12, 20), (channels, 1 if depthwise else channels, kernel, kernel)
options = {"groups": channels if depthwise else 1, "padding": kernel // 2, "backend": "cpu", "algorithm": algorithm}
w = rng.integers(-3, 4, weight).astype(np.float32)


def far(memory, axis):
    "An array of two neighbours along an axis, far apart; along the others they lie beside each other."
    rest = [2 if a == axis else n for a, n in enumerate(shape)]
    strides = np.cumprod([4, *rest[::-1]])[-2::-1]
    strides[axis] = FAR
    return np.lib.stride_tricks.as_strided(memory, rest, strides)


for axis in (0, 1, 2):
    x, residual, out = (far(memory, axis) for memory in memories)
    few = x.shape[1]
    taps, here = w[:few, :few], options | {"groups": few if depthwise else 1}
    x[...] = rng.integers(-3, 4, x.shape)
    residual[...] = rng.integers(-3, 4, x.shape)
    try:
        nc.conv2d(x, taps, **here, residual=residual, out=out)
    except ValueError as error:
        assert str(error).startswith("algorithm: expected one that can take this problem"), error
        print(axis, "not taken")
        continue
    expected = nc.conv2d(x.copy(), taps, **here | {"algorithm": "auto", "backend": "reference"}, residual=residual.copy())
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-3 if algorithm.startswith("winograd") else 0)
    print(axis, "right")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="maps memory that is not there as Linux does")
@pytest.mark.parametrize("algorithm", every_other(CPU_ALGORITHMS))
def test_neighbours_that_lie_gigabytes_apart(algorithm):
    """Images, channels or rows whose distance does not fit into 32 bits."""
    result = run_python(SPARSE, algorithm, timeout=280).stdout
    print(result)
    assert result.count("right") >= 2, result


LARGE = """
import sys
import numpy as np, numbaconv as nc

# 2.5 GB; the result of 8-bit integers is taken as such, and not as int32
x = np.zeros((50_000, 50_000), np.int8)
rng = np.random.default_rng(0)
places = [(0, 0), (49_997, 49_997), (25_000, 49_990), (42_949, 33_000), (42_950, 10), (21_474, 41_800)]
for i, j in places:
    x[i : i + 3, j : j + 3] = rng.integers(-4, 5, (3, 3))
w = rng.integers(-3, 4, (1, 1, 3, 3)).astype(np.int8)
y = nc.conv2d(x[None], w, out_dtype=np.int8, backend="cpu")[0]
assert y.shape == (49_998, 49_998)
for i, j in places:
    a, b = slice(max(0, i - 2), i + 3), slice(max(0, j - 2), j + 3)
    near = x[max(0, i - 2) : i + 5, max(0, j - 2) : j + 5]
    expected = nc.conv2d(near[None], w, out_dtype=np.int8, backend="reference")[0]
    np.testing.assert_array_equal(y[a, b][: expected.shape[0], : expected.shape[1]], expected)
    assert expected.any()
    y[a, b] = 0
assert not y.any()
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_large_image():
    """50000 x 50000 pixels of int8."""
    run_python(LARGE, timeout=1200)
