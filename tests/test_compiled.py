"""Calls in the user's own compiled functions: the bits of the same calls outside, without Python."""

import numba
import numpy as np
import pytest
from family import CONV, GRAD_INPUT, GRAD_WEIGHT, TRANSPOSE
from helpers import random_array, run_python
from numba import njit

import numbaconv as nc
from numbaconv.compiled import request, resolve


@pytest.fixture
def asked(monkeypatch):
    """What compiled calls have asked Python for, in order."""
    calls = []
    for name in ("resolve", "compute"):
        function = getattr(resolve, name)
        monkeypatch.setattr(resolve, name, lambda *words, f=function, n=name: calls.append(n) or f(*words))
    return calls


def same_bits(result, expected):
    assert result.dtype == expected.dtype
    assert result.strides == expected.strides
    np.testing.assert_array_equal(result, expected)


@njit
def conv2d(x, w, b, stride, padding, dilation, groups):
    return nc.conv2d(x, w, b, stride, padding, dilation, groups)


@njit
def conv2d_last(x, w, b, stride, padding, dilation, groups):
    return nc.conv2d(x, w, b, stride, padding, dilation, groups, layout="NHWC", activation="silu")


GEOMETRY = [  # channels in and out, kernel, stride, padding, dilation, groups
    (2, 1, (2, 2), 1, 0, 1, 1), (16, 32, (3, 3), 1, 1, 1, 1), (3, 8, (5, 5), 2, (2, 1), 1, 1), (64, 64, (1, 1), 1, 0, 1, 1),
    (64, 64, (3, 3), 1, 1, 1, 1), (24, 24, (3, 3), 1, 1, 1, 24), (3, 3, (5, 5), 1, 2, 1, 3), (8, 16, (3, 2), (2, 1), 1, 2, 4),
    (40, 40, (3, 3), 2, ((1, 0), (2, 1)), 1, 40), (1, 4, (7, 7), 1, 3, 1, 1), (600, 8, (3, 3), 1, 1, 1, 1),
]  # fmt: skip


