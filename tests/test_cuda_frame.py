"""What a recorded call hands to the CUDA driver, through the addresses of the driver's functions; and how often."""

import ctypes
import sys
import threading

import numpy as np
import pytest
import torch

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from cuda.bindings.driver import CUdriverProcAddress_flags as Flags
from cuda.bindings.driver import CUresult

from numbaconv.cuda import driver, foreign, frame, launch, recording, streams, target
from numbaconv.cuda.shadow import imagined
from numbaconv.cuda.tensor_map import WORDS, Rows, TensorMap

REAL = np.zeros((4, 6), "f4")
FORM = Rows("f16", (24, 6, 40), (48, 288), 64, 64)
PROTOTYPES = {
    "cuLaunchKernelEx": ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4),
    "cuCtxGetDevice": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int)),
    "cuStreamIsCapturing": ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)),
}


class Driver:
    """A driver's functions, at addresses. Each does what the test says, and returns its error."""

    def __init__(self):
        self.asked, self.calls, self.does, self.kept = [], [], {}, {}

    def cuGetProcAddress(self, symbol, version, flags):
        name = symbol.decode()
        self.asked.append((name, version, flags))
        self.kept[name] = PROTOTYPES[name](lambda *args: self.does.get(name, lambda *args: 0)(*args) or 0)
        return CUresult.CUDA_SUCCESS, ctypes.cast(self.kept[name], ctypes.c_void_p).value, None


def words_at(parameters, count):
    addresses = (ctypes.c_uint64 * count).from_address(parameters)
    return [ctypes.c_int64.from_address(a).value for a in addresses]


@pytest.fixture
def native(monkeypatch):
    """Such a driver, on whose device 3 kernels have numbers as handles."""
    found = Driver()
    monkeypatch.setattr("cuda.bindings.driver.cuGetProcAddress", found.cuGetProcAddress)
    monkeypatch.setattr(launch.Launch, "_load", lambda self, device: 7000 + device)
    driver.function.cache_clear()
    found.does["cuCtxGetDevice"] = lambda number: number.__setitem__(0, 3)
    found.does["cuLaunchKernelEx"] = lambda at, kernel, parameters, extra: found.calls.append((at, kernel, parameters, extra))
    yield found
    driver.function.cache_clear()


def tape_of(*launches):
    tape = recording.Tape()
    tape.extend(launches)
    return tape


def one(*args, shared=0):
    return launch.Launch(lambda: None, 7, (32, 2), args, shared)


def test_the_driver_gets_a_launch_as_its_header_says(native):
    seen = []

    def launched(at, kernel, parameters, extra):
        seen.append((bytes(ctypes.string_at(at, 56)), kernel, words_at(parameters, 4), extra))

    native.does["cuLaunchKernelEx"] = launched
    one(REAL, 5, (-6, 2**62), shared=4096).play(2**47 + 9)
    [(configuration, kernel, words, extra)] = seen
    numbers = np.frombuffer(configuration[:28], np.uint32)
    assert [*numbers] == [7, 1, 1, 32, 2, 1, 4096]
    assert [*np.frombuffer(configuration[32:48], np.uint64)] == [2**47 + 9, 0], "stream and attributes"
    assert np.frombuffer(configuration[48:52], np.uint32)[0] == 0, "no attributes"
    assert (kernel, words, extra) == (7003, [REAL.ctypes.data, 5, -6, 2**62], None)


@pytest.mark.parametrize(("number", "name"), [(719, "CUDA_ERROR_LAUNCH_FAILED"), (99999, "error 99999")])
def test_a_failed_launch_is_an_error(native, number, name):
    tape = tape_of(one(1), one(2))
    native.does["cuLaunchKernelEx"] = lambda *args: number
    with pytest.raises(RuntimeError, match=f"^launching a CUDA kernel failed: {name}$"):
        tape.play([], 0, None)
    native.does["cuLaunchKernelEx"] = lambda *args: native.calls.append(args)
    tape.play([], 0, None)
    assert len(native.calls) == 2


