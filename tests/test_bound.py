"""A later call of a kind, which goes the short way: what it does is what the first did, and nothing else finds its way there."""

import copy
import pickle
import threading

import ml_dtypes
import numba
import numpy as np
import pytest
from helpers import random_array, why_not
from strategies import MEMORY

import numbaconv as nc
from numbaconv import bound, execute, prepared, reference
from numbaconv.bound import Memo
from numbaconv.execute import Call, compute
from numbaconv.options import ConvOptions


@numba.njit
def squared(x):
    return x * x


@pytest.fixture(autouse=True)
def forget():
    """Nothing that other tests left."""
    execute.forget()


@pytest.fixture
def long_ways(monkeypatch):
    """A list that grows by one with each call that goes the long way."""
    calls = []
    for module in (execute, prepared):
        monkeypatch.setattr(module, "compute", lambda *args: calls.append(1) or compute(*args))
    return calls


def long_way(operator, ndim, x, w, bias=None, residual=None, **options):
    """What the long way computes."""
    result, _ = compute(operator, ndim, Call(x, w, bias, residual), ConvOptions(**options))
    return result


def same(result, expected):
    np.testing.assert_array_equal(result, expected)
    assert (result.dtype, result.strides) == (expected.dtype, expected.strides)


X, W = (2, 4, 7, 8), (6, 4, 3, 3)
CALLS = [
    ("conv", 2, X, W, {}),
    ("conv", 2, X, W, {"padding": (1, 2), "stride": 2, "activation": "relu", "bias": True}),
    ("conv", 2, X, W, {"padding": ((-1, 2), (0, -3)), "bias": True}),
    ("conv", 2, X, (6, 2, 3, 2), {"groups": 2, "dilation": 2, "activation": squared, "bias": True}),
    ("conv", 2, (2, 7, 8, 4), W, {"layout": "NHWC", "bias": True}),
    ("conv", 2, (2, 7, 8, 4), (6, 2, 3, 3), {"layout": "NHWC", "groups": 2, "padding": -1}),
    ("conv", 2, (4, 7, 8), W, {"padding": "same"}),
    ("conv", 2, (7, 8, 4), W, {"layout": "NHWC", "padding": "same_lower", "padding_mode": "circular"}),
    ("conv", 2, X, W, {"out_dtype": "float64"}),
    ("conv", 2, X, W, {"out_dtype": np.dtype("float64")}),
    ("conv", 2, (2, 4, 1, 1), (6, 4, 1, 1), {"layout": None}),
    ("conv", 2, (0, 4, 7, 8), W, {"bias": True}),
    ("conv", 2, X, (0, 4, 3, 3), {}),
    ("conv", 2, X, W, {"algorithm": "reference"}),
    ("conv", 1, (2, 4, 9), (6, 4, 3), {"layout": "NCW", "bias": True}),
    ("conv", 3, (2, 4, 5, 6, 7), (6, 4, 2, 3, 3), {"padding": 1}),
    ("conv_transpose", 2, X, (4, 6, 3, 3), {"stride": 2, "bias": True, "output_padding": 1}),
    ("conv_transpose", 2, (7, 8, 4), (4, 3, 2, 2), {"stride": 3, "groups": 2, "layout": "NHWC"}),
    ("conv_transpose", 1, (2, 4, 9), (4, 6, 3), {"dilation": 2, "padding": 1}),
]
FUNCTIONS = {
    "conv": (nc.conv1d, nc.conv2d, nc.conv3d),
    "conv_transpose": (nc.conv_transpose1d, nc.conv_transpose2d, nc.conv_transpose3d),
}
OPERATORS = {
    "conv": (nc.Conv1d, nc.Conv2d, nc.Conv3d),
    "conv_transpose": (nc.ConvTranspose1d, nc.ConvTranspose2d, nc.ConvTranspose3d),
}
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8, np.complex64, np.bool_]


