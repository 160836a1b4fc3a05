"""Direct convolution, lanes along the output channels: on the input as it lies, and on padded copies."""

import numpy as np
import pytest
from helpers import assert_conforms, case, conv2d, operands, random_array, spec_of

import numbaconv as nc
from numbaconv.cpu.direct import blocking

CASES = [
    case((4, 37, 13, 14), (53, 37, 3, 3), padding=1),
    case((1, 37, 12, 13), (53, 37, 1, 7), padding=(0, 3), bias=True),
    case((1, 53, 13, 12), (37, 53, 7, 1), bias=True, residual=True),
    case((2, 16, 21, 23), (24, 16, 5, 5), stride=2, padding=2),
    case((1, 5, 20, 21), (16, 5, 9, 9)),
    case((1, 3, 60, 67), (32, 3, 11, 11), stride=4, padding=2, bias=True),
    case((1, 8, 22, 19), (20, 8, 3, 3), dilation=2, padding=2),
    case((1, 8, 22, 19), (20, 8, 3, 3), dilation=(3, 2), stride=(1, 2)),
    case((2, 12, 10, 11), (33, 4, 3, 3), groups=3, padding=1),
    case((1, 19, 11, 12), (48, 19, 1, 1), stride=2),
    case((1, 6, 7, 9), (200, 6, 3, 3), padding=((0, 3), (2, 0))),
    case((1, 1024, 4, 5), (19, 1024, 3, 3), padding=1),
    case((1, 1024, 4, 5), (19, 1024, 1, 1)),  # with channels last, pixels are a page apart
]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("problem", CASES, ids=str)
def test_conforms(problem, layout):
    if layout == "NHWC":
        problem = problem._replace(input=(problem.input[0], *problem.input[2:], problem.input[1]))
    for dtype in (np.float32, np.float64):
        options = {**problem.options, "layout": layout}
        arrays, options = operands(problem._replace(options=options), dtype), {**options, "algorithm": "direct", "backend": "cpu"}
        result = conv2d(arrays, **options)
        assert_conforms(result, arrays, options)
        np.testing.assert_array_equal(conv2d(arrays, **options, activation="relu"), np.maximum(result, 0))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "problem", [case((2, 21, 9, 11), (37, 21, 3, 3)), case((2, 21, 9, 11), (37, 21, 1, 1), stride=2)], ids=str
)
def test_in_place_and_copied_alike(problem, layout):
    """Padding with zeros outside of what is read makes a copy necessary, and changes nothing; nor do strides and directions."""
    x, w = np.round(3 * random_array(problem.input, np.float32)), np.round(3 * random_array(problem.weight, np.float32))
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
    options = {**problem.options, "layout": layout}
    expected = nc.conv2d(x, w, **options, backend="reference")
    options |= {"algorithm": "direct", "backend": "cpu"}
    np.testing.assert_array_equal(nc.conv2d(x, w, **options), expected)
    grown = np.pad(x, [(0, 0)] * 2 + [(2, 2)] * 2 if layout == "NCHW" else [(0, 0), (2, 2), (2, 2), (0, 0)])
    padded = nc.conv2d(x, w, **options, padding=2)
    np.testing.assert_array_equal(nc.conv2d(grown, w, **options), padded)
    for axis in range(4):
        every_second = np.repeat(x, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        whole = np.full((*expected.shape[:axis], 2 * expected.shape[axis], *expected.shape[axis + 1 :]), 9, np.float32)
        out, between = (whole[(slice(None),) * axis + (slice(i, None, 2),)] for i in (1, 0))
        assert nc.conv2d(every_second, w, **options, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (between == 9).all()
        np.testing.assert_array_equal(nc.conv2d(np.flip(np.flip(x, axis).copy(), axis), w, **options), expected)


def test_some_problems_are_read_in_place_and_others_copied():
    """So that the tests above test both."""
    chosen = set()
    for problem in CASES:
        arrays = operands(problem, np.float32)
        chosen.add(blocking(spec_of(arrays, problem.options)).in_place)
    assert chosen == {True, False}


def test_unpacked_panels_fit_in_a_cache():
    explanation = nc.explain("conv2d", (1, 16384, 9, 9), (64, 16384, 3, 3), backend="cpu")
    [row] = [row for row in explanation.rows if row.algorithm == "direct_unpacked"]
    assert "more than an L2 cache" in row.why_not
    x, w = (np.round(3 * random_array(shape, np.float32)) for shape in ((1, 600, 7, 9), (50, 600, 5, 5)))
    result = nc.conv2d(x, w, padding=2, algorithm="direct_unpacked", backend="cpu")
    np.testing.assert_array_equal(result, nc.conv2d(x, w, padding=2, backend="reference"))
    turned = np.ascontiguousarray(w[::-1, :, ::-1])[::-1, :, ::-1]  # in another order, whose weights have to be copied
    np.testing.assert_array_equal(nc.conv2d(x, turned, padding=2, algorithm="direct_unpacked", backend="cpu"), result)
