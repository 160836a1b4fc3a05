"""Transposed convolutions in one to three dimensions: PyTorch's meaning, and no more work than the definition needs."""

import itertools

import numpy as np
import pytest
import torch
from family import (
    CONV,
    LAYOUTS,
    PREPARED_TRANSPOSE,
    TORCH_TRANSPOSE,
    TRANSPOSE,
    assert_close,
    by_every_algorithm,
    each,
    expected,
    make,
    pads_in_full,
    tolerance,
    torch_transposed,
    transposed,
    transposed_convolutions,
)  # fmt: skip
from helpers import random_array
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import MEMORY, memory_orders

import numbaconv as nc
from numbaconv.backend import BACKENDS
from numbaconv.execute import plan_specs
from numbaconv.problem import Specs
from numbaconv.spec import ArraySpec, ConvOptions

NDIM = pytest.mark.parametrize("ndim", [1, 2, 3])
SIZES = {1: (9,), 2: (6, 5), 3: (3, 4, 3)}
KERNELS = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}


def arrays_of(ndim, dtype=np.float32):
    """Data, weight and bias for two groups: 4 channels give 6."""
    shapes = (2, 4, *SIZES[ndim]), (4, 3, *KERNELS[ndim]), (6,)
    return tuple(random_array(shape, dtype, seed) for seed, shape in enumerate(shapes))


# ---------------------------------------------------------------- values


@NDIM
@pytest.mark.parametrize(("dtype", "reference"), [(np.float64, False), (np.float32, False), (np.float64, True)])
@given(data=st.data())
@settings(max_examples=50)
def test_random_problems_as_pytorch_computes_them(ndim, dtype, reference, data):
    """The reference, which goes by the plan alone, would see what a plan gets wrong and a kernel does not mind."""
    call = data.draw(transposed_convolutions(ndim))
    arrays = make(call, dtype)
    orders = data.draw(st.lists(memory_orders(), min_size=4, max_size=4))
    moved = {name: a if name == "bias" else order(a) for (name, a), order in zip(arrays.items(), orders, strict=False)}
    exact = expected(torch_transposed, call, {name: a.astype(np.float64) for name, a in arrays.items()})
    allowed = tolerance(torch_transposed, call, arrays, dtype)
    for result, spread in by_every_algorithm(TRANSPOSE[ndim], reference=reference, **moved, **call.options):
        assert result.dtype == dtype
        assert_close(result, exact, spread(allowed))


@NDIM
@given(data=st.data())
@settings(max_examples=40)
def test_prepared_forms_equal_the_functions_bit_for_bit(ndim, data):
    call = data.draw(transposed_convolutions(ndim))
    arrays, algorithm = make(call, np.float32), data.draw(st.sampled_from(["direct", "rows"]))  # which may differ by default
    arrays["input"] = data.draw(memory_orders())(arrays["input"])
    function = TRANSPOSE[ndim](**arrays, **call.options, algorithm=algorithm)
    late = {name: arrays.pop(name) for name in ("input", "residual") if name in arrays}
    op = PREPARED_TRANSPOSE[ndim](**arrays, **call.options, algorithm=algorithm)
    for _ in range(2):
        result = op(**late)
        np.testing.assert_array_equal(result, function)
        assert (result.dtype, result.strides) == (function.dtype, function.strides)


@NDIM
def test_arguments_are_in_pytorchs_order(ndim):
    x, w, b = arrays_of(ndim, np.float64)
    pytorch = TORCH_TRANSPOSE[ndim](*map(torch.from_numpy, (x, w, b)), 3, 2, 1, 2, 2).numpy()
    for result in (TRANSPOSE[ndim](x, w, b, 3, 2, 1, 2, 2), PREPARED_TRANSPOSE[ndim](w, b, 3, 2, 1, 2, 2)(x)):
        np.testing.assert_allclose(result, pytorch, rtol=1e-12, atol=1e-12)


@NDIM
@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize(("padding", "dilation"), [(0, 1), (1, 1), (2, 2)])
def test_every_output_padding_as_pytorch(ndim, stride, padding, dilation):
    x, w, b = arrays_of(ndim, np.float64)
    for extra in range(max(stride, dilation)):
        pytorch = TORCH_TRANSPOSE[ndim](*map(torch.from_numpy, (x, w, b)), stride, padding, extra, 2, dilation).numpy()
        result = TRANSPOSE[ndim](x, w, b, stride, padding, extra, 2, dilation)
        np.testing.assert_allclose(result, pytorch, rtol=1e-12, atol=1e-12)