def test_functions_are_those_of_the_default_stream_that_the_bindings_take(native, monkeypatch):
    for value, flag in (("", "LEGACY"), ("0", "LEGACY"), ("1", "PER_THREAD_DEFAULT")):
        monkeypatch.setenv("CUDA_PYTHON_CUDA_PER_THREAD_DEFAULT_STREAM", value)
        driver.function.cache_clear()
        assert driver.function("cuLaunchKernelEx") is driver.function("cuLaunchKernelEx")
        assert native.asked.pop() == ("cuLaunchKernelEx", 12000, getattr(Flags, f"CU_GET_PROC_ADDRESS_{flag}_STREAM"))
        assert not native.asked, "it is asked once"


@pytest.mark.parametrize("answer", [(CUresult.CUDA_ERROR_INVALID_VALUE, 1234, None), (CUresult.CUDA_SUCCESS, 0, None), None])
def test_without_an_address_the_bindings_are_asked(native, monkeypatch, answer):
    def asked(*args):
        if answer is None:
            raise RuntimeError("no driver")
        return answer

    monkeypatch.setattr("cuda.bindings.driver.cuGetProcAddress", asked)
    monkeypatch.setattr("cuda.bindings.driver.cuCtxGetDevice", lambda: (CUresult.CUDA_SUCCESS, 5))
    monkeypatch.setattr("cuda.bindings.driver.cuStreamIsCapturing", lambda stream: (CUresult.CUDA_SUCCESS, stream == 9))
    launched = []
    monkeypatch.setattr("cuda.bindings.driver.cuLaunchKernel", lambda *args: launched.append(args) or (CUresult.CUDA_SUCCESS,))
    assert (driver.function("cuLaunchKernelEx"), target.current_device()) == (None, 5)
    assert (streams.capturing(9), streams.capturing(8)) == (True, False)
    one(5).play(9)
    [(kernel, *shape, stream, _, extra)] = launched
    assert (kernel, shape, stream, extra) == (7005, [7, 1, 1, 32, 2, 1, 0], 9, 0)


def test_device_and_capture(native, monkeypatch):
    assert target.current_device() == 3
    monkeypatch.setattr("numba.cuda.get_current_device", lambda: type("Device", (), {"id": 6}))
    native.does["cuCtxGetDevice"] = lambda number: 201  # no context
    assert target.current_device() == 6
    for status, error, capturing in ((0, 0, False), (1, 0, True), (2, 0, True), (1, 906, False)):
        native.does["cuStreamIsCapturing"] = lambda stream, at, s=status, e=error: at.__setitem__(0, s) or stream != 2**47 or e
        assert streams.capturing(2**47) is capturing


@pytest.mark.skipif(sys.platform == "win32", reason="has no usleep")
def test_other_threads_run_while_the_driver_does(native, monkeypatch):
    usleep = ctypes.cast(ctypes.CDLL(None).usleep, ctypes.c_void_p).value
    monkeypatch.setattr("cuda.bindings.driver.cuGetProcAddress", lambda *args: (CUresult.CUDA_SUCCESS, usleep, None))
    turns, begun, done = [], threading.Event(), threading.Event()

    def count():
        begun.set()
        while not done.wait(0.01):
            turns.append(1)

    counting = threading.Thread(target=count)
    counting.start()
    begun.wait()
    before = len(turns)
    streams.capturing(300_000)  # microseconds, to this driver
    passed = len(turns) - before
    done.set()
    counting.join()
    assert passed > 2


# ---------------------------------------------------------------- what is written between calls


def test_addresses_and_streams_are_those_of_the_call(native):
    seen = []

    def launched(at, kernel, parameters, extra):
        seen.append((driver.Configuration.from_address(at).stream, words_at(parameters, 4)))

    native.does["cuLaunchKernelEx"] = launched
    first, second = imagined(REAL, 1), imagined(REAL, 2)
    tape = tape_of(one(first, second[1:], first, 3), one(second[1:, ::-1], first[2:], 4, second))
    for stream, a, b in ((9, 1 << 40, 1 << 41), (0, 1 << 41, 5 << 40), (0, 7 << 40, 1 << 40), (11, 1 << 40, 1 << 40), (1, 1, 3)):
        tape.play([a, b], stream, None)
        assert seen == [(stream or None, [a, b + 24, a, 3]), (stream or None, [b + 44, a + 48, 4, b])]
        seen.clear()
    assert len(tape._idle) == 1, "calls after one another share their memory"


