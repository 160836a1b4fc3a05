"""What ``conv2d`` promises of its arguments and its result: PyTorch's meaning, dtypes, memory, ``out``, special values."""

import itertools
import math

import numpy as np
import pytest
from helpers import case, conv2d, operands, random_array, torch
from strategies import MEMORY, unaligned

import numbaconv as nc

LAYERS = {
    "stem": ((2, 3, 32, 32), (16, 3, 7, 7), {"stride": 2, "padding": 3}),
    "3x3": ((1, 16, 14, 14), (16, 16, 3, 3), {"padding": 1}),
    "3x3, stride 2": ((1, 16, 15, 14), (32, 16, 3, 3), {"padding": 1, "stride": 2}),
    "1x1": ((1, 64, 8, 8), (16, 64, 1, 1), {}),
    "1x1, stride 2": ((1, 16, 9, 8), (32, 16, 1, 1), {"stride": 2}),
    "depthwise": ((1, 16, 14, 14), (16, 1, 3, 3), {"padding": 1, "groups": 16}),
    "depthwise, multiplier 2": ((1, 8, 14, 14), (16, 1, 5, 5), {"padding": 2, "groups": 8}),
    "grouped": ((1, 16, 14, 14), (32, 4, 3, 3), {"padding": 1, "groups": 4}),
    "dilated": ((1, 8, 20, 20), (8, 8, 3, 3), {"padding": (4, 2), "dilation": (4, 2)}),
    "separable row": ((1, 4, 9, 30), (4, 4, 1, 9), {"padding": (0, 4)}),
    "unbatched": ((3, 9, 9), (4, 3, 3, 3), {}),
    "valid": ((1, 3, 9, 9), (4, 3, 2, 3), {"padding": "valid"}),
    "same": ((1, 3, 9, 9), (4, 3, 4, 3), {"padding": "same", "dilation": 2}),
}


needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


@needs_torch
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", LAYERS)
def test_layers_as_pytorch_computes_them(name):
    x_shape, w_shape, options = LAYERS[name]
    x, w, b = random_array(x_shape, np.float64), random_array(w_shape, np.float64), random_array(w_shape[:1], np.float64)
    expected = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, w, b)), **options).numpy()
    np.testing.assert_allclose(nc.conv2d(x, w, b, **options), expected, rtol=1e-11, atol=1e-11)