@pytest.mark.parametrize("geometry", GEOMETRY, ids=str)
def test_functions_and_their_options(geometry, asked):
    """Numbers that are known when the call runs; the second call needs no Python."""
    ins, outs, kernel, stride, padding, dilation, groups = geometry
    x, w, b = random_array((2, ins, 15, 18), np.float32), random_array((outs, ins // groups, *kernel), np.float32, 1), None
    for function, data, options in (
        (conv2d, x, {}),
        (conv2d_last, np.ascontiguousarray(x.transpose(0, 2, 3, 1)), {"layout": "NHWC", "activation": "silu"}),
    ):
        for b in (None, random_array((outs,), np.float32, 2)):
            expected = nc.conv2d(data, w, b, stride, padding, dilation, groups, **options)
            same_bits(function(data, w, b, stride, padding, dilation, groups), expected)
            del asked[:]
            same_bits(function(data, w, b, stride, padding, dilation, groups), expected)
            few_channels_of_bias = options and groups == ins == 3 and b is not None  # whose vectors Python repeats
            assert asked == (["compute"] if few_channels_of_bias else [])


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_family(ndim, asked):
    conv, transpose, of_input, of_weight = CONV[ndim], TRANSPOSE[ndim], GRAD_INPUT[ndim], GRAD_WEIGHT[ndim]

    @njit
    def all_of_them(x, w, v, stride, padding):
        y = conv(x, w, None, stride, padding)
        z = transpose(x, v, None, stride, padding, stride - 1)
        return y, z, of_input(x.shape, w, y, stride, padding), of_weight(x, w.shape, y, stride, padding)

    x = random_array((2, 5, *(9, 8, 7)[:ndim]), np.float32)
    w, v = random_array((6, 5, *(3, 2, 1)[:ndim]), np.float32, 1), random_array((5, 4, *(3, 2, 3)[:ndim]), np.float32, 2)
    for stride in (1, 2, 3):
        for _ in range(2):
            del asked[:]
            y, z, dx, dw = all_of_them(x, w, v, stride, 0)
        assert asked == []
        expected = conv(x, w, None, stride)
        same_bits(y, expected)
        same_bits(z, transpose(x, v, None, stride, 0, stride - 1))
        same_bits(dx, of_input(x.shape, w, expected, stride))
        same_bits(dw, of_weight(x, w.shape, expected, stride))


def test_the_definitions(asked):
    @njit
    def definitions(x, k, xs, ks, kernels, mixing):
        y, ys = nc.corr2d(x, k), nc.corr2d_multi_in(xs, ks)
        return y, ys, nc.corr2d_multi_in_out(xs, kernels), nc.corr2d_multi_in_out_1x1(xs, mixing)

    xs, kernels = random_array((2, 5, 6), np.float64), random_array((3, 2, 2, 2), np.float64, 1)
    args = xs[0], kernels[0, 0], xs, kernels[0], kernels, kernels[..., :1, :1].copy()
    definitions(*args)
    del asked[:]
    found = definitions(*args)
    assert asked == []
    expected = nc.corr2d(*args[:2]), nc.corr2d_multi_in(*args[2:4]), nc.corr2d_multi_in_out(xs, args[4])
    for result, same in zip(found, (*expected, nc.corr2d_multi_in_out_1x1(xs, args[5])), strict=True):
        same_bits(result, same)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64", "bool", "float64", "complex64", "complex128"])
def test_dtypes(dtype):
    @njit
    def call(x, w):
        return nc.conv2d(x, w, padding=1)

    x, w = random_array((1, 3, 8, 9), dtype), random_array((4, 3, 3, 3), dtype, 1)
    for _ in range(2):
        same_bits(call(x, w), nc.conv2d(x, w, padding=1))


def test_dtypes_of_results_and_options_that_stand_in_the_call():
    @njit
    def call(x, w, b, r):
        wide = nc.conv2d(x, w, b, padding="same", residual=r, activation="gelu", out_dtype=np.float64)
        word = nc.conv2d(x, w, stride=(2, 1), padding=((1, 0), (2, 1)), padding_mode="reflect", out_dtype="float64")
        return wide, word, nc.conv2d(x, w, b, algorithm="direct", precision="ieee", backend="cpu", stream=None)

    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32, 1)
    b, r = random_array((4,), np.float32, 2), random_array((1, 4, 8, 9), np.float32, 3)
    found = call(x, w, b, r)
    assert [y.dtype.name for y in found] == ["float64", "float64", "float32"]
    for result, expected in zip(found, call.py_func(x, w, b, r), strict=True):
        same_bits(result, expected)


def test_a_function_of_the_callers():
    @njit
    def square(v):
        return v * v

    @njit
    def call(x, w):
        return nc.conv2d(x, w, activation=square)

    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32, 1)
    same_bits(call(x, w), nc.conv2d(x, w, activation=square))


@pytest.mark.parametrize("order", ["F", "channels last", "reversed", "transposed", "every other"])
def test_arrays_in_any_order(order):
    """Strides are a part of what a call is looked up by, where they do not follow from the shape."""

    @njit
    def call(x, w):
        return nc.conv2d(x, w, padding=1)

    x, w = random_array((2, 4, 12, 14), np.float32), random_array((5, 4, 3, 3), np.float32, 1)
    x = {
        "F": np.asfortranarray(x), "channels last": np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1),
        "reversed": x[:, ::-1, :, ::-1], "transposed": x.swapaxes(2, 3), "every other": x[..., ::2],
    }[order]  # fmt: skip
    for data in (x, x[:1], x):
        same_bits(call(data, w), nc.conv2d(data, w, padding=1))


class TestOut:
    x, w = random_array((2, 4, 12, 14), np.float32), random_array((4, 4, 3, 3), np.float32, 1)
    expected = nc.conv2d(x, w, padding=1)

    @staticmethod
    @njit
    def call(x, w, out):
        return nc.conv2d(x, w, padding=1, out=out)

    def test_it_is_what_is_returned(self, asked):
        for _ in range(2):
            del asked[:]
            out = np.full_like(self.expected, 7)
            assert np.shares_memory(self.call(self.x, self.w, out), out)
            np.testing.assert_array_equal(out, self.expected)
        assert asked == []

    def test_overlaps_are_seen_in_every_call(self, asked):
        both = np.zeros((3, *self.x.shape[1:]), np.float32)
        self.call(self.x, self.w, np.empty_like(self.x))
        for lag in (1, 0, -1):
            data, out = both[max(0, lag) : 2 + max(0, lag)], both[max(0, -lag) : 2 + max(0, -lag)]
            data[:] = self.x
            del asked[:]
            self.call(data[:2], self.w, out[:2])
            np.testing.assert_array_equal(out[:2], self.expected)
            assert "compute" in asked

    def test_other_dtypes(self):
        out = np.empty(self.expected.shape)
        self.call(self.x, self.w, out)
        np.testing.assert_array_equal(out, nc.conv2d(self.x, self.w, padding=1, out=np.empty_like(out)))