def arrays_and_options(operator, shape, weight_shape, options, dtype):
    options = dict(options)
    channels = weight_shape[0] if operator == "conv" else weight_shape[1] * options.get("groups", 1)
    bias = random_array((channels,), dtype, 2) if options.pop("bias", False) else None
    return random_array(weight_shape, dtype, 1), bias, options


with_residual = pytest.mark.parametrize("with_residual", [False, True], ids=["", "residual"])


@with_residual
@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
def test_the_short_way_computes_the_same(call, with_residual, long_ways):
    check(*call, np.float32, with_residual, long_ways)


@with_residual
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_short_way_computes_the_same_in_every_dtype(dtype, with_residual, long_ways):
    check("conv", 2, X, W, {"padding": 1, "bias": True}, dtype, with_residual, long_ways)


SQUARE, GROUPS = (16, 16, 3, 3), (16, 4, 3, 3)
TAKEN = [  # by algorithms: a weight, and layouts
    *(("NCHW", name, SQUARE) for name in ("direct", "direct_unpacked", "winograd2", "winograd4", "rows")),
    *(("NHWC", name, SQUARE) for name in ("direct", "direct_unpacked", "winograd2", "winograd4", "rows")),
    *(("NCHW", name, GROUPS) for name in ("depthwise_blocked", "pixels")),
    ("NCHW", "pointwise", (16, 16, 1, 1)), ("NCHW", "depthwise", (16, 1, 3, 3)), ("NHWC", "depthwise", (16, 1, 3, 3)),
]  # fmt: skip


