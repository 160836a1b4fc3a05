"""Complex convolutions by four real ones."""

import numpy as np
import pytest
from helpers import assert_conforms, case, find_algorithm, operands, random_array, why_not
from strategies import MEMORY

import numbaconv as nc

NAMES = ["direct_4m", "winograd4_4m"]
GRID = [
    case((2, 8, 9, 10), (6, 8, 3, 3), bias=True, residual=True, padding=1),
    case((1, 16, 13, 12), (10, 8, 3, 3), groups=2, padding=((1, 0), (-1, 2)), bias=True),
    case((2, 9, 10, 8), (5, 8, 3, 3), layout="NHWC", residual=True),
    case((1, 8, 11, 13), (7, 8, 5, 5), stride=2, padding=2, padding_mode="reflect"),
    case((8, 6, 7), (4, 8, 3, 3)),
    case((0, 8, 6, 7), (4, 8, 3, 3), bias=True),
]


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("problem", GRID, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_conforms(name, problem, dtype):
    arrays = operands(problem, dtype)
    direct = find_algorithm("cpu", name).sums_directly
    for _ in range(2):
        result = nc.conv2d(**arrays, **problem.options, algorithm=name)
        assert result.dtype == dtype
        assert_conforms(result, arrays, problem.options, sums_directly=direct)
    weight, bias = arrays.pop("weight"), arrays.pop("bias", None)
    op = nc.Conv2d(weight, bias, **problem.options, algorithm=name)
    weight[...] = 0
    for _ in range(2):
        np.testing.assert_array_equal(op(**arrays), result)


@pytest.mark.parametrize("memory", MEMORY)
@pytest.mark.parametrize("name", NAMES)
def test_arrays_and_results_in_any_order(name, memory):
    x, w = random_array((2, 8, 9, 10), "complex64"), random_array((6, 8, 3, 3), "complex64")
    expected = nc.conv2d(x, w, padding=1, algorithm=name)
    frame = np.full((2, 6, 9, 20), 7, "complex64")
    for _ in range(2):
        given, out = (MEMORY[memory](x), MEMORY[memory](w)), frame[..., ::-2]
        np.testing.assert_allclose(nc.conv2d(*given, padding=1, algorithm=name), expected, rtol=1e-4, atol=1e-4)
        assert nc.conv2d(*given, padding=1, algorithm=name, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-4)
        assert (frame[..., ::2] == 7).all()


def test_out_may_be_an_operand():
    x, w = random_array((2, 8, 9, 10), "complex64"), random_array((8, 8, 3, 3), "complex64")
    expected = nc.conv2d(x, w, padding=1, residual=x, algorithm="direct_4m")
    assert nc.conv2d(x, w, padding=1, residual=x, algorithm="direct_4m", out=x) is x
    np.testing.assert_array_equal(x, expected)


def test_addends_of_other_dtypes():
    x, w = random_array((1, 8, 6, 7), "complex128"), random_array((4, 8, 3, 3), "complex128")
    b, r = random_array((4,), "float32"), random_array((1, 4, 4, 5), "complex64")
    result = nc.conv2d(x, w, b, residual=r, algorithm="direct_4m")
    np.testing.assert_allclose(result, nc.conv2d(x, w, b, residual=r, backend="reference"), rtol=1e-12)


def test_what_is_not_finite_stays_where_it_belongs():
    x, w = random_array((1, 8, 9, 9), "complex64"), random_array((2, 8, 3, 3), "complex64")
    x[0, 3, 4, 4] = np.nan
    for name in ("direct_4m", "accurate"):
        strange = np.isnan(nc.conv2d(x, w, algorithm=name))
        assert strange[:, :, 2:5, 2:5].all()
        assert strange.sum() == 2 * 9


def test_transposed_convolutions_and_gradients():
    x, w = random_array((1, 8, 6, 7), "complex128"), random_array((8, 5, 4, 4), "complex128")
    for function, arguments in [(nc.conv_transpose2d, (x, w, None, 2)), (nc.grad.conv2d_input, ((1, 5, 9, 10), w, x))]:
        with nc.use_backend("reference"):
            expected = function(*arguments)
        np.testing.assert_allclose(function(*arguments, algorithm="direct_4m"), expected, rtol=1e-10)


def test_it_is_chosen_where_there_are_many_channels():
    x, w = np.zeros((1, 64, 28, 28), "complex64"), np.zeros((64, 64, 3, 3), "complex64")
    assert nc.explain("conv2d", x, w, padding=1).algorithm == "winograd4_4m"
    assert nc.explain("conv2d", x, w, padding=1, algorithm="accurate").algorithm == "direct_4m"
    assert nc.explain("conv2d", x[:, :2, :5, :5], w[:2, :2]).algorithm == "rows"


@pytest.mark.parametrize(
    ("dtypes", "options", "words"),
    [
        (("float32", "complex64"), {}, "not float32 times complex64"),
        (("complex64", "complex128"), {}, "complex64 times complex128 -> complex128 converts"),
        (("complex64", "complex64"), {"out_dtype": "complex128"}, "-> complex128 converts"),
        (("complex64", "complex64"), {"dilation": 2}, "dilations"),
    ],
)
def test_what_it_does_not_take(dtypes, options, words):
    arrays = {"input": np.zeros((1, 8, 9, 9), dtypes[0]), "weight": np.zeros((4, 8, 3, 3), dtypes[1])}
    assert words in why_not(arrays, {**options, "backend": "cpu", "algorithm": "winograd4_4m"})
