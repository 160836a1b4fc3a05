"""The oracle itself: against the five-loop definition, and against PyTorch."""

import numpy as np
import pytest
from five_loops import correlate as five_loops
from helpers import assert_conforms, canonical_spec, case, operands, oracle, random_array, torch_conv2d
from hypothesis import given
from hypothesis import strategies as st
from strategies import MODES, convolutions

from numbaconv import reference


def check_against_loops(x, w, stride, padding, dilation, mode):
    result = reference.correlate(canonical_spec(x, w, stride, padding, dilation, mode), x, w)
    np.testing.assert_array_equal(result, five_loops(x, w, stride, padding, dilation, mode))


NONE = ((0, 0),) * 3
TABLE = {
    "one axis": ((2, 1, 2, 1, 1, 9), (1, 3, 2, 1, 1, 4), (1, 1, 1), NONE, (1, 1, 1)),
    "two axes": ((1, 1, 2, 1, 6, 7), (1, 2, 2, 1, 2, 3), (1, 1, 1), NONE, (1, 1, 1)),
    "three axes": ((1, 1, 2, 4, 5, 6), (1, 2, 2, 2, 3, 2), (1, 1, 1), NONE, (1, 1, 1)),
    "groups": ((2, 3, 2, 1, 4, 5), (3, 2, 2, 1, 2, 2), (1, 1, 1), NONE, (1, 1, 1)),
    "strides": ((1, 1, 1, 7, 8, 9), (1, 1, 1, 2, 2, 2), (1, 2, 3), NONE, (1, 1, 1)),
    "dilation": ((1, 1, 1, 5, 6, 7), (1, 1, 1, 2, 3, 2), (1, 1, 1), NONE, (4, 2, 3)),
    "asymmetric padding": ((1, 1, 2, 3, 4, 5), (1, 1, 2, 2, 3, 2), (1, 1, 1), ((1, 0), (0, 2), (2, 1)), (1, 1, 1)),
    "padding beyond the size": ((1, 1, 1, 2, 1, 3), (1, 2, 1, 2, 2, 3), (2, 1, 1), ((0, 3), (4, 3), (8, 7)), (1, 1, 2)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TABLE)
def test_equals_the_five_loop_definition(name, mode):
    x_shape, w_shape, *geometry = TABLE[name]
    x, w = (random_array(shape, np.int16).astype(np.int64) for shape in (x_shape, w_shape))
    check_against_loops(x, w, *geometry, mode)


@given(st.data())
def test_equals_the_five_loop_definition_on_random_problems(data):
    def triple(least, most):
        return data.draw(st.tuples(*[st.integers(least, most)] * 3))

    kernel, dilation = triple(1, 2), triple(1, 2)
    padding = tuple(zip(triple(0, 3), triple(0, 3), strict=True))
    rows = zip(triple(1, 4), kernel, dilation, padding, strict=True)
    size = [max(n, d * (k - 1) + 1 - sum(pads)) for n, k, d, pads in rows]
    batch, groups, (ins, outs, _) = 1, data.draw(st.integers(1, 2)), triple(1, 2)
    x, w = random_array((batch, groups, ins, *size), np.int16), random_array((groups, outs, ins, *kernel), np.int16)
    mode = data.draw(st.sampled_from(MODES))
    check_against_loops(x.astype(np.int64), w.astype(np.int64), triple(1, 3), padding, dilation, mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "problem",
    [
        case((2, 3, 9, 8), (4, 3, 3, 3)),
        case((2, 6, 9, 8), (4, 3, 2, 3), groups=2, stride=(2, 3), dilation=(2, 1), padding=(2, 1), bias=True),
        case((6, 9, 8), (12, 1, 3, 3), groups=6, padding=((1, 2), (0, 3)), residual=True),
        case((2, 9, 8, 3), (4, 3, 3, 5), layout="NHWC", padding="same", stride=2),
    ],
    ids=str,
)
def test_equals_pytorch(problem, mode):
    options = {**problem.options, "padding_mode": mode}
    arrays = operands(problem, np.float64)
    np.testing.assert_allclose(oracle(arrays, options), torch_conv2d(arrays, options), rtol=1e-12, atol=1e-12)


@given(convolutions())
def test_equals_pytorch_on_random_problems(problem):
    arrays = operands(problem, np.float64)
    result = torch_conv2d(arrays, problem.options)
    if result is not None:
        assert_conforms(result, arrays, problem.options)


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.int64, np.uint64])
def test_keeps_the_dtype_of_its_operands(dtype):
    x, w = random_array((1, 1, 2, 1, 4, 4), dtype), random_array((1, 2, 2, 1, 2, 2), dtype)
    spec = canonical_spec(x, w, (1, 1, 1), NONE, (1, 1, 1), "zeros")
    assert reference.correlate(spec, x, w).dtype == dtype