@NDIM
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_output_padding_past_a_stride(ndim, backend):
    """It may be as large as the dilation; a convolution of so large a result would have more positions than there is input."""
    x, w, b = arrays_of(ndim, np.float64)
    options = {"stride": 2, "padding": 3, "output_padding": 3, "groups": 2, "dilation": 5}
    pytorch = TORCH_TRANSPOSE[ndim](*map(torch.from_numpy, (x, w, b)), **options).numpy()
    np.testing.assert_allclose(TRANSPOSE[ndim](x, w, b, backend=backend, **options), pytorch, rtol=1e-12, atol=1e-12)


def test_small_cases_by_hand():
    np.testing.assert_array_equal(nc.conv_transpose1d([[1.0, 2]], [[[1.0, 10, 100]]]), [[1, 12, 120, 200]])
    np.testing.assert_array_equal(nc.conv_transpose1d([[1.0, 2]], [[[1.0, 10]]], [0.5], 3), [[1.5, 10.5, 0.5, 2.5, 20.5]])
    np.testing.assert_array_equal(nc.conv_transpose1d([[1.0, 2]], [[[1.0, 10]]], None, 2, ((1, 0),), 1), [[10, 2, 20, 0]])
    np.testing.assert_array_equal(nc.conv_transpose2d([[[1.0, 2], [3, 4]]], [[[[1.0, 10]]]]), [[[1, 12, 20], [3, 34, 40]]])


@NDIM
def test_it_is_the_adjoint_of_the_convolution_exactly(ndim):
    """<conv(y), x> == <y, conv_transpose(x)>, in integers of any size: both sides wrap alike."""
    for stride, dilation, pads in itertools.product((1, 2, 5), (1, 3), (0, 2, ((1, 3),) * ndim)):
        w = random_array((4, 3, *KERNELS[ndim]), np.int64)
        y = random_array((1, 6, *(n + 4 for n in SIZES[ndim])), np.int64, 1)
        forward = CONV[ndim](y, w, None, stride, pads, dilation, 2)
        x = random_array(forward.shape, np.int64, 2)
        least = TRANSPOSE[ndim](x, w, None, stride, pads, 0, 2, dilation).shape[2:]
        extra = [n - m for n, m in zip(y.shape[2:], least, strict=True)]
        spread = TRANSPOSE[ndim](x, w, None, stride, pads, extra, 2, dilation)
        assert (forward * x).sum() == (y * spread).sum()


# ---------------------------------------------------------------- padding


def test_pairs_of_padding_leave_out_the_sides():
    x, w, b = arrays_of(2)
    full = nc.conv_transpose2d(x, w, b, 2, groups=2)
    np.testing.assert_array_equal(nc.conv_transpose2d(x, w, b, 2, ((1, 0), (2, 3)), groups=2), full[:, :, 1:, 2:-3])
    np.testing.assert_array_equal(nc.conv_transpose2d(x, w, b, 2, (1, 2), groups=2), full[:, :, 1:-1, 2:-2])
    np.testing.assert_array_equal(nc.conv_transpose2d(x, w, b, 2, ((0, 11), (0, 0)), groups=2), full[:, :, :2])


def test_negative_padding_adds_positions_that_no_tap_reaches():
    x, w, b = arrays_of(1)
    full = nc.conv_transpose1d(x, w, b, 2, groups=2)
    wider = nc.conv_transpose1d(x, w, b, 2, ((-3, -2),), groups=2)
    np.testing.assert_array_equal(wider[..., 3:-2], full)
    for side in (wider[..., :3], wider[..., -2:]):
        np.testing.assert_array_equal(side, np.broadcast_to(b[:, None], side.shape))


@NDIM
def test_padding_that_leaves_only_what_no_tap_reaches(ndim):
    """Where the stride exceeds the kernel, a crop may leave nothing but the bias."""
    x, w, b = arrays_of(ndim, np.float64)
    options = {"stride": 7, "padding": 4, "groups": 2}
    exact = transposed(x, w, b, **options)
    np.testing.assert_allclose(TRANSPOSE[ndim](x, w, b, **options), exact, rtol=1e-12, atol=1e-12)
    one = x[(..., *(slice(0, 1),) * ndim)]
    result = TRANSPOSE[ndim](one, w, b, 7, ((KERNELS[ndim][0], -4), *((0, 0),) * (ndim - 1)), groups=2)
    np.testing.assert_array_equal(result, np.broadcast_to(b.reshape(-1, *(1,) * ndim), result.shape))


