"""The CUDA backend under Numba's simulator: what the kernels compute, and how device arrays travel."""

import ml_dtypes
import numpy as np
import pytest
from helpers import assert_conforms, case, find_algorithm, one_in, operands, oracle, random_array, why_not
from numba import cuda, njit

import numbaconv as nc
from numbaconv.cuda import MEMORY, why_unavailable
from numbaconv.cuda import tiled as tiled_module
from numbaconv.cuda.shadow import cast_shadow, lend, pointer
from numbaconv.cuda.streams import as_stream

ALGORITHMS = ("direct", "tiled", "implicit_gemm")
both = pytest.mark.parametrize("algorithm", ALGORITHMS)

GRID = [
    case((1, 2, 5, 6), (3, 2, 3, 3)),
    case((1, 2, 5, 6), (3, 2, 3, 3), bias=True, residual=True, padding=1),
    case((2, 1, 4, 5), (2, 1, 1, 1), bias=True),
    case((1, 1, 7, 3), (1, 1, 3, 2), stride=(2, 1)),
    case((1, 1, 2, 9), (2, 1, 2, 3), stride=(1, 3), padding=(1, 0)),
    case((1, 1, 7, 7), (2, 1, 3, 2), dilation=(2, 3)),
    case((1, 2, 4, 5), (2, 2, 2, 3), padding=((0, 2), (3, 1))),
    case((1, 2, 4, 5), (2, 2, 2, 3), padding=((-1, 2), (1, -2))),
    case((1, 1, 4, 5), (2, 1, 3, 4), padding="same", stride=(1, 2)),
    case((1, 1, 3, 4), (1, 1, 3, 3), padding=5),
    *(case((1, 1, 4, 5), (2, 1, 3, 3), padding=((1, 2), (2, 3)), padding_mode=m) for m in ("reflect", "replicate", "circular")),
    case((1, 4, 4, 4), (6, 2, 2, 2), groups=2, bias=True),
    case((2, 3, 4, 4), (3, 1, 3, 3), groups=3, padding=1),
    case((1, 2, 3, 4), (9, 2, 2, 2)),  # more output channels than a thread sums
    case((1, 11, 3, 4), (2, 11, 2, 2)),  # more input channels than a stage holds
    case((1, 2, 2, 9), (2, 2, 1, 2)),  # several tiles along a row
    case((1, 1, 19, 3), (9, 1, 2, 2), stride=(2, 1)),  # and along a column, of several rows of threads
    case((2, 4, 5), (3, 2, 2, 2)),  # no batch
    case((1, 4, 5, 2), (3, 2, 2, 2), layout="NHWC", bias=True),
]


DTYPES = ["float16", "bfloat16", "float64", "complex64", "complex128", "int8", "uint8", "int32", "uint64", "bool"]


def to_device(arrays):
    return {name: cuda.to_device(a) for name, a in arrays.items()}


def device_conv2d(arrays, **options):
    result = nc.conv2d(**to_device(arrays), **options)
    assert type(result) is type(cuda.device_array(1))
    return result.copy_to_host()


@pytest.mark.parametrize(("algorithm", "case"), one_in(len(ALGORITHMS), ALGORITHMS, GRID), ids=str)
def test_algorithms_conform(algorithm, case):
    arrays = operands(case, np.float32)
    assert_conforms(device_conv2d(arrays, algorithm=algorithm, **case.options), arrays, case.options)


@pytest.mark.parametrize(("algorithm", "dtype"), one_in(len(ALGORITHMS), ALGORITHMS, DTYPES))
def test_dtypes(algorithm, dtype):
    one = case((1, 2, 3, 4), (2, 2, 2, 2), padding=1, bias=True)
    arrays = {name: a if a.itemsize == 1 or a.dtype.kind in "fc" else a % 100 for name, a in operands(one, dtype).items()}
    result = device_conv2d(arrays, algorithm=algorithm, padding=1)
    assert result.dtype == nc.conv2d(**arrays, padding=1, backend="reference").dtype
    assert_conforms(result, arrays, one.options)


