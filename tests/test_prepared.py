"""``Conv2d``: bit for bit ``conv2d``, for any data, whatever becomes of the arrays that it was made of."""

import numpy as np
import pytest
from helpers import case, conv2d, operands, random_array
from hypothesis import given, settings
from strategies import MEMORY, convolutions

import numbaconv as nc


def prepare(arrays, **options):
    """The prepared form of a call, and the arguments that remain for it."""
    op = nc.Conv2d(arrays["weight"], arrays.get("bias"), **options)
    return op, {name: a for name, a in arrays.items() if name in ("input", "residual")}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "problem",
    [
        case((2, 3, 8, 9), (4, 3, 3, 3)),
        case((3, 8, 9), (4, 3, 3, 3), bias=True, padding="same", stride=2),
        case((2, 6, 12, 11), (9, 2, 3, 2), bias=True, groups=3, dilation=(2, 1), stride=(1, 2), padding=((0, 2), (-1, 3))),
        case((1, 5, 8, 9), (10, 1, 3, 3), groups=5, padding=7, padding_mode="reflect", residual=True),
        case((2, 8, 9, 3), (4, 3, 3, 3), layout="NHWC", padding="same_lower", padding_mode="circular", bias=True, residual=True),
        case((1, 32, 16, 16), (48, 32, 3, 3), padding=1, bias=True),
        case((1, 3, 8, 9), (4, 3, 3, 3), algorithm="reference"),
        case((1, 3, 8, 9), (4, 3, 3, 3), algorithm="accurate", padding=[1, 2]),
        case((1, 3, 8, 9), (4, 3, 3, 3), backend="reference", padding_mode="replicate", padding=2),
        case((0, 3, 8, 9), (4, 3, 3, 3)),
    ],
    ids=str,
)
def test_equals_the_function_bit_for_bit(problem, dtype):
    arrays = operands(problem, dtype)
    op, late = prepare(arrays, **problem.options)
    expected = conv2d(arrays, **problem.options)
    for _ in range(2):
        result = op(**late)
        np.testing.assert_array_equal(result, expected)
        assert result.dtype == expected.dtype
        assert result.strides == expected.strides


@given(convolutions())
@settings(max_examples=100)
def test_equals_the_function_on_random_problems(problem):
    """By one algorithm: a function, which packs each time, may choose another."""
    arrays, options = operands(problem, np.float32), {**problem.options, "algorithm": "direct"}
    op, late = prepare(arrays, **options)
    np.testing.assert_array_equal(op(**late), conv2d(arrays, **options))


def test_arguments_are_in_the_functions_order():
    x, w, b = random_array((1, 4, 9, 9), np.float32), random_array((4, 2, 3, 3), np.float32), random_array((4,), np.float32)
    np.testing.assert_array_equal(nc.Conv2d(w, b, 2, 3, 2, 2)(x), nc.conv2d(x, w, b, 2, 3, 2, 2))


def test_one_operator_takes_any_batch_size_dtype_and_memory():
    w, b = random_array((4, 3, 3, 3), np.float32), random_array((4,), np.float32)
    options = {"padding": "same", "stride": 2, "algorithm": "direct"}  # a function that packs each time may choose another
    op = nc.Conv2d(w, b, **options)
    for shape in [(2, 3, 8, 9), (3, 8, 9), (1, 3, 1, 1), (5, 3, 30, 2), (0, 3, 4, 4), (1, 3, 40, 60), (2, 3, 8, 9)]:
        for dtype in (np.float32, np.float64):
            x = random_array(shape, dtype)
            np.testing.assert_array_equal(op(x), nc.conv2d(x, w, b, **options))
    x = random_array((2, 8, 9, 3), np.float32).transpose(0, 3, 1, 2)
    result = op(x)
    np.testing.assert_array_equal(result, nc.conv2d(x, w, b, **options))
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    x = random_array((2, 3, 8, 9), np.int8)
    assert op(x).dtype == nc.conv2d(x, w, b).dtype == np.float32
    np.testing.assert_array_equal(op(x), nc.conv2d(x, w, b, **options))