# ---------------------------------------------------------------- strides larger than the kernel


@NDIM
def test_positions_that_no_tap_reaches_hold_the_bias(ndim):
    x, w, b = arrays_of(ndim, np.float64)
    result = TRANSPOSE[ndim](x, w, b, 5, groups=2, output_padding=2)
    np.testing.assert_allclose(result, transposed(x, w, b, 5, 0, 2, 2), rtol=1e-12, atol=1e-12)
    unreached = np.ones(result.shape[2:], bool)
    for taps in itertools.product(*map(range, KERNELS[ndim])):
        unreached[tuple(slice(k, None, 5) for k in taps)] = False
    assert unreached.mean() > 0.3
    held = result[:, :, unreached]
    np.testing.assert_array_equal(held, np.broadcast_to(b[:, None], held.shape))


@NDIM
@pytest.mark.parametrize("kind", ["fresh", "out", "strided out"])
def test_positions_that_no_tap_reaches_with_bias_residual_and_activation(ndim, kind):
    x, w, b = arrays_of(ndim)
    plain = transposed(*(a.astype(np.float64) for a in (x, w, b)), 4, 1, 1, 2)
    residual = random_array(plain.shape, np.float32, 9)
    place = np.full((*plain.shape[:-1], 2 * plain.shape[-1]), np.nan, np.float32)
    out = {"fresh": None, "out": np.full(plain.shape, np.nan, np.float32), "strided out": place[..., 1::2]}[kind]
    result = TRANSPOSE[ndim](x, w, b, 4, 1, 1, 2, residual=residual, activation="relu6", out=out)
    assert out is None or result is out
    np.testing.assert_allclose(result, np.clip(plain + residual, 0, 6), rtol=1e-5, atol=1e-5)
    assert np.isnan(place[..., ::2]).all()
    prepared = PREPARED_TRANSPOSE[ndim](w, b, 4, 1, 1, 2, activation="relu6")(x, residual=residual)
    np.testing.assert_array_equal(prepared, result)


@pytest.mark.parametrize(
    ("ndim", "size", "kernel", "stride"),
    [(1, (3,), (2,), 1000), (1, (2,), (1,), 10**6), (2, (2, 2), (2, 3), 1000), (3, (2, 2, 2), (2, 2, 2), (200, 30, 200))],
)
def test_large_strides(ndim, size, kernel, stride):
    x, w, b = random_array((1, 2, *size), np.float32), random_array((2, 1, *kernel), np.float32), np.array([3], np.float32)
    result = TRANSPOSE[ndim](x, w, b, stride)
    exact = transposed(x, w, b, stride)
    np.testing.assert_allclose(result, exact, rtol=1e-5, atol=1e-5)
    assert (result == 3).sum() >= (exact == 3).sum() > 0
    planned = planned_transpose(ndim, x.shape, w.shape, stride=stride)
    assert len(planned.parts) <= np.prod(kernel) + 1


def test_strides_beyond_all_sizes():
    """A lone element's stride is never taken."""
    x, w = random_array((1, 2, 1), np.float32), random_array((2, 1, 3), np.float32)
    np.testing.assert_array_equal(nc.conv_transpose1d(x, w, stride=10**15), nc.conv_transpose1d(x, w))


# ---------------------------------------------------------------- shapes, memory, dtypes