@both
def test_operands_of_different_dtypes(algorithm):
    arrays = {
        "input": random_array((1, 2, 3, 4), "int8"),
        "weight": random_array((2, 2, 2, 2), "float32"),
        "bias": random_array((2,), "float64"),
        "residual": random_array((1, 2, 2, 3), "int16") // 100,
    }
    result = device_conv2d(arrays, algorithm=algorithm)
    assert result.dtype == np.float64
    assert_conforms(result, arrays, {})


OUT_DTYPES = [
    ("float64", "float32"), ("int64", "int8"), ("int8", "bool"), ("int8", "float32"), ("float32", "float16"),
    ("float32", "bfloat16"),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "dtypes"), one_in(len(ALGORITHMS), ALGORITHMS, OUT_DTYPES))
def test_out_dtype(algorithm, dtypes):
    dtype, out_dtype = dtypes
    arrays = {"input": np.arange(-6, 6).reshape(1, 1, 3, 4).astype(dtype), "weight": np.full((1, 1, 1, 2), 23, dtype)}
    result = device_conv2d(arrays, algorithm=algorithm, out_dtype=out_dtype)
    expected = oracle({name: a.astype(np.int64) for name, a in arrays.items()}, {})
    assert result.dtype == out_dtype
    np.testing.assert_array_equal(result, expected.astype(out_dtype))


@both
def test_truth_values_do_not_wrap(algorithm):
    arrays = {"input": np.array([0, 1, 64, -64], "int8").reshape(1, 1, 1, 4), "weight": np.full((1, 1, 1, 1), 4, "int8")}
    result = device_conv2d(arrays, algorithm=algorithm, out_dtype="bool")
    assert result.view(np.uint8).ravel().tolist() == [0, 1, 1, 1]


@both
def test_one_and_three_dimensions(algorithm):
    x, w = random_array((1, 2, 9), "float64"), random_array((3, 2, 3), "float64")
    y = nc.conv1d(cuda.to_device(x), cuda.to_device(w), stride=2, algorithm=algorithm).copy_to_host()
    np.testing.assert_allclose(y, nc.conv1d(x, w, stride=2, backend="reference"), rtol=1e-13, atol=1e-13)
    x, w = random_array((1, 2, 4, 3, 3), "float64"), random_array((2, 2, 3, 2, 2), "float64")
    y = nc.conv3d(cuda.to_device(x), cuda.to_device(w), padding=(2, 0, 1), dilation=(2, 1, 1), algorithm=algorithm)
    expected = nc.conv3d(x, w, padding=(2, 0, 1), dilation=(2, 1, 1), backend="reference")
    np.testing.assert_allclose(y.copy_to_host(), expected, rtol=1e-13, atol=1e-13)


