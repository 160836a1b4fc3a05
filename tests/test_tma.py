"""Tensor maps: what the driver is asked to encode, what kernels get of it, and instructions that wait for what comes."""

import contextlib
import ctypes
import re
import threading

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from cuda.bindings import driver
from cuda.pathfinder import DynamicLibNotFoundError

from numbaconv.cuda import launch, tensor_map, tma, tma_gemm, why_unavailable
from numbaconv.cuda.shadow import imagined
from numbaconv.cuda.tensor_map import Pixels, Rows, TensorMap, encoded
from numbaconv.options import ConvOptions
from numbaconv.spec import ArraySpec, normalise

MISSING = why_unavailable()
WORDS = range(100, 116)
PIXELS = Pixels("f16", (24, 9, 7, 2), (48, 432, 3024), (-3, -1), (1, -2), (2, 1), 64, 128)


@pytest.fixture
def asked(monkeypatch):
    """What the driver is asked to encode: the numbers, without the enumerations."""
    calls = []

    def record(*args):
        calls.append([[int(n) for n in a] if isinstance(a, list) else int(a) for a in args])
        return driver.CUresult.CUDA_SUCCESS, type("Map", (), {"opaque": [driver.cuuint64_t(n) for n in WORDS]})

    for name in ("cuTensorMapEncodeIm2col", "cuTensorMapEncodeTiled"):
        monkeypatch.setattr(driver, name, record)
    encoded.cache_clear()
    yield calls
    encoded.cache_clear()


def problem(**options):
    shapes = (2, 7, 9, 24), (40, 24, 3, 2)
    given = (ArraySpec(shape, np.dtype("f2")) for shape in shapes)
    return normalise(2, *given, None, None, ConvOptions(layout="NHWC", **options))[0]


USUAL = [int(n) for n in tensor_map._usual(driver)]
HALF = int(driver.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_FLOAT16)


def test_images_are_described_from_the_channels_outwards(asked):
    spec = problem(stride=(1, 2), padding=((1, 0), (3, 2)), dilation=(1, 1))
    images = np.empty((2, 1, 7, 9, 1, 32), "f2")[..., :24].transpose(0, 4, 5, 1, 2, 3)
    one = tma_gemm.input_map(spec, tma_gemm.Tile(2, 256, 4), images)
    assert encoded(one.form, 1 << 20) == tuple(WORDS)
    # left and top; what remains of right and bottom for the first tap; strides, of which the channels' is ignored
    sizes = [[24, 9, 7, 2], [64, 9 * 64, 7 * 9 * 64], [-3, -1], [2 - 1, 0 - 2]]
    assert asked == [[HALF, 4, 1 << 20, *sizes, 64, 128, [1, 2, 1, 1], *USUAL]]


def test_weights_are_described_tap_by_tap(asked):
    weight = np.empty((1, 40, 1, 3, 2, 24), "f2")
    one = tma_gemm.weight_map(problem(), tma_gemm.Tile(1, 64, 4), weight)
    encoded(one.form, 1 << 20)
    assert asked == [[HALF, 3, 1 << 20, [24, 6, 40], [48, 6 * 48], [64, 1, 64], [1, 1, 1], *USUAL]]


def test_axes_of_one_element_have_strides_that_the_driver_takes():
    weight = np.lib.stride_tricks.as_strided(np.empty(64, "f2"), (1, 1, 1, 1, 1, 20), (0, 0, 0, 0, 0, 2))
    assert tma_gemm.weight_map(problem(), tma_gemm.Tile(1, 64, 4), weight).form.strides == (48, 48)


@pytest.mark.parametrize("form", [PIXELS, Rows("tf32", (24, 6, 40), (96, 576), 32, 64)])
def test_the_bindings_take_the_arguments(form):
    """Where there is no driver they are converted before that is found out; a wrong one is a TypeError."""
    encoded.cache_clear()
    with pytest.raises(TypeError):
        encoded(form._replace(channels="many"), 1 << 20)
    no_driver = (DynamicLibNotFoundError,) if MISSING else ()
    with contextlib.suppress(*no_driver):
        assert len(encoded(form, 1 << 20)) == 16
    encoded.cache_clear()