@needs_torch
def test_arguments_are_in_pytorchs_order():
    x, w, b = random_array((1, 4, 9, 9), np.float64), random_array((4, 2, 3, 3), np.float64), random_array((4,), np.float64)
    expected = torch.nn.functional.conv2d(*map(torch.from_numpy, (x, w, b)), 2, 3, 2, 2).numpy()
    np.testing.assert_allclose(nc.conv2d(x, w, b, 2, 3, 2, 2), expected, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------- geometry


@pytest.mark.parametrize("word", ["same", "same_lower"])
def test_same_gives_ceil_of_size_over_stride_with_the_smallest_padding(word):
    """And the odd element goes high, or low: a kernel of ones counts what of a row of ones each position sees."""
    for n, k, s, d in itertools.product(range(1, 9), range(1, 5), range(1, 5), (1, 2)):
        counts = nc.conv2d(np.ones((1, 1, 1, n)), np.ones((1, 1, 1, k)), padding=word, stride=(1, s), dilation=(1, d)).ravel()
        assert len(counts) == math.ceil(n / s), (n, k, s, d)
        total = max(0, (len(counts) - 1) * s + d * (k - 1) + 1 - n)
        low = total // 2 if word == "same" else total - total // 2
        seen = [sum(0 <= i * s + j * d - low < n for j in range(k)) for i in range(len(counts))]
        assert counts.tolist() == seen, (n, k, s, d)


def test_forms_of_padding_that_mean_the_same():
    arrays = operands(case((1, 2, 7, 8), (3, 2, 3, 3)), np.float32)
    forms = [2, (2,), [2], (2, 2), [2, 2], ((2, 2), (2, 2)), [[2, 2], [2, 2]], np.int64(2), np.array(2), np.array([2, 2]),
             np.array([[2, 2], [2, 2]], np.uint8), (np.int8(2), 2)]  # fmt: skip
    results = [conv2d(arrays, padding=padding) for padding in forms]
    for result in results:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("name", ["stride", "dilation"])
def test_forms_of_an_option_that_mean_the_same(name):
    arrays = operands(case((1, 2, 9, 8), (3, 2, 3, 3)), np.float32)
    for value in [2, (2,), [2, 2], np.int32(2), np.array(2), np.array([2, 2])]:
        np.testing.assert_array_equal(conv2d(arrays, **{name: value}), conv2d(arrays, **{name: (2, 2)}))


@pytest.mark.parametrize(
    ("pads", "cropped"), [(-1, np.s_[..., 1:-1, 1:-1]), (((-2, 0), (0, -3)), np.s_[..., 2:, :-3]), ((0, -2), np.s_[..., 2:-2])]
)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_negative_padding_crops(pads, cropped, mode):
    arrays = operands(case((2, 2, 8, 9), (3, 2, 2, 3)), np.float32)
    expected = conv2d({**arrays, "input": arrays["input"][cropped]})
    np.testing.assert_array_equal(conv2d(arrays, padding=pads, padding_mode=mode), expected)


def test_cropping_comes_before_padding():
    arrays = operands(case((1, 2, 8, 9), (3, 2, 2, 3)), np.float32)
    expected = conv2d({**arrays, "input": arrays["input"][:, :, 2:]}, padding=((0, 3), (0, 0)), padding_mode="reflect")
    np.testing.assert_array_equal(conv2d(arrays, padding=((-2, 3), (0, 0)), padding_mode="reflect"), expected)


# ---------------------------------------------------------------- zero sizes


@pytest.mark.parametrize(
    ("x_shape", "w_shape", "shape"),
    [
        ((0, 3, 5, 6), (4, 3, 3, 3), (0, 4, 3, 4)),
        ((2, 0, 5, 6), (4, 0, 3, 3), (2, 4, 3, 4)),
        ((0, 0, 5, 6), (4, 0, 3, 3), (0, 4, 3, 4)),
        ((0, 5, 6), (4, 0, 3, 3), (4, 3, 4)),
        ((2, 3, 5, 6), (0, 3, 3, 3), (2, 0, 3, 4)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_dimensions_of_zero(x_shape, w_shape, shape, dtype):
    """PyTorch takes all but the last; it gives no channels where there are none to sum, here an empty sum is zero."""
    x, w, b = np.ones(x_shape, dtype), np.ones(w_shape, dtype), np.arange(w_shape[0]).astype(dtype)
    result = nc.conv2d(x, w, b)
    np.testing.assert_array_equal(result, np.broadcast_to(b[:, None, None], shape))
    if w_shape[0] and torch is not None:
        torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w))


# ---------------------------------------------------------------- dtypes


RESULT_DTYPES = [
    ("float32", "float32", "float32"),
    ("float64", "float64", "float64"),
    ("complex64", "complex64", "complex64"),
    ("complex128", "complex128", "complex128"),
    ("bool", "bool", "int64"),
    ("int8", "int8", "int32"),
    ("uint8", "uint8", "int32"),
    ("uint8", "int8", "int32"),
    ("int8", "bool", "int32"),
    ("int16", "int16", "int64"),
    ("int32", "int32", "int64"),
    ("int64", "int64", "int64"),
    ("uint16", "uint16", "uint64"),
    ("uint32", "uint32", "uint64"),
    ("uint64", "uint64", "uint64"),
    ("int8", "int16", "int64"),
    ("uint8", "uint16", "uint64"),
    ("uint16", "int16", "int64"),
    ("uint64", "int64", "float64"),
    ("float32", "float64", "float64"),
    ("float32", "int16", "float32"),
    ("float32", "int32", "float64"),
    ("uint8", "float32", "float32"),
    ("bool", "float32", "float32"),
    ("float32", "complex64", "complex64"),
    ("float64", "complex64", "complex128"),
    ("int64", "complex64", "complex128"),
]


@pytest.mark.parametrize(("input", "weight", "result"), RESULT_DTYPES)
def test_result_dtypes(input, weight, result):
    x, w = np.ones((1, 2, 3, 3), input), np.ones((1, 2, 2, 2), weight)
    y = nc.conv2d(x, w, backend="reference")
    assert y.dtype == nc.conv2d(x.astype(x.dtype.newbyteorder(">")), w, backend="reference").dtype == result
    np.testing.assert_array_equal(y, np.full((1, 1, 2, 2), 8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32])
def test_integer_sums_do_not_wrap_in_the_operands_width(dtype):
    extreme = np.iinfo(dtype).max
    x = np.full((1, 1, 1, 1), extreme, dtype)
    assert nc.conv2d(x, x).item() == int(extreme) ** 2


def test_bool_counts():
    x, w = random_array((2, 3, 6, 7), bool), random_array((2, 3, 3, 3), bool)
    np.testing.assert_array_equal(nc.conv2d(x, w), nc.conv2d(x.astype(np.int64), w.astype(np.int64)))


def test_complex_is_not_conjugated():
    x, w = np.full((1, 1, 1, 1), 1j), np.full((1, 1, 1, 1), 2j)
    assert nc.conv2d(x, w).item() == -2


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint32, np.uint64])
def test_integer_out_dtype_wraps_as_astype(dtype):
    arrays = operands(case((1, 3, 6, 6), (2, 3, 3, 3), bias=True), np.int8)
    exact = conv2d({name: a.astype(np.int64) for name, a in arrays.items()})
    np.testing.assert_array_equal(conv2d(arrays, out_dtype=dtype), exact.astype(dtype))
    assert conv2d(arrays, out_dtype=dtype).dtype == dtype


