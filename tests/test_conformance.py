"""Every algorithm of every backend on the host against the reference. A new row in a table is tested here by itself."""

import numpy as np
import pytest
from grid import GRID, MANY, MODES, PADDED
from helpers import (
    HOST_ALGORITHMS,
    allowed_error,
    assert_conforms,
    canonical_spec,
    conv2d,
    find_algorithm,
    one_in,
    operands,
    oracle,
    random_array,
    sums_directly,
    torch_conv2d,
    why_not,
)  # fmt: skip
from hypothesis import given
from hypothesis import strategies as st
from strategies import convolutions, memory_orders

from numbaconv import reference
from numbaconv.algorithm import Operands

names = ["-".join(row) for row in HOST_ALGORITHMS]
every_algorithm = pytest.mark.parametrize(("backend", "algorithm"), HOST_ALGORITHMS, ids=names)


def check(backend, algorithm, arrays, options):
    """The algorithm conforms, or refuses with the reason that its row gives."""
    options = {**options, "backend": backend, "algorithm": algorithm}
    reason = why_not(arrays, options)
    if reason is not None:
        with pytest.raises(ValueError, match=r"^algorithm: ") as refused:
            conv2d(arrays, **options)
        assert reason in str(refused.value)
        return None
    result = conv2d(arrays, **options)
    assert_conforms(result, arrays, options, sums_directly=sums_directly(backend, algorithm))
    return result


@every_algorithm
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("problem", GRID, ids=str)
def test_grid(problem, dtype, backend, algorithm):
    result = check(backend, algorithm, operands(problem, dtype), problem.options)
    assert result is None or result.dtype == dtype


@every_algorithm
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("problem", PADDED, ids=str)
def test_padding_modes(problem, mode, backend, algorithm):
    check(backend, algorithm, operands(problem, np.float32), {**problem.options, "padding_mode": mode})


@every_algorithm
@pytest.mark.parametrize(("mode", "numpys"), list(zip(MODES, ["constant", "reflect", "edge", "wrap"], strict=True)))
@pytest.mark.parametrize("pads", [((1, 2), (3, 0)), ((4, 4), (3, 3)), ((23, 0), (0, 31)), ((9, 14), (40, 25))], ids=str)
def test_padding_modes_are_those_of_numpy_pad(pads, mode, numpys, backend, algorithm):
    x = random_array((1, 1, 5, 4), np.float32)
    padded = np.pad(x, ((0, 0), (0, 0), *pads), numpys)
    options = {"padding": pads, "padding_mode": mode, "backend": backend, "algorithm": algorithm}
    one, tolerance = np.ones((1, 1, 1, 1), np.float32), 0
    if why_not({"input": x, "weight": one}, options) is not None and not sums_directly(backend, algorithm):
        one, padded = np.pad(one, ((0, 0), (0, 0), (1, 1), (1, 1))), padded[:, :, 1:-1, 1:-1]
        tolerance = allowed_error(abs(x).max(), 9, x.dtype, sums_directly=False)
    result = check(backend, algorithm, {"input": x, "weight": one}, options)
    if result is not None:
        np.testing.assert_allclose(result, padded, rtol=1e-5, atol=tolerance)


OTHER_DTYPES = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "complex64", "complex128"]


@pytest.mark.parametrize(("dtype", "where"), one_in(2, OTHER_DTYPES, HOST_ALGORITHMS))
def test_every_other_dtype(dtype, where):
    backend, algorithm = where
    for mode in ("zeros", "reflect"):
        check(backend, algorithm, operands(MANY, dtype), {**MANY.options, "padding_mode": mode})


MIXED = [(np.float32, np.float64), (np.uint8, np.int8), (np.uint8, np.float32), (np.float32, np.complex64)]


@pytest.mark.parametrize(("dtypes", "where"), one_in(2, MIXED, HOST_ALGORITHMS))
def test_mixed_dtypes(dtypes, where):
    (dtype, weight_dtype), (backend, algorithm) = dtypes, where
    arrays = operands(MANY._replace(residual=False), dtype, weight_dtype)
    options = {**MANY.options, "backend": backend, "algorithm": algorithm}
    if why_not(arrays, options) is None:
        result = conv2d(arrays, **options)
        wide = {name: a.astype(result.dtype) for name, a in arrays.items()}
        assert_conforms(result, wide, options, sums_directly=sums_directly(backend, algorithm))


