"""``conv1d`` and ``conv3d``, functions and prepared: all that ``conv2d`` promises, with another number of axes."""

import numpy as np
import pytest
import torch
from family import (
    CONV,
    LAYOUTS,
    PREPARED,
    TORCH_CONV,
    Call,
    assert_close,
    by_every_algorithm,
    convolutions,
    correlate,
    expected,
    make,
    tolerance,
    torch_forward,
)  # fmt: skip
from helpers import random_array
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MEMORY, MODES, memory_orders

import numbaconv as nc

DIMENSIONS = pytest.mark.parametrize("ndim", [1, 3])
X, W, B = {1: (2, 6, 9), 3: (2, 6, 5, 7, 6)}, {1: (4, 3, 3), 3: (4, 3, 2, 3, 3)}, (4,)


def arrays_of(ndim, dtype=np.float32):
    """Data, weight and bias for two groups."""
    return random_array(X[ndim], dtype), random_array(W[ndim], dtype, 1), random_array(B, dtype, 2)


def in_memory(arrays, orders):
    """The same arrays, laid out differently."""
    return {name: order(a) if name != "bias" else a for (name, a), order in zip(arrays.items(), orders, strict=False)}


@DIMENSIONS
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(max_examples=70)
def test_random_problems_as_pytorch_computes_them(ndim, dtype, data):
    call = data.draw(convolutions(ndim))
    arrays = make(call, dtype)
    laid_out = in_memory(arrays, data.draw(st.lists(memory_orders(), min_size=4, max_size=4)))
    exact = expected(torch_forward, call, {name: a.astype(np.float64) for name, a in arrays.items()})
    allowed = tolerance(torch_forward, call, arrays, dtype)
    for result, spread in by_every_algorithm(CONV[ndim], **laid_out, **call.options):
        assert result.dtype == dtype
        assert_close(result, exact, spread(allowed))


@DIMENSIONS
@given(data=st.data())
@settings(max_examples=40)
def test_prepared_forms_equal_the_functions_bit_for_bit(ndim, data):
    """By one algorithm: a function, which packs each time, may choose another."""
    call = data.draw(convolutions(ndim))
    call.options["algorithm"] = "direct"
    arrays = make(call, np.float32)
    arrays["input"] = data.draw(memory_orders())(arrays["input"])
    function = CONV[ndim](**arrays, **call.options)
    late = {name: arrays.pop(name) for name in ("input", "residual") if name in arrays}
    op = PREPARED[ndim](**arrays, **call.options)
    for _ in range(2):
        result = op(**late)
        np.testing.assert_array_equal(result, function)
        assert (result.dtype, result.strides) == (function.dtype, function.strides)


@DIMENSIONS
def test_arguments_are_in_pytorchs_order(ndim):
    x, w, b = arrays_of(ndim, np.float64)
    pytorch = TORCH_CONV[ndim](*map(torch.from_numpy, (x, w, b)), 2, 3, 2, 2).numpy()
    np.testing.assert_allclose(CONV[ndim](x, w, b, 2, 3, 2, 2), pytorch, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(PREPARED[ndim](w, b, 2, 3, 2, 2)(x), pytorch, rtol=1e-12, atol=1e-12)


def test_small_cases_by_hand():
    np.testing.assert_array_equal(nc.conv1d([[1.0, 2, 4, 8]], [[[1.0, -1]]]), [[-1, -2, -4]])
    np.testing.assert_array_equal(nc.conv1d([[1.0, 2, 4, 8]], [[[1.0, 10]]], [100.0], 2), [[121, 184]])
    cube = np.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(nc.conv3d(cube, cube[None]), [[[[140]]]])


# ---------------------------------------------------------------- padding


@pytest.mark.parametrize("function", [CONV[1], nc.conv_transpose1d], ids=["conv1d", "conv_transpose1d"])
@pytest.mark.parametrize("lone", [(1, 2), [1, 2], (0, 0), np.array([1, 2])], ids=str)
def test_a_lone_pair_in_one_dimension_is_refused(function, lone):
    x, w = np.ones((1, 1, 9)), np.ones((1, 1, 3))
    with pytest.raises(ValueError, match=r"^padding: expected .*\(low, high\).*, got "):
        function(x, w, padding=lone)


def test_a_lone_pair_is_refused_by_prepared_forms_and_gradients():
    x, w = np.ones((1, 1, 9)), np.ones((1, 1, 3))
    for call in (
        lambda: nc.Conv1d(w, padding=(1, 2)),
        lambda: nc.ConvTranspose1d(w, padding=(1, 2)),
        lambda: nc.grad.conv1d_input(x.shape, w, x, padding=(1, 2)),
        lambda: nc.grad.conv1d_weight(x, w.shape, x, padding=(1, 2)),
    ):
        with pytest.raises(ValueError, match=r"^padding: expected .+, got "):
            call()


@pytest.mark.parametrize("pair", [((1, 2),), [(1, 2)], [[1, 2]], np.array([[1, 2]])], ids=repr)
def test_a_pair_in_one_dimension(pair):
    x, w, b = arrays_of(1, np.float64)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2)))
    np.testing.assert_array_equal(nc.conv1d(x, w, b, 1, pair, groups=2), nc.conv1d(padded, w, b, groups=2))