def test_a_wider_out_dtype_is_not_rounded_on_the_way():
    big = np.array([2**24, 1, -(2**24)], np.float32).reshape(1, 3, 1, 1)
    ones = np.ones((1, 3, 1, 1), np.float32)
    assert nc.conv2d(big, ones).item() == 0
    assert nc.conv2d(big, ones, out_dtype=np.float64).item() == 1
    assert nc.conv2d(big, ones, out=np.empty((1, 1, 1, 1))).item() == 1
    bytes_ = np.full((1, 2**17 + 1, 1, 1), -(2**7), np.int8)
    assert nc.conv2d(bytes_, bytes_, out_dtype=np.int64).item() == 2**31 + 2**14


def test_a_narrower_out_dtype_is_rounded_once():
    arrays = operands(case((1, 3, 6, 6), (2, 3, 3, 3), bias=True, residual=True), np.float64)
    np.testing.assert_array_equal(conv2d(arrays, out_dtype=np.float32), conv2d(arrays).astype(np.float32))


@pytest.mark.parametrize("out_dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_a_result_goes_into_any_dtype_of_its_kind_or_a_greater_one(dtype, out_dtype):
    arrays = operands(case((1, 3, 6, 6), (2, 3, 3, 3), bias=True), dtype)
    result = conv2d(arrays, out_dtype=out_dtype)
    assert result.dtype == out_dtype
    np.testing.assert_allclose(result, conv2d(arrays), rtol=1e-5, atol=1e-5)


def test_addends_take_part_in_the_result_dtype():
    x, w = np.ones((1, 1, 2, 2), np.float32), np.ones((1, 1, 1, 1), np.float32)
    assert nc.conv2d(x, w, np.ones(1)).dtype == np.float64
    assert nc.conv2d(x, w, np.ones(1, np.int8)).dtype == np.float32
    assert nc.conv2d(x, w, residual=np.ones((1, 1, 2, 2))).dtype == np.float64
    assert nc.conv2d(x.astype(np.int8), w.astype(np.int8), np.ones(1, np.float32)).dtype == np.float32
    assert nc.conv2d(x, w, np.full(1, 2**-40)).item(0) == 1 + 2**-40


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("order", MEMORY)
@pytest.mark.parametrize("name", ["input", "weight", "residual"])
def test_any_memory_gives_the_same_bits(name, order):
    arrays = operands(case((2, 3, 7, 8), (4, 3, 3, 3), bias=True, residual=True), np.float32)
    moved = {**arrays, name: MEMORY[order](arrays[name])}
    np.testing.assert_array_equal(moved[name], arrays[name])
    result = conv2d(moved, algorithm="direct")  # another order in memory may be faster by another algorithm
    np.testing.assert_array_equal(result, conv2d(arrays, algorithm="direct"))
    assert result.dtype.isnative


@pytest.fixture(scope="module")
def batch():
    return operands(case((2, 3, 7, 8), (4, 3, 3, 3), bias=True), np.float32)


def test_bias_in_any_memory(batch):
    expected = conv2d(batch)
    for bias in [np.repeat(batch["bias"], 3)[::3], batch["bias"][::-1].copy()[::-1], batch["bias"].astype(">f4"),
                 unaligned(batch["bias"])]:  # fmt: skip
        np.testing.assert_array_equal(nc.conv2d(batch["input"], batch["weight"], bias), expected)


def test_broadcast_arrays():
    row, kernel = random_array((3, 1, 8), np.float32), random_array((1, 3, 3, 3), np.float32)
    x, w = np.broadcast_to(row, (2, 3, 7, 8)), np.broadcast_to(kernel, (4, 3, 3, 3))
    np.testing.assert_array_equal(nc.conv2d(x, w), nc.conv2d(x.copy(), w.copy()))


def test_sliding_windows():
    """Elements that share memory: each image starts one row after the one before."""
    x = np.moveaxis(np.lib.stride_tricks.sliding_window_view(random_array((3, 9, 8), np.float32), 5, axis=1), (1, -1), (0, 2))
    w = random_array((4, 3, 3, 3), np.float32)
    np.testing.assert_array_equal(nc.conv2d(x, w), nc.conv2d(x.copy(), w))


def test_memory_mapped_input(tmp_path, batch):
    np.save(tmp_path / "x.npy", batch["input"])
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    result = conv2d({**batch, "input": mapped})
    np.testing.assert_array_equal(result, conv2d(batch))
    assert type(result) is np.ndarray


def test_lists_and_scalars_as_numpy_would_take_them():
    result = nc.conv2d([[[0.0, 1, 2], [3, 4, 5], [6, 7, 8]]], [[[[0.0, 1], [2, 3]]]], [100.0])
    np.testing.assert_array_equal(result, [[[119, 125], [137, 143]]])


def test_operands_are_not_changed(batch):
    before = {name: a.copy() for name, a in batch.items()}
    conv2d(batch, padding="same", padding_mode="reflect")
    for name, array in batch.items():
        np.testing.assert_array_equal(array, before[name])


def test_the_result_is_in_the_memory_order_of_the_input(batch):
    first, w = batch["input"], batch["weight"]
    last = np.ascontiguousarray(first.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    expected = nc.conv2d(first, w)
    assert expected.flags.c_contiguous
    result = nc.conv2d(last, w)
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(result, expected)

    result = nc.conv2d(last.transpose(0, 2, 3, 1), w, layout="NHWC")
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result.transpose(0, 3, 1, 2), expected)

    result = nc.conv2d(first.transpose(0, 2, 3, 1), w, layout="NHWC")
    assert result.transpose(0, 3, 1, 2).flags.c_contiguous
    np.testing.assert_array_equal(result.transpose(0, 3, 1, 2), expected)

    result = nc.conv2d(last[0], w)
    assert result.transpose(1, 2, 0).flags.c_contiguous
    np.testing.assert_array_equal(result, expected[0])


# ---------------------------------------------------------------- out


@pytest.mark.parametrize(
    "place",
    [
        lambda shape: np.empty(shape, np.float32),
        lambda shape: np.empty(shape, np.float64),
        lambda shape: np.empty(shape, ">f4"),
        lambda shape: unaligned(np.zeros(shape, np.float32)),
        lambda shape: np.empty(shape[::-1], np.float32).T,
        lambda shape: np.empty((*shape[:-1], 2 * shape[-1]), np.float32)[..., ::2],
        lambda shape: np.empty(shape, np.float32)[..., ::-1, :],
        lambda shape: np.moveaxis(np.empty((shape[0], *shape[2:], shape[1]), np.float32), -1, 1),
        lambda shape: np.empty((9, *shape), np.float32)[4],
        lambda shape: np.empty(shape, np.complex64),
    ],
    ids=["plain", "wider", "big-endian", "unaligned", "Fortran", "stepped", "reversed", "channels last", "part", "complex"],
)
@pytest.mark.parametrize("residual", [False, True], ids=["", "with a residual"])
def test_out_is_what_is_returned(place, residual):
    arrays = operands(case((2, 3, 7, 8), (4, 3, 3, 3), bias=True, residual=residual), np.float32)
    expected = conv2d(arrays)
    out = place(expected.shape)
    result = conv2d(arrays, out=out)
    assert result is out
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-5)


