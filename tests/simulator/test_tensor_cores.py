"""The tensor-core kernels under Numba's simulator, where PTX runs as what it means, in small tiles.

``test_emulated.py`` runs them as they are on all of these problems.
"""

import numpy as np
import pytest
from grid import HALO_GRID, TENSOR_GRID, TMA_GRID, WARPGROUP_GRID, some
from helpers import case, operands, oracle, random_array, some_of, why_not
from numba import cuda

import numbaconv as nc
from numbaconv import execute
from numbaconv.cuda import tensor_gemm, tma_gemm, warpgroup_gemm
from numbaconv.cuda.shadow import lend
from numbaconv.cuda.splitting import Cut

KINDS = [("float32", "tf32"), ("float16", "ieee"), ("bfloat16", "ieee"), ("float32", "bf16")]


def tensor_error(arrays, digits):
    """What operands of so many binary digits make of each product, relative to it."""
    return 2.0 ** (1 - digits) + np.prod(arrays["weight"].shape[1:]) * np.finfo(np.float32).eps


@some(TENSOR_GRID, 3)
@pytest.mark.parametrize(("dtype", "precision"), KINDS[:2])
def test_instructions_of_warps(dtype, precision, case):
    check("tensor_gemm", dtype, precision, case)


@pytest.mark.parametrize(("dtype", "precision"), some_of(KINDS[2:], 1))
def test_kinds_of_warps(dtype, precision):
    check("tensor_gemm", dtype, precision, TENSOR_GRID[1])


@some(WARPGROUP_GRID, 0)
def test_instructions_of_warpgroups(case):
    check("warpgroup_gemm", "float16", "ieee", case)


@some(TMA_GRID, 2)
def test_tiles_that_are_asked_for(case):
    check("tma_gemm", "float16", "ieee", case)


@some(HALO_GRID, 2)
def test_pixels_with_their_halo(case):
    check("halo_gemm", "float16", "ieee", case)


@pytest.mark.slow
@pytest.mark.parametrize("change", [np.flip, lambda a: np.repeat(a, 2, axis=-1)[..., ::2], lambda a: a[:1].repeat(2, 0)])
def test_memory_that_a_tensor_map_may_not_describe(change):
    x, w = change(random_array((2, 4, 5, 8), "float16")), random_array((3, 8, 2, 2), "float16")
    broadcast = np.broadcast_to(x[:1], x.shape)
    for given in (x, broadcast):
        result = nc.conv2d(lend(given), cuda.to_device(w), layout="NHWC", algorithm="tma_gemm").copy_to_host()
        exact = nc.conv2d(given.astype("f8"), w.astype("f8"), layout="NHWC", backend="reference")
        np.testing.assert_allclose(result, exact, rtol=2.0**-11, atol=1e-3)


def test_what_a_tensor_map_cannot_say():
    def reason(x, w, **options):
        return why_not(operands(case(x, w), "float16"), {"backend": "cuda", "algorithm": "tma_gemm", **options})

    with pytest.raises(ValueError, match=r"depths \(2, 2, 1\)"):
        nc.conv3d(*(cuda.to_device(np.zeros((2, 2, 2, 2, 2), "float16")) for _ in range(2)), algorithm="tma_gemm")
    assert "padded with" in reason((1, 2, 3, 4), (2, 1, 2, 2), groups=2)
    assert "reflect" in reason((1, 2, 3, 4), (2, 2, 2, 2), padding=1, padding_mode="reflect")
    assert "strides (9, 1)" in reason((1, 2, 30, 4), (2, 2, 2, 2), stride=(9, 1))
    assert "corners (-129" in reason((1, 2, 30, 4), (2, 2, 2, 2), padding=(0, 129))
    wide = {"x": (1, 2, 3, 300), "w": (2, 2, 1, 2), "padding": ((0, 0), (0, 127))}
    assert "offsets (0, 255)" in reason(**wide, dilation=(1, 255))
    assert reason(**wide, dilation=(1, 254)) is None
    assert reason((1, 2, 3, 4), (2, 2, 2, 2), stride=8, padding=100) is None


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "precision"), KINDS)
def test_kinds_of_tiles(dtype, precision):
    check("tma_gemm", dtype, precision, TMA_GRID[1])


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "precision"), KINDS)
def test_kinds_of_warpgroups(dtype, precision):
    check("warpgroup_gemm", dtype, precision, TENSOR_GRID[2])