@NDIM
def test_layouts_and_memory_order(ndim):
    x, w, b = arrays_of(ndim)
    first, last = LAYOUTS[ndim]
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
    plain = TRANSPOSE[ndim](x, w, b, **options)
    assert plain.flags.c_contiguous
    np.testing.assert_array_equal(TRANSPOSE[ndim](x, w, b, layout=first, **options), plain)
    moved = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    for data in (moved, np.moveaxis(x, 1, -1)):
        result = TRANSPOSE[ndim](data, w, b, layout=last, **options)
        np.testing.assert_allclose(np.moveaxis(result, -1, 1), plain, rtol=1e-5, atol=1e-5)
    assert TRANSPOSE[ndim](moved, w, b, layout=last, **options).flags.c_contiguous
    seen_first = TRANSPOSE[ndim](np.moveaxis(moved, -1, 1), w, b, **options)
    assert np.moveaxis(seen_first, 1, -1).flags.c_contiguous
    np.testing.assert_allclose(seen_first, plain, rtol=1e-5, atol=1e-5)
    single = TRANSPOSE[ndim](moved[0], w, b, layout=last, **options)
    np.testing.assert_allclose(np.moveaxis(single, -1, 0), plain[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("order", MEMORY)
def test_any_memory_gives_the_same_values(order):
    x, w, b = arrays_of(2)
    plain = nc.conv_transpose2d(x, w, b, 3, groups=2, algorithm="direct")
    for moved in ((MEMORY[order](x), w), (x, MEMORY[order](w))):
        result = nc.conv_transpose2d(*moved, b, 3, groups=2, algorithm="direct")
        np.testing.assert_array_equal(result, plain)
        assert result.dtype.isnative


@NDIM
def test_unbatched_input(ndim):
    x, w, b = arrays_of(ndim)
    residual = random_array(TRANSPOSE[ndim](x, w, b, 2, groups=2).shape, np.float32, 5)
    batch = TRANSPOSE[ndim](x, w, b, 2, groups=2, residual=residual)
    np.testing.assert_array_equal(TRANSPOSE[ndim](x[1], w, b, 2, groups=2, residual=residual[1]), batch[1])


@NDIM
@pytest.mark.parametrize(("batch", "ins", "outs"), [((0,), 4, 3), ((2,), 0, 3), ((2,), 4, 0), ((), 0, 3)])
def test_dimensions_of_zero(ndim, batch, ins, outs):
    b = np.arange(float(outs))
    result = TRANSPOSE[ndim](np.ones((*batch, ins, *(2,) * ndim)), np.ones((ins, outs, *(2,) * ndim)), b, 2)
    assert result.shape == (*batch, outs, *(4,) * ndim)
    np.testing.assert_array_equal(result - ins, np.broadcast_to(b.reshape(-1, *(1,) * ndim), result.shape))


def test_out_that_is_an_operand():
    x, w = random_array((1, 2, 6), np.float32), random_array((2, 2, 1), np.float32)
    exact = nc.conv_transpose1d(x, w)
    assert nc.conv_transpose1d(x, w, out=x) is x
    np.testing.assert_array_equal(x, exact)
    residual = random_array((1, 2, 6), np.float32)
    exact = nc.conv_transpose1d(x, w, residual=residual)
    assert nc.conv_transpose1d(x, w, residual=residual, out=residual) is residual
    np.testing.assert_array_equal(residual, exact)


@NDIM
def test_explanations_add_up(ndim):
    x, w, b = arrays_of(ndim)
    for prepared in (False, True):
        if prepared:
            explanation = nc.explain(PREPARED_TRANSPOSE[ndim](w, b, 2, groups=2), x)
        else:
            explanation = nc.explain(f"conv_transpose{ndim}d", x, w, b, 2, groups=2)
        assert len(explanation.parts) == 2**ndim
        assert explanation.backend == "cpu"
        assert all(part.algorithm in str(explanation) for part in explanation.parts)


# ---------------------------------------------------------------- errors


def prepare(input, weight, **options):
    return nc.ConvTranspose2d(weight, **options)


def compute(x, w, **options):
    return nc.ConvTranspose2d(w, **options)(x)


@pytest.mark.parametrize("make_call", [nc.conv_transpose2d, prepare])
@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("output_padding", {"output_padding": 2, "stride": 2}),
        ("output_padding", {"output_padding": 1}),
        ("output_padding", {"output_padding": (0, 3), "stride": 2, "dilation": (9, 3)}),
        ("output_padding", {"output_padding": -1}),
        ("output_padding", {"output_padding": (0, 0, 0)}),
        ("padding", {"padding": "same"}),
        ("padding", {"padding": "same_lower"}),
        ("padding", {"padding": "valid"}),
        ("padding", {"padding": (1, 2, 3)}),
        ("padding", {"padding": ((1, 2),)}),
        ("stride", {"stride": 0}),
        ("stride", {"stride": (1, 2, 3)}),
        ("dilation", {"dilation": (1, -1)}),
        ("groups", {"groups": 0}),
        ("groups", {"groups": 3}),
        ("weight", {"weight": np.ones((4, 3, 3))}),
        ("weight", {"weight": np.ones((4, 3, 0, 3))}),
        ("bias", {"bias": np.ones(4)}),
        ("bias", {"bias": np.ones((3, 1))}),
        ("layout", {"layout": "NWC"}),
        ("algorithm", {"algorithm": "fastest"}),
        ("precision", {"precision": "bf16"}),
        ("backend", {"backend": "tpu"}),
    ],
)
def test_errors_name_the_argument(make_call, argument, options):
    """Of the function, and of the prepared form before it has seen any data."""
    call = {"input": np.ones((1, 4, 5, 6)), "weight": np.ones((4, 3, 3, 3)), **options}
    with pytest.raises(ValueError, match=f"^{argument}: expected .+, got "):
        make_call(**call)


