"""The depthwise kernel under Numba's simulator: both layouts, and what its tiles have corners for."""

import numpy as np
import pytest
from helpers import assert_conforms, case, one_in, operands, oracle, random_array, some_of, spec_of, why_not
from numba import cuda

import numbaconv as nc
from numbaconv.cuda import depthwise, launch, ptx
from numbaconv.cuda.shadow import lend

GRID = [
    case((1, 2, 9, 8), (2, 1, 3, 3), padding=1),  # columns by 16 bytes, several strips
    case((1, 2, 7, 8), (4, 1, 3, 3), padding=1, stride=2, bias=True, residual=True),
    case((2, 3, 5, 7), (3, 1, 3, 2), stride=(1, 3), padding=((2, 0), (1, 3))),
    case((1, 2, 10, 4), (2, 1, 7, 3), padding=(3, 1), stride=(2, 1)),
    case((1, 1, 6, 9), (3, 1, 5, 1), padding=((-1, 2), (1, -2))),  # and a multiplier with one group
    case((1, 2, 9, 8), (2, 1, 3, 3), dilation=(2, 3), padding=2),
    case((1, 2, 8, 6), (2, 1, 4, 2), stride=3),
    case((1, 4, 2, 9), (4, 1, 2, 3), bias=True),  # few rows
    case((1, 5, 3, 3), (5, 1, 3, 3)),
    *(case((1, 4, 5, 4), (4, 1, 3, 3), padding=((1, 2), (2, 3)), padding_mode=m) for m in ("reflect", "replicate", "circular")),
]


@pytest.fixture(autouse=True)
def _every_tile_has_a_block(monkeypatch):
    monkeypatch.setattr(launch, "MOST_BLOCKS", 1000)


def run(arrays, options, layout="NCHW"):
    """The result, channels first, of arrays that lie in memory as the layout says."""
    given = dict(arrays)
    if layout == "NHWC":
        given |= {name: np.moveaxis(given[name], 1, -1).copy() for name in ("input", "residual") if name in given}
    groups = arrays["input"].shape[1]
    given = {name: cuda.to_device(a) for name, a in given.items()}
    result = nc.conv2d(**given, **options, groups=groups, layout=layout, algorithm="depthwise").copy_to_host()
    return np.moveaxis(result, -1, 1) if layout == "NHWC" else result


def grouped(one):
    return one._replace(options={**one.options, "groups": one.input[1]})


def check(one, dtype="float32", layout="NCHW", weight_dtype=None):
    arrays = operands(grouped(one), dtype, weight_dtype)
    assert_conforms(run(arrays, one.options, layout), arrays, grouped(one).options)


LAYOUTS = ["NCHW", "NHWC"]
both_layouts = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.mark.parametrize(("case", "layout"), one_in(5, GRID, LAYOUTS), ids=str)
def test_conforms(case, layout):
    check(case, layout=layout)


@pytest.mark.parametrize(("tile", "layout"), one_in(2, [(12, (2, 2, 2)), (18, (1, 3, 3)), (6, (4, 1, 4))], ["NCHW", "NHWC"]))
def test_tiles(monkeypatch, tile, layout):
    height, tile = tile
    monkeypatch.setattr(depthwise, "tile_for", lambda spec: depthwise.Tile(*tile))
    check(case((1, 4, height, 6), (4, 1, 3, 2), stride=(2, 1), padding=(0, 1)), layout=layout)


@pytest.mark.parametrize(("layout", "dtype"), one_in(3, LAYOUTS, ["float16", "bfloat16", "float64", "complex64", "int8", "bool"]))
def test_dtypes(layout, dtype):
    one = grouped(case((1, 16, 4, 2) if layout == "NHWC" else (1, 2, 4, 16), (16 if layout == "NHWC" else 2, 1, 3, 2), padding=1))
    arrays = operands(one, dtype)
    result = run(arrays, {"padding": 1}, layout)
    assert result.dtype == nc.conv2d(**arrays, **one.options, backend="reference").dtype
    assert_conforms(result, arrays, one.options)


def test_weights_of_another_dtype_and_activation():
    check(case((1, 2, 5, 4), (2, 1, 3, 3), bias=True), "int8", weight_dtype="float32")
    one = grouped(case((1, 2, 5, 4), (4, 1, 3, 3), bias=True, residual=True))
    arrays = operands(one, "float32")
    expected = np.maximum(oracle(arrays, one.options), 0)
    np.testing.assert_allclose(run(arrays, {"activation": "relu"}), expected, rtol=1e-5, atol=1e-5)


def test_one_and_three_dimensions():
    x, w = random_array((1, 4, 9), "float64"), random_array((8, 1, 3), "float64")
    for layout in ("NCW", "NWC"):
        given = x if layout == "NCW" else np.moveaxis(x, 1, -1).copy()
        options = {"stride": 2, "groups": 4, "layout": layout}
        y = nc.conv1d(cuda.to_device(given), cuda.to_device(w), **options, algorithm="depthwise").copy_to_host()
        np.testing.assert_allclose(y, nc.conv1d(given, w, **options, backend="reference"), rtol=1e-13, atol=1e-13)
    x, w = random_array((1, 2, 4, 5, 4), "float64"), random_array((2, 1, 3, 3, 2), "float64")
    options = {"padding": (2, 0, 1), "dilation": (2, 1, 1), "groups": 2}
    y = nc.conv3d(cuda.to_device(x), cuda.to_device(w), **options, algorithm="depthwise").copy_to_host()
    np.testing.assert_allclose(y, nc.conv3d(x, w, **options, backend="reference"), rtol=1e-13, atol=1e-13)


