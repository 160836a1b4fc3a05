"""``numbaconv.grad``: PyTorch's autograd, and exactly the adjoints of the convolution."""

import itertools

import numpy as np
import pytest
import torch
from family import (
    CONV,
    GRAD_INPUT,
    GRAD_WEIGHT,
    Call,
    assert_close,
    convolutions,
    correlate,
    make,
    output_size,
    pads_in_full,
    spread,
    torch_forward,
    weight_gradient,
)  # fmt: skip
from helpers import random_array
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import MEMORY, memory_orders

import numbaconv as nc

NDIM = pytest.mark.parametrize("ndim", [1, 2, 3])
GEOMETRY = ("stride", "padding", "dilation", "groups")
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}
SIZES = {1: (10,), 2: (8, 7), 3: (6, 7, 6)}


def autograd(x, w, g, options):
    """Both gradients by PyTorch."""
    x, w = (torch.from_numpy(np.array(a)).requires_grad_() for a in (x, w))
    y = torch_forward(x, w, **options)
    y.backward(torch.from_numpy(np.array(g)))
    return x.grad.numpy(), w.grad.numpy()


def result_like(call, dtype):
    """A gradient with respect to the call's result."""
    geometry = {name: value for name, value in call.options.items() if name != "groups"}
    out = output_size(call.input[-call.ndim :], call.weight[2:], **geometry)
    return random_array((*call.input[: -call.ndim - 1], call.weight[0], *out), dtype, 7)


def gradients(call, x, w, g):
    """Both gradients by this library, by sums of the products themselves, of which an element's error has a bound of its own."""
    options = {**call.options, "algorithm": "accurate"}
    return GRAD_INPUT[call.ndim](x.shape, w, g, **options), GRAD_WEIGHT[call.ndim](x, w.shape, g, **options)


def check(call, dtype, order=lambda a: a, backend="cpu"):
    """Hold both gradients of a call against PyTorch's in double precision.

    An element of the gradient sums one product for each output channel and tap, or for each image and output position; the bound
    is that of :func:`family.tolerance`.
    """
    dtype = np.dtype(dtype)
    x, w = make(call, dtype).values()
    g = result_like(call, dtype)
    wide = np.complex128 if dtype.kind == "c" else np.float64
    exact = autograd(*(a.astype(wide) for a in (x, w, g)), call.options)
    magnitude = autograd(*(abs(a).astype(np.float64) for a in (x, w, g)), call.options)
    terms = w[:, 0].size // call.options.get("groups", 1), g.size // w.shape[0] + 1
    x, w, g = order(x), order(w), order(g)
    with nc.use_backend(backend):
        results = gradients(call, x, w, g)
    for result, a, m, size in zip(results, exact, magnitude, terms, strict=True):
        assert result.dtype == dtype
        assert_close(result, a, (4 if dtype.kind == "c" else 1) * (size + 1) * np.finfo(dtype).eps * m)


@NDIM
@pytest.mark.parametrize(("dtype", "backend"), [(np.float64, "cpu"), (np.float32, "cpu"), (np.float64, "reference")])
@given(data=st.data())
@settings(max_examples=50)
def test_random_problems_as_autograd(ndim, dtype, backend, data):
    """The reference, which goes by the plan alone, would see what a plan gets wrong and a kernel does not mind."""
    check(data.draw(convolutions(ndim, plain=True)), dtype, data.draw(memory_orders()), backend)


OPTIONS = [
    {},
    {"stride": 2},
    {"stride": 3, "padding": 1},  # a remainder: the last elements of the data are read by nothing
    {"stride": 4, "dilation": 2},
    {"padding": 5},  # more than the kernel
    {"padding": "same"},
    {"padding": "same", "stride": 2, "dilation": 2},
    {"padding": "same_lower", "stride": 3},
    {"padding": "valid", "dilation": 2},
    {"groups": 2, "stride": 2, "padding": 1},
    {"groups": 4},
    {"padding": -1},
    {"padding": -2, "stride": 2},
    {"stride": 50},
    {"dilation": 2, "stride": 2},
]