def test_only_out_is_written():
    arrays = operands(case((1, 2, 7, 8), (3, 2, 3, 3)), np.float32)
    frame = np.full((1, 5, 9, 10), 7, np.float32)
    inner = np.s_[:, 1:-1, 2:-2, 2:-2]
    conv2d(arrays, out=frame[inner])
    np.testing.assert_array_equal(frame[inner], conv2d(arrays))
    frame[inner] = 7
    assert (frame == 7).all()


def test_out_narrower_than_the_result():
    arrays = operands(case((2, 3, 7, 8), (4, 3, 3, 3)), np.float64)
    out = np.empty((2, 4, 5, 6), np.float32)
    assert conv2d(arrays, out=out) is out
    np.testing.assert_array_equal(out, conv2d(arrays).astype(np.float32))


def test_out_of_integers_wraps():
    arrays = operands(case((2, 3, 7, 8), (4, 3, 3, 3)), np.uint8)
    out = np.empty((2, 4, 5, 6), np.uint8)
    assert conv2d(arrays, out=out) is out
    np.testing.assert_array_equal(out, conv2d(arrays).astype(np.uint8))


def test_out_and_out_dtype_together():
    """The sum is rounded to out_dtype, then stored as out."""
    arrays = operands(case((1, 2, 5, 5), (1, 2, 3, 3)), np.float64)
    out = np.empty((1, 1, 3, 3))
    assert conv2d(arrays, out=out, out_dtype=np.float32) is out
    np.testing.assert_array_equal(out, conv2d(arrays).astype(np.float32))


