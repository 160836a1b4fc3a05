"""Calls in compiled functions that go wrong: the errors of the same calls outside, and what Numba cannot type."""

import re

import numpy as np
import pytest
from helpers import random_array, run_python
from numba import njit
from numba.core.errors import TypingError

import numbaconv as nc

X, W, B = random_array((2, 4, 8, 9), np.float32), random_array((6, 4, 3, 3), np.float32, 1), random_array((6,), np.float32, 2)


@njit
def conv2d(x, w, b, stride, padding, groups):
    return nc.conv2d(x, w, b, stride=stride, padding=padding, groups=groups)


@njit
def into(x, w, out):
    return nc.conv2d(x, w, out=out)


@njit
def worded(x, w):
    return nc.conv2d(x, w, padding_mode="later")


@njit
def named(x, w):
    return nc.conv2d(x, w, activation="@relu")


WRONG = [
    (worded, (X, W)), (named, (X, W)),
    (conv2d, (X[:, :3].copy(), W, B, 1, 0, 1)), (conv2d, (X, W, B[:5].copy(), 1, 0, 1)), (conv2d, (X, W, B, 0, 0, 1)),
    (conv2d, (X, W, B, 1, -5, 1)), (conv2d, (X, W, B, 1, 0, 3)), (conv2d, (X, W, B, (1, 1, 1), 0, 1)),
    (conv2d, (X[0, 0].copy(), W, B, 1, 0, 1)), (conv2d, (X[:, :, :2].copy(), W, B, 1, 0, 1)), (conv2d, (X, W, B, 1, 2**62, 1)),
    (into, (X, W, np.zeros((2, 6, 6, 6), np.float32))), (into, (X, W, np.zeros((2, 6, 6, 7), np.int32))),
]  # fmt: skip


@pytest.mark.parametrize(("function", "args"), WRONG, ids=range(len(WRONG)))
def test_errors_are_those_outside(function, args):
    with pytest.raises((ValueError, TypeError)) as outside:
        function.py_func(*args)
    before = [a.copy() for a in args if isinstance(a, np.ndarray)]
    for _ in range(2):
        with pytest.raises(outside.type, match=f"^{re.escape(str(outside.value))}$") as inside:
            function(*args)
        assert inside.type is outside.type
    for array, was in zip([a for a in args if isinstance(a, np.ndarray)], before, strict=True):
        np.testing.assert_array_equal(array, was)


def test_a_dtype_that_no_kernel_computes_in():
    @njit
    def call(x, w):
        return nc.conv2d(x, w)

    x = np.zeros((1, 1, 3, 3), "M8[s]")
    with pytest.raises(TypeError, match=r"^input: expected"):
        call(x, W[:1, :1])


def test_the_function_may_catch_them():
    @njit
    def call(x, w):
        try:
            return nc.conv2d(x, w)
        except Exception:
            return x

    assert call(X, W).shape == (2, 6, 6, 7)
    bad = X[:, :3].copy()
    np.testing.assert_array_equal(call(bad, W), bad)
    assert call(X, W).shape == (2, 6, 6, 7)


def literal(x, w, word):
    return nc.conv2d(x, w, layout=word)


def listed(x, w, word):
    return nc.conv2d([1.0, 2.0], w)


def floating(x, w, word):
    return nc.conv2d(x, w, stride=1.5)


def sometimes(x, w, word):
    b = None
    if word == "NCHW":
        b = x[0, 0, 0]
    return nc.conv2d(x, w, b)


def no_number(x, w, word):
    return nc.corr2d(x, word)


def half(x, w, word):
    return nc.conv2d(x, w, out_dtype="float16")


def sized(x, w, word):
    return nc.grad.conv2d_input([1, 2], w, x)


def streamed(x, w, word):
    return nc.conv2d(x, w, stream=3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (streamed, "stream: expected None"),
        (literal, "layout: expected a literal str"), (listed, "input: expected an array; make one"),
        (floating, "stride: expected an int, or a tuple of ints"), (sometimes, "bias: expected an array that is there"),
        (no_number, "K: expected an array"), (half, "out_dtype: expected a dtype that Numba has"),
        (sized, "input_size: expected a tuple of ints"),
    ],
)  # fmt: skip
def test_what_cannot_be_typed_is_named(function, message):
    with pytest.raises(TypingError, match=message):
        njit(function)(X, W, "NCHW")


def test_read_only_results():
    out = np.zeros((2, 6, 6, 7), np.float32)
    out.flags.writeable = False
    with pytest.raises(TypingError, match="out: expected a writeable array"):
        into(X, W, out)


NO_MEMORY = """
import resource
import numpy as np, numbaconv as nc
from numba import njit
@njit
def call(x, w):
    return nc.conv2d(x, w)
w = np.ones((64, 1, 1, 1), np.float32)
small = np.ones((1, 1, 4, 4), np.float32)
call(small, w)
call(np.ones((1, 1, 300, 300), np.float32), w)  # starts the threads, which take more than the result may
x = np.ones((1, 1, 2000, 2000), np.float32)
nc.explain("conv2d", x, w)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, resource.RLIM_INFINITY))
for _ in range(3):
    try:
        call(x, w)
    except MemoryError:
        continue
    raise AssertionError("there was enough")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert (call(small, w) == 1).all() and (call(x, w) == 1).all()
"""


def test_too_little_memory():
    pytest.importorskip("resource", reason="this platform has no limit on memory")
    run_python(NO_MEMORY)
