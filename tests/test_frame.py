"""Frames: a task gets the arguments that were put in, wherever the arrays of a call lie, and nothing keeps those alive."""

import gc
import weakref

import numpy as np
import pytest
from helpers import one_in, random_array
from numba import njit, types

import numbaconv as nc
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of
from numbaconv.cpu.jit import contiguous, strided
from numbaconv.cpu.threads import Launcher

FLOAT, INT = np.dtype(np.float32), np.dtype(np.int64)
SIGNATURE = contiguous(INT, 2), strided(FLOAT, 3), types.int64, strided(FLOAT, 1), contiguous(FLOAT, 1)


@njit
def task(number, frame):
    """What is seen of an array of any strides, a word, and two arrays more."""
    found, a, word, b, c = arguments(frame)
    row = found[number]
    row[0], row[1], row[2] = a.shape
    row[3], row[4], row[5] = a.strides
    row[6], row[7], row[8], row[9] = address_of(a), a.size, a.itemsize, word
    row[10], row[11], row[12], row[13], row[14] = b.size, b.strides[0], address_of(b), c.size, address_of(c)


def seen(a, word, b, c):
    return [
        *a.shape,
        *a.strides,
        a.ctypes.data,
        a.size,
        a.itemsize,
        word,
        b.size,
        *b.strides,
        b.ctypes.data,
        c.size,
        c.ctypes.data,
    ]


@pytest.mark.parametrize("small", [True, False])
def test_tasks_see_the_arguments(small):
    found = np.zeros((3, 15), np.int64)
    a, b, c = random_array((4, 5, 6), FLOAT)[::-1, 1:, ::2], random_array((9,), FLOAT)[::-3], np.empty(0, FLOAT)
    Launcher(task, SIGNATURE, 3, small)((found, a, -7, b, c))
    assert (found == seen(a, -7, b, c)).all()


@pytest.mark.parametrize("small", [True, False])
def test_bound_tasks_see_the_arrays_of_the_call(small):
    def views(base):
        return base[1:, ::-1, 2:], base[0, 0, ::2]

    word, c = 2**40, random_array((7,), FLOAT)
    bases = [random_array((4, 5, 6), FLOAT) for _ in range(3)]
    found = np.zeros((2, 15), np.int64)
    a, b = views(bases[0])
    launch = Launcher(task, SIGNATURE, 2, small).bind((found, a, word, b, c), (found, bases[0], None, bases[0]))
    for base in bases:
        found[:] = 0
        launch(found, base, None, base, None)
        a, b = views(base)
        assert (found == seen(a, word, b, c)).all()


@pytest.mark.parametrize(
    ("layout", "algorithm"), one_in(2, ["NCHW", "NHWC"], ["direct", "direct_unpacked", "winograd2", "pixels", "rows"])
)
def test_a_bound_call_keeps_no_array_of_the_caller(layout, algorithm):
    def call(function):
        x, w, b = (
            random_array((1, 16, 12, 16), FLOAT),
            random_array((4, 12 if layout == "NCHW" else 16, 3, 3), FLOAT),
            np.ones(4, FLOAT),
        )
        x = x[:, :12].copy() if layout == "NCHW" else x
        results = [function(x, w, b) for _ in range(2)]
        return [weakref.ref(array) for array in (x, w, b, *results)]

    options = {"layout": layout, "algorithm": algorithm, "backend": "cpu", "padding": 1}
    gone = call(lambda x, w, b: nc.conv2d(x, w, b, **options))
    kept = []
    gone += call(lambda x, w, b: kept.append(nc.Conv2d(w, b, **options)) or kept[0](x))
    gc.collect()
    assert [ref() is None for ref in gone] == [True] * len(gone)