def test_what_the_driver_refuses_is_an_error(monkeypatch):
    refused = driver.CUresult.CUDA_ERROR_INVALID_VALUE
    monkeypatch.setattr(driver, "cuTensorMapEncodeIm2col", lambda *args: (refused, None))
    with pytest.raises(RuntimeError, match="encoding a tensor map failed: CUDA_ERROR_INVALID_VALUE, of Pixels"):
        encoded(PIXELS, 1 << 21)


def test_kernels_get_the_maps_of_where_their_arrays_are_now(asked, monkeypatch):
    from assembly import example
    from numba import cuda

    from numbaconv.cuda.kernels.tma_gemm import tma_gemm as kernel
    from numbaconv.cuda.storing import CHANNELS, Form

    args, _ = example("float16")
    maps, moving = np.zeros(32, np.int64), imagined(args[0], 1)
    args = *args, maps, TensorMap(moving, PIXELS), TensorMap(args[1], Rows("f16", (24, 6, 40), (48, 288), 64, 64))
    function = kernel("f16", 1, 64, 4, Form(CHANNELS, 1))
    text, _ = cuda.compile(function, launch.signature(args), device=False, abi="numba", cc=(9, 0, "a"))
    declared = re.findall(r"\.param \.(\w+)", text)
    assert set(declared) == {"u64"}
    words = []

    def play(handle, *numbers):
        pointers = (ctypes.c_uint64 * len(declared)).from_address(numbers[-2])
        words.append([ctypes.c_int64.from_address(a).value for a in pointers])
        return (0,)

    monkeypatch.setattr(driver, "cuLaunchKernel", play)
    monkeypatch.setattr("numbaconv.cuda.driver.function", lambda name: None)
    monkeypatch.setattr(launch, "current_device", lambda: 0)
    monkeypatch.setattr(launch.Launch, "_load", lambda self, device: "handle")
    one = launch.Launch(function, 7, 128, args)
    for base in (1 << 40, 1 << 41, 1 << 40):
        one.play(9, [0, base])
    assert [call[2] for call in asked] == [1 << 40, args[1].ctypes.data, 1 << 41], "each is encoded once"
    for got in words:
        assert got[-33:] == [maps.ctypes.data, *WORDS, *WORDS]


# ---------------------------------------------------------------- what instructions mean


def one(*numbers):
    return [np.array([n]) for n in numbers]


@pytest.fixture
def barrier():
    tma.prepare.of.meaning(*one(4096, 1))
    return 4096


def test_a_barrier_waits_for_all_bytes_that_are_expected(barrier, monkeypatch):
    monkeypatch.setattr(tma, "PATIENCE", 0.05)
    tma.expect.of.meaning(*one(barrier, 256))
    tma._barriers[barrier].coming.append((128, lambda: None))
    with pytest.raises(RuntimeError, match="does not come"):
        tma.wait.of.meaning(*one(barrier, 0))
    tma._barriers[barrier].coming.append((128, lambda: None))
    tma.wait.of.meaning(*one(barrier, 0))
    tma.wait.of.meaning(*one(barrier, 0))  # it is over for everybody
    with pytest.raises(RuntimeError, match="does not come"):
        tma.wait.of.meaning(*one(barrier, 1))


def test_phases_follow_each_other(barrier):
    tma.expect.of.meaning(*one(barrier, 128))
    with pytest.raises(RuntimeError, match="not over"):
        tma.expect.of.meaning(*one(barrier, 128))
    tma._barriers[barrier].coming += [(128, lambda: None), (1, lambda: None)]
    with pytest.raises(RuntimeError, match="129 bytes come where 128 are expected"):
        tma.wait.of.meaning(*one(barrier, 0))


def test_one_waits_while_another_asks(barrier):
    done = []
    waiting = threading.Thread(target=lambda: done.append(tma.wait.of.meaning(*one(barrier, 0))))
    waiting.start()
    tma._barriers[barrier].coming.append((64, lambda: done.append("came")))
    tma.expect.of.meaning(*one(barrier, 64))
    waiting.join(10)
    assert done == ["came", None]
