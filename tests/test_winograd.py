"""Winograd's algorithms: what they take, how far results may be from a sum of the products, and how far an error spreads."""

import numpy as np
import pytest
from helpers import assert_conforms, case, conv2d, one_in, operands, oracle, random_array, why_not

import numbaconv as nc

by_both = pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
CASES = [
    case((1, 64, 14, 14), (64, 64, 3, 3), padding=1),
    case((3, 65, 13, 11), (37, 65, 3, 3), padding=1, bias=True),
    case((2, 70, 9, 17), (53, 70, 1, 3), padding=(0, 1)),
    case((2, 70, 17, 9), (5, 70, 3, 1), padding=(2, 0)),
    case((1, 64, 3, 3), (7, 64, 3, 3)),  # one output
    case((1, 64, 3, 40), (7, 64, 3, 3), padding=((0, 1), (3, 0))),
    case((2, 128, 10, 7), (38, 64, 3, 3), groups=2, padding=1, residual=True, activation="relu"),
    case((1, 15, 16, 64), (32, 64, 3, 3), layout="NHWC", padding=1, bias=True, residual=True, activation="relu"),
    case((2, 9, 10, 67), (19, 67, 3, 3), layout="NHWC", padding="same"),
    case((1, 65, 8, 9), (16, 65, 3, 3), padding=5, padding_mode="circular"),
    case((2, 65, 13, 22), (37, 65, 3, 3), padding=1, stride=2, bias=True),
    case((1, 20, 19, 64), (24, 64, 5, 5), layout="NHWC", padding=2, stride=2, residual=True, activation="relu"),
    case((1, 64, 12, 17), (24, 64, 3, 3), stride=(1, 2), padding=((1, 0), (2, 1))),
    case((2, 64, 12, 17), (24, 64, 1, 3), stride=2),  # rows of which none is read, and none is shared
    case((1, 64, 16, 17), (24, 64, 2, 5), stride=(2, 3), padding=(0, 2)),
    case((1, 21, 22, 64), (24, 64, 7, 7), stride=4, padding=3, padding_mode="reflect", layout="NHWC"),
    case((1, 64, 11, 10), (24, 64, 4, 4), padding="same"),
    case((2, 24, 11, 10), (24, 24, 7, 7), padding=3),
    case((1, 24, 11, 30), (24, 24, 9, 9), padding=4),
    case((1, 24, 3, 60), (24, 24, 1, 25), stride=(1, 2)),
    case((1, 65, 8, 9), (16, 65, 3, 3), padding=(2, 3), padding_mode="reflect"),
    case((1, 9, 8, 65), (16, 65, 3, 3), padding=(2, 3), padding_mode="replicate", layout="NHWC"),
]


@pytest.mark.parametrize(("algorithm", "problem"), one_in(2, ["winograd2", "winograd4"], CASES), ids=str)
def test_conforms(problem, algorithm):
    for dtype in (np.float32, np.float64):
        arrays, options = operands(problem, dtype), {**problem.options, "algorithm": algorithm, "backend": "cpu"}
        activation = options.pop("activation", None)
        result = conv2d(arrays, **options)
        assert_conforms(result, arrays, options, sums_directly=False)
        if activation is not None:
            np.testing.assert_array_equal(conv2d(arrays, **options, activation=activation), np.maximum(result, 0))


@by_both
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_strided_and_reversed_operands(layout, algorithm):
    x, w = random_array((2, 65, 10, 12), np.float32), random_array((21, 65, 3, 3), np.float32)
    x = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
    options = {"padding": 1, "layout": layout, "algorithm": algorithm, "backend": "cpu"}
    expected = nc.conv2d(x, w, **options)
    for axis in range(4):
        wide = np.repeat(x, 2, axis)
        every_second = wide[(slice(None),) * axis + (slice(None, None, 2),)]
        whole = np.full((*expected.shape[:axis], 2 * expected.shape[axis], *expected.shape[axis + 1 :]), 9, np.float32)
        out, between = (whole[(slice(None),) * axis + (slice(i, None, 2),)] for i in (1, 0))
        assert nc.conv2d(every_second, w, **options, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        assert (between == 9).all()
        reversed = np.flip(np.flip(x, axis).copy(), axis)
        np.testing.assert_allclose(nc.conv2d(reversed, w, **options), expected, rtol=1e-4, atol=1e-4)


@by_both
@pytest.mark.parametrize("layout", ["NCDHW", "NDHWC"])
def test_kernels_with_a_depth(layout, algorithm):
    """The sum over the depth happens between the transforms; strides and dilations along it are allowed."""
    x, w = random_array((2, 33, 7, 9, 10), np.float64), random_array((11, 33, 2, 3, 3), np.float64)
    x = np.moveaxis(x, 1, -1) if layout == "NDHWC" else x
    for options in ({"padding": 1}, {"stride": (2, 1, 1), "dilation": (3, 1, 1), "padding": (2, 0, 1)}):
        result = nc.conv3d(x, w, **options, layout=layout, algorithm=algorithm, backend="cpu")
        expected = nc.conv3d(x, w, **options, layout=layout, backend="reference")
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-11)


