"""Tensor maps: what the driver is asked to encode, what kernels get of it, and instructions that wait for what comes."""

import ctypes
import re
import struct
import threading

import numpy as np
import pytest
from offline import ptx_of

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from cuda.bindings import driver

from numbaconv.cuda import launch, tensor_map, tma, tma_gemm
from numbaconv.cuda.shadow import imagined
from numbaconv.cuda.tensor_map import Pixels, Rows, TensorMap, encoded
from numbaconv.options import ConvOptions
from numbaconv.spec import ArraySpec, normalise

WORDS = [-(2**63), *range(101, 116)]  # the highest bit of a word may be set
PIXELS = Pixels("f16", (24, 9, 7, 2), (48, 432, 3024), (-3, -1), (1, -2), (2, 1), 64, 128)


ARRAYS = {"cuTensorMapEncodeIm2col": ("4Q", "3Q", "2i", "2i", "4I"), "cuTensorMapEncodeTiled": ("3Q", "2Q", "3I", "3I")}


def answering(monkeypatch, answer):
    """Let ``answer(at, *numbers)`` be the driver's functions; arrays come as lists."""
    made = []

    def find(name, *_):
        types = tensor_map._PARAMETERS[name.decode()]

        def function(at, kind, rank, address, *more):
            arrays = iter(ARRAYS[name.decode()])
            numbers = [read(next(arrays), arg) if of is ctypes.c_void_p else arg for of, arg in zip(types[4:], more, strict=True)]
            return int(answer(at, kind, rank, address, *numbers))

        made.append(ctypes.CFUNCTYPE(ctypes.c_int, *types)(function))
        return driver.CUresult.CUDA_SUCCESS, ctypes.cast(made[-1], ctypes.c_void_p).value, None

    monkeypatch.setattr(driver, "cuGetProcAddress", find)


def read(layout, address):
    return [*struct.unpack(layout, ctypes.string_at(address, struct.calcsize(layout)))]


@pytest.fixture(autouse=True)
def forgotten():
    """No test has the maps of another, nor its driver."""
    yield
    encoded.cache_clear()
    tensor_map._function.cache_clear()


@pytest.fixture
def asked(monkeypatch):
    """What the driver is asked to encode: the numbers, without the place of the map."""
    calls = []

    def record(at, *args):
        assert at % 128 == 0, "the driver refuses memory that is aligned less"
        (ctypes.c_int64 * 16).from_address(at)[:] = WORDS
        calls.append([*args])
        return driver.CUresult.CUDA_SUCCESS

    answering(monkeypatch, record)
    return calls


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


def test_arguments_are_checked(asked):
    with pytest.raises(ctypes.ArgumentError):
        encoded(PIXELS._replace(channels="many"), 1 << 20)
    assert not asked


def test_what_the_driver_refuses_is_an_error(monkeypatch):
    answering(monkeypatch, lambda *args: driver.CUresult.CUDA_ERROR_INVALID_VALUE)
    with pytest.raises(RuntimeError, match="encoding a tensor map failed: CUDA_ERROR_INVALID_VALUE, of Pixels"):
        encoded(PIXELS, 1 << 21)


def test_a_driver_without_tensor_maps_is_named(monkeypatch):
    monkeypatch.setattr(driver, "cuGetProcAddress", lambda *args: (driver.CUresult.CUDA_ERROR_NOT_FOUND, 0, None))
    with pytest.raises(RuntimeError, match="this driver has no cuTensorMapEncodeIm2col: CUDA_ERROR_NOT_FOUND"):
        encoded(PIXELS, 1 << 21)


def test_kernels_get_the_maps_of_where_their_arrays_are_now(asked, monkeypatch):
    from assembly import example

    from numbaconv.cuda.kernels.tma_gemm import tma_gemm as kernel
    from numbaconv.cuda.storing import CHANNELS, Form

    args, _ = example("float16")
    maps, moving = np.zeros(32, np.int64), imagined(args[0], 1)
    args = *args, maps, TensorMap(moving, PIXELS), TensorMap(args[1], Rows("f16", (24, 6, 40), (48, 288), 64, 64))
    function = kernel("f16", 1, 64, 4, 1, 1, Form(CHANNELS, 1))
    text = ptx_of(function, launch.signature(args), (9, 0, "a"))
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