@pytest.mark.parametrize("call", [nc.conv_transpose2d, compute])
@pytest.mark.parametrize(
    ("argument", "x", "options"),
    [
        ("weight", (1, 3, 5, 6), {}),  # 3 channels, where the weight has 4
        ("weight", (3, 5, 6), {}),
        ("input", (5, 6), {}),
        ("input", (1, 1, 4, 5, 6), {}),
        ("input", (1, 4, 0, 6), {}),
        ("input", (1, 4, 2, 2), {"padding": 2}),  # nothing is left
        ("input", (1, 4, 2, 2), {"padding": ((4, 0), (0, 0))}),
        ("input", (1, 4, 2, 2), {"padding": 30}),
    ],
)
def test_data_that_does_not_fit_is_named(call, argument, x, options):
    with pytest.raises(ValueError, match=f"^{argument}: expected .+, got "):
        call(np.ones(x), np.ones((4, 3, 3, 3)), **options)


@pytest.mark.parametrize(
    ("error", "argument", "options"),
    [
        (ValueError, "out", {"out": np.full((1, 3, 7, 7), 5.0)}),
        (TypeError, "out", {"out": np.full((1, 3, 7, 8), 5)}),
        (ValueError, "residual", {"residual": np.ones((1, 3, 7, 7)), "out": np.full((1, 3, 7, 8), 5.0)}),
        (TypeError, "residual", {"residual": np.full((1, 3, 7, 8), "a"), "out": np.full((1, 3, 7, 8), 5.0)}),
        (ValueError, "activation", {"activation": "softmax", "out": np.full((1, 3, 7, 8), 5.0)}),
    ],
)
def test_nothing_is_written_when_an_error_is_raised(error, argument, options):
    with pytest.raises(error, match=f"^{argument}: expected .+, got "):
        nc.conv_transpose2d(np.ones((1, 4, 5, 6)), np.ones((4, 3, 3, 3)), **options)
    assert "out" not in options or (options["out"] == 5).all()


def test_there_are_no_padding_modes():
    with pytest.raises(TypeError, match="padding_mode"):
        nc.conv_transpose2d(np.ones((1, 4, 5, 6)), np.ones((4, 3, 3, 3)), padding_mode="reflect")


def test_a_result_beyond_the_memory_of_this_machine_is_refused():
    with pytest.raises(ValueError, match=r"^input: expected .*memory.*, got "):
        nc.conv_transpose1d(np.ones((1, 1, 2)), np.ones((1, 1, 2)), stride=10**15)


# ---------------------------------------------------------------- cost
#
# The definition's products: pairs of an input position i and a tap k whose target i * stride + k * dilation - low lies in the
# result, for every pair of channels.


def plan(operator, ndim, first, second, **options):
    """The problem of a call with these shapes, for the CPU."""
    specs = Specs(*(ArraySpec(tuple(shape), np.dtype(np.float32)) for shape in (first, second)))
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    return plan_specs(operator, ndim, specs, ConvOptions(**options), BACKENDS["cpu"]).problem


def planned_transpose(ndim, x, w, **options):
    return plan("conv_transpose", ndim, x, w, **options)


def pairs_of_axis(n, k, out, stride, dilation, low):
    """How many (input position, tap) pairs have their target in an axis of the result."""
    return sum(0 <= i * stride + tap * dilation - low < out for i in range(n) for tap in range(k))


def congruent_of_axis(k, out, stride, dilation, low):
    """How many (result position, tap) pairs meet an input position on the infinite grid: those, and no more at borders."""
    return sum((o + low - tap * dilation) % stride == 0 for o in range(out) for tap in range(k))


