"""Winograd's algorithm under Numba's CUDA simulator: its transforms around the batched product, a few tiles at a time.

``test_emulated.py`` runs its kernels as they are.
"""

import numpy as np
import pytest
from grid import some
from helpers import assert_conforms, case, find_algorithm, operands, oracle, random_array, some_of, spec_of, why_not
from numba import cuda

import numbaconv as nc
from numbaconv.cuda import winograd
from numbaconv.cuda.shadow import lend

by_both = pytest.mark.parametrize("algorithm", some_of(["winograd2", "winograd4"], 0))
SHIFTED = {"padding": ((2, 1), (1, 2))}
GRID = [
    case((2, 8, 3, 5), (3, 8, 3, 3), padding=1, bias=True, residual=True),  # tiles in two parts, cut at the edges
    case((1, 5, 4, 9), (3, 9, 3, 3), padding=1, layout="NHWC", bias=True, residual=True),
    case((1, 8, 3, 3), (2, 8, 3, 3)),  # one output
    case((1, 8, 1, 12), (1, 8, 3, 3), padding=((2, 1), (0, 3))),
    *(case((1, 8, 3, 4), (1, 8, 3, 3), **SHIFTED, padding_mode=mode) for mode in ("reflect", "replicate", "circular")),
    case((1, 16, 3, 4), (4, 8, 3, 3), groups=2, padding=1, bias=True),
    case((3, 4, 16), (4, 8, 3, 3), groups=2, padding=1, layout="NHWC"),  # no batch
]


def device_conv2d(arrays, **options):
    return nc.conv2d(**{name: cuda.to_device(a) for name, a in arrays.items()}, **options).copy_to_host()


@by_both
@some(GRID, 0, 8)
def test_conforms(algorithm, case):
    arrays = operands(case, np.float32)
    result = device_conv2d(arrays, algorithm=algorithm, **case.options)
    assert_conforms(result, arrays, case.options, sums_directly=False)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
def test_rms_error_is_at_most_four_times_that_of_one_by_one_summation(algorithm):
    """With the fewest channels that it takes."""
    arrays = {"input": random_array((1, 8, 8, 10), np.float32), "weight": random_array((2, 8, 3, 3), np.float32)}
    exact = oracle({name: a.astype(np.float64) for name, a in arrays.items()}, {})
    one_by_one = np.zeros(exact.shape, np.float32)
    for c, i, j in np.ndindex(8, 3, 3):
        one_by_one += arrays["weight"][:, c, i, j, None, None] * arrays["input"][:, c, None, i : i + 6, j : j + 8]
    result = device_conv2d(arrays, algorithm=algorithm)
    error, allowed = (np.sqrt(np.mean((y - exact) ** 2)) for y in (result, one_by_one))
    assert error <= 4 * allowed
    assert abs(result - exact).max() <= 20 * allowed


@by_both
@pytest.mark.parametrize("layout", some_of(["NCHW", "NHWC"], 1))
def test_any_strides_out_and_activation(layout, algorithm):
    one = case(
        (1, 8, 3, 4) if layout == "NCHW" else (1, 3, 4, 8), (2, 8, 3, 3), bias=True, residual=True, padding=1, layout=layout
    )
    arrays = operands(one, np.float32)
    lent = {name: lend(np.repeat(a, 2, axis=1 % a.ndim)[(slice(None),) * (1 % a.ndim) + (slice(None, None, -2),)])
            for name, a in arrays.items()}  # fmt: skip
    arrays = {name: np.asarray(a).copy() for name, a in lent.items()}
    memory = np.full((*arrays["residual"].shape[:-1], 2 * arrays["residual"].shape[-1]), 9, np.float32)
    out = lend(memory[..., ::-2])
    assert nc.conv2d(**lent, **one.options, algorithm=algorithm, out=out) is out
    assert_conforms(memory[..., ::-2], arrays, one.options, sums_directly=False)
    assert (memory[..., ::2] == 9).all()
    activated = nc.conv2d(**lent, **one.options, algorithm=algorithm, activation="relu").copy_to_host()
    np.testing.assert_array_equal(activated, np.maximum(memory[..., ::-2], 0))


