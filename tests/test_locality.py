"""One Inf or NaN reaches just the outputs that depend on it, with algorithms that sum directly; the FP state is left alone."""

import platform

import numpy as np
import pytest
from helpers import CPU_ALGORITHMS, case, find_algorithm, operands, run_python, why_not

import numbaconv as nc

STRAIGHT = [name for name in CPU_ALGORITHMS if find_algorithm("cpu", name).sums_directly]
PROBLEMS = [
    case((2, 19, 13, 37), (21, 19, 3, 3), bias=True, residual=True, padding=1),
    case((2, 13, 37, 19), (21, 19, 3, 3), bias=True, padding=(2, 0), stride=2, layout="NHWC"),
    case((2, 17, 9, 33), (34, 17, 1, 1), bias=True, residual=True),
    case((1, 19, 14, 35), (19, 1, 5, 5), bias=True, groups=19, padding=2),
    case((1, 19, 14, 35), (19, 1, 3, 3), bias=True, residual=True, groups=19, stride=2, padding=1),
    case((2, 9, 21, 37), (37, 1, 3, 3), bias=True, groups=37, padding=1, layout="NHWC"),
    case((1, 19, 14, 35), (19, 1, 3, 3), groups=19, padding=(2, 0), padding_mode="reflect"),
]


def dependent(arrays, options, name, place):
    """Which outputs read an element: those that change with it, where all else is 1, and the zeros around the input as well."""
    ones = {key: np.ones(array.shape) for key, array in arrays.items()}
    usual = nc.conv2d(**ones, **options, backend="reference")
    ones[name][place] = 1000
    if name == "weight":  # times a zero of the padding it is NaN
        options = {**options, "padding_mode": "replicate"}
        usual = nc.conv2d(**{**ones, name: np.ones_like(ones[name])}, **options, backend="reference")
    return nc.conv2d(**ones, **options, backend="reference") != usual


def places(array, rng):
    """Elements at both ends, about the ends of vectors, and anywhere."""
    corners = [(0,) * array.ndim, tuple(n - 1 for n in array.shape)]
    tails = [tuple(min(n - 1, m) for n in array.shape) for m in (7, 8, 16, 31)]
    return {*corners, *tails, *(tuple(map(int, rng.integers(0, array.shape))) for _ in range(3))}


@pytest.mark.parametrize("algorithm", [*STRAIGHT, "accurate"])
def test_what_is_not_finite_stays_where_it_belongs(algorithm):
    rng, taken = np.random.default_rng(0), 0
    for problem in PROBLEMS:
        arrays = {name: abs(array) + np.float32(0.5) for name, array in operands(problem, np.float32).items()}
        options = {**problem.options, "backend": "cpu", "algorithm": algorithm}
        if algorithm != "accurate" and why_not(arrays, options) is not None:
            continue
        taken += 1
        usual = nc.conv2d(**arrays, **options)
        for name, array in arrays.items():
            for number, place in enumerate(sorted(places(array, rng))):
                reached, value = dependent(arrays, problem.options, name, place), (np.nan, np.inf)[number % 2]
                changed = {**arrays, name: array.copy()}
                changed[name][place] = value
                result = nc.conv2d(**changed, **options)
                np.testing.assert_array_equal(~np.isfinite(result), reached, err_msg=f"{problem} {name}{place} {value}")
                np.testing.assert_array_equal(result[~reached], usual[~reached])
    assert taken


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
def test_winograd_spreads_it_within_a_tile(algorithm):
    problem, m = PROBLEMS[0], int(algorithm[-1])
    arrays = operands(case((2, 64, 20, 33), (21, 64, 3, 3), padding=1), np.float32)
    rng, options = np.random.default_rng(0), {"padding": 1, "backend": "cpu", "algorithm": algorithm}
    for place in places(arrays["input"], rng):
        changed = {**arrays, "input": arrays["input"].copy()}
        changed["input"][place] = np.nan
        n, _, i, j = np.nonzero(np.isnan(nc.conv2d(**changed, **options)))
        assert n.size
        assert set(n) == {place[0]}
        for found, at in ((i, place[2]), (j, place[3])):
            low, high = (max(0, at - 1) // m * m, (at + 1) // m * m + m)
            assert low <= found.min() <= found.max() < high, (problem, place)


STATE = """
import ctypes, sys
import numpy as np, numbaconv as nc
from numba import njit, types
from numba.extending import intrinsic
from llvmlite import ir

DOWN, FLUSH = 0x2000, 0x8040  # of MXCSR: rounding down; denormal results and operands are zeros


def register(name):
    @intrinsic
    def access(context, pointer):
        def codegen(context, builder, signature, args):
            byte = ir.IntType(8).as_pointer()
            function = builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), ir.FunctionType(ir.VoidType(), [byte]))
            builder.call(function, [builder.inttoptr(args[0], byte)])
            return context.get_dummy_value()

        return types.void(types.int64), codegen

    return njit(lambda address: access(address))


load, keep = register("ldmxcsr"), register("stmxcsr")
word = np.zeros(1, np.uint32)


def control():
    keep(word.ctypes.data)
    return int(word[0]) & ~0x3F  # the lowest bits say what has happened


def set_control(value):
    word[0] = value
    load(word.ctypes.data)


x = np.random.default_rng(0).standard_normal((3, 64, 30, 31), np.float32)
DEPTHWISE = np.ones((64, 1, 3, 3), np.float32), {"groups": 64, "padding": 1}
PROBLEMS = {
    "depthwise": DEPTHWISE, "depthwise_blocked": DEPTHWISE, "pointwise": (np.ones((40, 64, 1, 1), np.float32), {}),
}
usual = control()
assert usual & (FLUSH | DOWN) == 0
for algorithm in sys.argv[1:]:
    w, options = PROBLEMS.get(algorithm, (np.ones((40, 64, 3, 3), np.float32), {"padding": 1}))
    op = nc.Conv2d(w, **options, algorithm=algorithm, backend="cpu")
    expected = op(x)
    for state in (usual | DOWN, usual | FLUSH, usual | DOWN | FLUSH):
        set_control(state)
        op(x), nc.conv2d(x, w, **options, algorithm=algorithm, backend="cpu")
        after = control()
        set_control(usual)
        assert after == state, (algorithm, hex(state), hex(after))
        np.testing.assert_array_equal(op(x), expected)
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="sets the control register of x86-64")
def test_what_the_caller_set_stays_set():
    """The rounding mode, and what becomes of denormal numbers; and no thread keeps it beyond the call."""
    run_python(STATE, *CPU_ALGORITHMS, timeout=280)
