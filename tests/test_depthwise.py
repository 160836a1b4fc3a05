"""Depthwise convolution, and of small groups, in both layouts."""

import numpy as np
import pytest
from helpers import assert_conforms, case, conv2d, operands, random_array, why_not

import numbaconv as nc
from numbaconv.cpu.target import vector_bytes

FIRST = [
    case((2, 5, 12, 40), (5, 1, 1, 1), groups=5),
    case((1, 3, 9, 33), (3, 1, 2, 2), groups=3, padding=1),
    case((2, 37, 14, 30), (37, 1, 3, 3), groups=37, padding=1, bias=True),
    case((1, 3, 13, 112), (3, 1, 3, 3), groups=3, padding=1, stride=2),
    case((1, 3, 13, 61), (3, 1, 3, 3), groups=3, stride=(3, 2), padding=((0, 1), (1, 0))),
    case((1, 3, 11, 70), (3, 1, 4, 4), groups=3, padding=2, stride=(1, 2)),
    case((1, 3, 20, 97), (3, 1, 5, 5), groups=3, padding=2),
    case((1, 3, 20, 115), (3, 1, 5, 5), groups=3, padding=2, stride=2),
    case((1, 3, 20, 97), (3, 1, 7, 7), groups=3, padding=3, residual=True),
    case((1, 3, 19, 50), (3, 1, 3, 3), groups=3, padding=2, dilation=2),
    case((1, 3, 19, 50), (3, 1, 3, 3), groups=3, padding=3, dilation=3, stride=2),
    case((1, 3, 9, 98), (3, 1, 3, 3), groups=3, padding=2, dilation=2, stride=2),
    # Few channels, channels last: the pixels of a row are one row.
    case((2, 9, 150, 3), (3, 1, 3, 3), groups=3, padding=1, layout="NHWC", bias=True, residual=True),
    case((1, 20, 70, 2), (2, 1, 5, 5), groups=2, padding=(2, 1), stride=(2, 1), layout="NHWC", bias=True),
    case((1, 9, 90, 12), (12, 1, 3, 3), groups=12, padding=2, dilation=2, layout="NHWC", bias=True),
    case((1, 9, 7, 6), (6, 1, 3, 3), groups=6, padding=1, layout="NHWC"),
    case((1, 3, 9, 20), (3, 1, 1, 3), groups=3, padding=(0, 17), dilation=(1, 17), stride=(1, 2)),
    case((1, 3, 9, 99), (3, 1, 2, 4), groups=3, padding=((1, 0), (1, 2)), stride=2),
    case((1, 3, 9, 98), (3, 1, 5, 9), groups=3, padding=((1, 0), (0, 4)), stride=2),
    case((1, 3, 9, 99), (3, 1, 7, 7), groups=3, padding=((3, 3), (4, 3)), stride=2),
    case((1, 4, 9, 21), (12, 1, 3, 3), groups=4, padding=1, bias=True, residual=True),  # a multiplier
    case((2, 1, 30, 41), (1, 1, 5, 5), padding="same"),  # an image and a filter
    case((1, 1, 30, 41), (6, 1, 3, 3), padding="same_lower"),
    case((2, 3, 4, 30), (3, 1, 3, 3), groups=3, padding=((9, 7), (0, 0))),
    case((1, 3, 5, 30), (3, 1, 3, 3), groups=3, padding=((0, 0), (20, 0))),  # more padding than a vector has lanes
    case((1, 3, 5, 30), (3, 1, 3, 3), groups=3, padding=((0, 0), (40, 70))),
    case((1, 3, 5, 130), (3, 1, 3, 3), groups=3, padding=((0, 0), (90, 0)), stride=(1, 2)),
    case((1, 3, 5, 130), (3, 1, 5, 5), groups=3, padding=((0, 0), (90, 40))),
]
LAST = [
    case((2, 14, 13, 37), (37, 1, 3, 3), groups=37, padding=1, bias=True),
    case((1, 14, 13, 53), (53, 1, 3, 3), groups=53, padding=1, stride=2, residual=True),
    case((1, 15, 17, 16), (16, 1, 5, 5), groups=16, padding=2),
    case((1, 15, 17, 33), (33, 1, 7, 7), groups=33, padding=3, stride=(1, 3)),
    case((1, 15, 17, 64), (64, 1, 3, 3), groups=64, padding=2, dilation=2, bias=True, residual=True),
    case((1, 15, 17, 3), (3, 1, 2, 4), groups=3, padding=((0, 1), (3, 0))),
    case((1, 4, 5, 19), (19, 1, 3, 3), groups=19, padding=((5, 0), (9, 12))),
    case((2, 9, 11, 6), (6, 2, 3, 3), groups=3, padding=1, bias=True),  # groups of two channels
    case((1, 9, 11, 20), (20, 4, 3, 3), groups=5, padding=1, stride=2, residual=True),
    case((1, 9, 11, 40), (40, 8, 1, 3), groups=5, padding=(0, 1)),
    case((2, 9, 11, 1), (1, 1, 3, 3), padding=1),
]


