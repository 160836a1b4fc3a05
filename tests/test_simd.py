"""The operations of generated vector code against what they mean in NumPy."""

import ctypes

import numpy as np
import pytest
from guard import Guarded
from helpers import random_array

from numbaconv.cpu.simd import WORDS, has_vectors, lanes, vector_function

DTYPES = [np.dtype(d) for d in ("float32", "float64", "int32", "int64", "uint64")]
every_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def run(emit, dtype, *words):
    """Compile and call; arrays go as their addresses."""
    function = vector_function(emit, dtype)
    words = [w.ctypes.data if isinstance(w, np.ndarray) else w for w in words]
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * WORDS)(function.address)(*words, *[0] * (WORDS - len(words)))


def numbers(count, dtype, seed=0):
    return random_array((count,), dtype, seed)


def test_which_dtypes_have_vectors():
    assert all(map(has_vectors, DTYPES))
    assert not any(has_vectors(np.dtype(d)) for d in ("complex64", "complex128", "float16", "bool", "uint8"))


@every_dtype
def test_arithmetic(dtype):
    def emit(code, a, b, target):
        a, b = code.load(a), code.load(b)
        for i, value in enumerate([a + b, a - b, a * b, -a, a + 3, 2 * b, code.zero]):
            code.store(value, target + i * code.bytes)

    n = lanes(dtype)
    a, b, target = numbers(n, dtype), numbers(n, dtype, 1), np.empty((7, n), dtype)
    run(emit, dtype, a, b, target)
    with np.errstate(over="ignore"):
        expected = [a + b, a - b, a * b, -a, a + dtype.type(3), dtype.type(2) * b, 0 * a]
    np.testing.assert_array_equal(target, expected)


@every_dtype
def test_words_variables_loops_and_branches(dtype):
    """The sum of some rows, counted by a loop, where `left >= right`, and twice the first one where it is not."""

    def emit(code, source, target, count, left, right):
        total = code.variable(code.zero)
        with code.either(left, right) as (then, otherwise):
            with then, code.loop(count) as i:
                total.value = total.value + code.load(source + i * code.bytes)
            with otherwise:
                total.value = 2 * code.load(source)
        code.store(total.value, target)
        code.store(code.broadcast(code.word(target + code.bytes)), target + code.bytes)

    n = lanes(dtype)
    rows = np.round(3 * numbers(5 * n, np.float64)).reshape(5, n).astype(dtype)
    for count, left, right in [(5, 1, 1), (0, 2, -3), (5, -1, 0), (3, 7, 2)]:
        target = np.zeros((3, n), dtype)
        target[1].view(np.int64)[0] = rows[4, 1:].ctypes.data
        run(emit, dtype, rows, target, count, left, right)
        np.testing.assert_array_equal(target[0], rows[:count].sum(axis=0, dtype=dtype) if left >= right else 2 * rows[0])
        np.testing.assert_array_equal(target[1], [rows[4, 1]] * n)
        assert not target[2].any()


@every_dtype
def test_steps_and_smaller(dtype):
    def emit(code, target, count, step):
        with code.loop(count, 3) as i:
            code.store(code.zero, target + code.smaller(i, step) * code.bytes)

    target = np.ones((9, lanes(dtype)), dtype)
    run(emit, dtype, target, 8, 4)
    np.testing.assert_array_equal(np.flatnonzero(target[:, 0] == 0), [0, 3, 4])


@every_dtype
def test_shuffle(dtype):
    n = lanes(dtype)
    index = np.random.default_rng(n).integers(0, 2 * n, n).tolist()

    def emit(code, a, b, target):
        code.store(code.shuffle(code.load(a), code.load(b), index), target)

    a, b, target = numbers(n, dtype), numbers(n, dtype, 1), np.empty(n, dtype)
    run(emit, dtype, a, b, target)
    np.testing.assert_array_equal(target, np.concatenate([a, b])[index])


@every_dtype
def test_multiply_add(dtype):
    """Rounded once: (1 + u) (1 - u) - 1 is -u u, which a rounded product has lost."""

    def emit(code, a, b, c, target):
        code.store(code.multiply_add(code.load(a), code.load(b), code.load(c)), target)

    a, b, c, target = (numbers(lanes(dtype), dtype, i) for i in range(4))
    if dtype.kind == "f":
        eps = np.finfo(dtype).eps
        a, b, c = np.full_like(a, 1 + eps), np.full_like(a, 1 - eps), np.full_like(a, -1)
    run(emit, dtype, a, b, c, target)
    np.testing.assert_array_equal(target, -(np.full_like(a, eps) ** 2) if dtype.kind == "f" else a * b + c)


def masked(code, source, target, first, size):
    window = code.window(first, size)
    code.store(code.load(source, window), target, window)


def all_lanes(code, source, target, first, size):
    code.store(code.load(source, code.window(first, size)), target)


@every_dtype
def test_windows(dtype):
    """Lanes outside are zero when loaded, and left alone when stored; at any alignment of the dtype."""
    n = lanes(dtype)
    source = np.arange(1, n + 2).astype(dtype)[1:]
    for first, size in [(0, n), (0, 0), (0, 1), (0, n - 1), (-1, n), (-2, 3), (1 - n, 5), (-n, 9), (3, 3), (2, n), (0, 2 * n)]:
        position = first + np.arange(n)
        inside = (position >= 0) & (position < size)
        for emit, outside in ((masked, 77), (all_lanes, 0)):
            target = np.full(n + 2, 77, dtype)
            run(emit, dtype, source, target[1:], first, size)
            np.testing.assert_array_equal(target, [77, *np.where(inside, source, dtype.type(outside)), 77])


@every_dtype
def test_lanes_outside_a_mask_touch_no_memory(dtype):
    """What they would read and write is on a page without any access."""

    def emit(code, source, target, count):
        mask = code.mask(count)
        code.store(code.load(source, mask), target, mask)

    for count in {0, 1, lanes(dtype) // 2, lanes(dtype) - 1, lanes(dtype)}:
        source, target = Guarded((count,), dtype), Guarded((count,), dtype)
        source.array[:] = np.arange(count)
        run(emit, dtype, source.array, target.array, count)
        np.testing.assert_array_equal(target.array, np.arange(count))
        assert source.is_whole()
        assert target.is_whole()

    def before(code, source, target, first):
        window = code.window(first, code.constant(1000))
        code.store(code.load(source + first * code.dtype.itemsize, window), target + first * code.dtype.itemsize, window)

    source, target = (Guarded((lanes(dtype),), dtype, at_end=False) for _ in range(2))
    source.array[:] = np.arange(lanes(dtype))
    run(before, dtype, source.array, target.array, -1)
    np.testing.assert_array_equal(target.array[:-1], np.arange(lanes(dtype))[:-1])