@by_both
def test_sixteen_bits(algorithm):
    """Computed in float32, and rounded once."""
    for layout, shape in (("NCHW", (1, 64, 11, 13)), ("NHWC", (1, 11, 13, 64))):
        x, w = random_array(shape, np.float16), random_array((24, 64, 3, 3), np.float16)
        options = {"padding": 1, "layout": layout}
        result = nc.conv2d(x, w, **options, algorithm=algorithm, backend="cpu")
        assert result.dtype == np.float16
        exact = nc.conv2d(x.astype(np.float64), w.astype(np.float64), **options, backend="reference")
        np.testing.assert_allclose(result, exact, rtol=2**-11, atol=1e-3)


@by_both
@pytest.mark.parametrize("channels", [64, 256])
@pytest.mark.parametrize(
    ("kernel", "stride"), [((3, 3), 1), ((1, 3), 1), ((1, 7), 1), ((5, 5), 1), ((9, 9), 1), ((3, 3), 2), ((5, 5), 2)], ids=str
)
def test_rms_error_is_at_most_four_times_that_of_one_by_one_summation(kernel, stride, channels, algorithm):
    arrays = {
        "input": random_array((1, channels, 22, 22), np.float32),
        "weight": random_array((16, channels, *kernel), np.float32),
    }
    options = {"stride": stride}
    exact = oracle({name: a.astype(np.float64) for name, a in arrays.items()}, options)
    high, wide = ((n - 1) * stride + 1 for n in exact.shape[2:])
    one_by_one = np.zeros(exact.shape, np.float32)
    for c, i, j in np.ndindex(channels, *kernel):
        part = arrays["input"][:, c, None, i : i + high : stride, j : j + wide : stride]
        one_by_one += arrays["weight"][:, c, i, j, None, None] * part
    result = conv2d(arrays, **options, algorithm=algorithm, backend="cpu")
    error, allowed = (np.sqrt(np.mean((y - exact) ** 2)) for y in (result, one_by_one))
    assert error <= 4 * allowed


@by_both
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_stay_within_their_tiles(value, algorithm):
    """All outputs that depend on one are not finite; beside them only what shares a tile with those."""
    m = int(algorithm[-1])
    x, w = random_array((2, 64, 21, 26), np.float32), 1 + abs(random_array((9, 64, 3, 3), np.float32))
    for layout in ("NCHW", "NHWC"):
        x[...] = 1
        x[1, 5, 10, 13] = value
        data = np.ascontiguousarray(np.moveaxis(x, 1, -1)) if layout == "NHWC" else x
        result = nc.conv2d(data, w, padding=1, layout=layout, algorithm=algorithm, backend="cpu")
        result = np.moveaxis(result, -1, 1) if layout == "NHWC" else result
        strange = ~np.isfinite(result)
        assert strange[1, :, 9:12, 12:15].all()
        top, bottom, left, right = 9 // m * m, 11 // m * m + m, 12 // m * m, 14 // m * m + m
        strange[1, :, top:bottom, left:right] = False
        assert not strange.any()


@by_both
def test_the_same_bits_whatever_the_batch(algorithm):
    """And whether prepared or not."""
    x, w = random_array((3, 64, 13, 14), np.float32), random_array((24, 64, 3, 3), np.float32)
    op = nc.Conv2d(w, padding=1, algorithm=algorithm, backend="cpu")
    together = op(x)
    np.testing.assert_array_equal(nc.conv2d(x, w, padding=1, algorithm=algorithm, backend="cpu"), together)
    np.testing.assert_array_equal(np.concatenate([op(each[None]) for each in x]), together)


@by_both
@pytest.mark.parametrize(
    ("weight", "options", "words"),
    [
        ((4, 64, 3, 3), {"stride": 3}, "3 x 3 kernel of stride 3 x 3"),
        ((4, 64, 1, 3), {"stride": (1, 4)}, "1 x 3 kernel of stride 1 x 4"),
        ((4, 64, 3, 3), {"dilation": 2}, "dilations"),
        ((4, 64, 1, 1), {}, "1 x 1"),
        ((4, 64, 19, 19), {"padding": 9}, "elements"),
    ],
)
def test_what_it_does_not_take(weight, options, words, algorithm):
    arrays = {"input": random_array((1, 64, 9, 9), np.float32), "weight": random_array(weight, np.float32)}
    options = {**options, "algorithm": algorithm, "backend": "cpu"}
    assert words in why_not(arrays, options)
    with pytest.raises(ValueError, match=f"^algorithm: expected .*{words}"):
        conv2d(arrays, **options)
    assert why_not({name: a.astype(np.int32) for name, a in arrays.items()}, options) is not None


@by_both
def test_accurate_is_never_winograd(algorithm):
    explanation = nc.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), padding=1, algorithm="accurate")
    row = next(row for row in explanation.rows if row.algorithm == algorithm)
    assert "sum of the products themselves" in row.why_not