def test_integers():
    x, w = random_array((1, 3, 6, 6), np.uint8), random_array((2, 3, 3, 3), np.int8)
    result = nc.Conv2d(w)(x)
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, nc.conv2d(x, w))


def test_changing_the_arrays_afterwards_changes_nothing():
    x, w, b = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32), random_array((4,), np.float32)
    expected = nc.conv2d(x, w, b), nc.conv2d(x, w, b, backend="reference")
    op, by_reference, used = nc.Conv2d(w, b), nc.Conv2d(w, b, backend="reference"), nc.Conv2d(w, b)
    used(x)
    w[...], b[...] = np.nan, np.nan
    for operator in (op, used):
        np.testing.assert_array_equal(operator(x), expected[0])
    np.testing.assert_array_equal(by_reference(x), expected[1])


def test_changing_a_view_of_a_broadcast_weight_changes_nothing():
    kernel = random_array((1, 3, 3, 3), np.float32)
    op = nc.Conv2d(np.broadcast_to(kernel, (4, 3, 3, 3)))
    x = random_array((1, 3, 8, 9), np.float32)
    expected = op(x)
    kernel[...] = 0
    np.testing.assert_array_equal(op(x), expected)


def test_changing_a_list_of_options_afterwards_changes_nothing():
    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32)
    for name, value in [("stride", [1, 2]), ("padding", [[1, 2], [0, 1]]), ("dilation", np.array([2, 1]))]:
        expected = nc.conv2d(x, w, **{name: value})
        op = nc.Conv2d(w, **{name: value})
        value[1] = value[0]
        np.testing.assert_array_equal(op(x), expected)


@pytest.mark.parametrize("memory", [np.asfortranarray, lambda a: a.astype(">f4"), np.ndarray.tolist, MEMORY["reversed"]])
def test_weights_in_any_memory(memory):
    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32)
    np.testing.assert_allclose(nc.Conv2d(memory(w))(x), nc.conv2d(x, w), rtol=1e-5, atol=1e-5)


def test_out_is_what_is_returned():
    arrays = operands(case((2, 3, 7, 8), (4, 3, 3, 3), bias=True, residual=True), np.float32)
    op, late = prepare(arrays)
    out = np.empty((2, 4, 5, 12), np.float32)[..., ::2]
    assert op(**late, out=out) is out
    np.testing.assert_array_equal(out, conv2d(arrays))
    wide = np.empty((2, 4, 5, 6))
    assert op(**late, out=wide) is wide
    np.testing.assert_array_equal(wide, conv2d(arrays, out=np.empty_like(wide)))


def test_out_that_is_the_input():
    x, w = random_array((1, 3, 8, 9), np.float32), random_array((3, 3, 3, 3), np.float32)
    expected = nc.conv2d(x, w, padding=1)
    assert nc.Conv2d(w, padding=1)(x, out=x) is x
    np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("stride", {"stride": 0}),
        ("dilation", {"dilation": (1, -1)}),
        ("padding", {"padding": "full"}),
        ("padding", {"padding": ((1, 2),)}),
        ("groups", {"groups": 3}),
        ("groups", {"groups": 0}),
        ("padding_mode", {"padding_mode": "mirror"}),
        ("layout", {"layout": "CHWN"}),
        ("algorithm", {"algorithm": "fastest"}),
        ("backend", {"backend": "tpu"}),
        ("precision", {"precision": "tf32"}),
        ("precision", {"precision": "half"}),
        ("bias", {"bias": np.ones(3)}),
        ("bias", {"bias": np.ones((4, 1))}),
        ("weight", {"weight": np.ones((3, 3))}),
        ("weight", {"weight": np.ones((4, 3, 0, 3))}),
    ],
)
def test_what_does_not_depend_on_the_data_is_refused_at_once(argument, options):
    with pytest.raises(ValueError, match=rf"^{argument}: expected .+, got "):
        nc.Conv2d(**{"weight": np.ones((4, 3, 3, 3)), **options})


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("stride", {"stride": 1.5}),
        ("groups", {"groups": None}),
        ("algorithm", {"algorithm": 3}),
        ("backend", {"backend": 3}),
        ("out_dtype", {"out_dtype": "int32"}),
        ("out_dtype", {"out_dtype": "longdouble"}),
        ("weight", {"weight": None}),
        ("weight", {"weight": np.ones((4, 3, 3, 3), "U1")}),
        ("bias", {"bias": np.array([None] * 4)}),
    ],
)
def test_wrong_types_are_refused_at_once(argument, options):
    with pytest.raises(TypeError, match=rf"^{argument}: expected .+, got "):
        nc.Conv2d(**{"weight": np.ones((4, 3, 3, 3), np.float32), **options})


