"""The microkernels: every tile and dtype against their meaning, and the kernels that call them on lesser machines."""

import ctypes
import platform

import numpy as np
import pytest
from helpers import run_python, some_of

from numbaconv.cpu.microkernel import along_channels, along_positions
from numbaconv.cpu.simd import has_vectors, lanes
from numbaconv.cpu.target import Tile, tiles

DTYPES = [np.dtype(d) for d in ("float32", "float64", "int32", "int64", "uint64")]
TILES = dict.fromkeys([*tiles(), *(Tile(t.MR - 1, t.NR) for t in tiles() if t.MR > 1), Tile(1, 1), Tile(5, 1), Tile(3, 2)])
every_tile = pytest.mark.parametrize("tile", TILES, ids=str)
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def run(kernel, tile, dtype, *words):
    """Call a microkernel; the sums lie in a larger array that has to stay as it was around them."""
    width = tile.NR * lanes(dtype)
    padded = np.full((tile.MR + 2, width + 3), 77, dtype)
    sums = padded[1:-1, 1 : 1 + width]
    inputs, offsets, weights, *more = words
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(kernel(tile, dtype).address)
    addresses = (inputs.ctypes.data, offsets.ctypes.data, len(offsets), weights.ctypes.data, sums.ctypes.data, padded.strides[0])
    call(*addresses, *more, *[0] * (2 - len(more)))
    outside = np.ones(padded.shape, bool)
    outside[1:-1, 1 : 1 + width] = False
    assert (padded[outside] == 77).all()
    return sums


@every_dtype
@every_tile
def test_along_positions(tile, dtype):
    """Small integers, so that every order of summation gives the same."""
    assert has_vectors(dtype)
    width = tile.NR * lanes(dtype)
    for count in (0, 1, 5, 64):
        rng = np.random.default_rng(count)
        inputs = rng.integers(0, 9, 40 + width).astype(dtype)
        starts = rng.integers(0, 40, count)
        weights = rng.integers(0, 9, (count, tile.MR)).astype(dtype)
        expected = np.zeros((tile.MR, width), dtype)
        for k in range(count):
            expected += np.outer(weights[k], inputs[starts[k] :][:width])
        np.testing.assert_array_equal(run(along_positions, tile, dtype, inputs, starts * dtype.itemsize, weights), expected)


@every_dtype
@pytest.mark.parametrize("tile", [Tile(1, 1), Tile(5, 1), Tile(3, 2), Tile(14, 2)], ids=str)
def test_along_positions_with_a_bias(tile, dtype):
    width = tile.NR * lanes(dtype)
    biased = lambda tile, dtype: along_positions(tile, dtype, True)  # noqa: E731
    for count in (0, 3, 70):
        rng = np.random.default_rng(count)
        inputs, starts = rng.integers(0, 9, 40 + width).astype(dtype), rng.integers(0, 40, count)
        weights, bias = rng.integers(0, 9, (count, tile.MR)).astype(dtype), rng.integers(0, 9, tile.MR).astype(dtype)
        expected = np.repeat(bias[:, None], width, 1)
        for k in range(count):
            expected += np.outer(weights[k], inputs[starts[k] :][:width])
        result = run(biased, tile, dtype, inputs, starts * dtype.itemsize, weights, bias.ctypes.data)
        np.testing.assert_array_equal(result, expected)


@every_dtype
@every_tile
def test_along_channels(tile, dtype):
    """Any step from one position to the next, backwards too, and any table of offsets."""
    width = tile.NR * lanes(dtype)
    for count, step in [(0, 1), (1, 3), (5, 0), (64, 7), (33, -2)]:
        rng = np.random.default_rng(count)
        inputs = rng.integers(0, 9, 40 + abs(step) * tile.MR).astype(dtype)
        first = 0 if step >= 0 else -step * (tile.MR - 1)
        starts = rng.integers(0, 40, count) + first
        weights = rng.integers(0, 9, (count, width)).astype(dtype)
        expected = np.zeros((tile.MR, width), dtype)
        for k in range(count):
            expected += np.outer([inputs[starts[k] + r * step] for r in range(tile.MR)], weights[k])
        sums = run(along_channels, tile, dtype, inputs, starts * dtype.itemsize, weights, step * dtype.itemsize)
        np.testing.assert_array_equal(sums, expected)


