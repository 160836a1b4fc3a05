"""The definitions of "Dive into Deep Learning", chapter 7, and its numbers."""

import itertools

import numpy as np
import pytest
from helpers import assert_conforms, random_array

import numbaconv as nc

X = np.array([[[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]])
K = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
STACK = np.stack((K, K + 1, K + 2))
ONE_CHANNEL = [[19, 25], [37, 43]]
TWO_CHANNELS = [[56, 72], [104, 120]]
THREE_OUTPUTS = [[[56, 72], [104, 120]], [[76, 100], [148, 172]], [[96, 128], [192, 224]]]
FUNCTIONS = [nc.corr2d, nc.corr2d_multi_in, nc.corr2d_multi_in_out, nc.corr2d_multi_in_out_1x1]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32, np.float64])
def test_the_articles_numbers(dtype):
    x, k, stack = X.astype(dtype), K.astype(dtype), STACK.astype(dtype)
    for result, expected in [
        (nc.corr2d(x[0], k[0]), ONE_CHANNEL),
        (nc.corr2d_multi_in(x, k), TWO_CHANNELS),
        (nc.corr2d_multi_in_out(x, stack), THREE_OUTPUTS),
    ]:
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == (np.int64 if np.issubdtype(dtype, np.integer) else dtype)


def test_the_articles_numbers_as_lists():
    assert nc.corr2d(X[0].tolist(), K[0].tolist()).tolist() == ONE_CHANNEL
    assert nc.corr2d_multi_in(X.tolist(), K.tolist()).tolist() == TWO_CHANNELS
    assert nc.corr2d_multi_in_out(X.tolist(), STACK.tolist()).tolist() == THREE_OUTPUTS
    assert nc.corr2d_multi_in_out_1x1(X.tolist(), [[[[1]], [[10]]]]).tolist() == (X[0] + 10 * X[1])[None].tolist()


def test_the_articles_edge_detector():
    x = np.ones((6, 8), np.float32)
    x[:, 2:6] = 0
    expected = np.zeros((6, 7), np.float32)
    expected[:, 1], expected[:, 5] = 1, -1
    np.testing.assert_array_equal(nc.corr2d(x, [[1.0, -1.0]]), expected)
    np.testing.assert_array_equal(nc.corr2d(x.T, [[1.0, -1.0]]), np.zeros((8, 5)))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (3, 5), (8, 9)])
def test_each_definition_is_the_one_before_it_repeated(kernel):
    """On small integers, where the order of the sums cannot matter."""
    x, k = np.round(4 * random_array((3, 8, 9), np.float32)), np.round(4 * random_array((5, 3, *kernel), np.float32))
    result = nc.corr2d_multi_in_out(x, k)
    np.testing.assert_array_equal(result, np.stack([nc.corr2d_multi_in(x, each) for each in k]))
    np.testing.assert_array_equal(result[0], sum(map(nc.corr2d, x, k[0])))
    np.testing.assert_array_equal(result, nc.conv2d(x, k))


def test_corr2d_is_its_definition():
    x, k = random_array((7, 9), np.int16).astype(np.int64), random_array((3, 4), np.int16).astype(np.int64)
    expected = np.zeros((5, 6), np.int64)
    for i, j in itertools.product(range(5), range(6)):
        expected[i, j] = (x[i : i + 3, j : j + 4] * k).sum()
    np.testing.assert_array_equal(nc.corr2d(x, k), expected)


# ---------------------------------------------------------------- the 1x1 family


