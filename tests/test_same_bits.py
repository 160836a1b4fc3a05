"""No bit of a result depends on the number of threads, with ``algorithm="auto"`` as well."""

import numpy as np
from helpers import random_array, run_python

import numbaconv as nc

# Where the fastest algorithm is another one on 1, 2 or 4 threads, and where it is not: batch, input channels, size, output
# channels, kernel, stride, groups, layout.
PROBLEMS = [
    (2, 16, 7, 1, 7, 1, 1, "NCHW"), (1, 16, 14, 1, 5, 1, 1, "NCHW"), (8, 3, 16, 1, 3, 1, 1, "NHWC"),
    (1, 32, 7, 4, 3, 1, 1, "NCHW"), (2, 1, 28, 4, 3, 1, 1, "NCHW"), (1, 16, 14, 4, 3, 1, 1, "NHWC"),
    (1, 32, 7, 8, 7, 1, 1, "NCHW"), (4, 16, 7, 4, 3, 1, 1, "NCHW"), (8, 8, 8, 4, 3, 2, 1, "NHWC"),
    (1, 16, 8, 32, 5, 1, 1, "NHWC"), (2, 24, 30, 24, 3, 1, 24, "NCHW"), (1, 48, 20, 65, 1, 1, 1, "NCHW"),
]  # fmt: skip
PROGRAM = """
import hashlib
import numba
from test_same_bits import PROBLEMS, calls

for problem in PROBLEMS:
    functional, prepared, x = calls(problem)
    found = set()
    for threads in {1, numba.config.NUMBA_NUM_THREADS}:
        numba.set_num_threads(threads)
        found |= {(functional(x).tobytes(), prepared(x).tobytes())}
    assert len(found) == 1, problem
    print(prepared.explain(x).algorithm, *(hashlib.sha256(y).hexdigest() for y in found.pop()))
"""


def calls(problem):
    """The functional call of a problem, the prepared operator, and the input."""
    batch, ins, size, outs, k, stride, groups, layout = problem
    shape = (batch, ins, size, size) if layout == "NCHW" else (batch, size, size, ins)
    x, w = random_array(shape, np.float32), random_array((outs, ins // groups, k, k), np.float32, 1)
    options = {"stride": stride, "padding": k // 2, "groups": groups, "layout": layout, "backend": "cpu"}
    return lambda x: nc.conv2d(x, w, **options), nc.Conv2d(w, **options), x


def test_processes_with_other_numbers_of_threads():
    found = [run_python(PROGRAM, env={"NUMBA_NUM_THREADS": str(n)}).stdout.splitlines() for n in (1, 2, 4)]
    assert [line for line in zip(PROBLEMS, *found, strict=True) if len(set(line[1:])) > 1] == []