def last(x):
    """The same with its channels last in memory."""
    return np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)


MEMORY = {
    "plain": lambda x: x,
    "channels last": last,
    "from the second element": lambda x: np.concatenate([x.ravel()[:1], x.ravel()])[1:].reshape(x.shape),
    "backwards": lambda x: x[:, :, ::-1, ::-1].copy()[:, :, ::-1, ::-1],
    "every other row": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "every other column": lambda x: np.repeat(x, 2, axis=3)[..., ::2],
    "part of the rows": lambda x: x[..., :6],
    "channels apart": lambda x: np.lib.stride_tricks.as_strided(x, (1, 3, 4, 8), (0, 33 * 4, 8 * 4, 4)),
    "first of the channels last": lambda x: last(x)[:, :3],
    "others of the channels last": lambda x: last(np.repeat(x, 2, axis=1))[:, 1:5],
}
ALIGNED = ("plain", "channels last", "every other row")


@pytest.mark.parametrize(("name", "loads"), some_of([(n, n in ALIGNED) for n in MEMORY], 1, 2, 7))
def test_only_aligned_memory_is_loaded_by_16_bytes(monkeypatch, name, loads):
    addresses = []
    load_words = ptx.load_words
    monkeypatch.setattr(ptx, "load_words", lambda address: addresses.append(address) or load_words(address))
    arrays = operands(case((1, 4, 4, 8), (4, 1, 3, 3)), "float32")
    lent = lend(MEMORY[name](arrays["input"]))
    groups = lent.shape[1]
    arrays = {"input": np.asarray(lent).copy(), "weight": arrays["weight"][:groups]}
    options = {"padding": 1, "groups": groups}
    result = nc.conv2d(lent, cuda.to_device(arrays["weight"]), **options, algorithm="depthwise").copy_to_host()
    assert_conforms(result, arrays, options)
    assert bool(addresses) == loads


@pytest.mark.parametrize("shapes", [((0, 2, 4, 4), (2, 1, 2, 2)), ((1, 2, 0, 4), (2, 1, 2, 2)), ((1, 2, 4, 4), (0, 1, 2, 2))])
def test_empty_arrays(shapes):
    one = case(*shapes, padding=1, bias=True)
    arrays = operands(grouped(one), "float32")
    result = run(arrays, one.options)
    np.testing.assert_array_equal(result, np.broadcast_to(arrays["bias"][:, None, None], result.shape))


@both_layouts
def test_padded_zeros_are_multiplied(layout):
    weight = np.ones((4, 1, 3, 3), np.float32)
    weight[0, 0, 0, 0] = np.nan
    result = run({"input": np.ones((1, 4, 3, 4), np.float32), "weight": weight}, {"padding": 1}, layout)
    assert np.isnan(result[:, 0]).all()
    assert not np.isnan(result[:, 1:]).any()


@pytest.mark.parametrize("layout", some_of(LAYOUTS, 1))
def test_nan_reaches_only_what_depends_on_it(layout):
    arrays = operands(grouped(case((1, 4, 9, 8), (4, 1, 3, 3))), "float32")
    arrays["input"][0, 1, 4, 3] = np.nan
    expected = np.zeros((1, 4, 7, 6), bool)
    expected[:, 1, 2:5, 1:4] = True
    np.testing.assert_array_equal(np.isnan(run(arrays, {}, layout)), expected)


# ---------------------------------------------------------------- which problems, which tiles


def spec(shape, weight, dtype="float32", **options):
    arrays = {"input": np.empty(shape, dtype), "weight": np.empty(weight, dtype)}
    return spec_of(arrays, options)


def test_what_it_does_not_take(monkeypatch):
    asked = {"backend": "cuda", "algorithm": "depthwise"}
    arrays = operands(case((1, 4, 5, 5), (4, 2, 3, 3)), "float32")
    assert "one input channel a group, not 2" in why_not(arrays, {"groups": 2, **asked})
    large = {"input": np.empty((1, 1, 40, 40), np.float32), "weight": np.empty((1, 1, 40, 40), np.float32)}
    assert "shared memory" in why_not(large, asked)
    arrays = operands(grouped(case((1, 4, 5, 5), (4, 1, 3, 3))), "float32")
    monkeypatch.setattr(launch, "MOST_BLOCKS", 3)
    assert "and a grid has 3" in why_not(arrays, {"groups": 4, **asked})
    wide = spec((1, 1, 1, 9), (1, 1, 1, 3), padding=((0, 0), (2**31, 0)))
    assert "32 bits" in depthwise.why_not(wide)
