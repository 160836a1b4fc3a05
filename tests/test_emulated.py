"""The PTX of every CUDA algorithm, run by :mod:`emulator` with the tiles and types that a GPU gets, against float64."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")

from emulator.device import emulated
from emulator.memory import FaultError
from grid import HALO_GRID, TENSOR_GRID, TMA_GRID, WARPGROUP_GRID
from helpers import case, count_long_ways, one_in, operands, random_array, some_of
from numba import njit

import numbaconv as nc

sys.path.append(str(Path(__file__).parent / "gpu"))
from on_gpu import check, conforms, near, on_host, stored, to_device  # as on a GPU

PLAIN = [
    case((2, 9, 9, 10), (19, 9, 3, 3), padding=1, bias=True),
    case((3, 16, 7, 7), (33, 16, 1, 1), stride=2),
    case((1, 37, 10, 15), (70, 37, 3, 3), padding=((1, 2), (0, 3)), residual=True),  # several tiles of both, and in parts
]
FEW_CHANNELS = [  # of several taps in a step
    case((2, 3, 17, 19), (20, 3, 7, 7), padding=3, stride=2, bias=True),
    case((1, 9, 6, 10), (15, 2, 2, 3), layout="NHWC", groups=5, dilation=(1, 2), padding=((1, 0), (-1, 2))),
]
POINTWISE = [case((3, 21, 6, 10), (33, 21, 1, 1), bias=True)]  # whose pixels come as vectors
LAST = [case((2, 8, 9, 40), (70, 40, 2, 3), layout="NHWC", dilation=(1, 2), bias=True, residual=True)]
HALO = [
    case((3, 70, 12, 13), (70, 70, 3, 3), padding=1, bias=True),  # two chunks of channels, two times N output channels
    case((2, 19, 21, 8), (36, 8, 1, 5), layout="NHWC", padding=((0, 0), (2, 1)), residual=True),
    case((1, 130, 7, 9), (8, 130, 1, 2)),  # three chunks
]
SEVERAL = [  # tiles for a block, of fewer steps than there are stages, and of more
    case((3, 40, 11, 12), (130, 40, 1, 2), bias=True),
    case((2, 8, 17, 9), (70, 8, 3, 3), residual=True),
]
WRAPPED = [case((1, 6, 11, 12), (4, 3, 3, 2), groups=2, stride=(2, 1), padding=2, padding_mode="circular")]
WINOGRAD = [
    case((2, 16, 12, 13), (24, 16, 3, 3), padding=1, bias=True),
    case((1, 9, 10, 24), (37, 24, 3, 3), layout="NHWC", padding=((0, 2), (1, 1)), residual=True),
]
DEPTHWISE = [
    case((2, 24, 26, 27), (24, 1, 3, 3), groups=24, padding=1, bias=True, residual=True),
    case((1, 6, 31, 37), (6, 1, 3, 5), groups=6, stride=(2, 3), dilation=(3, 1), padding=((4, -1), (0, 3))),
    case((2, 15, 14, 28), (28, 1, 5, 5), groups=28, layout="NHWC", padding=2, stride=2, bias=True),
    case((1, 3, 10, 40), (6, 1, 9, 9), groups=3, padding=4, padding_mode="reflect"),
]


def slow(*row):
    return pytest.param(*row, marks=pytest.mark.slow)


# capability, algorithm, dtype, precision, problems: as few kernels as show what differs, since each takes seconds to compile
KERNELS = [
    ((7, 5), "direct", "float32", "ieee", PLAIN[:1] + LAST + WRAPPED),
    slow((8, 0), "direct", "bfloat16", "ieee", PLAIN[:2]),
    slow((8, 0), "tiled", "float32", "ieee", PLAIN + LAST + WRAPPED),
    slow((9, 0), "tiled", "complex128", "ieee", PLAIN[:1]),
    slow((7, 5), "implicit_gemm", "float32", "ieee", PLAIN[:1]),
    ((9, 0), "implicit_gemm", "float32", "ieee", [*POINTWISE, *FEW_CHANNELS[:1]]),
    slow((9, 0), "implicit_gemm", "float32", "ieee", PLAIN + WRAPPED + FEW_CHANNELS + LAST),
    slow((8, 0), "implicit_gemm", "float64", "ieee", PLAIN[:1] + POINTWISE + FEW_CHANNELS),
    slow((8, 0), "implicit_gemm", "complex64", "ieee", PLAIN[:1]),
    slow((8, 0), "implicit_gemm", "int8", "ieee", PLAIN[:1] + FEW_CHANNELS),
    slow((9, 0), "depthwise", "float32", "ieee", DEPTHWISE),
    ((8, 0), "depthwise", "bfloat16", "ieee", DEPTHWISE[:1]),
    slow((8, 0), "tensor_gemm", "float32", "tf32", TENSOR_GRID + PLAIN),
    ((9, 0), "tensor_gemm", "bfloat16", "ieee", PLAIN[:1] + LAST),
    slow((9, 0), "warpgroup_gemm", "float32", "tf32", WARPGROUP_GRID),
    ((9, 0), "warpgroup_gemm", "float16", "ieee", PLAIN[2:] + LAST),
    ((9, 0), "tma_gemm", "float32", "tf32", TMA_GRID),
    slow((9, 0), "tma_gemm", "float16", "ieee", PLAIN + LAST),
    slow((9, 0), "halo_gemm", "float32", "tf32", HALO_GRID),
    ((9, 0), "halo_gemm", "float16", "ieee", HALO[:1] + LAST),
    slow((9, 0), "halo_gemm", "float16", "ieee", HALO),
    ((9, 0), "winograd4", "float32", "ieee", WINOGRAD[1:]),
    slow((9, 0), "winograd4", "float32", "ieee", WINOGRAD),
    slow((7, 5), "winograd2", "float32", "ieee", WINOGRAD[:1]),
]


@pytest.mark.parametrize(("capability", "algorithm", "dtype", "precision", "problems"), KERNELS, ids=lambda one: str(one)[:14])
def test_algorithms(capability, algorithm, dtype, precision, problems):
    plain = [one._replace(options={n: v for n, v in one.options.items() if n != "activation"}) for one in problems]
    with emulated(capability) as driver:
        assert all(check(algorithm, dtype, precision, one) for one in plain)
        main = "output_transform" if algorithm.startswith("winograd") else algorithm
        assert driver.launched.count(f"{main}_kernel") >= len(plain)


# Tiles that none of these problems would get, and what they store: channels or pixels, as vectors or one by one.
TILES = [
    ("tma_gemm", "float16", (3, 128, 4, 2, 1), case((1, 15, 16, 72), (136, 72, 3, 1), layout="NHWC", bias=True, residual=True)),
    ("tma_gemm", "float16", (3, 128, 4, 1, 1), case((1, 15, 9, 16), (133, 16, 1, 1), layout="NHWC", bias=True)),
    ("tma_gemm", "float16", (2, 128, 6, 1, 2), case((1, 72, 15, 16), (130, 72, 3, 1), bias=True, residual=True)),
    ("tma_gemm", "bfloat16", (2, 256, 4, 1, 1), case((2, 16, 7, 7), (264, 16, 3, 3), padding=1, residual=True)),
    ("tma_gemm", "bfloat16", (2, 256, 4, 2, 1), case((3, 40, 15, 16), (140, 40, 3, 3), padding=1, stride=2, bias=True)),
    ("warpgroup_gemm", "float16", (2, 256, 4), case((1, 40, 12, 14), (264, 40, 1, 1), bias=True)),
    ("tensor_gemm", "float16", (2, 4, 4, 4), case((1, 12, 13, 40), (136, 40, 1, 1), layout="NHWC", residual=True)),
    ("halo_gemm", "float16", (4, 64), case((2, 14, 15, 16), (70, 16, 3, 3), layout="NHWC", padding=1, bias=True, residual=True)),
    ("halo_gemm", "bfloat16", (4, 64), case((1, 24, 17, 19), (40, 24, 3, 2), padding=1, residual=True)),
    ("implicit_gemm", "float32", (8, 8, 16), case((1, 9, 12, 14), (132, 9, 3, 3), padding=1, bias=True, residual=True)),
    ("implicit_gemm", "float32", (8, 8, 16), case((1, 12, 13, 16), (130, 16, 2, 2), layout="NHWC", stride=2, bias=True)),
    ("implicit_gemm", "float32", (8, 8, 8), case((1, 24, 16, 18), (68, 24, 1, 1), bias=True, residual=True)),
    ("implicit_gemm", "float32", (8, 8, 8), case((2, 8, 17, 19), (66, 8, 3, 2), padding=1)),
    ("implicit_gemm", "float32", (8, 4, 16), case((2, 12, 13, 12), (68, 12, 1, 1), layout="NHWC", residual=True)),
]


@pytest.mark.parametrize(("algorithm", "dtype", "tile", "problem"), some_of(TILES, 0, 4, 7, 8, 10), ids=str)
def test_tiles(algorithm, dtype, tile, problem, monkeypatch):
    module = import_module(f"numbaconv.cuda.{algorithm}")
    assert tile in module.TILES
    monkeypatch.setattr(module, "cut", lambda spec: module.Cut(module.Tile(*tile), 1))
    with emulated((9, 0)):
        assert check(algorithm, dtype, "ieee", problem)


@pytest.mark.parametrize(("tile", "splits"), one_in(2, [(1, 64, 4, 1, 1), (2, 128, 6, 2, 1)], [2, 1]))
def test_blocks_that_take_several_tiles(tile, splits, monkeypatch):
    """The stages and their barriers go round from tile to tile, in fewer steps than there are stages and in more."""
    from numbaconv.cuda import tma_gemm
    from numbaconv.cuda.kernels import tma_gemm as kernels

    monkeypatch.setattr(tma_gemm, "cut", lambda spec: tma_gemm.Cut(tma_gemm.Tile(*tile), splits))
    monkeypatch.setattr(kernels, "BLOCKS", 2)
    kernels.tma_gemm.cache_clear()
    try:
        with emulated((9, 0)) as driver:
            assert all(check("tma_gemm", "float16", "ieee", problem) for problem in SEVERAL)
        grids = [shape[0] for name, shape in zip(driver.launched, driver.shapes, strict=True) if name == "tma_gemm_kernel"]
        assert grids == [2, 2]
    finally:
        kernels.tma_gemm.cache_clear()


@pytest.mark.parametrize("algorithm", some_of(["implicit_gemm", "warpgroup_gemm"], 1))
def test_sums_of_nothing(algorithm):
    """What is in shared memory before anything was brought there is not multiplied."""
    with emulated((9, 0)):
        assert check(algorithm, "float16", "ieee", case((1, 0, 9, 9), (4, 0, 3, 3), bias=True))


@pytest.mark.parametrize("algorithm", ["implicit_gemm", "warpgroup_gemm", "tma_gemm", "halo_gemm"])
@pytest.mark.parametrize("shapes", [((0, 8, 9, 9), (4, 8, 3, 3)), ((2, 8, 9, 9), (0, 8, 3, 3))])
def test_results_without_elements(algorithm, shapes):
    with emulated((9, 0)):
        assert check(algorithm, "float16", "ieee", case(*shapes, bias=True))


@pytest.mark.parametrize(
    ("order", "gemm"),
    one_in(2, ["unaligned", "every third, backwards"], [("implicit_gemm", "float32"), ("tensor_gemm", "float16")]),
)
def test_memory_orders(order, gemm):
    algorithm, dtype = gemm
    problem = case((2, 16, 11, 9), (24, 16, 3, 3), padding=1, bias=True, residual=True)
    with emulated((9, 0)):
        assert check(algorithm, dtype, "ieee", problem, lambda arrays: {n: stored(a, order) for n, a in arrays.items()})


SHAPES = (2, 9, 13, 11), (12, 9, 3, 3), (2, 12, 7, 6)


def test_gradients_and_transposed():
    x, w, g = (random_array(shape, "float32") for shape in SHAPES)
    options = {"stride": 2, "padding": 1}
    with emulated((9, 0)) as driver:
        d = to_device({"x": x, "w": w, "g": g})
        spread = on_host(nc.conv_transpose2d(d["g"], d["w"], **options))
        by_weight = on_host(nc.grad.conv2d_weight(d["x"], w.shape, d["g"], **options))
        assert driver.launched
    near(spread, lambda w, g: nc.conv_transpose2d(g, w, **options), {"w": w, "g": g})
    near(by_weight, lambda x, g: nc.grad.conv2d_weight(x, w.shape, g, **options), {"x": x, "g": g})


@pytest.mark.parametrize("activation", some_of(["gelu", njit(lambda x: x * x if x > 1 else -x)], 1))
def test_activations(activation):
    arrays = operands(PLAIN[0], "float32")
    with emulated((9, 0)):
        result = on_host(nc.conv2d(**to_device(arrays), **PLAIN[0].options, activation=activation, algorithm="tiled"))
    expected = nc.conv2d(**arrays, **PLAIN[0].options, activation=activation, backend="reference")
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_later_calls_play_what_was_recorded(monkeypatch):
    with emulated((9, 0)) as driver:
        long_ways = count_long_ways(monkeypatch)
        for seed in range(3):
            before = len(driver.launched)
            arrays = operands(PLAIN[0], "float32", seed=seed)
            conforms(on_host(nc.conv2d(**to_device(arrays), padding=1, algorithm="implicit_gemm")), arrays, {"padding": 1})
            assert len(driver.launched) - before >= 2
    assert len(long_ways) == 1


def test_the_benchmark_of_tiles_measures_the_tiles_that_it_names():
    from benchmarks.gpu import Variant, in_tiles

    variants = {str(one): one for one in in_tiles()}
    tiled = {"implicit_gemm", "tensor_gemm", "warpgroup_gemm", "tma_gemm", "halo_gemm"}
    assert {one.algorithm for one in variants.values()} == tiled
    arrays = operands(case((1, 8, 9, 9), (8, 8, 1, 1)), "float16")
    with emulated((9, 0)) as driver:
        x, w = (to_device(arrays)[name] for name in ("input", "weight"))
        for variant in (variants["tma_gemm 3x128x4x1x1"], Variant("tma_gemm")):
            with variant.only():
                nc.conv2d(x, w, algorithm="tma_gemm")
    threads = [shape[3] for name, shape in zip(driver.launched, driver.shapes, strict=True) if name == "tma_gemm_kernel"]
    assert threads == [3 * 128 + 32, 128 + 32]


# ---------------------------------------------------------------- kernels that are wrong

GIVING_BACK = "give_back(ptx.moved(empty, 8 * place), lane, row, column)"
WRONG = [
    ("implicit_gemm", "float32", "wait()\n                cuda.syncthreads()", "wait()", "a race"),
    ("implicit_gemm", "float32", "wait_for_all_but(stages - 2)", "wait_for_all_but(stages - 1)", "on its way"),
    ("implicit_gemm", "float32", "there = int32(i * rows_apart) < left\n", "there = True\n", "global memory"),
    ("implicit_gemm", "float32", "piece), thread, s, g)\n            cuda.syncthreads()", "piece), thread, s, g)", "a race"),
    ("implicit_gemm", "float32", "stage = int32(stage + step)", "stage = int32(stage)", "on its way"),
    ("tensor_gemm", "float16", "cuda.syncthreads()", "pass", "a race|on its way"),
    ("warpgroup_gemm", "float16", "warpgroup.publish()", "pass", "without a fence"),
    ("warpgroup_gemm", "float16", "cuda.syncthreads()", "pass", "a race|on its way|has been written"),
    ("halo_gemm", "float16", "warpgroup.publish()", "pass", "without a fence"),
    ("halo_gemm", "float16", "wait_for_products()", "pass", "a product still reads"),
    ("tma_gemm", "float16", "cluster.meet_ready()", "pass", "nobody has made ready|a barrier is asked that another"),
    ("tma_gemm", "float16", "wait_for_products()", "pass", "shared memory in use"),
    ("tma_gemm", "float16", "            store(sums", f"            {GIVING_BACK}\n            store(sums", "is on its way to"),
    ("tma_gemm", "float16", "warpgroup.publish()", "pass", "without a fence"),
    ("tma_gemm", "float16", "uint32(uint32(above) << column)", "uint32(1)", "does not end"),
]


@pytest.mark.parametrize(("algorithm", "dtype", "old", "new", "fault"), some_of(WRONG, 0, 5, 7, 8, 12))
def test_wrong_kernels_are_found(algorithm, dtype, old, new, fault, monkeypatch):
    right = import_module(f"numbaconv.cuda.kernels.{algorithm}")
    source = Path(right.__file__).read_text()
    assert old in source
    wrong = ModuleType("wrong")
    exec(compile(source.replace(old, new), "wrong", "exec"), wrong.__dict__)
    monkeypatch.setattr(right, algorithm, getattr(wrong, algorithm))
    tiles = {"implicit_gemm": (8, 8, 16), "tma_gemm": (2, 128, 6, 2, 1)}  # stored in several pieces; several in one block
    wrong.__dict__["BLOCKS"] = 2
    if algorithm in tiles:
        module = import_module(f"numbaconv.cuda.{algorithm}")
        monkeypatch.setattr(module, "cut", lambda spec: module.Cut(module.Tile(*tiles[algorithm]), 1))
    monkeypatch.setattr("emulator.block.MOST_TURNS", 50_000)
    with emulated((9, 0)), pytest.raises((FaultError, AssertionError), match=fault):
        print([check(algorithm, dtype, "ieee", problem) for problem in PLAIN + LAST + HALO[2:] + SEVERAL[:1]])