@pytest.mark.parametrize("kernel", [along_positions, along_channels])
@pytest.mark.parametrize("dtype", [np.dtype(np.float32), np.dtype(np.float64)], ids=str)
def test_products_and_sums_are_rounded_once(kernel, dtype):
    """(1 + u) (1 - u) - 1 is -u u, which a rounded product has lost."""
    tile, eps = Tile(1, 1), np.finfo(dtype).eps
    inputs = np.full(lanes(dtype) + 1, 1 + eps, dtype)
    inputs[0] = 1
    weights = np.full((2, lanes(dtype)), 1 - eps, dtype)
    weights[0] = -1
    factors = weights if kernel is along_channels else np.ascontiguousarray(weights[:, :1])
    offsets = np.array([0, dtype.itemsize])
    if kernel is along_positions:
        inputs = np.concatenate([np.ones(lanes(dtype), dtype), np.full(lanes(dtype), 1 + eps, dtype)])
        offsets = np.array([0, lanes(dtype) * dtype.itemsize])
    np.testing.assert_array_equal(run(kernel, tile, dtype, inputs, offsets, factors), -(np.float64(eps) ** 2))


def test_a_tile_too_large_for_any_machine_is_refused():
    with pytest.raises(AssertionError):
        Tile(16, 2)


AVX2 = "+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2"
LESSER = """
import sys
import numpy as np, numbaconv as nc
from numbaconv.cpu.target import tiles, vector_bytes
assert vector_bytes() == int(sys.argv[1]), vector_bytes()
assert max(t.registers for t in tiles()) <= 16
rng = np.random.default_rng(0)
DENSE = {"input": (2, 6, 19, 21), "weight": (10, 3, 3, 3), "groups": 2, "padding": 1}
PROBLEMS = {
    "direct": [(DENSE | {"stride": (1, 2)}, np.float32), (DENSE, np.int8)],
    "pixels": [(DENSE | {"stride": (1, 2)}, np.float32)],
    "pointwise": [({"input": (1, 37, 9, 11), "weight": (19, 37, 1, 1)}, np.float32)],
    "winograd2": [({"input": (1, 64, 9, 11), "weight": (19, 64, 3, 3), "padding": 1}, np.float32)],
    "winograd4": [({"input": (1, 64, 9, 11), "weight": (19, 64, 3, 3), "padding": 1}, np.float32)],
    "depthwise": [
        ({"input": (1, 7, 19, 45), "weight": (7, 1, 5, 5), "groups": 7, "padding": 2, "stride": stride}, np.float32)
        for stride in (1, 2)
    ] + [({"input": (1, 19, 21, 13), "weight": (13, 1, 3, 3), "groups": 13, "padding": 1, "layout": "NHWC"}, np.float32)],
}
DEPTHWISE = {"input": (1, 13, 9, 11), "weight": (13, 1, 3, 3), "groups": 13, "padding": 1}
PROBLEMS["depthwise_blocked"] = [(DEPTHWISE, np.float32)]
for algorithm in sys.argv[2:]:
    for problem, dtype in PROBLEMS[algorithm]:
        problem = dict(problem, activation="relu")
        x, w = (rng.integers(-9, 9, problem.pop(name)).astype(dtype) for name in ("input", "weight"))
        result = nc.conv2d(x, w, algorithm=algorithm, backend="cpu", **problem)
        tolerance = 5e-3 if algorithm.startswith("winograd") else 0
        expected = nc.conv2d(x, w, backend="reference", **problem)
        np.testing.assert_allclose(result, expected, rtol=0, atol=tolerance, err_msg=algorithm)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the features are those of x86-64")
@pytest.mark.parametrize(
    ("features", "width", "algorithms"),
    some_of(
        [
            (AVX2, 32, ("direct", "pointwise", "winograd4")),
            (AVX2, 32, ("pixels", "winograd2", "depthwise", "depthwise_blocked")),
            ("+sse2,+sse4.2", 16, ("direct", "pointwise", "winograd4", "pixels", "winograd2", "depthwise", "depthwise_blocked")),
        ],
        0,
    ),
)
def test_lesser_machines(features, width, algorithms, tmp_path):
    """Instructions of AVX2, and of none of the two; direct sums of products of these small integers are exact on all."""
    settings = {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": tmp_path}
    run_python(LESSER, width, *algorithms, env={name: str(value) for name, value in settings.items()}, timeout=250)