@pytest.mark.parametrize("operand", ["input", "residual", "shifted input", "weight", "bias"])
def test_out_that_overlaps_an_operand(operand):
    arrays = operands(case((2, 4, 6, 7), (4, 4, 3, 3), bias=True), np.float32)
    arrays["residual"] = random_array((2, 4, 6, 7), np.float32, 9)
    expected = conv2d(arrays, padding=1)
    memory = np.zeros(2 * expected.size, np.float32)
    if operand == "shifted input":
        operand, start = "input", 5
    else:
        start = 0
    shared = memory[start : start + arrays[operand].size].reshape(arrays[operand].shape)
    shared[...] = arrays[operand]
    out = memory[: expected.size].reshape(expected.shape)
    assert conv2d({**arrays, operand: shared}, padding=1, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_out_in_the_other_layout(batch):
    out = np.empty((2, 5, 6, 4), np.float32)
    x = batch["input"].transpose(0, 2, 3, 1)
    assert nc.conv2d(x, batch["weight"], batch["bias"], layout="NHWC", out=out) is out
    np.testing.assert_array_equal(out.transpose(0, 3, 1, 2), conv2d(batch))


def test_out_of_zero_elements():
    out = np.empty((0, 4, 5, 6), np.float32)
    assert nc.conv2d(np.ones((0, 3, 7, 8), np.float32), np.ones((4, 3, 3, 3), np.float32), out=out) is out


# ---------------------------------------------------------------- special values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("algorithm", ["accurate", "direct", "reference"])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_special_values_reach_exactly_the_outputs_that_depend_on_them(value, algorithm, mode):
    x = random_array((2, 2, 12, 1100), np.float32)
    w = 1 + np.abs(random_array((3, 2, 3, 3), np.float32))
    clean = np.zeros_like(x)
    x[1, 0, 5, 1030] = x[0, 1, 0, 0] = value
    clean[1, 0, 5, 1030] = clean[0, 1, 0, 0] = 1
    options = {"padding": ((1, 0), (2, 1)), "stride": (2, 1), "padding_mode": mode, "algorithm": algorithm}
    touched = nc.conv2d(clean, np.ones_like(w), **options) > 0
    np.testing.assert_array_equal(~np.isfinite(nc.conv2d(x, w, **options)), touched)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_in_weight_bias_and_residual(value):
    arrays = operands(case((2, 3, 7, 8), (4, 3, 3, 3), bias=True, residual=True), np.float32)
    for name, index, touched in [
        ("weight", (2, 0, 1, 1), np.s_[:, 2]),
        ("bias", (1,), np.s_[:, 1]),
        ("residual", (1, 3, 2, 2), np.s_[1, 3, 2, 2]),
    ]:
        changed = {**arrays, name: arrays[name].copy()}
        changed[name][index] = value
        expected = np.zeros(arrays["residual"].shape, bool)
        expected[touched] = True
        np.testing.assert_array_equal(~np.isfinite(conv2d(changed)), expected)


def test_a_zero_weight_times_infinity_is_nan_but_padding_is_not():
    x = np.full((1, 1, 3, 3), np.inf, np.float32)
    w = np.zeros((1, 1, 3, 3), np.float32)
    assert np.isnan(nc.conv2d(x, w, algorithm="accurate")).all()
    w[0, 0, 0, 0] = np.inf
    assert np.isnan(nc.conv2d(np.zeros((1, 1, 3, 3), np.float32), w, padding=1, algorithm="accurate")).all()


def test_denormals_are_kept():
    tiny = np.full((1, 1, 3, 3), 1e-40, np.float32)
    one = np.ones((1, 1, 1, 1), np.float32)
    np.testing.assert_array_equal(nc.conv2d(tiny, one), tiny)