LAST = [c._replace(options={**c.options, "layout": "NHWC"}) for c in LAST]
BLOCKED = [
    case((2, 37, 14, 13), (37, 1, 3, 3), groups=37, padding=1, bias=True),
    case((1, 53, 13, 30), (53, 1, 3, 3), groups=53, padding=1, stride=2, residual=True),
    case((1, 16, 70, 41), (16, 1, 5, 5), groups=16, padding=2),  # several blocks of rows
    case((1, 33, 15, 7), (33, 1, 7, 7), groups=33, padding=((2, 4), (3, 1)), stride=(1, 3), bias=True, residual=True),
    case((1, 19, 15, 17), (19, 1, 3, 3), groups=19, padding=2, dilation=2, padding_mode="reflect"),
    case((1, 19, 9, 8), (19, 1, 3, 4), groups=19, padding=(1, 3), padding_mode="circular", bias=True),
    case((1, 5, 4, 19), (5, 1, 3, 3), groups=5, padding=((5, 9), (9, 12))),
    case((2, 6, 9, 11), (6, 2, 3, 3), groups=3, padding=1, bias=True),  # groups of two channels
    case((1, 20, 9, 11), (20, 4, 3, 3), groups=5, padding=1, stride=2, residual=True),
    case((1, 40, 9, 11), (40, 8, 1, 3), groups=5, padding=(0, 1)),
]
PROBLEMS = [("depthwise", problem) for problem in FIRST + LAST] + [("depthwise_blocked", problem) for problem in BLOCKED]


@pytest.mark.parametrize(("algorithm", "problem"), PROBLEMS, ids=str)
def test_conforms(algorithm, problem):
    for dtype in (np.float32, np.float64):
        arrays, options = operands(problem, dtype), {**problem.options, "algorithm": algorithm, "backend": "cpu"}
        group = arrays["weight"].shape[1]
        if group > 1 and group > vector_bytes() // arrays["weight"].itemsize:
            with pytest.raises(ValueError, match="and a vector some whole groups"):
                conv2d(arrays, **options)
            continue
        result = conv2d(arrays, **options)
        assert_conforms(result, arrays, options)
        np.testing.assert_array_equal(conv2d(arrays, **options, activation="relu"), np.maximum(result, 0))


