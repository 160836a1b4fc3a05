"""Python threads, on every threading layer of Numba that is installed."""

import pytest
from helpers import run_python
from threading_layers import every_layer, settings

PREPARE = """
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


@every_layer
@pytest.mark.parametrize("code", [THREADS, FIRST_CALLS], ids=["many calls", "the first calls"])
def test_python_threads(layer, code):
    run_python(code, env=settings(layer))