@pytest.mark.parametrize(("layout", "algorithm", "weight_shape"), TAKEN)
def test_the_short_way_adds_residuals(algorithm, layout, weight_shape, long_ways):
    shape = (2, 16, 7, 8) if layout == "NCHW" else (2, 7, 8, 16)
    options = {"algorithm": algorithm, "layout": layout, "groups": 16 // weight_shape[1], "bias": True, "activation": "relu"}
    check("conv", 2, shape, weight_shape, options, np.float32, True, long_ways)


def check(operator, ndim, shape, weight_shape, options, dtype, with_residual, long_ways):
    w, bias, options = arrays_and_options(operator, shape, weight_shape, options, dtype)
    xs = [random_array(shape, dtype, seed) for seed in (5, 6, 7)]
    expected = [long_way(operator, ndim, x, w, bias, **options) for x in xs]
    more = {}
    if with_residual:
        more = {id(x): random_array(expected[0].shape, dtype, seed) for seed, x in enumerate(xs)}
        expected = [long_way(operator, ndim, x, w, bias, more[id(x)], **options) for x in xs]
    function, op = FUNCTIONS[operator][ndim - 1], OPERATORS[operator][ndim - 1](w, bias, **options)

    def functional(x, **out):
        return function(x, w, bias, residual=more.get(id(x)), **options, **out)

    for call in (functional, lambda x, **out: op(x, residual=more.get(id(x)), **out)):
        long_ways.clear()
        results = [call(x) for x in xs]
        assert len(long_ways) == 1
        for result, right in zip(results, expected, strict=True):
            same(result, right)
            assert result.flags.owndata
            assert result.flags.writeable
        for x, right in zip(xs, expected, strict=True):
            out = np.empty_like(right)
            assert call(x, out=out) is out
            same(out, right)
        assert len(long_ways) == 2, "calls with out are of another kind"


UNREADABLE = ("big-endian", "unaligned")
ORDERS = [name for name in MEMORY if name not in ("in C order", *UNREADABLE)]


def stored(array, memory):
    other = "every second element" if array.ndim == 1 and memory in ("in Fortran order", "channels last") else memory
    return MEMORY[other](array)


@pytest.mark.parametrize("memory", ORDERS)
@pytest.mark.parametrize("argument", ["input", "weight", "bias", "residual"])
def test_arrays_in_any_order_go_the_short_way(memory, argument, long_ways):
    shapes = {"input": (2, 3, 6, 7), "weight": (4, 3, 2, 2), "bias": (4,), "residual": (2, 4, 5, 6)}
    given = {name: random_array(shape, np.float32) for name, shape in shapes.items()}
    op = nc.Conv2d(given["weight"], given["bias"])
    for seed in range(3):
        given[argument] = stored(random_array(shapes[argument], np.float32, seed), memory)
        right = long_way("conv", 2, *given.values())
        same(nc.conv2d(**given), right)
        out = np.empty_like(right)
        assert nc.conv2d(**given, out=out) is out
        same(out, right)
        if argument in ("input", "residual"):
            same(op(given["input"], residual=given["residual"]), right)
    assert len(long_ways) == 2 + (argument in ("input", "residual"))


@pytest.mark.parametrize("memory", ORDERS)
@pytest.mark.parametrize(("layout", "algorithm", "weight_shape"), TAKEN)
def test_every_algorithm_is_bound_to_arrays_in_any_order(layout, algorithm, weight_shape, memory, long_ways):
    shape = (2, 16, 7, 8) if layout == "NCHW" else (2, 7, 8, 16)
    options = {"layout": layout, "groups": 16 // weight_shape[1], "padding": 1 if weight_shape[2] > 1 else 0}
    options["algorithm"] = algorithm
    w = random_array(weight_shape, np.float32)
    op = nc.Conv2d(w, **options)
    xs = [stored(random_array(shape, np.float32, seed), memory) for seed in range(3)]
    if why_not({"input": xs[0], "weight": w}, options | {"backend": "cpu"}) is not None:
        return
    right = [long_way("conv", 2, x, w, **options) for x in xs]
    for x, one in zip(xs, right, strict=True):
        same(nc.conv2d(x, w, **options), one)
        same(op(x), one)
    assert len(long_ways) == 2


OUTS = {name: lambda shape, name=name: stored(np.zeros(shape, np.float32), name) for name in ORDERS if name != "read-only"}
OUTS["part of a frame"] = lambda shape: np.full((*shape[:-1], 2, shape[-1]), 7, np.float32)[..., 1, ::-1]


@pytest.mark.parametrize("dtype", [">f4", "float64", "complex64"])
def test_results_that_are_converted_are_not_written_as_they_are(dtype):
    """The kernel's are of the dtype that was asked for."""
    x, w = random_array((2, 3, 6, 7), np.float32), random_array((4, 3, 2, 2), np.float32)
    op = nc.Conv2d(w, out_dtype="float32")
    right = long_way("conv", 2, x, w)
    for call in (lambda **out: nc.conv2d(x, w, out_dtype="float32", **out), lambda **out: op(x, **out)):
        for _ in range(3):
            out = np.zeros(right.shape, dtype)
            assert call(out=out) is out
            np.testing.assert_array_equal(out, right)


def test_results_leave_the_rest_of_a_frame_alone():
    x, w, frame = (
        random_array((2, 3, 6, 7), np.float32),
        random_array((4, 3, 2, 2), np.float32),
        np.full((2, 4, 5, 12), 7, np.float32),
    )
    for _ in range(3):
        nc.conv2d(x, w, out=frame[..., ::-2])
        assert (frame[..., ::2] == 7).all()
    np.testing.assert_array_equal(frame[..., ::-2], long_way("conv", 2, x, w))


@pytest.mark.parametrize("make", OUTS.values(), ids=OUTS)
def test_results_in_any_order_go_the_short_way(make, long_ways):
    w = random_array((4, 3, 2, 2), np.float32)
    op = nc.Conv2d(w, activation="relu")
    for call in (lambda x, **out: nc.conv2d(x, w, activation="relu", **out), op):
        long_ways.clear()
        for seed in range(3):
            x = random_array((2, 3, 6, 7), np.float32, seed)
            right = long_way("conv", 2, x, w, activation="relu")
            out = make(right.shape)
            assert call(x, out=out) is out
            np.testing.assert_array_equal(out, right)
        assert len(long_ways) == 1
        with pytest.raises(ValueError, match=r"^out: expected a writeable array"):
            call(x, out=read_only(out))


def read_only(array):
    view = array[...]
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("memory", UNREADABLE)
@pytest.mark.parametrize("argument", ["input", "weight", "bias"])
def test_what_kernels_do_not_read_as_it_lies_goes_the_long_way(memory, argument, long_ways):
    given = {"input": random_array((1, 2, 6, 7), np.float32), "weight": random_array((3, 2, 2, 2), np.float32)}
    given["bias"] = random_array((3,), np.float32)
    op = nc.Conv2d(given["weight"], given["bias"])
    expected = nc.conv2d(**given), op(given["input"])
    other = {**given, argument: MEMORY[memory](given[argument])}
    for _ in range(2):
        long_ways.clear()
        np.testing.assert_array_equal(nc.conv2d(**other), expected[0])
        assert len(long_ways) == 1
        same(op(other["input"]), expected[1])
        assert len(long_ways) == 1 + (argument == "input")


def test_plain_or_not_by_turns():
    """One shape and dtype, in C order or channels last in memory: the result's order follows each call's."""
    x, w = random_array((2, 4, 7, 8), np.float32), random_array(W, np.float32)
    last, op = MEMORY["channels last"](x), nc.Conv2d(w)
    for order in ([x, last], [last, x]):
        for a in order * 2:
            same(nc.conv2d(a, w), long_way("conv", 2, a, w))
            same(op(a), long_way("conv", 2, a, w))


def test_read_only_operands_are_plain(long_ways):
    x, w = (MEMORY["read-only"](random_array(shape, np.float32)) for shape in (X, W))
    op = nc.Conv2d(w)
    for _ in range(2):
        same(nc.conv2d(x, w), long_way("conv", 2, x.copy(), w))
        same(op(x), nc.conv2d(x, w))
    assert len(long_ways) == 2


def test_subclasses_and_lists_go_the_long_way(long_ways):
    class Array(np.ndarray):
        pass

    x, w = random_array((1, 2, 6, 7), np.float64), random_array((3, 2, 2, 2), np.float64)
    op = nc.Conv2d(w)
    expected = nc.conv2d(x, w), op(x)
    long_ways.clear()
    for other in (x.view(Array), x.tolist()):
        same(nc.conv2d(other, w), expected[0])
        same(op(other), expected[1])
    assert len(long_ways) == 4
    with pytest.raises(TypeError, match=r"^input: expected .* mask"):
        op(np.ma.masked_array(x))


def test_each_kind_of_call_has_its_own():
    op = nc.Conv2d(random_array((4, 3, 3, 3), np.float32), padding=1)
    w = random_array((4, 3, 3, 3), np.float32)
    for _ in range(2):
        for shape in [(2, 3, 8, 9), (3, 8, 9), (2, 3, 9, 8), (1, 3, 1, 1)]:
            for dtype in (np.float32, np.float64, ">f4"):
                x = random_array(shape, np.dtype(dtype).newbyteorder("=")).astype(dtype)
                expected = long_way("conv", 2, x, w, padding=1)
                same(op(x), expected)
                same(nc.conv2d(x, w, padding=1), expected)


def test_the_functions_take_every_weight_and_bias_as_it_is():
    x, w, bias = random_array(X, np.float32), random_array(W, np.float32), random_array((6,), np.float32)
    for _ in range(2):
        for weight, addend in [
            (w, None),
            (w, bias),
            (w.astype(np.float64), bias),
            (w, bias.astype(np.float64)),
            (w[:3], bias[:3]),
        ]:
            same(nc.conv2d(x, weight, addend), long_way("conv", 2, x, weight, addend))
        w[...], bias[...] = random_array(W, np.float32, 8), random_array((6,), np.float32, 9)


def test_the_operators_keep_their_own():
    x, w, bias = random_array(X, np.float32), random_array(W, np.float32), random_array((6,), np.float32)
    op = nc.Conv2d(w, bias)
    expected = op(x)
    w[...], bias[...] = 0, 0
    same(op(x), expected)


def test_geometries_do_not_mix():
    x, w = random_array((2, 4, 9, 9), np.float32), random_array((4, 4, 3, 3), np.float32)
    for _ in range(2):
        for options in [{}, {"padding": 1}, {"stride": 2}, {"dilation": 2}, {"padding": (1, 0)}, {"padding": (0, 1)}]:
            same(nc.conv2d(x, w, **options), long_way("conv", 2, x, w, **options))
            same(nc.conv_transpose2d(x, w, **options), long_way("conv_transpose", 2, x, w, **options))
        same(nc.conv2d(x, w, activation=squared), long_way("conv", 2, x, w, activation=squared))


def test_operators_do_not_mix():
    """All shapes and options are the same here."""
    a, b = random_array((4, 4, 5, 5), np.float64), random_array((4, 4, 5, 5), np.float64, 1)
    options = {"padding": 2, "size": a.shape}
    for _ in range(2):
        same(nc.grad.conv2d_input(a.shape, b, a, padding=2), long_way("input_gradient", 2, a, b, **options))
        same(nc.grad.conv2d_weight(a, a.shape, b, padding=2), long_way("weight_gradient", 2, a, b, **options))


@pytest.mark.parametrize(
    "options",
    [
        {"stride": True},
        {"stride": 1.0},
        {"padding": (1, True)},
        {"padding": ((1, 1), (1.0, 1))},
        {"groups": True},
        {"backend": [1]},
        {"stride": np.bool_(True)},
        {"stride": np.float64(1)},
        {"padding": [1, np.bool_(True)]},
    ],
    ids=str,
)
def test_equal_values_of_other_types_are_refused_all_the_same(options):
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    for _ in range(2):
        nc.conv2d(x, w)
        nc.conv2d(x, w, padding=(1, 1))
        nc.conv2d(x, w, padding=((1, 1), (1, 1)))
        with pytest.raises(TypeError, match=rf"^{next(iter(options))}: expected"):
            nc.conv2d(x, w, **options)


def test_lists_of_options_are_read_each_time(long_ways):
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    padding = [1, 0]
    for turn in range(3):
        right = long_way("conv", 2, x, w, padding=tuple(padding))
        for _ in range(2):
            same(nc.conv2d(x, w, padding=padding), right)
        assert len(long_ways) == turn + 1
        padding[1] += 1


@pytest.mark.parametrize(
    "one", [np.int64(1), np.uint8(1), [1, 1], np.array([1, 1]), (np.int32(1), 1), ((1, 1), [1, 1])], ids=repr
)
def test_all_ways_to_write_options_go_the_short_way(one, long_ways):
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    right = long_way("conv", 2, x, w, padding=1)
    for _ in range(2):
        same(nc.conv2d(x, w, padding=one), right)
    assert len(long_ways) == 1


def test_errors_are_those_of_the_first_call():
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    op = nc.Conv2d(w)
    for call in (lambda **out: nc.conv2d(x, w, **out), lambda **out: op(x, **out)):
        out = call()
        for wrong, argument in [
            (out[:, :, 1:], "out"),
            (out.astype(np.int8), "out"),
            (out[0], "out"),
            (MEMORY["read-only"](out), "out"),
        ]:
            with pytest.raises((ValueError, TypeError), match=f"^{argument}: expected"):
                call(out=wrong)
        with pytest.raises(TypeError, match=r"^out: expected a NumPy array"):
            call(out=out.tolist())
        with pytest.raises(ValueError, match=r"^stream: expected None"):
            call(stream=1)
    for shape in [(2, 3, 7, 8), (2, 4, 2, 8), (4, 7)]:
        with pytest.raises(ValueError, match=r"^(input|weight): expected"):
            op(random_array(shape, np.float32))


def test_out_that_overlaps_is_computed_apart(long_ways):
    memory = random_array((3, 4, 8, 9), np.float32)
    w, bias = random_array((4, 4, 3, 3), np.float32), random_array((4,), np.float32)
    x, after = memory[:2], memory[1:]
    op = nc.Conv2d(w, bias, padding=1)
    expected = long_way("conv", 2, x, w, bias, padding=1)
    for call in (lambda a, out=None: nc.conv2d(a, w, bias, padding=1, out=out), lambda a, out=None: op(a, out=out)):
        same(call(x), expected)
        memory_before = memory.copy()
        assert call(x, out=after) is after
        np.testing.assert_array_equal(after, expected)
        memory[...] = memory_before
        assert call(x, out=x) is x
        np.testing.assert_array_equal(x, expected)
        memory[...] = memory_before


def test_out_that_is_the_weight_or_the_bias():
    x, w = random_array((4, 4, 5, 5), np.float32), random_array((4, 4, 3, 3), np.float32)
    expected = nc.conv2d(x, w)
    assert nc.conv2d(x, w, out=w) is w
    np.testing.assert_array_equal(w, expected)
    x, w, memory = random_array((1, 4, 1, 1), np.float32), random_array((4, 4, 1, 1), np.float32), random_array((4,), np.float32)
    expected = nc.conv2d(x, w, memory)
    nc.conv2d(x, w, memory, out=memory.reshape(1, 4, 1, 1))
    np.testing.assert_array_equal(memory, expected.ravel())


def test_a_wider_out_is_not_rounded_and_not_remembered():
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    op = nc.Conv2d(w)
    for call in (lambda **out: nc.conv2d(x, w, **out), lambda **out: op(x, **out)):
        for _ in range(2):
            wide = np.empty((2, 6, 5, 6))
            call(out=wide)
            assert (wide != wide.astype(np.float32)).any()
            assert call().dtype == np.float32
            same(call(), long_way("conv", 2, x, w))


def test_residuals_are_added_after_calls_without():
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    op = nc.Conv2d(w)
    plain = nc.conv2d(x, w), op(x)
    ones = np.ones_like(plain[0])
    np.testing.assert_array_equal(nc.conv2d(x, w, residual=ones), plain[0] + ones)
    np.testing.assert_array_equal(op(x, residual=ones), plain[1] + ones)


def test_the_backend_is_that_of_each_call(monkeypatch):
    by_reference, correlate = [], reference.correlate
    monkeypatch.setattr(reference, "correlate", lambda *args: by_reference.append(1) or correlate(*args))
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    op = nc.Conv2d(w)
    for call in (lambda **options: nc.conv2d(x, w, **options), op.__class__(w, backend="cpu"), op):
        fixed = isinstance(call, nc.Conv2d) and call is not op
        for _ in range(2):
            by_reference.clear()
            for step in (x,) * 2:
                call(step) if isinstance(call, nc.Conv2d) else call()
            assert not by_reference
            with nc.use_backend("reference"):
                for step in (x,) * 2:
                    call(step) if isinstance(call, nc.Conv2d) else call()
                assert len(by_reference) == (0 if fixed else 2)
    nc.conv2d(x, w, backend="reference")
    nc.conv2d(x, w, backend="reference")
    assert len(by_reference) == 4
    with nc.use_backend("reference"):
        nc.conv2d(x, w, backend="cpu")
    assert len(by_reference) == 4


def test_what_is_conjugated_goes_the_long_way():
    x, w = random_array((1, 2, 5, 5), np.complex64), random_array((3, 2, 2, 2), np.complex64)
    g = random_array((1, 3, 4, 4), np.complex64)
    for _ in range(2):
        np.testing.assert_allclose(nc.grad.conv2d_input(x.shape, w, g), nc.conv_transpose2d(g, w.conj()), rtol=1e-4, atol=1e-4)


def test_gradients_go_the_short_way_too(long_ways):
    x, w, g = (random_array(shape, np.float32) for shape in ((2, 4, 7, 8), (6, 4, 3, 3), (2, 6, 5, 6)))
    for call in (lambda a: nc.grad.conv2d_input(x.shape, w, a), lambda a: nc.grad.conv2d_weight(x, w.shape, a)):
        long_ways.clear()
        first, other = call(g), call(2 * g)
        assert len(long_ways) == 1
        same(other, 2 * first)


def test_weights_that_are_not_packed_may_have_any_strides():
    for _ in range(3):
        x, w = random_array((1, 2, 3, 4), "complex64"), random_array((2, 3, 2, 3), "complex64")
        y = nc.conv_transpose2d(x, w, stride=2, backend="reference")  # its parts have every other tap, backwards
        np.testing.assert_allclose(y, nc.conv_transpose2d(x, w, stride=2), rtol=1e-5, atol=1e-5)


def test_forget_chooses_anew_for_operators_that_were_used_too(long_ways):
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    op = nc.Conv2d(w)
    for _ in range(2):
        long_ways.clear()
        nc.conv2d(x, w), op(x), nc.conv2d(x, w), op(x)
        assert len(long_ways) == 2
        execute.forget()


def test_operators_that_were_used_can_be_copied_and_pickled(long_ways):
    x, w = random_array(X, np.float32), random_array(W, np.float32)
    op = nc.Conv2d(w, activation="relu")
    expected = op(x)
    for other in (copy.copy(op), copy.deepcopy(op), pickle.loads(pickle.dumps(op))):
        same(other(x), expected)
        same(other(x), expected)


def test_the_tables_do_not_grow_without_end(monkeypatch):
    monkeypatch.setattr(Memo, "LIMIT", 3)
    w = random_array(W, np.float32)
    op = nc.Conv2d(w)
    for size in (*range(3, 12), 3):
        x = random_array((1, 4, size, size), np.float32)
        same(op(x), long_way("conv", 2, x, w))
        same(nc.conv2d(x, w), long_way("conv", 2, x, w))
        assert len(op._bound._entries) <= 3
        assert len(execute._bound._entries) <= 3


def test_threads_may_bind_and_forget_at_once(monkeypatch):
    monkeypatch.setattr(Memo, "LIMIT", 2)
    w = random_array(W, np.float32)
    op, wrong = nc.Conv2d(w), []
    xs = [random_array((1, 4, size, 9), np.float32) for size in (5, 6, 7, 8)]
    expected = [long_way("conv", 2, x, w) for x in xs]
    barrier = threading.Barrier(4)

    def work(first):
        barrier.wait()
        for i in range(first, first + 100):
            for result in (op(xs[i % 4]), nc.conv2d(xs[i % 4], w)):
                if result.tobytes() != expected[i % 4].tobytes():
                    wrong.append(i)
            if i % 10 == 0:
                execute.forget()

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_nothing_of_a_call_is_kept_but_what_is_alike():
    """A bound call holds no array of the call that left it."""
    import gc
    import weakref

    x, w = random_array(X, np.float32), random_array(W, np.float32)
    kept = [weakref.ref(a) for a in (x, w, nc.conv2d(x, w))]
    assert len(execute._bound._entries) == 1
    del x, w
    gc.collect()
    assert [r() for r in kept] == [None] * 3


def test_views_at_any_place_of_an_array():
    """The view decided beforehand is the one that indexing gives."""
    a, b = random_array((4, 6), np.float64), random_array((4, 6), np.float64, 1)
    for index in [
        ...,
        (slice(1, 3),),
        (slice(None, None, -1), slice(5, None, -2)),
        (slice(0, 0),),
        (slice(4, 4), slice(2, 2)),
        None,
    ]:
        view = bound.same_view(a, a[index])(b)
        assert np.may_share_memory(view, b) or not view.size
        np.testing.assert_array_equal(view, b[index], strict=True)
