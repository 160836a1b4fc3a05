"""Nothing beyond the operands is read, and nothing beyond the result written: arrays next to pages that may not be touched.

In processes of their own, which a kernel that does not hold to this takes down.
"""

import os
import platform

import pytest
from helpers import CPU_ALGORITHMS, every_other, run_python

FUZZ = "import sys, memory_fuzz; memory_fuzz.main(*sys.argv[1:])"
AVX2 = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"}
# Two each, as every dtype is compiled; other than these take what is converted on the way.
FEW = {"depthwise": "float32,float64", "pointwise": "float32,float64", "rows": "float32,int8", "direct_4m": "complex64"}
needs_pages = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs mprotect")
needs_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the features are those of x86-64")


@needs_pages
@pytest.mark.parametrize("algorithm", [*every_other(CPU_ALGORITHMS), "direct_4m"])
def test_nothing_beyond_the_arrays_is_touched(algorithm):
    run_python(
        FUZZ, algorithm, 40, 0, FEW.get(algorithm, "float32,int8" if algorithm == "rows" else "float32,float16"), timeout=280
    )


@needs_pages
@needs_x86
@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["depthwise", "direct", "pointwise"])
def test_nothing_beyond_the_arrays_is_touched_with_avx2(algorithm):
    """Narrower vectors and fewer registers: other tiles, tails and masks."""
    run_python(FUZZ, algorithm, 15, 1, "float32", env=AVX2, timeout=280)


@needs_pages
@needs_x86
@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("environment", [{}, AVX2], ids=["all_features", "avx2"])
@pytest.mark.parametrize("algorithm", CPU_ALGORITHMS)
def test_nothing_beyond_the_arrays_is_touched_in_thousands_of_calls(algorithm, environment):
    """Every dtype; half an hour on two cores."""
    run_python(FUZZ, algorithm, 1000, 2, env=environment, timeout=7200)


ROWS = """
import sys
import numpy as np, numbaconv as nc
from guard import Guarded, guarded

rng = np.random.default_rng(0)
GEOMETRIES = [((5, 5), 1, 2), ((5, 5), 2, 2), ((1, 7), 1, (0, 3)), ((3, 3), 1, (1, 20)), ((3, 3), 2, ((1, 1), (0, 1)))]
for kernel, stride, padding in GEOMETRIES:
    w = rng.integers(-4, 5, (1, 1, *kernel)).astype(np.float32)
    for width in range(1, 150):
        x = rng.integers(-4, 5, (1, 1, 6, width)).astype(np.float32)
        try:
            expected = nc.conv2d(x, w, None, stride, padding, backend="reference")
        except ValueError:  # there is less data than the kernel covers
            continue
        print(kernel, stride, padding, width, file=sys.stderr, flush=True)
        for at_end in (True, False):
            input, out = guarded(x, at_end), Guarded(expected.shape, x.dtype, at_end)
            nc.conv2d(input.array, w, None, stride, padding, out=out.array, backend="cpu", algorithm="depthwise")
            assert out.is_whole()
            np.testing.assert_array_equal(out.array, expected)
"""


@needs_pages
def test_rows_of_any_width_are_read_to_their_end():
    """Vectors along a row overlap its ends, and go beyond them into the padding."""
    run_python(ROWS, timeout=280)
