"""Calls in compiled functions and threads: within parallel loops, from several Python threads, after a fork."""

import pytest
from helpers import one_in, run_python, some_of
from threading_layers import INSTALLED, every_layer, forks, settings

PREPARE = """
import os, threading
import numba, numpy as np, numbaconv as nc
from numba import njit, prange
from numbaconv.cpu import threads
rng = np.random.default_rng(0)
x, w = rng.standard_normal((3, 16, 40, 40), np.float32), rng.standard_normal((32, 16, 3, 3), np.float32)
expected = nc.Conv2d(w, padding=1)(x)
functional = nc.conv2d(x, w, padding=1)
"""
WITHIN = (
    PREPARE
    + """
import ctypes
gettid = ctypes.CFUNCTYPE(ctypes.c_int64)(("gettid", ctypes.CDLL(None)))
@njit
def who(v):
    return gettid() + 0 * v
@njit
def mark(x, w):
    return nc.conv2d(x, w, padding=1, activation=who, out_dtype=np.float64)
op = nc.Conv2d(w, padding=1)
@njit(parallel=True)
def outer(op, x, w, expected, functional, count):
    same, marks, mine = np.zeros(count), np.zeros((count, 2)), np.zeros(count)
    for i in prange(count):
        mine[i] = gettid()
        same[i] = (op(x) == expected).all() and (nc.conv2d(x, w, padding=1) == functional).all()
        m = mark(x, w)
        marks[i] = m.min(), m.max()
    return same, marks, mine
same, marks, mine = outer(op, x, w, expected, functional, 8)
assert same.all(), same
if numba.threading_layer() != "tbb":  # whose nested loops start no threads, and share those that there are
    assert (marks == mine[:, None]).all(), "a call within a parallel loop has run on other threads"
alone = mark(x, w)
if numba.threading_layer() != "tbb":
    assert len(np.unique(alone)) == 2, "a call outside of one has not run on all threads"
"""
)
FROM_THREADS = (
    PREPARE
    + """
@njit(nogil=True)
def work(x, w, op, n):
    for _ in range(n):
        y = nc.conv2d(x, w, padding=1)
        z = op(x)
    return y, z
op, wrong = nc.Conv2d(w, padding=1), []
def run():
    y, z = work(x, w, op, 5)
    if (y != functional).any() or (z != expected).any():
        wrong.append(1)
threads_ = [threading.Thread(target=run) for _ in range(6)]
[t.start() for t in threads_]
[t.join() for t in threads_]
assert not wrong
"""
)
FORKED = (
    PREPARE
    + """
@njit
def work(x, w):
    return nc.conv2d(x, w, padding=1)
assert (work(x, w) == functional).all()
child = os.fork()
if child == 0:
    os._exit(0 if (work(x, w) == functional).all() and (work(x[:2], w) == nc.conv2d(x[:2], w, padding=1)).all() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert (work(x, w) == functional).all()
"""
)
LIMITED = (
    PREPARE
    + """
@njit
def work(x, w):
    return nc.conv2d(x, w, padding=1)
for n in (2, 1, 2):
    numba.set_num_threads(n)
    assert (work(x, w) == functional).all()
    assert numba.get_num_threads() == n
"""
)


@pytest.mark.parametrize("layer", some_of(INSTALLED, 0))
def test_within_a_parallel_loop(layer):
    run_python(WITHIN, env=settings(layer))


@pytest.mark.parametrize("layer", some_of(INSTALLED, 1))
def test_from_several_threads_of_python(layer):
    run_python(FROM_THREADS, env=settings(layer))


@every_layer
@forks
def test_after_a_fork(layer):
    run_python(FORKED, env=settings(layer))


@pytest.mark.parametrize(("limit", "layer"), one_in(3, ["", "1"], INSTALLED))
def test_with_fewer_threads(limit, layer):
    run_python(LIMITED, env={**settings(layer), "NUMBACONV_NUM_THREADS": limit})
