"""Memory that is not there: MemoryError, in whichever thread it is missed, and everything works afterwards."""

import os

import pytest
from helpers import run_python

PROGRAM = """
import resource, sys
import numba, numpy as np, numbaconv as nc
from numbaconv.backend import BACKENDS
from scarce import refuse, trace_kernels

trace_kernels()
rng = np.random.default_rng(0)
SIXTEEN = 16 * 1024  # bytes: less than some block of every algorithm here, more than Python's own objects
DENSE = (1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}
PROBLEMS = {
    "depthwise": ((1, 16, 8, 9000), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
    "depthwise_blocked": ((1, 64, 40, 40), (64, 1, 3, 3), {"padding": 1, "groups": 64}),
    "pointwise": ((1, 1024, 40, 40), (64, 1024, 1, 1), {}),
}
for algorithm in BACKENDS["cpu"].algorithms:
    shape, weight, options = PROBLEMS.get(algorithm.name, DENSE)
    dtype = np.complex64 if algorithm.name.endswith("_4m") else np.float32
    x, w = (rng.standard_normal(s).astype(dtype) for s in (shape, weight))
    op = nc.Conv2d(w, **options, algorithm=algorithm.name, backend="cpu")
    expected = op(x)
    out = np.empty_like(expected)
    op(x, out=out)
    for threads in (numba.config.NUMBA_NUM_THREADS, 1):
        numba.set_num_threads(threads)
        with refuse(SIXTEEN) as refusals:
            try:
                op(x, out=out)
            except MemoryError:
                pass
            else:
                raise AssertionError(f"{algorithm.name}: no MemoryError after {refusals()} refusals")
            assert refusals()
        out[...] = np.nan
        np.testing.assert_array_equal(op(x, out=out), expected)
        np.testing.assert_array_equal(nc.conv2d(x, w, **options, algorithm=algorithm.name), expected)
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
x = w = np.ones((1, 1, 3, 3), np.float32)
op, before = nc.Conv2d(w, padding=11_000), resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as pages:
    resource.setrlimit(resource.RLIMIT_AS, (int(pages.read().split()[0]) * resource.getpagesize() + 2**30, before[1]))
for call in (lambda: nc.conv2d(x, w, padding=11_000), lambda: op(x)):  # results of 1.9 GB
    try:
        call()
    except MemoryError:
        continue
    raise AssertionError("no MemoryError")
resource.setrlimit(resource.RLIMIT_AS, before)
assert nc.conv2d(x, w).item() == 9
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="asks Linux how large the process is")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_what_a_thread_misses_is_a_memory_error(layer):
    """Numba's parallel loops lose what is raised in them, or report it as a SystemError."""
    run_python(PROGRAM, env={"NUMBA_THREADING_LAYER": layer}, timeout=280)
