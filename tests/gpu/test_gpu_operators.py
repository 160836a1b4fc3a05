"""On a GPU: transposed convolutions and gradients, one and three dimensions, activations, mixed dtypes, empty arrays."""

import numpy as np
import pytest
from grid import MANY
from helpers import assert_conforms, case, operands, random_array
from numba import njit
from on_gpu import NAMES, TENSOR_CORES, near, on_host, to_device

import numbaconv as nc

pytestmark = pytest.mark.gpu

DIRECT = ("direct", "tiled", "implicit_gemm", "auto")
TRANSPOSED = [
    (1, (2, 6, 40), (6, 5, 4), {"stride": 3, "padding": 1, "output_padding": 2}),
    (2, (2, 16, 13, 15), (16, 24, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1}),
    (2, (1, 16, 20, 21), (16, 8, 3, 3), {"padding": 1}),
    (2, (1, 12, 9, 9), (12, 5, 4, 2), {"stride": (1, 3), "dilation": (2, 1), "groups": 3}),
    (2, (1, 9, 9, 16), (16, 8, 2, 2), {"stride": 2, "layout": "NHWC"}),
    (3, (1, 4, 5, 6, 7), (4, 6, 2, 3, 3), {"stride": (2, 1, 2)}),
]


@pytest.mark.parametrize("algorithm", DIRECT)
@pytest.mark.parametrize("dtype", ["float32", "complex64", "int8"])
@pytest.mark.parametrize(("ndim", "input", "weight", "options"), TRANSPOSED, ids=str)
def test_transposed(ndim, input, weight, options, dtype, algorithm):
    arrays = {"input": random_array(input, dtype), "weight": random_array(weight, dtype)}
    function = getattr(nc, f"conv_transpose{ndim}d")
    result = on_host(function(**to_device(arrays), **options, algorithm=algorithm))
    near(result, lambda **a: function(**a, **options), arrays)
    prepared = getattr(nc, f"ConvTranspose{ndim}d")(to_device(arrays)["weight"], **options, algorithm=algorithm)
    np.testing.assert_array_equal(on_host(prepared(to_device(arrays)["input"])), result)


GRADIENTS = [
    (1, (2, 6, 40), (8, 6, 5), {"stride": 2, "padding": 2}),
    (2, (2, 16, 20, 21), (24, 16, 3, 3), {"padding": 1}),
    (2, (2, 16, 20, 21), (24, 16, 3, 3), {"stride": 2, "padding": 1}),
    (2, (1, 12, 15, 14), (18, 4, 3, 2), {"stride": (3, 1), "dilation": (1, 2), "groups": 3}),
    (2, (2, 24, 18, 18), (24, 1, 3, 3), {"padding": 1, "groups": 24}),
    (3, (1, 4, 5, 8, 9), (6, 4, 2, 3, 3), {"padding": (1, 0, 1)}),
]


