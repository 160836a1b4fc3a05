"""Nothing beyond the operands is read, and nothing beyond the result written: arrays next to pages that may not be touched.

In processes of their own, which a kernel that does not hold to this takes down.
"""

import os

import pytest
from helpers import HOST_ALGORITHMS, run_python

PROGRAM = """
import sys, zlib
import numpy as np, numbaconv as nc
from numbaconv.backend import BACKENDS
from guard import Guarded, guarded

algorithm, count = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(zlib.crc32(algorithm.encode()))
pick = lambda *values: values[rng.integers(len(values))]


def problem():
    # kernel, stride, padding, dilation: few, for every set of them compiles code of its own; sizes are free
    kernel, stride, padding, dilation = pick(*GEOMETRIES)
    groups, ins, outs = pick(*CHANNELS)
    size = [int(rng.integers(1, 70)), int(rng.integers(1, 110))]
    return kernel, stride, padding, dilation, groups, ins * groups, outs * groups, size


DENSE = [(1, 3, 5), (1, 16, 32), (1, 37, 53), (2, 5, 19), (1, 64, 16), (3, 8, 1)]
SQUARES = [
    ((3, 3), 1, 1, 1), ((3, 3), 1, 0, 1), ((3, 3), 2, 1, 1), ((1, 1), 1, 0, 1), ((1, 1), 2, 0, 1), ((5, 5), 2, 2, 1),
    ((2, 7), 1, (0, 3), 1), ((3, 2), (1, 3), 0, 2), ((3, 3), 1, (2, 5), 3),
]
TILED = [((3, 3), 1, 1, 1), ((3, 3), 1, 0, 1), ((1, 3), 1, (0, 1), 1), ((3, 1), 1, (2, 0), 1)]
DEPTHWISE = (
    [
        ((3, 3), 1, 1, 1), ((5, 5), 1, 2, 1), ((5, 5), 2, 2, 1), ((7, 7), 1, 3, 1), ((3, 3), 2, 0, 1),
        ((3, 3), 2, ((0, 1), (0, 1)), 1), ((1, 5), 1, (0, 4), 1), ((3, 3), 1, 2, 2), ((3, 4), (2, 1), ((2, 1), (3, 0)), 1),
        ((2, 2), 2, 1, 1), ((3, 3), 3, 1, 1), ((1, 1), 1, 0, 1), ((3, 3), 1, (0, 20), 1),
    ],
    [(7, 1, 1), (37, 1, 1), (16, 1, 1), (3, 1, 1), (6, 1, 1), (3, 1, 2), (9, 2, 2), (5, 4, 4), (1, 1, 1), (1, 1, 6)],
)
GEOMETRIES, CHANNELS = {
    "depthwise": DEPTHWISE,
    "depthwise_blocked": DEPTHWISE,
    "pointwise": ([((1, 1), 1, 0, 1)], DENSE),
    "winograd2": (TILED, DENSE),
    "winograd4": (TILED, DENSE),
}.get(algorithm, (SQUARES, DENSE))

row = next(a for a in BACKENDS["cpu"].algorithms if a.name == algorithm)
ran = tried = 0
while ran < count:
    tried += 1
    assert tried < 20 * count, ran
    kernel, stride, padding, dilation, groups, ins, outs, size = problem()
    layout, dtype, mode = pick("NCHW", "NHWC"), pick(np.float32, np.float64), pick("zeros", "zeros", "reflect", "circular")
    mode = "zeros" if algorithm == "depthwise" and layout == "NCHW" else mode
    if layout == "NHWC":
        shape = (pick(1, 2), *size, ins)
    else:
        shape = (pick(1, 2), ins, *size)
    w = rng.integers(-4, 5, (outs, ins // groups, *kernel)).astype(dtype)
    x = rng.integers(-4, 5, shape).astype(dtype)
    options = dict(stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=mode, layout=layout)
    arrays = {"input": x, "weight": w}
    try:
        if pick(False, True):
            arrays["bias"] = rng.integers(-4, 5, outs).astype(dtype)
        expected = nc.conv2d(**arrays, **options, backend="reference")
        if pick(False, False, True):
            arrays["residual"] = rng.integers(-4, 5, expected.shape).astype(dtype)
            expected = expected + arrays["residual"]
        if pick(False, True):
            options["activation"] = "relu"
            expected = np.maximum(expected, 0)
        nc.explain("conv2d", **arrays, **options, backend="cpu", algorithm=algorithm)
    except ValueError:
        continue
    print(shape, w.shape, options, np.dtype(dtype), sorted(arrays), file=sys.stderr, flush=True)
    memory = {name: guarded(a, pick(True, True, False)) for name, a in arrays.items()}
    out = Guarded(expected.shape, dtype, pick(True, True, False))
    operands = {name: m.array for name, m in memory.items()}
    if pick(False, True):
        nc.conv2d(**operands, **options, out=out.array, backend="cpu", algorithm=algorithm)
    else:
        weight, bias = operands.pop("weight"), operands.pop("bias", None)
        operator = nc.Conv2d(weight, bias, **options, backend="cpu", algorithm=algorithm)
        operator(**operands, out=out.array)
    assert out.is_whole() and all(m.is_whole() for m in memory.values())
    np.testing.assert_allclose(out.array, expected, rtol=0, atol=0 if row.sums_directly else 2e-3)
    ran += 1
"""
CPU_ALGORITHMS = [algorithm for backend, algorithm in HOST_ALGORITHMS if backend == "cpu"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs mprotect")
@pytest.mark.parametrize("algorithm", CPU_ALGORITHMS)
def test_nothing_beyond_the_arrays_is_touched(algorithm):
    run_python(PROGRAM, algorithm, 40, timeout=280)


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs mprotect")
def test_rows_of_any_width_are_read_to_their_end():
    """Vectors along a row overlap its ends, and go beyond them into the padding."""
    run_python(ROWS, timeout=280)
