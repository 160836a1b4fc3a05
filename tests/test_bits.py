"""The same bits whatever the threads, the batch and the way of the call; and floats that are no normal numbers."""

import ctypes
import platform
import time

import numba
import numpy as np
import pytest
from helpers import CPU_ALGORITHMS, case, operands, random_array, why_not

import numbaconv as nc

every_algorithm = pytest.mark.parametrize("algorithm", CPU_ALGORITHMS)
PROBLEMS = {
    "depthwise": [
        case((5, 19, 30, 41), (19, 1, 5, 5), groups=19, padding=2),
        case((5, 30, 41, 19), (19, 1, 3, 3), groups=19, padding=1, layout="NHWC"),
    ],
    "depthwise_blocked": [case((5, 37, 30, 13), (37, 1, 5, 5), groups=37, padding=2)],
    "pointwise": [case((5, 37, 20, 21), (53, 37, 1, 1))],
}
DENSE = [case((5, 37, 20, 21), (53, 37, 3, 3), padding=1), case((5, 20, 21, 37), (53, 37, 3, 3), padding=1, layout="NHWC")]


def problems(algorithm):
    return PROBLEMS.get(algorithm, DENSE)


@every_algorithm
def test_threads_batches_and_prepared_operators(algorithm):
    for problem in problems(algorithm):
        arrays, options = operands(problem, np.float32), {**problem.options, "algorithm": algorithm, "backend": "cpu"}
        assert why_not(arrays, options) is None
        x, w = arrays["input"], arrays["weight"]
        op = nc.Conv2d(w, **options)
        expected = op(x)
        before = numba.get_num_threads()
        try:
            for threads in range(1, min(3, numba.config.NUMBA_NUM_THREADS + 1)):
                numba.set_num_threads(threads)
                np.testing.assert_array_equal(op(x), expected)
                np.testing.assert_array_equal(nc.conv2d(x, w, **options), expected)
                np.testing.assert_array_equal(nc.Conv2d(w, **options)(x), expected)
        finally:
            numba.set_num_threads(before)
        np.testing.assert_array_equal(np.concatenate([op(x[:2]), op(x[2:3]), op(x[3:])]), expected)


def floating_point_control():
    """The bits that say how floats are rounded, and whether denormal ones are kept."""
    environment = (ctypes.c_ubyte * 256)()
    assert ctypes.CDLL(None).fegetenv(environment) == 0
    state = np.frombuffer(environment, np.uint32)
    return state[7] & 0xFFC0 if platform.machine() in ("x86_64", "AMD64") else state[0]


@every_algorithm
def test_the_floating_point_environment_is_left_alone(algorithm):
    problem = problems(algorithm)[0]
    arrays, tiny = operands(problem, np.float32), np.float32(1e-42)
    before = floating_point_control()
    nc.conv2d(**arrays, **problem.options, algorithm=algorithm, backend="cpu")
    assert floating_point_control() == before
    assert tiny * np.float32(0.5) > 0
    with np.errstate(all="raise"):
        nc.conv2d(**arrays, **problem.options, algorithm=algorithm, backend="cpu")


@every_algorithm
def test_denormal_numbers_count(algorithm):
    """They are summed as all others are, except by what transforms them."""
    for problem in problems(algorithm):
        arrays = operands(problem, np.float32)
        x, w = np.round(3 * arrays["input"]), np.round(3 * arrays["weight"])
        options = {**problem.options, "algorithm": algorithm, "backend": "cpu"}
        scale = np.float32(2.0**-140)
        result, expected = nc.conv2d(x * scale, w, **options), nc.conv2d(x, w, **problem.options, backend="reference") * scale
        np.testing.assert_allclose(result, expected, rtol=0, atol=4096 * 2.0**-149 if algorithm.startswith("winograd") else 0)


@every_algorithm
def test_denormal_numbers_are_not_slow(algorithm):
    problem = problems(algorithm)[0]
    options = {**problem.options, "algorithm": algorithm, "backend": "cpu"}
    x, w = random_array(problem.input, np.float32), random_array(problem.weight, np.float32)
    op = nc.Conv2d(w, **options)
    inputs, times = (x, x * np.float32(1e-40)), ([], [])
    for _ in range(100):
        for data, seconds in zip(inputs, times, strict=True):
            start = time.perf_counter()
            op(data)
            seconds.append(time.perf_counter() - start)
        normal, denormal = map(min, times)  # of a machine that does other things as well
        if denormal < 3 * normal:
            break
    assert denormal < 3 * normal