@pytest.mark.parametrize("algorithm", DIRECT)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize(("ndim", "input", "weight", "options"), GRADIENTS, ids=str)
def test_gradients(ndim, input, weight, options, dtype, algorithm):
    x, w = random_array(input, dtype), random_array(weight, dtype)
    out = getattr(nc, f"conv{ndim}d")(x, w, **options, backend="reference")
    g = random_array(out.shape, dtype, seed=1)
    to_input, to_weight = (getattr(nc.grad, f"conv{ndim}d_{of}") for of in ("input", "weight"))
    device = to_device({"x": x, "w": w, "g": g})
    by_input = on_host(to_input(input, device["w"], device["g"], **options, algorithm=algorithm))
    by_weight = on_host(to_weight(device["x"], weight, device["g"], **options, algorithm=algorithm))
    near(by_input, lambda w, g: to_input(input, w, g, **options), {"w": w, "g": g})
    near(by_weight, lambda x, g: to_weight(x, weight, g, **options), {"x": x, "g": g})

    torch = pytest.importorskip("torch")
    wide = np.complex128 if dtype == "complex64" else np.float64
    leaves = [torch.from_numpy(a.astype(wide)).requires_grad_() for a in (x, w)]
    y = getattr(torch.nn.functional, f"conv{ndim}d")(*leaves, **options)
    expected = torch.autograd.grad(y, leaves, torch.from_numpy(g.astype(wide)))
    tolerance = 1e-3 if dtype != "float64" else 1e-11
    for result, theirs in zip((by_input, by_weight), expected, strict=True):
        np.testing.assert_allclose(result, theirs.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize("algorithm", DIRECT)
def test_one_and_three_dimensions(algorithm, dtype):
    problems = [
        (nc.conv1d, (2, 12, 500), (20, 12, 5), {"stride": 2, "padding": 3}),
        (nc.conv1d, (2, 500, 12), (24, 1, 7), {"groups": 12, "layout": "NWC", "dilation": 2}),
        (nc.conv3d, (2, 6, 9, 10, 11), (8, 6, 3, 3, 2), {"padding": (2, 0, 1), "dilation": (2, 1, 1)}),
        (
            nc.conv3d,
            (1, 9, 10, 11, 4),
            (6, 2, 3, 3, 3),
            {"groups": 2, "layout": "NDHWC", "padding": 2, "padding_mode": "reflect"},
        ),
    ]
    for function, input, weight, options in problems:
        arrays = {"input": random_array(input, dtype), "weight": random_array(weight, dtype)}
        result = on_host(function(**to_device(arrays), **options, algorithm=algorithm))
        near(result, lambda function=function, options=options, **a: function(**a, **options), arrays)


@pytest.mark.parametrize("dtype", ["float32", "float16", "complex64"])
def test_depthwise_in_three_dimensions(dtype):
    arrays = {"input": random_array((2, 20, 7, 8, 9), dtype), "weight": random_array((20, 1, 3, 3, 3), dtype)}
    options = {"groups": 20, "padding": 1}
    result = on_host(nc.conv3d(**to_device(arrays), **options, algorithm="depthwise"))
    near(result, lambda **a: nc.conv3d(**a, **options), arrays)


ACTIVATIONS = ["relu", "gelu", "silu", "own"]


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", njit(lambda x: x * x if x > 1 else -x)], ids=ACTIVATIONS)
@pytest.mark.parametrize("algorithm", NAMES)
def test_activations(algorithm, activation):
    dtype, tolerance = ("float16", 4e-3) if algorithm in TENSOR_CORES else ("float32", 1e-4)
    channels, groups = (1, 16) if algorithm == "depthwise" else (16, 1)
    arrays = operands(case((2, 16, 14, 15), (16, channels, 3, 3), groups=groups, bias=True, residual=True), dtype)
    options = {"groups": groups, "activation": activation}
    result = on_host(nc.conv2d(**to_device(arrays), **options, algorithm=algorithm))
    wide = {name: a.astype(np.float64) for name, a in arrays.items()}
    np.testing.assert_allclose(result, nc.conv2d(**wide, **options, backend="reference"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("algorithm", DIRECT)
@pytest.mark.parametrize(
    ("dtype", "weight_dtype"), [("float32", "float64"), ("uint8", "int8"), ("uint8", "float32"), ("float32", "complex64")]
)
def test_mixed_dtypes(dtype, weight_dtype, algorithm):
    arrays = operands(MANY._replace(residual=False), dtype, weight_dtype)
    result = on_host(nc.conv2d(**to_device(arrays), **MANY.options, algorithm=algorithm))
    assert_conforms(result, {name: a.astype(result.dtype) for name, a in arrays.items()}, MANY.options)


@pytest.mark.parametrize("algorithm", DIRECT)
@pytest.mark.parametrize(
    ("dtype", "out_dtype"),
    [
        ("float64", "float32"), ("int64", "int8"), ("int8", "bool"), ("int8", "float32"), ("float32", "float16"),
        ("float32", "bfloat16"), ("bfloat16", "float32"),
    ],
)  # fmt: skip
def test_out_dtype(dtype, out_dtype, algorithm):
    arrays = {"input": np.arange(-6, 6).reshape(1, 1, 3, 4).astype(dtype), "weight": np.full((1, 1, 1, 2), 23, dtype)}
    result = on_host(nc.conv2d(**to_device(arrays), out_dtype=out_dtype, algorithm=algorithm))
    expected = nc.conv2d(*(a.astype(np.int64) for a in arrays.values()), backend="reference")
    assert result.dtype == out_dtype
    np.testing.assert_array_equal(result, expected.astype(out_dtype))


EMPTY = [
    ((0, 16, 4, 4), (16, 16, 3, 3)),
    ((1, 0, 4, 4), (16, 0, 3, 3)),
    ((1, 16, 4, 4), (0, 16, 3, 3)),
    ((1, 16, 0, 4), (16, 16, 2, 2)),
]


@pytest.mark.parametrize("algorithm", ["direct", "tiled", "implicit_gemm", "auto"])
@pytest.mark.parametrize(("shape", "weight"), EMPTY, ids=str)
def test_empty_arrays(shape, weight, algorithm, family):
    arrays = operands(case(shape, weight, bias=True, padding=1), "float32")
    for _ in range(2):
        result = family.back(nc.conv2d(**{n: family.put(a) for n, a in arrays.items()}, padding=1, algorithm=algorithm))
        np.testing.assert_array_equal(result, np.broadcast_to(arrays["bias"][:, None, None], result.shape))