def pairs_with_data(spec):
    """The products of a part that meet data, not padding, for one pair of channels."""
    rows = zip(spec.input_size, spec.kernel_size, spec.output_size, spec.stride, spec.dilation, spec.padding, strict=True)
    return np.prod([
        sum(0 <= o * s + tap * d - low < n for o in range(out) for tap in range(k)) for n, k, out, s, d, (low, _) in rows
    ])  # fmt: skip


def channel_pairs(spec):
    return spec.batch * spec.out_channels * (spec.in_channels // spec.groups)


def check_adjoint_cost(problem, n, kernel, out, stride, dilation, lows, channels):
    """The parts of an adjoint: convolutions of stride 1 whose products are the definition's, and padding's at borders."""
    rows = list(zip(n, kernel, out, stride, dilation, lows, strict=True))
    needed = channels * np.prod([pairs_of_axis(*row) for row in rows])
    with_borders = channels * np.prod([congruent_of_axis(*row[1:]) for row in rows])
    specs = [part.spec for part in problem.parts]
    assert sum(pairs_with_data(spec) * channel_pairs(spec) for spec in specs) == needed
    assert needed <= problem.multiply_adds <= with_borders
    assert all(spec.stride == (1, 1, 1) for spec in specs)
    for part in problem.parts:
        if part.spec.in_channels:  # it reads the data itself: no zeros lie between its elements
            whole = (1,) * (3 - len(n)) + tuple(n)
            assert all(index.step in (None, 1) and index.stop <= size for index, size in zip(part.input[1:], whole, strict=True))
    assert len(problem.parts) <= np.prod([min(k, s) for k, s in zip(kernel, stride, strict=True)]) + 1
    return needed


GEOMETRIES = [
    # size, kernel, stride, dilation, padding, output_padding
    ((5,), (3,), 1, 1, 0, 0),
    ((5,), (3,), 2, 1, 1, 1),
    ((7,), (4,), 2, 1, 1, 0),
    ((6,), (5,), 3, 2, ((2, 4),), 1),
    ((4,), (3,), 2, 4, 3, 2),  # stride and dilation have a common divisor: half of the result is out of reach
    ((4,), (2,), 7, 1, 0, 3),
    ((4,), (2,), 1000, 1, 1, 0),
    ((9,), (2,), 1, 3, ((-2, -4),), 0),
    ((9,), (7,), 2, 1, 6, 0),
    ((1,), (4,), 4, 1, 0, 0),
    ((1, 1), (4, 3), 5, 1, 1, 0),
    ((5, 6), (3, 3), 2, 1, 1, 1),
    ((5, 6), (4, 2), (2, 3), (1, 2), ((0, 2), (3, -1)), (1, 0)),
    ((4, 4), (1, 3), (3, 1), 1, 0, (2, 0)),
    ((3, 4, 3), (3, 2, 3), 2, 1, 1, 1),
    ((3, 3, 3), (2, 2, 2), (5, 1, 2), (1, 2, 3), 0, 0),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "padding", "extra"), GEOMETRIES, ids=str)