def test_threads_that_share_a_recording_do_not_wait_for_each_other(native):
    """Another thread plays it while a launch waits."""
    tape, seen = tape_of(one(imagined(REAL, 1))), []

    def launched(at, kernel, parameters, extra):
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(target=lambda: tape.play([1 << 41], 11, None), daemon=True)
            other.start()
            other.join(20)
            assert not other.is_alive()
        seen.append((driver.Configuration.from_address(at).stream, words_at(parameters, 1)))

    native.does["cuLaunchKernelEx"] = launched
    for _ in range(2):
        tape.play([1 << 40], 9, None)
        assert seen == [(11, [1 << 41]), (9, [1 << 40])]
        seen.clear()


def test_tensor_maps_are_encoded_when_their_array_has_moved(native, monkeypatch):
    encoded, maps = [], []

    def encode(form, address):
        encoded.append(address)
        if address == 1 << 42:
            raise RuntimeError("refused")
        return (address, *range(1, WORDS))

    monkeypatch.setattr(frame, "encoded", encode)
    native.does["cuLaunchKernelEx"] = lambda at, kernel, parameters, extra: maps.append(words_at(parameters, 2 * WORDS + 1))
    tape = tape_of(one(TensorMap(imagined(REAL, 1)[1:], FORM), TensorMap(REAL, FORM), 5))
    for base in (1 << 40, 1 << 40, 1 << 41, 1 << 41, 1 << 40):
        tape.play([base], 0, None)
    assert encoded == [(1 << 40) + 24, REAL.ctypes.data, (1 << 41) + 24, (1 << 40) + 24]
    rest = [*range(1, WORDS)]
    assert maps[2] == [(1 << 41) + 24, *rest, REAL.ctypes.data, *rest, 5]
    with pytest.raises(RuntimeError, match="refused"):
        tape.play([(1 << 42) - 24], 0, None)


# ---------------------------------------------------------------- torch, as far as it goes without a GPU


def test_the_current_stream_is_asked_for_where_torch_is_quick(monkeypatch):
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 100 + device, raising=False)
    assert foreign._Torch().stream(torch.zeros(1)) == 99, "device -1 is the CPU"
    monkeypatch.delattr(torch._C, "_cuda_getCurrentRawStream")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: type("Stream", (), {"cuda_stream": 200 + device}))
    assert foreign._Torch().stream(torch.zeros(1)) == 199


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (1, 3, 1, 5), (2, 0, 4, 5), (3, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_results_of_torch_are_made_as_empty_makes_them(shape, axes, dtype, monkeypatch):
    family, like = foreign._Torch(), torch.zeros(1)
    monkeypatch.setattr(family, "_current", lambda device: 9)
    stored = np.empty(shape, dtype)
    view = stored if axes == (0, 1, 2, 3) else stored.transpose(axes)
    array, address = family.maker(stored, view, like)(like, 9)
    usual = family.empty(shape, stored.dtype, like, 9)
    usual = usual if view is stored else family.restride(usual, view)
    assert (array.shape, array.stride(), array.dtype) == (usual.shape, usual.stride(), usual.dtype)
    assert address == array.data_ptr()
    assert array.untyped_storage().nbytes() == usual.untyped_storage().nbytes()


def test_results_are_made_for_the_stream_of_the_call(monkeypatch):
    family, like, on = foreign._Torch(), torch.zeros(1), []
    monkeypatch.setattr(family, "_current", lambda device: 9)
    monkeypatch.setattr(family, "_on", lambda stream, device, make: on.append((stream, device)) or make())
    make = family.maker(stored := np.empty((2, 3), "f4"), stored, like)
    make(like, 9), make(like, 10), make(like, 0)
    assert on == [(10, like.device), (0, like.device)]