@every_algorithm
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("x_shape", "w_shape", "stride", "padding", "dilation"),
    [
        ((2, 2, 3, 5, 6, 7), (2, 4, 3, 2, 3, 2), (1, 1, 1), ((0, 0),) * 3, (1, 1, 1)),
        ((1, 1, 2, 4, 5, 6), (1, 3, 2, 3, 2, 3), (2, 1, 3), ((1, 2), (0, 3), (2, 0)), (1, 2, 1)),
        ((1, 3, 1, 2, 3, 2), (3, 2, 1, 3, 3, 3), (1, 2, 1), ((7, 4), (5, 6), (3, 9)), (2, 1, 1)),
        ((1, 1, 2, 9, 20, 21), (1, 40, 2, 3, 3, 3), (1, 1, 1), ((1, 1),) * 3, (1, 1, 1)),
    ],
)
def test_three_axes(x_shape, w_shape, stride, padding, dilation, mode, backend, algorithm):
    """What a row of the table does with a canonical problem, called as the dispatch layer calls it; direct sums of small integers
    are exact.
    """
    x, w = (np.round(2 * random_array(shape, np.float32)) for shape in (x_shape, w_shape))
    spec, row = canonical_spec(x, w, stride, padding, dilation, mode), find_algorithm(backend, algorithm)
    if row.why_not(spec) is None:
        result = np.empty(spec.output_shape, np.float32)
        row.prepare(spec)(Operands(x, row.pack(spec, w, None), None, None, result))
        magnitude = reference.correlate(spec, abs(x), abs(w)).max()
        tolerance = 0 if row.sums_directly else allowed_error(magnitude, w[0, 0].size, x.dtype, sums_directly=False)
        np.testing.assert_allclose(result, reference.correlate(spec, x, w), rtol=0, atol=tolerance)


@every_algorithm
@pytest.mark.parametrize("problem", GRID[:8], ids=str)
def test_small_integers_in_floats_are_exact(problem, backend, algorithm):
    """All sums of such products are representable, so a direct sum has no error."""
    arrays = {name: np.round(3 * a) for name, a in operands(problem, np.float32).items()}
    options = {**problem.options, "backend": backend, "algorithm": algorithm}
    if sums_directly(backend, algorithm) and why_not(arrays, options) is None:
        np.testing.assert_array_equal(conv2d(arrays, **options), oracle(arrays, problem.options))


@every_algorithm
def test_single_digits_are_exact_to_2e_6(backend, algorithm):
    """Numbers as textbooks have them, from 0 to 9, and edge detectors; direct sums of them have no error at all."""
    x = np.arange(36, dtype=np.float32).reshape(1, 1, 6, 6) % 10
    for w in ([[0, 1, 2], [3, 4, 5], [6, 7, 8]], [[1, 0, -1], [2, 0, -2], [1, 0, -1]], [[0, -1, 0], [-1, 4, -1], [0, -1, 0]]):
        arrays = {"input": x, "weight": np.array(w, np.float32)[None, None]}
        options = {"backend": backend, "algorithm": algorithm}
        if why_not(arrays, options) is None:
            tolerance = 0 if sums_directly(backend, algorithm) else 2e-6
            np.testing.assert_allclose(conv2d(arrays, **options), oracle(arrays, {}), rtol=tolerance, atol=tolerance)


@every_algorithm
@pytest.mark.parametrize("shape", [(1, 16, 20, 20), (1, 64, 20, 20)], ids=str)
def test_rms_error_is_at_most_four_times_that_of_one_by_one_summation(shape, backend, algorithm):
    arrays = {"input": random_array(shape, np.float32), "weight": random_array((8, shape[1], 3, 3), np.float32)}
    options = {"backend": backend, "algorithm": algorithm}
    if why_not(arrays, options) is not None:
        return
    exact = oracle({name: a.astype(np.float64) for name, a in arrays.items()}, {})
    one_by_one = np.zeros(exact.shape, np.float32)
    for c, i, j in np.ndindex(arrays["weight"].shape[1:]):
        one_by_one += arrays["weight"][:, c, i, j, None, None] * arrays["input"][:, c, None, i : i + 18, j : j + 18]
    error, allowed = (np.sqrt(np.mean((y - exact) ** 2)) for y in (conv2d(arrays, **options), one_by_one))
    assert error <= 4 * allowed


@every_algorithm
@given(convolutions(), st.sampled_from([np.float32, np.float64]), st.lists(memory_orders(), min_size=3, max_size=3))
def test_random_problems(backend, algorithm, problem, dtype, orders):
    arrays = operands(problem, dtype)
    for name, order in zip(("input", "weight", "residual"), orders, strict=True):
        if name in arrays:
            arrays[name] = order(arrays[name])
    result = check(backend, algorithm, arrays, problem.options)
    pytorch = torch_conv2d({name: np.ascontiguousarray(a, dtype) for name, a in arrays.items()}, problem.options)
    if result is not None and pytorch is not None:
        assert_conforms(pytorch, arrays, problem.options)
        assert result.shape == pytorch.shape