def test_transposed_convolutions_do_no_more_than_their_definition(size, kernel, stride, dilation, padding, extra):
    ndim = len(size)
    x, w = (2, 6, *size), (6, 4, *kernel)
    problem = planned_transpose(ndim, x, w, stride=stride, padding=padding, output_padding=extra, groups=3, dilation=dilation)
    lows = [lo for lo, _ in pads_in_full(padding, size, kernel)]
    strides, dilations = each(stride, ndim), each(dilation, ndim)
    channels = 2 * 6 * 4
    check_adjoint_cost(problem, size, kernel, problem.shape[2:], strides, dilations, lows, channels)


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "padding", "extra"), GEOMETRIES, ids=str)
def test_gradients_of_the_input_do_no_more_than_their_definition(size, kernel, stride, dilation, padding, extra):
    ndim = len(size)
    strides, dilations = each(stride, ndim), each(dilation, ndim)
    pads = pads_in_full(padding, size, kernel)
    rows = zip(size, kernel, strides, dilations, pads, each(extra, ndim), strict=True)
    data = [(n - 1) * s + d * (k - 1) + 1 - lo - hi + e for n, k, s, d, (lo, hi), e in rows]
    rows = zip(data, kernel, strides, dilations, pads, strict=True)
    out = [(n + lo + hi - d * (k - 1) - 1) // s + 1 for n, k, s, d, (lo, hi) in rows]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 3, "size": (2, 6, *data)}
    problem = plan("input_gradient", ndim, (2, 12, *out), (12, 2, *kernel), **options)
    check_adjoint_cost(problem, out, kernel, data, strides, dilations, [lo for lo, _ in pads], 2 * 6 * 4)


@pytest.mark.parametrize(("size", "kernel", "stride", "dilation", "padding", "extra"), GEOMETRIES, ids=str)
def test_gradients_of_the_weight_do_no_more_than_their_definition(size, kernel, stride, dilation, padding, extra):
    ndim = len(size)
    strides, dilations = each(stride, ndim), each(dilation, ndim)
    pads = pads_in_full(padding, size, kernel)
    rows = zip(size, kernel, strides, dilations, pads, each(extra, ndim), strict=True)
    data = [(n - 1) * s + d * (k - 1) + 1 - lo - hi + e for n, k, s, d, (lo, hi), e in rows]
    rows = list(zip(data, kernel, strides, dilations, pads, strict=True))
    out = [(n + lo + hi - d * (k - 1) - 1) // s + 1 for n, k, s, d, (lo, hi) in rows]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": 3, "size": (12, 2, *kernel)}
    problem = plan("weight_gradient", ndim, (2, 6, *data), (2, 12, *out), **options)
    [part] = problem.parts
    needed = [
        sum(0 <= i * s + tap * d - lo < n for i in range(o) for tap in range(k))
        for o, (n, k, s, d, (lo, _)) in zip(out, rows, strict=True)
    ]
    assert pairs_with_data(part.spec) * channel_pairs(part.spec) == np.prod(needed) * 2 * 6 * 4
    assert problem.multiply_adds == 2 * 6 * 4 * np.prod(kernel) * np.prod(out)  # what the definition sums, padding included


@NDIM
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_without_borders_the_products_are_exactly_the_definitions(ndim, stride, dilation):
    """Padding by the whole extent of the kernel leaves only positions whose every tap, where there is one, meets data."""
    kernel = (3, 2, 3)[:ndim]
    pads = tuple((dilation * (k - 1),) * 2 for k in kernel)
    size = [9 // stride + 2 * dilation + 2] * ndim
    problem = planned_transpose(ndim, (1, 2, *size), (2, 3, *kernel), stride=stride, padding=pads, dilation=dilation)
    lows, both = [lo for lo, _ in pads], ([stride] * ndim, [dilation] * ndim)
    needed = check_adjoint_cost(problem, size, kernel, problem.shape[2:], *both, lows, 6)
    assert problem.multiply_adds == needed

    # A forward convolution that no padding touches and that reads all of its data: each gradient has the forward's products.
    data = [(n - 1) * stride + dilation * (k - 1) + 1 for n, k in zip(size, kernel, strict=True)]
    forward = plan("conv", ndim, (1, 3, *data), (2, 3, *kernel), stride=stride, dilation=dilation).multiply_adds
    weight = plan("weight_gradient", ndim, (1, 3, *data), (1, 2, *size), stride=stride, dilation=dilation, size=(2, 3, *kernel))
    assert weight.multiply_adds == forward == 6 * np.prod(size) * np.prod(kernel)
    gradient = plan("input_gradient", ndim, (1, 2, *size), (2, 3, *kernel), stride=stride, dilation=dilation, size=(1, 3, *data))
    assert sum(pairs_with_data(part.spec) * channel_pairs(part.spec) for part in gradient.parts) == forward


def test_each_tap_is_in_one_part_and_each_position_in_at_most_one():
    for stride in (1, 2, 3, (2, 5), (7, 1)):
        problem = planned_transpose(2, (1, 4, 6, 5), (4, 3, 3, 4), stride=stride, dilation=(1, 2))
        written, read = np.zeros((1, 1, 1, 1, *problem.shape[2:]), int), np.zeros((1, 1, 1, 1, 3, 4), int)
        for part in problem.parts:
            if part.spec.in_channels:
                written[part.output] += 1
                read[part.weight] += 1
                assert read[part.weight].shape[3:] == part.spec.kernel_size
                assert written[part.output].shape[3:] == part.spec.output_size
        assert (read == 1).all()
        assert written.max() == 1