def test_one_int_in_a_tuple_is_for_every_axis():
    for ndim in (1, 3):
        x, w, b = arrays_of(ndim)
        np.testing.assert_array_equal(CONV[ndim](x, w, b, padding=(2,), groups=2), CONV[ndim](x, w, b, padding=2, groups=2))


@pytest.mark.parametrize(
    "padding", [(1, 2), ((1, 2), (0, 1)), ((1, 2),), (1, 2, 3, 4), ((1, 2, 3),) * 3, (1, (0, 1), 2)], ids=str
)
def test_wrong_forms_of_padding_in_three_dimensions(padding):
    with pytest.raises((ValueError, TypeError), match=r"^padding: expected .+, got "):
        nc.conv3d(np.ones((1, 1, 5, 5, 5)), np.ones((1, 1, 2, 2, 2)), padding=padding)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("ndim", "pads"),
    [
        (1, [(2, 1)]), (1, [(25, 40)]), (1, [(-2, 3)]), (1, [(0, -1)]),
        (3, [(1, 0), (0, 2), (3, 3)]), (3, [(-1, 2), (9, 0), (0, -2)]),
    ],
    ids=str,
)  # fmt: skip
def test_padding_modes(ndim, pads, mode):
    x, w, b = arrays_of(ndim, np.float64)
    result = CONV[ndim](x, w, b, 1, pads, groups=2, padding_mode=mode)
    exact = correlate(x, w, 1, pads, 1, 2, mode) + b.reshape(-1, *(1,) * ndim)
    np.testing.assert_allclose(result, exact, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- shapes, memory, dtypes


@DIMENSIONS
def test_layouts(ndim):
    x, w, b = arrays_of(ndim)
    first, last = LAYOUTS[ndim]
    options = {"stride": 2, "padding": "same", "groups": 2}
    plain = CONV[ndim](x, w, b, **options)
    np.testing.assert_array_equal(CONV[ndim](x, w, b, layout=first, **options), plain)
    for order in (np.ascontiguousarray, lambda a: a):
        result = CONV[ndim](order(np.moveaxis(x, 1, -1)), w, b, layout=last, **options)
        np.testing.assert_allclose(np.moveaxis(result, -1, 1), plain, rtol=1e-5, atol=1e-5)
    single = CONV[ndim](np.moveaxis(x, 1, -1)[0], w, b, layout=last, **options)
    np.testing.assert_allclose(np.moveaxis(single, -1, 0), plain[0], rtol=1e-5, atol=1e-5)


@DIMENSIONS
def test_the_result_is_in_the_memory_order_of_the_input(ndim):
    x, w, _ = arrays_of(ndim)
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    assert CONV[ndim](x, w, groups=2).flags.c_contiguous
    assert np.moveaxis(CONV[ndim](last, w, groups=2), 1, -1).flags.c_contiguous
    assert np.moveaxis(CONV[ndim](last[0], w, groups=2), 0, -1).flags.c_contiguous
    assert CONV[ndim](np.moveaxis(last, 1, -1), w, groups=2, layout=LAYOUTS[ndim][1]).flags.c_contiguous


@DIMENSIONS
@pytest.mark.parametrize("order", MEMORY)
def test_any_memory(ndim, order):
    """With the same bits, by one algorithm: another order in memory may be faster by another."""
    x, w, b = arrays_of(ndim)
    plain = CONV[ndim](x, w, b, groups=2, algorithm="direct")
    for moved in ((MEMORY[order](x), w), (x, MEMORY[order](w))):
        np.testing.assert_array_equal(CONV[ndim](*moved, b, groups=2, algorithm="direct"), plain)


@DIMENSIONS
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_out_is_what_is_returned(ndim, dtype):
    x, w, b = arrays_of(ndim)
    plain = CONV[ndim](x, w, b, groups=2)
    frame = np.full((*plain.shape[:-1], 2 * plain.shape[-1]), 7, dtype)
    out = frame[..., ::2]
    assert CONV[ndim](x, w, b, groups=2, out=out) is out
    np.testing.assert_array_equal(out, plain)
    assert (frame[..., 1::2] == 7).all()


@DIMENSIONS
@pytest.mark.parametrize(("batch", "ins", "outs"), [((0,), 3, 4), ((2,), 0, 4), ((), 0, 4), ((2,), 3, 0), ((0,), 0, 0)])
def test_dimensions_of_zero(ndim, batch, ins, outs):
    b = np.arange(float(outs))
    result = CONV[ndim](np.ones((*batch, ins, *(5,) * ndim)), np.ones((outs, ins, *(2,) * ndim)), b)
    assert result.shape == (*batch, outs, *(4,) * ndim)
    np.testing.assert_array_equal(result - ins * 2**ndim, np.broadcast_to(b.reshape(-1, *(1,) * ndim), result.shape))


# ---------------------------------------------------------------- errors


def axes(ndim):
    return (1,) * ndim


@DIMENSIONS
@pytest.mark.parametrize(
    ("argument", "change"),
    [
        ("input", lambda n: {"input": np.ones((4,) * (n + 3))}),
        ("input", lambda n: {"input": np.ones((4,) * n)}),
        ("input", lambda n: {"input": np.ones((1, 2, *axes(n)))}),  # smaller than the kernel
        ("weight", lambda n: {"weight": np.ones((2, 2, *axes(n), 1))}),
        ("weight", lambda n: {"weight": np.ones((2, 3, *axes(n)))}),
        ("weight", lambda n: {"weight": np.ones((2, 2, *axes(n - 1), 0))}),
        ("bias", lambda n: {"bias": np.ones(3)}),
        ("residual", lambda n: {"residual": np.ones((1, 2, *axes(n)))}),
        ("out", lambda n: {"out": np.ones((1, 2, *axes(n)))}),
        ("stride", lambda n: {"stride": (1,) * (n + 1)}),
        ("stride", lambda n: {"stride": 0}),
        ("dilation", lambda n: {"dilation": (1,) * (n + 1)}),
        ("groups", lambda n: {"groups": 3}),
        ("layout", lambda n: {"layout": "NHWC"}),
        ("padding_mode", lambda n: {"padding_mode": "mirror"}),
        ("algorithm", lambda n: {"algorithm": "fastest"}),
        ("precision", lambda n: {"precision": "tf32"}),
        ("precision", lambda n: {"precision": "half"}),
    ],
)
def test_errors_name_the_argument(ndim, argument, change):
    call = {"input": np.ones((1, 2, *(5,) * ndim)), "weight": np.ones((2, 2, *(3,) * ndim)), **change(ndim)}
    with pytest.raises(ValueError, match=f"^{argument}: expected .+, got "):
        CONV[ndim](**call)


@pytest.mark.parametrize("function", [*CONV.values(), nc.conv_transpose1d, nc.conv_transpose2d, nc.conv_transpose3d])
def test_algorithm_and_precision_are_honoured_or_refused_with_the_choices(function):
    ndim = int(function.__name__[-2])
    x, w = random_array((1, 2, *(5,) * ndim), np.float32), random_array((2, 2, *(3,) * ndim), np.float32)
    with pytest.raises(ValueError, match=r"^precision: expected .*'ieee'.*, got 'tf32'$"):
        function(x, w, precision="tf32")
    with pytest.raises(ValueError, match=r"^algorithm: expected .*'auto', 'accurate'.*, got 'fastest'$"):
        function(x, w, algorithm="fastest")
    plain = function(x, w)
    for name in ("accurate", "reference"):
        np.testing.assert_allclose(function(x, w, algorithm=name, precision="ieee"), plain, rtol=1e-5, atol=1e-5)
        assert nc.explain(function.__name__, x, w, algorithm=name).algorithm.count("reference") == (name == "reference")


def test_calls_that_mean_the_same_have_one_result():
    """conv1d is conv2d with a unit axis, and conv2d is conv3d with one."""
    call = Call(1, X[1], W[1], {}, 4)
    x, w, b = make(call, np.float64).values()
    line = nc.conv1d(x, w, b, 2, "same", 2, 2)
    image = nc.conv2d(x[:, :, None], w[:, :, None], b, (1, 2), "same", 2, 2)
    volume = nc.conv3d(x[:, :, None, None], w[:, :, None, None], b, (1, 1, 2), "same", 2, 2)
    np.testing.assert_allclose(image[:, :, 0], line, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(volume[:, :, 0, 0], line, rtol=1e-12, atol=1e-12)