@both
def test_channels_last_in_channels_last_out(algorithm):
    one = case((1, 2, 4, 5), (3, 2, 2, 2), padding=1)
    arrays = operands(one, "float32")
    given = {
        **to_device(arrays),
        "input": lend(np.ascontiguousarray(arrays["input"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)),
    }
    result = nc.conv2d(**given, algorithm=algorithm, padding=1).copy_to_host()
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    assert_conforms(result, arrays, one.options)


@both
def test_any_strides(algorithm):
    one = case((1, 2, 4, 5), (3, 2, 2, 2), bias=True, residual=True)
    arrays = operands(one, "float32")
    lent = {name: lend(np.repeat(a, 2, axis=-1)[..., ::-2]) for name, a in arrays.items()}
    lent["bias"] = lend(np.broadcast_to(arrays["bias"][:1], (3,)))
    arrays = {name: a.copy() for name, a in ((name, np.asarray(a)) for name, a in lent.items())}
    assert_conforms(nc.conv2d(**lent, algorithm=algorithm).copy_to_host(), arrays, {})


EMPTY = [((0, 2, 4, 4), (3, 2, 2, 2)), ((1, 0, 4, 4), (3, 0, 2, 2)), ((1, 2, 4, 4), (0, 2, 2, 2)), ((1, 2, 0, 4), (3, 2, 2, 2))]


@pytest.mark.parametrize(("algorithm", "shapes"), one_in(len(ALGORITHMS), ALGORITHMS, EMPTY))
def test_empty_arrays(algorithm, shapes):
    one = case(*shapes, bias=True, padding=1)
    arrays = operands(one, "float32")
    result = device_conv2d(arrays, algorithm=algorithm, padding=1)
    np.testing.assert_array_equal(result, np.broadcast_to(arrays["bias"][:, None, None], result.shape))


@both
def test_padded_zeros_are_multiplied(algorithm):
    weight = np.ones((1, 1, 3, 3), np.float32)
    weight[0, 0, 0, 0] = np.nan
    result = device_conv2d({"input": np.ones((1, 1, 3, 3), np.float32), "weight": weight}, padding=1, algorithm=algorithm)
    assert np.isnan(result).all()


@both
def test_nan_reaches_only_what_depends_on_it(algorithm):
    arrays = operands(case((1, 2, 4, 9), (9, 2, 2, 2)), np.float32)
    arrays["input"][0, 1, 2, 3] = arrays["weight"][7] = np.nan
    result = device_conv2d(arrays, algorithm=algorithm)
    expected = np.zeros((1, 9, 3, 8), bool)
    expected[:, :, 1:3, 2:4] = expected[:, 7] = True
    np.testing.assert_array_equal(np.isnan(result), expected)


def test_auto_takes_either():
    arrays = operands(case((1, 2, 5, 6), (3, 2, 3, 3)), np.float32)
    assert_conforms(device_conv2d(arrays), arrays, {})


# ---------------------------------------------------------------- places

ONE = case((1, 2, 3, 4), (2, 2, 2, 2), bias=True)


def test_numpy_in_numpy_out():
    arrays = operands(ONE, np.float32)
    result = nc.conv2d(**arrays, backend="cuda")
    assert type(result) is np.ndarray
    assert_conforms(result, arrays, {})


def test_numpy_channels_last_keeps_its_order():
    arrays = operands(ONE, np.float32)
    arrays["input"] = np.ascontiguousarray(arrays["input"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)[:, :, ::-1]
    result = nc.conv2d(**arrays, backend="cuda")
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    assert_conforms(result, arrays, {})


def test_use_backend():
    arrays = operands(ONE, np.float32)
    with nc.use_backend("cuda"):
        assert nc.explain("conv2d", arrays["input"], arrays["weight"]).backend == "cuda"
        assert_conforms(nc.conv2d(**arrays), arrays, {})
    assert nc.explain("conv2d", arrays["input"], arrays["weight"]).backend == "cpu"


def test_device_arrays_on_the_host_backend_come_back():
    arrays = operands(ONE, np.float32)
    assert_conforms(device_conv2d(arrays, backend="reference"), arrays, {})
    flipped = lend(arrays["input"][..., ::-1])
    result = nc.conv2d(flipped, **{n: cuda.to_device(arrays[n]) for n in ("weight", "bias")}, backend="reference")
    assert_conforms(result.copy_to_host(), {**arrays, "input": arrays["input"][..., ::-1].copy()}, {})


def test_a_given_out_is_what_comes_back():
    arrays = operands(ONE, np.float32)
    expected = device_conv2d(arrays)
    for dtype in ("float32", "float64", "complex64"):
        out = cuda.device_array((1, 2, 2, 3), dtype)
        assert nc.conv2d(**to_device(arrays), out=out) is out
        np.testing.assert_allclose(out.copy_to_host(), expected, rtol=1e-5)
    memory = np.zeros((1, 2, 2, 6), "float32")
    nc.conv2d(**to_device(arrays), out=lend(memory[..., ::-2]))
    np.testing.assert_array_equal(memory[..., ::-2], expected)
    assert not memory[..., ::2].any()


def test_out_that_overlaps_the_input():
    arrays = operands(case((1, 1, 3, 4), (1, 1, 1, 1)), np.float32)
    expected, given = device_conv2d(arrays), to_device(arrays)
    nc.conv2d(**given, out=given["input"])
    np.testing.assert_array_equal(given["input"].copy_to_host(), expected)


def test_out_with_an_out_dtype_is_converted():
    arrays = {"input": np.arange(4).reshape(1, 1, 2, 2), "weight": np.full((1, 1, 1, 1), 128)}
    for dtype, expected in (("int8", [0, -128, 0, -128]), ("bool", [0, 1, 1, 1])):
        out = cuda.device_array((1, 1, 2, 2), dtype)
        nc.conv2d(**to_device(arrays), out=out, out_dtype="int64")
        assert out.copy_to_host().view(np.int8).ravel().tolist() == expected


@pytest.mark.parametrize("name", ["weight", "bias", "out"])
def test_mixed_places(name):
    arrays = to_device(operands(ONE, np.float32))
    arrays["out"] = cuda.device_array((1, 2, 2, 3), np.float32)
    arrays[name] = arrays[name].copy_to_host()
    with pytest.raises(TypeError, match=f"^{name}: "):
        nc.conv2d(**arrays)


def test_prepared_operators_own_their_weight():
    arrays = operands(ONE, np.float32)
    given = to_device(arrays)
    operator = nc.Conv2d(given["weight"], given["bias"])
    given["weight"].copy_to_device(np.zeros_like(arrays["weight"]))
    assert_conforms(operator(given["input"]).copy_to_host(), arrays, {})


def test_transposed_convolution_and_gradients():
    x, w = random_array((1, 2, 3, 4), "float64"), random_array((2, 3, 2, 3), "float64")
    y = nc.conv_transpose2d(cuda.to_device(x), cuda.to_device(w), stride=2).copy_to_host()
    np.testing.assert_allclose(y, nc.conv_transpose2d(x, w, stride=2, backend="reference"), rtol=1e-13, atol=1e-13)
    g, w = random_array((1, 2, 2, 2), "float64"), random_array((2, 3, 2, 3), "float64")
    d = nc.grad.conv2d_input((1, 3, 3, 4), cuda.to_device(w), cuda.to_device(g)).copy_to_host()
    with nc.use_backend("reference"):
        np.testing.assert_allclose(d, nc.grad.conv2d_input((1, 3, 3, 4), w, g), rtol=1e-13, atol=1e-13)


def test_gradients_of_complex_operands_conjugate():
    x, g = random_array((1, 2, 3, 4), "complex128"), random_array((1, 3, 2, 2), "complex128")
    d = nc.grad.conv2d_weight(cuda.to_device(x), (3, 2, 2, 3), cuda.to_device(g)).copy_to_host()
    expected = nc.grad.conv2d_weight(x, (3, 2, 2, 3), g)
    np.testing.assert_allclose(d, expected, rtol=1e-13, atol=1e-13)
    assert abs(expected.imag).min() > 1e-3


# ---------------------------------------------------------------- pieces


def test_available():
    assert why_unavailable() is None
    assert nc.backends()["cuda"] == "available"


def test_streams():
    arrays, stream = operands(ONE, np.float32), cuda.stream()
    result = nc.conv2d(**to_device(arrays), stream=stream)
    assert result.stream is stream
    assert_conforms(result.copy_to_host(), arrays, {})
    assert as_stream(None) == as_stream(0) == 0
    with pytest.raises(TypeError, match=r"^stream: expected None, a Numba.*got 'fast'"):
        nc.conv2d(**to_device(arrays), stream="fast")


def test_unsupported_dtypes_are_named():
    arrays = to_device(operands(ONE, np.float32))
    arrays["weight"] = cuda.to_device(np.zeros((2, 2, 2, 2), "longdouble"))
    with pytest.raises(TypeError, match=f"^weight: .*{np.dtype('longdouble')}$"):
        nc.conv2d(**arrays)
    arrays["weight"] = lend(np.zeros((2, 2, 2, 2), ">f4"))
    with pytest.raises(TypeError, match=r"^weight: .*byte order"):
        nc.conv2d(**arrays)


class Words:
    """Words of 16 bits, as libraries hand on bfloat16; `dtype` says what they are."""

    def __init__(self, array, dtype):
        self.array, self.dtype = array, dtype
        words = array.view(np.uint16)
        data, strides = words.ctypes.data, words.strides
        self.__cuda_array_interface__ = {"shape": words.shape, "typestr": "<V2", "data": (data, False), "strides": strides}


def test_bfloat16_is_told_by_its_name():
    array = random_array((2, 3), ml_dtypes.bfloat16)
    for dtype in (array.dtype, "torch.bfloat16"):
        shadow = cast_shadow(Words(array, dtype), "input")
        assert shadow.dtype == ml_dtypes.bfloat16
        np.testing.assert_array_equal(shadow, array)
    with pytest.raises(TypeError, match=r"^input: expected an array of numbers, got \|V2"):
        cast_shadow(Words(array, np.dtype("V2")), "input")


def test_what_does_not_fit_shared_memory():
    arrays = operands(case((1, 1, 40, 40), (1, 1, 40, 40)), np.float32)
    elements = (40 + 3) * 40 + 40 * 40 * 8  # a column of 4 pixels with its halo, and the weights of 8 channels
    expected = f"needs {4 * elements} bytes of shared memory for one input channel, and a block has {tiled_module.SHARED_BYTES}"
    assert expected in why_not(arrays, {"backend": "cuda", "algorithm": "tiled"})
    with pytest.raises(ValueError, match="shared memory"):
        nc.conv2d(**to_device(arrays), algorithm="tiled")
    explanation = nc.explain("conv2d", arrays["input"], arrays["weight"], backend="cuda")
    assert explanation.algorithm != "tiled"


@pytest.mark.parametrize(
    ("algorithm", "activation"),
    one_in(len(ALGORITHMS), ALGORITHMS, ["relu", "gelu", njit(lambda x: x * x if x > 1 else -x)]),
)
def test_activations(algorithm, activation):
    arrays = operands(ONE, np.float32)
    expected = nc.conv2d(**arrays, activation=activation, backend="reference", out_dtype=np.float64)
    actual = device_conv2d(arrays, algorithm=algorithm, activation=activation)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(actual, device_conv2d(arrays, algorithm=algorithm))


def test_rows_are_for_this_backend():
    assert {find_algorithm("cuda", name).backend for name in ALGORITHMS} == {"cuda"}


@pytest.mark.parametrize("index", [np.s_[:, ::-1], np.s_[::2, 1:], np.s_[:0], np.s_[1, :, ::-2]])
def test_pointers_count_from_the_first_element(index):
    shadow = np.arange(60.0).reshape(3, 4, 5)[index]
    read = pointer(shadow)
    for position in np.ndindex(shadow.shape):
        offset = sum(i * s // 8 for i, s in zip(position, shadow.strides, strict=True))
        assert read[offset] == shadow[position]
    with pytest.raises(IndexError):
        read[-1 - read.before]
    with pytest.raises(IndexError):
        read[len(read.memory) - read.before]


def test_memory_moves_any_strides():
    x = np.arange(24, dtype=np.int32).reshape(1, 2, 3, 4)
    for given in (x, x[..., ::-1], x.transpose(0, 3, 1, 2), np.broadcast_to(x[:, :, :, :1], (1, 2, 3, 5)), x[:, :0]):
        brought = MEMORY.from_host(given, None, None)
        np.testing.assert_array_equal(MEMORY.to_host(brought, None), given)
        np.testing.assert_array_equal(MEMORY.to_host(lend(given), None), given)
    assert cast_shadow(MEMORY.from_host(x.transpose(0, 3, 1, 2), None, None), "x").strides == x.transpose(0, 3, 1, 2).strides


def test_conjugated_copy():
    z = random_array((2, 3), "complex64")
    np.testing.assert_array_equal(MEMORY.conjugate(z[:, ::-1], None), z[:, ::-1].conj())


def test_a_prepared_operator_packs_once(monkeypatch):
    x, w = random_array((1, 4, 5, 5), "float32"), random_array((3, 4, 2, 2), "float32")
    op = nc.Conv2d(cuda.to_device(w), algorithm="implicit_gemm")
    first = op(cuda.to_device(x)).copy_to_host()
    monkeypatch.setattr("numbaconv.cuda.memory.packed", None)
    np.testing.assert_array_equal(op(cuda.to_device(x)).copy_to_host(), first)
