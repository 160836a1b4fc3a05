"""Python threads, on every threading layer of Numba that is installed."""

import os

import numba
import numpy as np
import pytest
from helpers import one_in, run_python, some_of
from threading_layers import INSTALLED, every_layer, settings

import numbaconv as nc
from numbaconv import execute
from numbaconv.cpu import target

PREPARE = """
import os
import threading
import numpy as np, numbaconv as nc
rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 16, 30, 30), np.float32), rng.standard_normal((16, 16, 3, 3), np.float32)
"""
THREADS = (
    PREPARE
    + """
expected = nc.conv2d(x, w, backend="cpu")
wrong, op = [], nc.Conv2d(w)
def work(call):
    for _ in range(30):
        if call().tobytes() != expected.tobytes():
            wrong.append(1)
calls = [lambda: nc.conv2d(x, w), lambda: op(x)] * 3
threads = [threading.Thread(target=work, args=(call,)) for call in calls]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong
"""
)
FIRST_CALLS = (
    PREPARE
    + """
results = [None] * 6
def work(i):
    barrier.wait()
    results[i] = nc.conv2d(x, w)
barrier = threading.Barrier(6)
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
for t in threads: t.start()
for t in threads: t.join()
assert len({r.tobytes() for r in results}) == 1
"""
)
# Every element of a result says which thread of the operating system computed it.
COUNTED = """
import ctypes, threading
import numba, numpy as np, numbaconv as nc
gettid = ctypes.CDLL(None).gettid
gettid.argtypes, gettid.restype = [], ctypes.c_long
x, w, who = np.ones((2, 16, 64, 64)), np.ones((16, 16, 3, 3)), numba.njit(lambda x: 0 * x + gettid())
op = nc.Conv2d(w, activation=who)
def used():
    counts = {len(np.unique(call(x))) for _ in range(3) for call in (op, lambda x: nc.conv2d(x, w, activation=who))}
    return max(counts)
def uses(most):
    # TBB's threads take tasks as they come: it is known only that there are no more
    return used() <= most if numba.threading_layer() == "tbb" else used() == most
op(x)
"""
FEWER = (
    COUNTED
    + """
seen = []
numba.set_num_threads(3)
other = threading.Thread(target=lambda: seen.append((numba.get_num_threads(), uses(4))))
other.start()
other.join()
assert seen == [(4, True)], seen  # the setting is each thread's own
assert (uses(3), numba.get_num_threads()) == (True, 3)
numba.set_num_threads(1)
assert (uses(1), numba.get_num_threads()) == (True, 1)
numba.set_num_threads(4)
assert uses(4)
"""
)
LIMITED = (
    COUNTED
    + """
import sys
limit = int(sys.argv[1])
for asked in (4, 3, 2, 1):
    numba.set_num_threads(asked)
    assert (uses(min(asked, limit)), numba.get_num_threads()) == (True, asked)
numba.set_num_threads(4)
@numba.njit(parallel=True)
def threads():
    seen = np.zeros(64)
    for i in numba.prange(64):
        seen[i] = gettid()
    return seen
assert len(np.unique(threads())) > (limit if numba.threading_layer() != "tbb" else 0)  # the user's own kernels have all of them
assert nc.show_config("dicts")["threads"]["threads"] == limit
"""
)
NESTED = (
    PREPARE
    + """
import numba
from numba import njit, objmode, prange
expected, op = nc.conv2d(x, w), nc.Conv2d(w)
op(x)
right = []
def call(number):
    right.append((op(x) if number % 2 else nc.conv2d(x, w)).tobytes() == expected.tobytes())
@njit(parallel=True)
def outer(count):
    for number in prange(count):
        with objmode():
            call(number)
outer(8)
assert right == [True] * 8, right
assert op(x).tobytes() == expected.tobytes()
"""
)
FORKS = (
    PREPARE
    + """
expected, op = nc.conv2d(x, w), nc.Conv2d(w)
op(x)
def work():
    while not done:
        if op(x).tobytes() != expected.tobytes() or nc.conv2d(x, w).tobytes() != expected.tobytes():
            wrong.append(1)
done, wrong = [], []
thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if op(x).tobytes() == nc.conv2d(x, w).tobytes() == expected.tobytes() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
done.append(1)
thread.join()
assert not wrong
"""
)
GIL = """
import sys, threading, time
import numpy as np, numbaconv as nc
from numbaconv.cpu import threads
threads._forked = sys.argv[1] == "in series"  # as after a fork
x, w = np.ones((1, 64, 400, 400)), np.ones((64, 64, 3, 3))
op, out = nc.Conv2d(w, algorithm="direct"), np.empty((1, 64, 398, 398))
op(x, out=out)
moments, done = [], []
def watch():
    while not done:
        moments.append(time.perf_counter())
        time.sleep(1e-3)
thread = threading.Thread(target=watch)
thread.start()
start = time.perf_counter()
op(x, out=out)
end = time.perf_counter()
done.append(1)
thread.join()
span = end - start
inside = sum(start + span / 4 < moment < end - span / 4 for moment in moments)
assert span > 0.02, span
assert inside >= 3, (inside, span)
"""


