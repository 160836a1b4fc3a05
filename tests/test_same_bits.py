"""No bit of a result depends on the number of threads or on the batch, with ``algorithm="auto"`` as well."""

import numpy as np
import pytest
from helpers import HOST_ALGORITHMS, find_algorithm, random_array, run_python

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


# Where the fastest algorithm of many items is another one than that of one: the same columns.
BATCHES = [
    (32, 32, 7, 32, 1, 2, 32, "NHWC"), (32, 16, 7, 16, 1, 1, 16, "NCHW"), (32, 1, 28, 1, 3, 2, 1, "NHWC"),
    (32, 1, 14, 1, 1, 1, 1, "NCHW"), (32, 16, 7, 16, 7, 2, 1, "NHWC"), (32, 16, 7, 16, 5, 2, 1, "NHWC"),
    (8, 1, 28, 1, 3, 2, 1, "NCHW"), (8, 32, 7, 32, 3, 1, 1, "NCHW"), (32, 32, 7, 32, 3, 1, 1, "NHWC"),
    (8, 16, 7, 64, 5, 2, 1, "NHWC"), (32, 3, 14, 32, 1, 1, 1, "NCHW"), (8, 64, 14, 64, 3, 1, 1, "NCHW"),
]  # fmt: skip


@pytest.mark.parametrize("problem", BATCHES, ids=str)
def test_an_item_alone_and_in_a_batch(problem):
    _, prepared, x = calls(problem)
    y = prepared(x)
    for part in (slice(0, 1), slice(1, 3), slice(5, None)):
        np.testing.assert_array_equal(prepared(x[part]).view(np.int32), y[part].view(np.int32))


def test_explain_names_what_rounds_otherwise():
    problem = next(p for p in BATCHES if chosen_by_cost(p) != calls(p)[1].explain((1, *calls(p)[2].shape[1:])).algorithm)
    _, prepared, x = calls(problem)
    one, batch = prepared.explain(x[:1]), prepared.explain(x)
    assert f"one item takes {one.algorithm}, which rounds otherwise" in {row.why_not for row in batch.rows}


def chosen_by_cost(problem):
    """The algorithm that is predicted fastest for a prepared operator, whatever its bits."""
    _, prepared, x = calls(problem)
    return min((row.cost, row.algorithm) for row in prepared.explain(x).rows if row.cost is not None and row.backend == "cpu")[1]


TAPS = [name for backend, name in HOST_ALGORITHMS if find_algorithm(backend, name).summation == "taps"]


MANY_CHANNELS, ONE_CHANNEL = (2, 600, 9, 16, 3, 1, 1, "NCHW"), (1, 1, 20, 1, 5, 1, 1, "NCHW")
ALIKE = [(problem, np.float32) for problem in (*PROBLEMS, *BATCHES, MANY_CHANNELS, ONE_CHANNEL)]
ALIKE += [(problem, dtype) for problem in (PROBLEMS[-2], MANY_CHANNELS) for dtype in (np.float64, np.float16)]


@pytest.mark.parametrize(("problem", "dtype"), ALIKE, ids=str)
def test_algorithms_that_sum_in_one_order(problem, dtype):
    """With everything that is added to sums and applied to them."""
    batch, ins, size, outs, k, stride, groups, layout = problem
    batch = min(batch, 3)
    x = random_array((batch, ins, size, size) if layout == "NCHW" else (batch, size, size, ins), dtype)
    w, bias = random_array((outs, ins // groups, k, k), dtype, 1), random_array((outs,), dtype, 2)
    options = {"stride": stride, "padding": k // 2, "groups": groups, "layout": layout, "activation": "silu", "backend": "cpu"}
    residual = random_array(nc.conv2d(x, w, bias, **options).shape, dtype, 3)
    results = {}
    for name in TAPS:
        try:
            results[name] = nc.Conv2d(w, bias, **options, algorithm=name)(x, residual=residual)
        except ValueError:  # it does not take the problem
            continue
    assert len(results) > 1
    assert len({result.tobytes() for result in results.values()}) == 1, list(results)