@pytest.mark.parametrize(("ins", "outs", "size"), [(3, 2, 3), (64, 128, 28), (32, 16, 32)])
def test_1x1_is_a_matrix_product_over_channels(ins, outs, size):
    x, k = random_array((ins, size, size), np.float32), random_array((outs, ins, 1, 1), np.float32)
    b = random_array((outs,), np.float32)
    result = nc.corr2d_multi_in_out_1x1(x, k)
    assert_conforms(result, {"input": x, "weight": k}, {})
    product = (k[:, :, 0, 0].astype(np.float64) @ x.reshape(ins, -1).astype(np.float64)).reshape(outs, size, size)
    np.testing.assert_allclose(result, product, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(result, nc.corr2d_multi_in_out(x, k))
    assert_conforms(nc.conv2d(x, k, b), {"input": x, "weight": k, "bias": b}, {})
    np.testing.assert_array_equal(nc.Conv2d(k, b)(x), nc.conv2d(x, k, b))


def test_the_bottleneck():
    """256 -> 64 by 1x1, 64 -> 64 by 3x3, 64 -> 256 by 1x1, on 14x14, each with a bias, around it a residual."""
    x = random_array((1, 256, 14, 14), np.float32)
    layers = [((64, 256, 1, 1), 0), ((64, 64, 3, 3), 1), ((256, 64, 1, 1), 0)]
    expected = y = x
    for i, (shape, padding) in enumerate(layers):
        w = random_array(shape, np.float32, i) / np.float32(np.sqrt(np.prod(shape[1:])))
        b = random_array(shape[:1], np.float32, 10 + i)
        residual = x if i == 2 else None
        y = nc.conv2d(y, w, b, padding=padding, residual=residual)
        wide = None if residual is None else residual.astype(np.float64)
        expected = nc.conv2d(
            expected.astype(np.float64), w.astype(np.float64), b, padding=padding, residual=wide, backend="reference"
        )
        if shape[-1] == 1 and i == 0:
            np.testing.assert_allclose(y[0], nc.corr2d_multi_in_out_1x1(x[0], w) + b[:, None, None], rtol=1e-5, atol=1e-5)
    assert y.shape == x.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- backends, errors


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_use_backend_decides(backend):
    with nc.use_backend(backend):
        np.testing.assert_array_equal(nc.corr2d_multi_in_out(X, STACK), THREE_OUTPUTS)


def test_views_are_fine():
    x = random_array((9, 12), np.float64)
    view = x[::-1, ::3].T
    np.testing.assert_array_equal(nc.corr2d(view, K[0]), nc.corr2d(view.copy(), K[0]))


SHAPES = {
    nc.corr2d: ((3, 3), (2, 2)),
    nc.corr2d_multi_in: ((2, 3, 3), (2, 2, 2)),
    nc.corr2d_multi_in_out: ((2, 3, 3), (4, 2, 2, 2)),
    nc.corr2d_multi_in_out_1x1: ((2, 3, 3), (4, 2, 1, 1)),
}
each_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)


@each_function
@pytest.mark.parametrize("argument", ["X", "K"])
def test_another_rank(function, argument):
    for change in (lambda shape: shape[1:], lambda shape: (1, *shape), lambda shape: ()):
        shapes = dict(zip("XK", SHAPES[function], strict=True))
        shapes[argument] = change(shapes[argument])
        with pytest.raises(ValueError, match=rf"^{argument}: expected \d dimensions, .+, got ") as raised:
            function(**{name: np.ones(shape) for name, shape in shapes.items()})
        assert str(shapes[argument]) in str(raised.value)


@each_function
@pytest.mark.parametrize("argument", ["X", "K"])
@pytest.mark.parametrize(
    "value", [None, "abc", [[1.0], [1, 2]], np.ma.ones((3, 3)), np.ones((3, 3), np.longdouble), {}], ids=repr
)
def test_no_array(function, argument, value):
    arrays = dict(zip("XK", map(np.ones, SHAPES[function]), strict=True))
    with pytest.raises(TypeError, match=rf"^{argument}: expected .+, got "):
        function(**{**arrays, argument: value})


@pytest.mark.parametrize("function", FUNCTIONS[1:], ids=lambda f: f.__name__)
def test_channels_that_do_not_match(function):
    x, k = SHAPES[function]
    for channels in (1, 3, 0):
        with pytest.raises(ValueError, match=r"^K: expected .*2 channels.*, got ") as raised:
            function(np.ones(x), np.ones((*k[:-3], channels, *k[-2:])))
        assert str((*k[:-3], channels, *k[-2:])) in str(raised.value)


@pytest.mark.parametrize("function", FUNCTIONS[:3], ids=lambda f: f.__name__)
@pytest.mark.parametrize("kernel", [(4, 1), (1, 4), (0, 2), (2, 0)], ids=str)
def test_kernels_larger_than_the_data_or_empty(function, kernel):
    x, k = SHAPES[function]
    with pytest.raises(ValueError, match=r"^K: expected .*3.*, got "):
        function(np.ones(x), np.ones((*k[:-2], *kernel)))


@pytest.mark.parametrize("kernel", [(2, 2), (1, 2), (3, 1), (0, 1)], ids=str)
def test_1x1_takes_no_other_kernel(kernel):
    with pytest.raises(ValueError, match=r"^K: expected .*1.*, got "):
        nc.corr2d_multi_in_out_1x1(np.ones((2, 3, 3)), np.ones((4, 2, *kernel)))


def test_zero_output_channels():
    assert nc.corr2d_multi_in_out(X, STACK[:0]).shape == (0, 2, 2)
