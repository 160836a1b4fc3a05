"""Pointwise convolution, channels first: lanes along the positions."""

import numba
import numpy as np
import pytest
from helpers import assert_conforms, case, conv2d, operands, random_array, why_not

import numbaconv as nc

CASES = [
    case((1, 37, 7, 7), (53, 37, 1, 1)),
    case((4, 53, 14, 14), (37, 53, 1, 1), bias=True),
    case((1, 16, 1, 1), (5, 16, 1, 1), bias=True),
    case((2, 12, 9, 13), (33, 4, 1, 1), groups=3, residual=True),
    case((1, 1, 30, 31), (1, 1, 1, 1)),
    case((1, 64, 32, 32), (130, 64, 1, 1), bias=True, residual=True),  # planes that are a page
    case((1, 300, 5, 9), (64, 300, 1, 1)),
    case((17, 3, 100), (9, 17, 1, 1)),
]


@pytest.mark.parametrize("problem", CASES, ids=str)
def test_conforms(problem):
    for dtype in (np.float32, np.float64):
        arrays, options = operands(problem, dtype), {**problem.options, "algorithm": "pointwise", "backend": "cpu"}
        result = conv2d(arrays, **options)
        assert_conforms(result, arrays, options)
        np.testing.assert_array_equal(conv2d(arrays, **options, activation="relu"), np.maximum(result, 0))


def test_every_number_of_positions():
    """The last ones fill no tile; exact, on small integers."""
    w = np.round(3 * random_array((19, 6, 1), np.float32))
    for count in [*range(1, 70), 127, 128, 129, 200]:
        x = np.round(3 * random_array((1, 6, count), np.float32))
        result = nc.conv1d(x, w, algorithm="pointwise", backend="cpu")
        np.testing.assert_array_equal(result, np.einsum("oc,ncw->now", w[:, :, 0], x))


def test_strided_and_reversed_operands():
    x, w = np.round(3 * random_array((2, 6, 9, 11), np.float32)), np.round(3 * random_array((7, 6, 1, 1), np.float32))
    expected = np.einsum("oc,nchw->nohw", w[:, :, 0, 0], x)
    residual = np.round(3 * random_array(expected.shape, np.float32))
    options = {"algorithm": "pointwise", "backend": "cpu"}
    for axis in range(4):
        every_second = np.repeat(x, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        whole = np.full((*expected.shape[:axis], 2 * expected.shape[axis], *expected.shape[axis + 1 :]), 9, np.float32)
        out, between = (whole[(slice(None),) * axis + (slice(i, None, 2),)] for i in (1, 0))
        assert nc.conv2d(every_second, w, **options, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (between == 9).all()
        flipped = np.flip(np.flip(x, axis).copy(), axis)
        np.testing.assert_array_equal(nc.conv2d(flipped, w, **options, residual=residual), expected + residual)


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (case((1, 4, 9, 9), (4, 4, 3, 3)), "1 x 1 kernels"),
        (case((1, 4, 9, 9), (4, 4, 1, 1), stride=2), "1 x 1 kernels"),
        (case((1, 4, 9, 9), (4, 4, 1, 1), padding=1), "1 x 1 kernels"),
        (case((1, 9, 9, 4), (4, 4, 1, 1), layout="NHWC"), "channels first"),
    ],
    ids=str,
)
def test_what_it_does_not_take(problem, words):
    arrays, options = operands(problem, np.float32), {**problem.options, "algorithm": "pointwise", "backend": "cpu"}
    assert words in why_not(arrays, options)
    with pytest.raises(ValueError, match=r"^algorithm: "):
        conv2d(arrays, **options)


@pytest.mark.parametrize("every_second", [False, True])
@pytest.mark.parametrize("with_residual", [False, True])
@pytest.mark.parametrize(("dtype", "out_dtype"), [("float32", None), ("float32", "float16"), ("int64", None)])
def test_results_are_finished_once_wherever_they_lie(dtype, out_dtype, with_residual, every_second):
    """Small integers: in the result itself in stretches, in a buffer where that has another dtype or stride, and at the end."""
    rng = np.random.default_rng(0)
    x, w, b = (rng.integers(-4, 5, shape).astype(dtype) for shape in ((2, 20, 17, 41), (17, 20, 1, 1), (17,)))
    residual = rng.integers(-99, 99, (2, 17, 17, 41)).astype(dtype) if with_residual else None
    out = np.empty((2, 17, 17, 82), out_dtype or dtype)[..., :: 1 + every_second][..., :41]
    options = {"residual": residual, "activation": shifted, "out_dtype": out_dtype}
    result = nc.conv2d(x, w, b, **options, algorithm="pointwise", out=out)
    np.testing.assert_array_equal(result, nc.conv2d(x, w, b, **options, backend="reference"))


@numba.njit
def shifted(x):
    """What done twice is something else."""
    return x + 3