@by_both
def test_a_prepared_operator_packs_once(algorithm, monkeypatch):
    arrays = operands(case((1, 8, 3, 4), (2, 8, 3, 3)), np.float32)
    given = cuda.to_device(arrays["weight"])
    op = nc.Conv2d(given, algorithm=algorithm)
    given.copy_to_device(np.zeros_like(arrays["weight"]))
    first = op(cuda.to_device(arrays["input"])).copy_to_host()
    assert_conforms(first, arrays, {}, sums_directly=False)
    monkeypatch.setattr(winograd, "pack", None)
    np.testing.assert_array_equal(op(cuda.to_device(arrays["input"])).copy_to_host(), first)


@by_both
def test_special_values_stay_within_their_tiles(algorithm):
    m = int(algorithm[-1])
    x, w = np.ones((1, 8, 4, 14), np.float32), 1 + abs(random_array((2, 8, 3, 3), np.float32))
    x[0, 5, 1, 6] = np.nan
    strange = np.isnan(device_conv2d({"input": x, "weight": w}, algorithm=algorithm))
    assert strange[0, :, :2, 4:7].all()
    strange[..., 4 // m * m : 6 // m * m + m] = False
    assert not strange.any()


@pytest.mark.parametrize("shape", [(0, 8, 4, 4), pytest.param((1, 8, 0, 4), marks=pytest.mark.slow)])
def test_empty_input(shape):
    arrays = operands(case(shape, (2, 8, 3, 3), bias=True, padding=2), np.float32)
    result = device_conv2d(arrays, algorithm="winograd4", padding=2)
    np.testing.assert_array_equal(result, np.broadcast_to(arrays["bias"][:, None, None], result.shape))


@by_both
def test_parts_cover_all_tiles_and_fit_the_scratch_memory(algorithm, monkeypatch):
    monkeypatch.setattr(winograd, "SCRATCH", 2**28)
    monkeypatch.setattr(winograd, "LEAST", 128)
    for shape in ((1, 8, 3, 3), (3, 64, 56, 57), (64, 256, 31, 33), (1, 64, 2000, 3000)):
        spec = spec_of({"input": np.broadcast_to(np.float32(0), shape), "weight": np.zeros((64, shape[1], 3, 3), np.float32)}, {})
        s = winograd.shape(spec, int(algorithm[-1]))
        found = list(winograd.parts(s))
        assert [t.first for t in found] == [0, *np.cumsum([t.many for t in found])[:-1]]
        assert sum(t.many for t in found) == s.tiles
        assert s.elements * s.most * 4 * (spec.in_channels + spec.out_channels) <= 1.01 * 2**28
        assert find_algorithm("cuda", algorithm).cost(spec) > 0


@by_both
@pytest.mark.parametrize(
    ("weight", "options", "words"),
    [
        ((4, 8, 3, 3), {"stride": 2}, "strides"),
        ((4, 8, 3, 3), {"dilation": 2}, "dilations"),
        ((4, 8, 1, 3), {}, "not of 1 x 1 x 3"),
        ((4, 8, 5, 5), {}, "not of 1 x 5 x 5"),
        ((4, 8, 3, 3), {"out_dtype": "float64"}, "float64"),
    ],
)
def test_what_it_does_not_take(weight, options, words, algorithm):
    arrays = operands(case((1, 8, 9, 9), weight), np.float32)
    options = {**options, "backend": "cuda", "algorithm": algorithm}
    assert words in why_not(arrays, options)
    assert "float16" in why_not({name: a.astype(np.float16) for name, a in arrays.items()}, options)


def test_few_channels_and_accuracy():
    arrays = operands(case((1, 7, 9, 9), (4, 7, 3, 3)), np.float32)
    assert "fewer than 8 channels" in why_not(arrays, {"backend": "cuda", "algorithm": "winograd4"})
    assert why_not(arrays, {"backend": "cuda", "algorithm": "winograd2"}) is None
    rows = nc.explain("conv2d", (1, 64, 56, 56), (64, 64, 3, 3), algorithm="accurate", backend="cuda").rows
    assert all("sum of the products themselves" in r.why_not for r in rows if r.algorithm.startswith("winograd"))
