"""Calls that are recorded once and played with other arrays, and what ``explain`` says of them, on a GPU."""

import numpy as np
import pytest
from helpers import case, find_algorithm, operands, random_array
from on_gpu import NAMES, TENSOR_CORES, conforms, on_host, stored, to_device

import numbaconv as nc
from numbaconv import execute
from numbaconv.cuda import launch
from numbaconv.cuda.recording import Tape
from numbaconv.cuda.shadow import cast_shadow, lend

pytestmark = pytest.mark.gpu


def problem_for(algorithm):
    """A case, its dtype and its options."""
    dtype = "float16" if algorithm in TENSOR_CORES else "float32"
    channels, groups = (1, 16) if algorithm == "depthwise" else (16, 1)
    one = case((2, 16, 13, 14), (16, channels, 3, 3), groups=groups, padding=1, bias=True, residual=True)
    return one, dtype, {**one.options, "algorithm": algorithm}


def is_direct(algorithm):
    return find_algorithm("cuda", algorithm).sums_directly


@pytest.mark.parametrize("algorithm", NAMES)
def test_later_calls_compute_with_their_own_arrays(long_way, algorithm):
    problem, dtype, options = problem_for(algorithm)
    kept = []
    for seed in range(4):
        arrays = operands(problem, dtype, seed=10 * seed)
        kept.append(to_device(arrays))
        conforms(on_host(nc.conv2d(**kept[-1], **options)), arrays, options, is_direct(algorithm))
    assert len(long_way) == 1


@pytest.mark.parametrize("algorithm", NAMES)
def test_prepared_operators_record_each_shape(long_way, algorithm):
    problem, dtype, options = problem_for(algorithm)
    arrays = operands(problem._replace(residual=False), dtype)
    given = to_device(arrays)
    op = nc.Conv2d(given["weight"], given["bias"], **options)
    for number, shape in enumerate([(2, 16, 13, 14), (1, 16, 20, 9)] * 3):
        x = random_array(shape, dtype, number)
        conforms(on_host(op(to_device({"x": x})["x"])), {**arrays, "input": x}, options, is_direct(algorithm))
    assert len(long_way) == 2


@pytest.mark.parametrize("algorithm", NAMES)
def test_other_alignments_and_orders_are_recorded_apart(long_way, algorithm):
    problem, dtype, options = problem_for(algorithm)
    arrays = operands(problem, dtype)
    for count, order in enumerate(("in C order", "unaligned", "channels last", "reversed"), 1):
        given = to_device(arrays)
        for _ in range(2):
            result = nc.conv2d(**{**given, "input": stored(arrays["input"], order)}, **options)
            conforms(on_host(result), arrays, options, is_direct(algorithm))
        assert len(long_way) == count


@pytest.mark.parametrize("algorithm", NAMES)
def test_an_out_that_overlaps_an_operand_takes_the_long_way(gpu, long_way, algorithm):
    problem, dtype, options = problem_for(algorithm)
    arrays = operands(problem, dtype)
    given = to_device(arrays)
    for _ in range(2):
        apart = gpu.device_array(problem.input, dtype)
        assert nc.conv2d(**given, **options, out=apart) is apart
        conforms(on_host(apart), arrays, options, is_direct(algorithm))
    assert len(long_way) == 1
    nc.conv2d(**given, **options, out=given["input"])
    conforms(on_host(given["input"]), arrays, options, is_direct(algorithm))
    memory = gpu.to_device(np.concatenate([arrays["input"].ravel(), np.zeros(8, dtype)]))
    shadow = cast_shadow(memory, "input")
    given["input"], out = lend(shadow[:-8].reshape(problem.input)), lend(shadow[8:].reshape(problem.input))
    nc.conv2d(**given, **options, out=out)
    conforms(on_host(out), arrays, options, is_direct(algorithm))
    assert len(long_way) == 3


def test_other_operators_record(long_way):
    x, w = random_array((2, 8, 13, 14), "complex64"), random_array((8, 6, 2, 3), "complex64")
    g = random_array((2, 6, 12, 12), "complex64")
    for _ in range(3):
        given = to_device({"x": x, "w": w, "g": g})
        y = on_host(nc.conv_transpose2d(given["x"], given["w"], stride=2))
        d = on_host(nc.grad.conv2d_weight(given["x"], (6, 8, 2, 3), given["g"]))
        with nc.use_backend("reference"):
            np.testing.assert_allclose(y, nc.conv_transpose2d(x, w, stride=2), rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(d, nc.grad.conv2d_weight(x, (6, 8, 2, 3), g), rtol=1e-3, atol=1e-3)
    assert len(long_way) == 2


# ---------------------------------------------------------------- explain

EXPLAINED = [
    ("float32", "ieee", (1, 64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ("float32", "ieee", (1, 256, 14, 14), (64, 256, 1, 1), {}),
    ("float32", "ieee", (1, 96, 56, 56), (96, 1, 3, 3), {"padding": 1, "groups": 96}),
    ("float32", "ieee", (1, 3, 224, 224), (64, 3, 7, 7), {"stride": 2, "padding": 3}),
    ("float32", "tf32", (1, 256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    ("float16", "ieee", (8, 128, 28, 28), (128, 128, 3, 3), {"padding": 1}),
    ("complex128", "ieee", (1, 2, 9, 9), (3, 2, 3, 3), {}),
]


@pytest.mark.parametrize(("dtype", "precision", "shape", "weight", "options"), EXPLAINED, ids=str)
@pytest.mark.parametrize("prepared", [False, True])
def test_explain_names_the_algorithm_that_runs(dtype, precision, shape, weight, options, prepared, monkeypatch):
    launched = []

    def watched(usual):
        def play(self, *args):
            launched.extend(one._function.__module__.rpartition(".")[2] for one in (self if isinstance(self, Tape) else [self]))
            return usual(self, *args)

        return play

    given = to_device({"input": random_array(shape, dtype), "weight": random_array(weight, dtype)})
    options = {**options, "precision": precision}
    execute.forget()
    if prepared:
        op = nc.Conv2d(given["weight"], **options)
        op(given["input"])
        named, call = nc.explain(op, given["input"]).algorithm, lambda: op(given["input"])
    else:
        named, call = nc.explain("conv2d", **given, **options).algorithm, lambda: nc.conv2d(**given, **options)
    for kind in (launch.Launch, Tape):
        monkeypatch.setattr(kind, "play", watched(kind.play))
    call()
    helping = {"copy", "splitting", "transpose"} | ({"implicit_gemm"} if named.startswith("winograd") else set())
    assert set(launched) - helping == {named.rstrip("24")}
