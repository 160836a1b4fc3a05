"""Prepared operators as arguments of compiled functions."""

import copy
import gc
import pickle

import numpy as np
import pytest
from helpers import random_array
from numba import njit
from numba.core.errors import TypingError
from test_compiled import asked, same_bits  # noqa: F401  (a fixture)

import numbaconv as nc

X, W = random_array((2, 16, 12, 13), np.float32), random_array((24, 16, 3, 3), np.float32, 1)
B = random_array((24,), np.float32, 2)


@njit
def call(op, x):
    return op(x)


OPERATORS = {
    "conv2d": (nc.Conv2d(W, B, padding=1, activation="relu"), X),
    "strided": (nc.Conv2d(W, B, stride=2, padding="same", layout="NHWC"), X.transpose(0, 2, 3, 1).copy()),
    "depthwise": (nc.Conv2d(W[:16, :1], groups=16), X), "pointwise": (nc.Conv2d(W[:, :, :1, :1], B), X),
    "wide": (nc.Conv2d(W, out_dtype=np.float64), X), "integers": (nc.Conv2d((9 * W).astype(np.int8)), (9 * X).astype(np.int8)),
    "one": (nc.Conv1d(W[:, :, 0], B), X[:, :, 0].copy()), "three": (nc.Conv3d(W[:, :1, None]), X[:, None]),
    "transposed": (nc.ConvTranspose2d(W.swapaxes(0, 1), B, stride=2, output_padding=1), X), "item": (nc.Conv2d(W, B), X[0]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_the_bits_are_those_outside(name, asked):  # noqa: F811
    op, x = OPERATORS[name]
    for _ in range(2):
        del asked[:]
        same_bits(call(op, x), op(x))
    assert asked == []


def test_a_function_takes_all_operators_of_a_kind(asked):  # noqa: F811
    @njit
    def fresh(op, x):
        return op(x)

    for op in (nc.Conv2d(W, B), nc.Conv2d(W[:5], B[:5], stride=2), nc.Conv2d(W[::-1], B, dilation=2)):
        same_bits(fresh(op, X), op(X))
        same_bits(fresh(op, X[:1]), op(X[:1]))
    assert len(fresh.signatures) == 1
    assert asked == ["resolve"] * 6


def test_residual_and_out(asked):  # noqa: F811
    @njit
    def more(op, x, r, out):
        op(x, residual=r, out=out)
        return op(x, r)

    op = nc.Conv2d(W, B, padding=1)
    r = random_array((2, 24, 12, 13), np.float32, 3)
    out, expected = np.zeros_like(r), op(X, residual=r)
    for _ in range(2):
        del asked[:]
        same_bits(more(op, X, r, out), expected)
        np.testing.assert_array_equal(out, expected)
    assert asked == []


def test_a_network_of_them():
    @njit
    def network(layers, x):
        first, second = layers
        return second(np.maximum(first(x), 0)).sum()

    layers = nc.Conv2d(W, B, padding=1), nc.Conv2d(W.swapaxes(0, 1).copy(), None)
    expected = layers[1](np.maximum(layers[0](X), 0)).sum()
    assert network(layers, X) == pytest.approx(expected, rel=1e-4)


def test_a_global_of_the_function():
    op = nc.Conv2d(W, B)

    @njit
    def closed(x):
        return op(x)

    same_bits(closed(X), op(X))


def test_it_is_handed_back_itself():
    op = nc.Conv2d(W, B)
    assert njit(lambda op: op)(op) is op


def test_copies_have_tables_of_their_own():
    op = nc.Conv2d(W, B)
    expected = call(op, X)
    for other in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        same_bits(call(other, X), expected)
    shallow = copy.copy(op)
    del op
    gc.collect()
    same_bits(call(shallow, X), expected)


def test_many_operators_come_and_go():
    for i in range(200):
        op = nc.Conv2d(np.full((1, 1, 1, 1), i, np.float32))
        assert call(op, np.ones((1, 1, 2, 2), np.float32))[0, 0, 0, 0] == i


def test_errors():
    op = nc.Conv2d(W, B)
    with pytest.raises(ValueError, match=r"^weight: expected 3 input channels"):
        call(op, X[:, :3].copy())
    with pytest.raises(TypingError, match="input: expected an array"):
        call(op, 1.0)
    same_bits(call(op, X), op(X))