@NDIM
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_both_gradients_as_autograd(ndim, options):
    groups = options.get("groups", 1)
    check(Call(ndim, (2, 4, *SIZES[ndim]), (4, 4 // groups, *KERNELS[ndim]), options), np.float64)


@pytest.mark.parametrize("padding", [((1, 0), (0, 3)), ((4, 4), (-1, 2)), ((-2, -1), (5, 0))], ids=str)
@pytest.mark.parametrize("stride", [1, 2, (3, 1)])
def test_pairs_of_padding(padding, stride):
    check(Call(2, (2, 3, 8, 7), (4, 3, 3, 2), {"padding": padding, "stride": stride}), np.float64)


def test_a_pair_in_one_dimension():
    check(Call(1, (2, 3, 8), (4, 3, 3), {"padding": ((1, 4),), "stride": 2}), np.float64)


@NDIM
def test_unbatched_input(ndim):
    for options in OPTIONS[:4]:
        check(Call(ndim, (4, *SIZES[ndim]), (4, 4, *KERNELS[ndim]), options), np.float64)


@NDIM
def test_complex_operands_are_conjugated_as_autograd_does(ndim):
    for options in OPTIONS[:4]:
        check(Call(ndim, (1, 2, *SIZES[ndim]), (3, 2, *KERNELS[ndim]), options), np.complex128)


def test_which_operand_is_conjugated():
    x, w, g = np.full((1, 1, 1), 1j), np.full((1, 1, 1), 2j), np.full((1, 1, 1), 5 + 0j)
    assert nc.grad.conv1d_input(x.shape, w, g).item() == -10j
    assert nc.grad.conv1d_weight(x, w.shape, g).item() == -5j
    real = np.full((1, 1, 1), 3.0)
    assert nc.grad.conv1d_input(x.shape, real, g).item() == 15
    with nc.use_backend("reference"):  # which spares a compilation
        assert nc.grad.conv1d_input(x.shape, w, real).item() == -6j


@NDIM
def test_arguments_are_in_pytorchs_order(ndim):
    call = Call(ndim, (2, 4, *SIZES[ndim]), (4, 2, *KERNELS[ndim]), dict(zip(GEOMETRY, (2, 3, 2, 2), strict=True)))
    x, w = make(call, np.float64).values()
    g = result_like(call, np.float64)
    pytorch = torch.nn.grad
    functions = getattr(pytorch, f"conv{ndim}d_input"), getattr(pytorch, f"conv{ndim}d_weight")
    tensors = [torch.from_numpy(a) for a in (x, w, g)]
    by_input = functions[0](x.shape, tensors[1], tensors[2], 2, 3, 2, 2).numpy()
    by_weight = functions[1](tensors[0], w.shape, tensors[2], 2, 3, 2, 2).numpy()
    np.testing.assert_allclose(GRAD_INPUT[ndim](x.shape, w, g, 2, 3, 2, 2), by_input, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(GRAD_WEIGHT[ndim](x, w.shape, g, 2, 3, 2, 2), by_weight, rtol=1e-11, atol=1e-11)


# ---------------------------------------------------------------- exactly


@NDIM
@given(data=st.data())
@settings(max_examples=50)
def test_adjoint_identities_hold_exactly_in_integers(ndim, data):
    """<conv(x, w), g> == <x, grad_x> == <w, grad_w>: integers wrap alike on all sides, whatever the order of the sums."""
    call = data.draw(convolutions(ndim, plain=True))
    x, w = make(call, np.int64).values()
    y = CONV[ndim](x, w, **call.options)
    g = random_array(y.shape, np.int64, 5)
    by_input, by_weight = gradients(call, x, w, g)
    assert (y * g).sum() == (x * by_input).sum() == (w * by_weight).sum()


@NDIM
@given(data=st.data())
@settings(max_examples=40)
def test_integer_gradients_are_exact(ndim, data):
    call = data.draw(convolutions(ndim, plain=True))
    assume(len(call.input) == ndim + 2)
    x, w = make(call, np.int64).values()
    g = result_like(call, np.int64)
    by_input, by_weight = gradients(call, x, w, g)
    np.testing.assert_array_equal(by_input, spread(g, w, x.shape[2:], **call.options))
    np.testing.assert_array_equal(by_weight, weight_gradient(x, w.shape[2:], g, **call.options))


def test_finite_differences():
    """A convolution is linear in each operand: a step in one element changes the result by that column of its matrix."""
    call = Call(2, (1, 2, 5, 4), (2, 1, 3, 2), {"stride": (2, 1), "padding": ((1, 0), (0, 2)), "dilation": (1, 2), "groups": 2})
    x, w = make(call, np.float64).values()
    g = result_like(call, np.float64)
    by_input, by_weight = gradients(call, x, w, g)
    before = (nc.conv2d(x, w, **call.options) * g).sum()
    for array, gradient in ((x, by_input), (w, by_weight)):
        for at in np.ndindex(array.shape):
            kept, array[at] = array[at], array[at] + 1
            np.testing.assert_allclose((nc.conv2d(x, w, **call.options) * g).sum() - before, gradient[at], rtol=1e-9, atol=1e-12)
            array[at] = kept


def test_the_gradient_of_the_bias_is_the_sum_that_is_documented():
    x, w, b = (torch.randn(shape, dtype=torch.float64) for shape in ((2, 3, 6, 5), (4, 3, 3, 2), (4,)))
    b.requires_grad_()
    y = torch.nn.functional.conv2d(x, w, b, stride=2)
    g = torch.randn(y.shape, dtype=torch.float64)
    y.backward(g)
    assert "grad_output.sum(axis=(0, 2, 3))" in nc.grad.__doc__
    np.testing.assert_allclose(g.numpy().sum(axis=(0, 2, 3)), b.grad.numpy(), rtol=1e-12)


# ---------------------------------------------------------------- shapes, dtypes, memory


@NDIM
def test_dimensions_of_zero(ndim):
    for batch, ins, outs in [(0, 3, 4), (2, 0, 4), (2, 3, 0)]:
        call = Call(ndim, (batch, ins, *SIZES[ndim]), (outs, ins, *KERNELS[ndim]), {"stride": 2})
        x, w = np.ones(call.input), np.ones(call.weight)
        g = np.ones(tuple(CONV[ndim](x, w, stride=2).shape))
        by_input, by_weight = gradients(call, x, w, g)
        np.testing.assert_array_equal(by_input, spread(g, w, SIZES[ndim], 2) if min(batch, outs) else np.zeros(x.shape))
        np.testing.assert_array_equal(by_weight, np.zeros(w.shape) if batch == 0 else weight_gradient(x, KERNELS[ndim], g, 2))


def test_elements_that_nothing_reads_have_a_gradient_of_zero():
    gradient = nc.grad.conv1d_input((1, 1, 9), np.ones((1, 1, 2)), np.ones((1, 1, 2)), stride=5)
    np.testing.assert_array_equal(gradient.ravel(), [1, 1, 0, 0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize("size", [(2, 3, 8, 7), [2, 3, 8, 7], torch.Size([2, 3, 8, 7]), np.array([2, 3, 8, 7])], ids=repr)
def test_forms_of_a_size(size):
    call = Call(2, (2, 3, 8, 7), (4, 3, 3, 2), {})
    x, w = make(call, np.float32).values()
    g = result_like(call, np.float32)
    assert nc.grad.conv2d_input(size, w, g).shape == (2, 3, 8, 7)
    kernel = type(size)(w.shape) if isinstance(size, (list, tuple)) else np.array(w.shape)
    assert nc.grad.conv2d_weight(x, kernel, g).shape == w.shape


@pytest.mark.parametrize(
    ("first", "second", "result"),
    [
        ("float32", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("float16", "float16", "float16"),
        ("int8", "int8", "int32"),
        ("int64", "int64", "int64"),
        ("float32", "complex64", "complex64"),
    ],
)
def test_result_dtypes(first, second, result):
    """Of the kernels' operands; the reference is here to spare a compilation of each."""
    x, w, g = np.ones((1, 2, 5), first), np.ones((2, 2, 3), second), np.ones((1, 2, 3), first)
    with nc.use_backend("reference"):
        assert nc.grad.conv1d_input(x.shape, w, g).dtype == result
        assert nc.grad.conv1d_weight(x.astype(second), w.shape, g).dtype == result


@NDIM
def test_memory_order_of_the_results(ndim):
    call = Call(ndim, (2, 4, *SIZES[ndim]), (6, 4, *KERNELS[ndim]), {"stride": 2})
    x, w = make(call, np.float32).values()
    g = result_like(call, np.float32)
    by_input, by_weight = gradients(call, x, w, g)
    assert by_input.flags.c_contiguous
    assert by_weight.flags.c_contiguous
    last = MEMORY["channels last"]
    moved, same = gradients(call, last(x), last(w), last(g))
    assert np.moveaxis(moved, 1, -1).flags.c_contiguous
    assert same.flags.c_contiguous
    np.testing.assert_allclose(moved, by_input, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(same, by_weight, rtol=1e-5, atol=1e-5)


def test_operands_are_not_changed():
    call = Call(1, (2, 2, 6), (2, 2, 3), {})
    x, w = make(call, np.complex128).values()
    g = result_like(call, np.complex128)
    kept = [a.copy() for a in (x, w, g)]
    gradients(call, x, w, g)
    for array, before in zip((x, w, g), kept, strict=True):
        np.testing.assert_array_equal(array, before)


# ---------------------------------------------------------------- errors

OF_INPUT = {"input_size": (1, 3, 8, 8), "weight": (4, 3, 3, 3), "grad_output": (1, 4, 6, 6)}
OF_WEIGHT = {"input": (1, 3, 8, 8), "weight_size": (4, 3, 3, 3), "grad_output": (1, 4, 6, 6)}
INPUT_ERRORS = [
    ("grad_output", {"grad_output": (1, 4, 7, 6)}),
    ("grad_output", {"grad_output": (1, 3, 6, 6)}),
    ("grad_output", {"grad_output": (2, 4, 6, 6)}),
    ("grad_output", {"grad_output": (4, 6, 6)}),
    ("input_size", {"input_size": (8, 8)}),
    ("input_size", {"input_size": (1, 1, 3, 8, 8)}),
    ("input_size", {"input_size": (1, 3, 2, 8)}),  # smaller than the kernel
    ("input_size", {"input_size": (1, 3, -8, 8)}),
    ("(input_size|weight)", {"input_size": (1, 5, 8, 8)}),
    ("weight", {"weight": (4, 3, 3)}),
    ("weight", {"weight": (4, 3, 0, 3)}),
    ("groups", {"groups": 3}),
    ("stride", {"stride": 0}),
    ("padding", {"padding": "full"}),
    ("padding", {"padding": (1, 2, 3)}),
    ("dilation", {"dilation": (1, 0)}),
]
WEIGHT_ERRORS = [
    ("grad_output", {"grad_output": (1, 4, 7, 6)}),
    ("grad_output", {"grad_output": (1, 3, 6, 6)}),
    ("grad_output", {"grad_output": (2, 4, 6, 6)}),
    ("grad_output", {"grad_output": (4, 6, 6)}),
    ("weight_size", {"weight_size": (4, 3, 3)}),
    ("weight_size", {"weight_size": (4, 3, 3, 3, 3)}),
    ("weight_size", {"weight_size": (4, 2, 3, 3)}),
    ("weight_size", {"weight_size": (4, 3, 0, 3)}),
    ("weight_size", {"weight_size": (4, 3, -3, 3)}),
    ("input", {"input": (8, 8)}),
    ("(input|weight_size)", {"weight_size": (4, 3, 9, 3)}),
    ("groups", {"groups": 3}),
    ("stride", {"stride": 0}),
    ("padding", {"padding": "full"}),
]


@pytest.mark.parametrize(
    ("function", "plain", "argument", "change"),
    [
        *[(nc.grad.conv2d_input, OF_INPUT, *row) for row in INPUT_ERRORS],
        *[(nc.grad.conv2d_weight, OF_WEIGHT, *row) for row in WEIGHT_ERRORS],
    ],
)
def test_errors_name_the_argument(function, plain, argument, change):
    call = {**plain, **change}
    arrays = {name: np.ones(value) if name in ("input", "weight", "grad_output") else value for name, value in call.items()}
    with pytest.raises(ValueError, match=f"^{argument}: expected .+, got "):
        function(**arrays)


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("input_size", lambda: nc.grad.conv1d_input(9, np.ones((1, 1, 2)), np.ones((1, 1, 8)))),
        ("input_size", lambda: nc.grad.conv1d_input((1, 1, 9.0), np.ones((1, 1, 2)), np.ones((1, 1, 8)))),
        ("input_size", lambda: nc.grad.conv1d_input(None, np.ones((1, 1, 2)), np.ones((1, 1, 8)))),
        ("weight_size", lambda: nc.grad.conv1d_weight(np.ones((1, 1, 9)), "112", np.ones((1, 1, 8)))),
        ("grad_output", lambda: nc.grad.conv1d_input((1, 1, 9), np.ones((1, 1, 2)), None)),
        ("grad_output", lambda: nc.grad.conv1d_weight(np.ones((1, 1, 9)), (1, 1, 2), np.full((1, 1, 8), "a"))),
        ("weight", lambda: nc.grad.conv1d_input((1, 1, 9), np.ones((1, 1, 2), np.longdouble), np.ones((1, 1, 8)))),
        ("input", lambda: nc.grad.conv1d_weight(np.ones((1, 1, 9), object), (1, 1, 2), np.ones((1, 1, 8)))),
    ],
)
def test_wrong_types_name_the_argument(argument, call):
    with pytest.raises(TypeError, match=f"^{argument}: expected .+, got "):
        call()


def test_geometries_that_a_size_alone_does_not_tell_apart():
    """With strides, several sizes of the data give the same result: the gradient has the size that was asked for."""
    w, g = random_array((1, 1, 3), np.float64), random_array((1, 1, 3), np.float64)
    for n, padding in itertools.product(range(7, 12), (0, 1)):
        size = (n + 2 * padding - 3) // 4 + 1
        gradient = nc.grad.conv1d_input((1, 1, n), w, g[..., :size], 4, padding)
        assert gradient.shape == (1, 1, n)
        identity = np.eye(n)[:, None]
        rows = correlate(identity, w, 4, pads_in_full(padding, (n,), (3,)))
        np.testing.assert_allclose(gradient.ravel(), rows[:, 0] @ g[0, 0, :size], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("function", [nc.grad.conv2d_input, nc.grad.conv2d_weight])
def test_a_named_algorithm(function):
    x, w, g = (
        random_array((2, 8, 9, 9), np.float64),
        random_array((8, 8, 3, 3), np.float64),
        random_array((2, 8, 7, 7), np.float64),
    )
    args = (x.shape, w, g) if function is nc.grad.conv2d_input else (x, w.shape, g)
    np.testing.assert_allclose(function(*args, algorithm="winograd2"), function(*args, algorithm="accurate"), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match=r"^algorithm: "):
        function(*args, algorithm="fastest")