@pytest.mark.parametrize(("algorithm", "layout"), [("depthwise", "NCHW"), ("depthwise", "NHWC"), ("depthwise_blocked", "NCHW")])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", [0, 1])
def test_every_width(algorithm, layout, stride, padding):
    """From less than a vector to some, so that a row ends anywhere; exact, on small integers."""
    w = np.round(3 * random_array((5, 1, 3, 3), np.float32))
    for width in [*range(3 - 2 * padding, 40), 63, 64, 65, 66]:
        x = np.round(3 * random_array((1, 5, 6, width), np.float32))
        x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
        options = {"stride": stride, "padding": padding, "groups": 5, "layout": layout}
        result = nc.conv2d(x, w, **options, algorithm=algorithm, backend="cpu")
        np.testing.assert_array_equal(result, nc.conv2d(x, w, **options, backend="reference"))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_strided_and_reversed_operands(layout):
    x, w = np.round(3 * random_array((2, 6, 9, 23), np.float32)), np.round(3 * random_array((6, 1, 3, 3), np.float32))
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
    options = {"padding": 1, "groups": 6, "layout": layout}
    expected = nc.conv2d(x, w, **options, backend="reference")
    options |= {"algorithm": "depthwise", "backend": "cpu"}
    for axis in range(4):
        wide = np.repeat(x, 2, axis)
        every_second = wide[(slice(None),) * axis + (slice(None, None, 2),)]
        whole = np.full((*expected.shape[:axis], 2 * expected.shape[axis], *expected.shape[axis + 1 :]), 9, np.float32)
        out, between = (whole[(slice(None),) * axis + (slice(i, None, 2),)] for i in (1, 0))
        assert nc.conv2d(every_second, w, **options, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert (between == 9).all()
        np.testing.assert_array_equal(nc.conv2d(np.flip(np.flip(x, axis).copy(), axis), w, **options), expected)
        backwards = np.flip(np.empty_like(expected), axis)
        np.testing.assert_array_equal(nc.conv2d(x, w, **options, out=backwards), expected)


def test_a_depth():
    x, w = random_array((2, 5, 6, 9, 20), np.float64), random_array((5, 1, 2, 3, 3), np.float64)
    for layout in ("NCDHW", "NDHWC"):
        data = np.moveaxis(x, 1, -1) if layout == "NDHWC" else x
        options = {"groups": 5, "padding": 1, "stride": (2, 1, 1), "dilation": (2, 1, 1), "layout": layout}
        for algorithm in ("depthwise", "depthwise_blocked")[: 2 if layout == "NCDHW" else 1]:
            result = nc.conv3d(data, w, **options, algorithm=algorithm, backend="cpu")
            np.testing.assert_allclose(result, nc.conv3d(data, w, **options, backend="reference"), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("algorithm", "layout"), [("depthwise", "NCHW"), ("depthwise", "NHWC"), ("depthwise_blocked", "NCHW")])
@pytest.mark.parametrize("kernel", [3, 5])
def test_special_values_reach_exactly_the_outputs_that_depend_on_them(kernel, algorithm, layout):
    """Though vectors that overlap, or go beyond a row, compute others beside them."""
    x, w = np.zeros((1, 3, 9, 97), np.float32), np.ones((3, 1, kernel, kernel), np.float32)
    for row, column in [(0, 0), (4, 96), (8, 96), (4, 50)]:
        x[0, 1, row, column] = 1
    special = np.where(x > 0, np.float32(np.nan), x)
    x, special = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) if layout == "NHWC" else a for a in (x, special))
    options = {"groups": 3, "padding": kernel // 2, "layout": layout, "algorithm": algorithm, "backend": "cpu"}
    np.testing.assert_array_equal(np.isnan(nc.conv2d(special, w, **options)), nc.conv2d(x, w, **options) > 0)


@pytest.mark.parametrize(
    ("problem", "words", "blocked"),
    [
        (case((1, 4, 9, 9), (4, 4, 3, 3)), "one input channel, not 4", None),
        (case((1, 9, 9, 4), (8, 1, 3, 3), groups=4, layout="NHWC"), "1 -> 2", "channels last"),
        (case((1, 9, 9, 6), (6, 3, 3, 3), groups=2, layout="NHWC"), "3 -> 3", "channels last"),
        (case((1, 6, 9, 9), (6, 3, 3, 3), groups=2), "one input channel, not 3", "3 -> 3"),
        (case((1, 4, 9, 9), (4, 1, 3, 3), groups=4, stride=3), "strides of 1 and 2", None),
        (case((1, 4, 9, 9), (4, 1, 3, 3), groups=4, padding=1, padding_mode="reflect"), "not reflect", None),
        (case((1, 4, 9, 9), (4, 1, 9, 9), groups=4), "81 weights", "81 weights"),
    ],
    ids=str,
)
def test_what_they_do_not_take(problem, words, blocked):
    arrays = operands(problem, np.float32)
    for algorithm, reason in (("depthwise", words), ("depthwise_blocked", blocked)):
        options = {**problem.options, "algorithm": algorithm, "backend": "cpu"}
        if reason is None:
            assert why_not(arrays, options) is None
            continue
        assert reason in why_not(arrays, options)
        with pytest.raises(ValueError, match=r"^algorithm: "):
            conv2d(arrays, **options)


@pytest.mark.parametrize("channels", [1, 3])
def test_few_channels_last_in_strided_memory(channels):
    x, w = random_array((2, 9, 60, channels), np.float32), random_array((channels, 1, 3, 3), np.float32)
    op = nc.Conv2d(w, groups=channels, layout="NHWC", algorithm="depthwise", backend="cpu")
    expected = nc.conv2d(x, w, groups=channels, layout="NHWC", backend="reference")
    for axis in (1, 2, 3):
        apart = np.repeat(x, 2, axis)[(slice(None),) * axis + (slice(None, None, 2),)]
        np.testing.assert_allclose(op(apart), expected, rtol=1e-4, atol=1e-5)
        whole = np.full(np.multiply(expected.shape, np.where(np.arange(4) == axis, 2, 1)), 9, np.float32)
        out, between = (whole[(slice(None),) * axis + (slice(i, None, 2),)] for i in (1, 0))
        assert op(x, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)
        assert (between == 9).all()