PYTHON_THREADS = {"many calls": THREADS, "the first calls": FIRST_CALLS}


@pytest.mark.parametrize(("code", "layer"), one_in(2, PYTHON_THREADS, INSTALLED))
def test_python_threads(code, layer):
    run_python(PYTHON_THREADS[code], env=settings(layer))


@pytest.mark.parametrize("layer", some_of(INSTALLED, 0))
def test_no_more_threads_than_numba_is_told_to_use(layer):
    run_python(FEWER, env=settings(layer) | {"NUMBA_NUM_THREADS": "4"})


@pytest.mark.parametrize(("limit", "layer"), one_in(3, [1, 3], INSTALLED))
def test_no_more_threads_than_the_environment_says(limit, layer):
    """Kernels of the user's own have the others too."""
    run_python(LIMITED, limit, env=settings(layer) | {"NUMBA_NUM_THREADS": "4", "NUMBACONV_NUM_THREADS": str(limit)})


@pytest.mark.parametrize("value", ["0", "97", "-1", "1.5", "two", " 1", "1" * 5000, "²"])
def test_an_environment_that_names_no_number_of_threads(value, monkeypatch):
    """The reference, which has no threads, computes all the same."""
    monkeypatch.setattr(target, "SETTING", value)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 96)
    x, w = np.ones((1, 4, 8, 8)), np.ones((4, 4, 3, 3))
    assert (nc.conv2d(x, w, backend="reference") == 36).all()
    execute.forget()
    for call in (nc.conv2d, lambda x, w: nc.Conv2d(w), lambda x, w: nc.explain("conv2d", x, w)):
        with pytest.raises(ValueError, match=r"^NUMBACONV_NUM_THREADS: expected an int from 1 to 96, .+, got "):
            call(x, w)


def test_the_command_line_says_what_is_wrong_with_the_environment():
    done = run_python(
        "import sys; from numbaconv.__main__ import main; sys.exit(main(['explain', 'conv2d', '1,3,8,8', '4,3,3,3']))",
        env={"NUMBACONV_NUM_THREADS": "none"}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "NUMBACONV_NUM_THREADS: expected" in done.stderr


@every_layer
def test_a_call_from_within_a_parallel_kernel_of_the_users(layer):
    """By way of objmode; workqueue's own threads are not to start another parallel kernel."""
    run_python(NESTED, env=settings(layer))


@every_layer
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_forks_while_another_thread_computes(layer):
    run_python(FORKS, env=settings(layer))


@pytest.mark.parametrize(("driver", "layer"), one_in(2, ["in series", "in parallel"], INSTALLED))
def test_other_python_threads_run_meanwhile(driver, layer):
    run_python(GIL, driver, env=settings(layer))