@pytest.mark.parametrize(
    "options",
    [{"padding": -1}, {"padding": "same", "stride": 3}, {"padding_mode": "reflect", "padding": 9}, {"dilation": 1000}],
    ids=str,
)
def test_options_that_suit_some_data_are_not_refused(options):
    assert nc.Conv2d(np.ones((4, 3, 3, 3)), **options) is not None


def test_an_operator_without_output_channels():
    assert nc.Conv2d(np.ones((0, 3, 3, 3)))(np.ones((2, 3, 5, 5))).shape == (2, 0, 3, 3)


def test_repr_names_what_was_asked_for():
    plain = repr(nc.Conv2d(np.ones((4, 3, 5, 7), np.float32)))
    assert plain.startswith("Conv2d(")
    assert "5x7, float32" in plain
    assert "=" not in plain
    text = repr(nc.Conv2d(np.ones((4, 1, 3, 3)), stride=2, padding="same", groups=4, padding_mode="circular", layout="NHWC"))
    for part in ("Conv2d(", "float64", "stride=2", "padding='same'", "groups=4", "padding_mode='circular'", "layout='NHWC'"):
        assert part in text


def test_repr_takes_options_of_every_kind():
    assert "padding=" in repr(nc.Conv2d(np.ones((4, 1, 3, 3)), padding=np.array([1, 2])))
    assert "stride=" in repr(nc.Conv2d(np.ones((4, 1, 3, 3)), stride=[1, 2]))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_use_backend_counts_when_the_operator_is_called(backend):
    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32)
    op = nc.Conv2d(w)
    with nc.use_backend(backend):
        np.testing.assert_array_equal(op(x), nc.conv2d(x, w, backend=backend))
        assert nc.explain(op, x).backend == backend


def test_explain_takes_arrays_and_shapes():
    op = nc.Conv2d(random_array((4, 3, 3, 3), np.float64), padding=1)
    x = random_array((2, 3, 8, 9), np.float64)
    by_array, by_shape = nc.explain(op, x), nc.explain(op, x.shape)
    assert str(by_array) == str(by_shape)
    functional = nc.explain("conv2d", x, (4, 3, 3, 3), padding=1, dtype=np.float64)
    for ours, theirs in zip(by_array.rows, functional.rows, strict=True):
        assert (ours.backend, ours.algorithm) == (theirs.backend, theirs.algorithm)
        assert (ours.cost is None) == (theirs.cost is None)
        assert ours.cost is None or ours.cost <= theirs.cost  # which has to pack the weight
    assert "2x3x8x9 -> 2x4x8x9" in str(op.explain(x))


def test_one_operator_serves_every_size():
    """The packed form may depend on the data's size: each has to find its own."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((28, 16, 3, 3), np.float32)  # of which 28 and 14 are both divisors
    op = nc.Conv2d(weight, padding=1)
    for size in [(3, 3), (7, 7), (14, 14), (28, 31), (56, 56), (5, 300), (7, 7)]:
        x = rng.standard_normal((2, 16, *size), np.float32)
        algorithm = op.explain(x).algorithm
        np.testing.assert_array_equal(op(x), nc.conv2d(x, weight, padding=1, algorithm=algorithm))