def check(algorithm, dtype, precision, case):
    arrays = operands(case, dtype)
    options = dict(case.options)
    given = {name: cuda.to_device(a) for name, a in arrays.items()}
    result = nc.conv2d(**given, algorithm=algorithm, precision=precision, **options).copy_to_host()
    assert result.dtype == dtype
    activation = options.pop("activation", None)
    wide = {name: a.astype(np.float64) for name, a in arrays.items()}
    exact, magnitude = oracle(wide, options), oracle({name: abs(a) for name, a in wide.items()}, options)
    exact = np.maximum(exact, 0) if activation else exact
    digits = {"tf32": 11, "bf16": 8}.get(precision, 24)
    stored = {"float16": 11, "bfloat16": 8, "float32": 24}[dtype]
    allowed = tensor_error(arrays, digits) * magnitude + 2.0**-stored * abs(exact) + 2.0**-24
    assert (abs(result - exact) <= allowed).all()


SEVERAL = [(tensor_gemm, (2, 1, 1, 2)), (warpgroup_gemm, (2, 32, 4)), (tma_gemm, (2, 32, 4))]


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "tile"), SEVERAL)
def test_several_warps_and_warpgroups(monkeypatch, algorithm, tile):
    monkeypatch.setattr(algorithm, "cut", lambda spec: Cut(algorithm.Tile(*tile), 1))
    execute.forget()
    x, w = random_array((1, 5, 9, 8), "float16"), random_array((3, 5, 1, 1), "float16")
    name = algorithm.__name__.rpartition(".")[2]
    result = nc.conv2d(cuda.to_device(x), cuda.to_device(w), algorithm=name).copy_to_host()
    execute.forget()
    exact = nc.conv2d(x.astype("float64"), w.astype("float64"), backend="reference")
    np.testing.assert_allclose(result, exact, rtol=2.0**-11, atol=1e-4)


def test_what_keeps_pixels_from_staying_with_their_halo():
    def reason(x, w, **options):
        return why_not(operands(case(x, w), "float16"), {"backend": "cuda", "algorithm": "halo_gemm", **options})

    assert reason((1, 8, 9, 9), (8, 8, 3, 3)) is None
    assert "with stride (2, 1)" in reason((1, 8, 9, 9), (8, 8, 3, 3), stride=(2, 1))
    assert "several taps" in reason((1, 8, 9, 9), (8, 8, 1, 1))
    assert "bytes of a block's" in reason((1, 1024, 9, 9), (8, 1024, 3, 3))
    assert "5 blocks, too few for 6 times 16 output channels" in reason((1, 8, 9, 9), (96, 8, 3, 3))
    volumes = [cuda.to_device(np.zeros(shape, "float16")) for shape in ((1, 2, 3, 4, 5), (2, 2, 2, 2, 2))]
    with pytest.raises(ValueError, match=r"depths \(3, 2, 2\)"):
        nc.conv3d(*volumes, algorithm="halo_gemm")


def test_what_tensor_cores_do_not_take():
    for dtype, words in (("float32", 'float32 times float32 with "ieee"'), ("float64", "float64"), ("int8", "int8")):
        arrays = operands(case((1, 2, 3, 4), (3, 2, 2, 2)), dtype)
        assert words in why_not(arrays, {"backend": "cuda", "algorithm": "tensor_gemm"})
    mixed = {"input": random_array((1, 2, 3, 4), "float16"), "weight": random_array((3, 2, 2, 2), "float32")}
    for out_dtype in (None, "float16"):  # the weight's digits count
        assert why_not(mixed, {"backend": "cuda", "algorithm": "tensor_gemm", "out_dtype": out_dtype}) is not None