def test_results_without_elements():
    @njit
    def call(x, w):
        return nc.conv2d(x, w)

    for shape in ((0, 3, 8, 9), (2, 3, 8, 9)):
        x, w = random_array(shape, np.float32), random_array((0 if shape[0] else 4, 3, 3, 3), np.float32, 1)
        assert call(x, w).shape == nc.conv2d(x, w).shape


def test_another_backend(asked):
    @njit
    def call(x, w):
        return nc.conv2d(x, w, backend="reference")

    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32, 1)
    same_bits(call(x, w), nc.conv2d(x, w, backend="reference"))
    assert asked == ["resolve", "compute"]


def test_more_shapes_than_a_table_holds():
    @njit
    def call(x, w):
        return nc.conv1d(x, w)

    w = random_array((1, 1, 3), np.float32, 1)
    for n in [*range(3, 400), 5, 399]:
        x = random_array((1, 1, n), np.float32)
        same_bits(call(x, w), nc.conv1d(x, w))
    assert not resolve._lent


def test_nothing_is_left_behind():
    @njit
    def call(x, w, n):
        total = 0.0
        for _ in range(n):
            total += nc.conv2d(x, w)[0, 0, 0, 0]
        return total

    def used():
        numba.core.runtime.nrt._nrt.memsys_enable_stats()
        stats = numba.core.runtime.rtsys.get_allocation_stats()
        return stats.alloc - stats.free

    x, w = random_array((1, 16, 20, 20), np.float32), random_array((16, 16, 3, 3), np.float32, 1)
    call(x, w, 1)
    before = used()
    call(x, w, 100)
    assert used() == before


KEPT = """
import sys
import numpy as np, numbaconv as nc
from numba import njit
{define}
x, w = np.ones((1, 3, 8, 9), np.float32), np.ones((4, 3, 3, 3), np.float32)
op = nc.Conv2d(w, padding=1)
np.testing.assert_array_equal(call(x, w), nc.conv2d(x, w, padding="same"))
np.testing.assert_array_equal(prepared(op, x), op(x))
print(sum(call.stats.cache_hits.values()), sum(prepared.stats.cache_hits.values()))
"""
DEFINE = """
from numba import njit
import numbaconv as nc
@njit(cache=True)
def call(x, w):
    return nc.conv2d(x, w, padding="same")
@njit(cache=True)
def prepared(op, x):
    return op(x)
"""


def test_numba_keeps_the_callers_code(tmp_path):
    (tmp_path / "kept.py").write_text(DEFINE)
    code = KEPT.format(define=f"sys.path.insert(0, {str(tmp_path)!r})\nfrom kept import call, prepared")
    hits = [run_python(code, env={"NUMBA_CACHE_DIR": str(tmp_path / "cache")}).stdout.split() for _ in range(2)]
    assert hits == [["0", "0"], ["1", "1"]]


def test_code_that_another_version_compiled(monkeypatch):
    """Numba does not see that the sources of what it compiled into the caller's code have changed."""

    @njit
    def call(x, w):
        return nc.conv2d(x, w, padding=((3, 5), (4, 6)))  # as nowhere else: Numba keeps what it compiled for such a call

    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32, 1)
    with monkeypatch.context() as patch:
        patch.setattr(request, "stamp", lambda: "older")
        call.compile((numba.typeof(x), numba.typeof(w)))
    with pytest.raises(RuntimeError, match="another version of numbaconv: remove its cache"):
        call(x, w)


def test_choices_are_made_anew_when_they_were_forgotten(asked):
    @njit
    def call(x, w):
        return nc.conv2d(x, w)

    x, w = random_array((1, 3, 8, 9), np.float32), random_array((4, 3, 3, 3), np.float32, 1)
    call(x, w)
    nc.execute.forget()
    del asked[:]
    call(x, w)
    call(x, w)
    assert asked == ["resolve"]
