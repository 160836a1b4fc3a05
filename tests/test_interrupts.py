"""Ctrl-C at any moment of a call: the library works on, in every thread and process, and ``out`` is untouched or whole."""

import os
import random
import sys

import pytest
from helpers import one_in, run_python

# An interrupt some time after the call began. The call itself may be over by then.
INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np, numbaconv as nc
signal.signal(signal.SIGINT, signal.default_int_handler)
what, seed, count, most = sys.argv[1], *map(float, sys.argv[2:])
rng = np.random.default_rng(int(seed))
n = 300 if what == "long" else 30
x, w = rng.integers(-4, 5, (2, 16, n, n)).astype(np.float32), rng.integers(-4, 5, (16, 16, 3, 3)).astype(np.float32)
expected = nc.conv2d(x, w, backend="reference")
def prepared(out=None):
    return nc.Conv2d(w, algorithm="direct")(x, out=out)
def functional(out=None):
    return nc.conv2d(x, w, algorithm="direct", out=out)
call = prepared if what == "prepared" else functional
if what != "compile":
    call()
for _ in range(int(count)):
    out, delay = np.full(expected.shape, 7, np.float32), rng.uniform(0, most)
    alarm = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
    try:
        alarm.start()
        until = time.perf_counter() + delay + 5
        while time.perf_counter() < until:
            call(out)
        raise AssertionError("the interrupt was lost")
    except KeyboardInterrupt:
        pass
    alarm.join()
    assert (out == 7).all() or (out == expected).all()
    found = []
    for work in (lambda: found.append(functional()), lambda: found.append(prepared())):
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), "a lock is held"
    found += [functional(), prepared()]
    assert all((y == expected).all() for y in found)
"""
# Whether the cache that an interrupted process left is of use: warnings would be errors.
AFTERWARDS = """
import sys, warnings
warnings.simplefilter("error")
import numpy as np, numbaconv as nc
x, w = np.ones((2, 16, 30, 30), np.float32), np.ones((16, 16, 3, 3), np.float32)
assert (nc.conv2d(x, w, algorithm="direct") == 144).all()
assert (nc.Conv2d(w, algorithm="direct")(x) == 144).all()
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")
@pytest.mark.parametrize(("call", "layer"), one_in(2, [("long", 0.05), ("prepared", 0.02)], ["workqueue", "omp"]))
def test_calls(call, layer):
    what, most = call
    settings = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2"}
    run_python(INTERRUPTED, what, 0, 15, most, env=settings)


def compile_interrupted(seed, folder):
    settings = {"NUMBA_CACHE_DIR": folder, "NUMBA_NUM_THREADS": "2"}
    run_python(INTERRUPTED, "compile", seed, 1, random.Random(seed).uniform(0, 4), env=settings, timeout=280)
    run_python(AFTERWARDS, env=settings, timeout=280)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")
def test_a_compilation(tmp_path):
    compile_interrupted(1, tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to a process")
@pytest.mark.parametrize("seed", range(2, 32))
def test_many_compilations(seed, tmp_path):
    compile_interrupted(seed, tmp_path)


WAITING = """
import os, signal, sys, time
from numbaconv.cpu.interrupts import uninterrupted
signal.signal(signal.SIGINT, signal.default_int_handler)
steps = []
try:
    with uninterrupted(), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        steps.append("compiled")
    steps.append("lost")
except KeyboardInterrupt:
    steps.append("raised")
assert steps == ["compiled", "raised"], steps
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends a process there")
def test_an_interrupt_waits_for_the_compiler():
    run_python(WAITING)
