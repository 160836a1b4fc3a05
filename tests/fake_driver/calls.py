"""What passes between numbaconv and the driver through the real bindings, where the driver is that of ``cuda.c``.

``test_real_bindings.py`` runs this. There are no numbers to look at: kernels do not run.
"""

import ctypes
import re

import ml_dtypes
import numpy as np
import pytest
from helpers import count_long_ways

import numbaconv as nc
from numbaconv.cuda import ALGORITHMS, MEMORY, launch, why_unavailable
from numbaconv.cuda.binary import binary
from numbaconv.cuda.target import capability

TENSOR_CORES = ("tensor_gemm", "warpgroup_gemm", "tma_gemm", "halo_gemm")


class Launched(ctypes.Structure):
    """A launch as the driver got it."""

    _fields_ = [
        ("kernel", ctypes.c_uint64), ("grid", ctypes.c_int * 3), ("block", ctypes.c_int * 3), ("shared", ctypes.c_int),
        ("stream", ctypes.c_uint64), ("first", ctypes.c_uint64),
    ]  # fmt: skip

    def shape(self):
        return *self.grid, *self.block, self.shared


@pytest.fixture
def launched():
    """Return the launches since the last call of it."""
    library = ctypes.CDLL("libcuda.so.1")
    count, kept = ctypes.c_int.in_dll(library, "launches"), (Launched * 4096).in_dll(library, "launched")

    def since_then():
        found = [Launched.from_buffer_copy(one) for one in kept[: count.value]]
        count.value = 0
        return found

    since_then()
    return since_then


@pytest.fixture
def asked_for(monkeypatch):
    """The launches that numbaconv has in mind."""
    asked, usual = [], launch.Launch.play

    def play(self, *args):
        asked.append(self)
        return usual(self, *args)

    monkeypatch.setattr(launch.Launch, "play", play)
    return asked


def upload(array):
    from numba import cuda

    if array.dtype == ml_dtypes.bfloat16:
        return cuda.to_device(array.view(np.uint16)).view(array.dtype)
    return cuda.to_device(array)


def bytes_of_parameters(one):
    """How many the machine code of a kernel takes: EIATTR_PARAM_CBANK in its ELF file."""
    code = binary(one._function, launch.signature(one.args), (9, 0)).code
    return {int.from_bytes(size, "little") for size in re.findall(rb"\x04\x0a\x08\x00.{6}(..)", code, re.DOTALL)}


def test_a_gpu_is_found():
    assert why_unavailable() is None
    assert capability() == (9, 0)


USUAL = ("direct", "implicit_gemm", "tma_gemm")  # each takes seconds to compile
NAMES = [one.name if one.name in USUAL else pytest.param(one.name, marks=pytest.mark.slow) for one in ALGORITHMS]


@pytest.mark.parametrize("algorithm", NAMES)
def test_algorithms(algorithm, launched, asked_for, monkeypatch):
    dtype, channels, groups = ("float16" if algorithm in TENSOR_CORES else "float32"), 16, 1
    if algorithm == "depthwise":
        channels, groups = 1, 16
    arrays = {"input": (2, 16, 13, 14), "weight": (16, channels, 3, 3), "bias": (16,), "residual": (2, 16, 13, 14)}
    given = {name: upload(np.zeros(shape, dtype)) for name, shape in arrays.items()}
    options = {"padding": 1, "groups": groups, "algorithm": algorithm}
    op = nc.Conv2d(given["weight"], given["bias"], **options)
    for call in (lambda: nc.conv2d(**given, **options), lambda: op(given["input"], residual=given["residual"])):
        with monkeypatch.context() as patch:
            long_ways = count_long_ways(patch)
            results = [call()]
            first, asked = launched(), [*asked_for]
            results += [call(), call()]
        assert len(long_ways) == 1, "the others are played"
        for one in results:
            assert (type(one), one.shape, one.dtype) == (type(given["input"]), (2, 16, 13, 14), dtype)
        assert [one.shape() for one in first] == [(one.grid, 1, 1, *one.block, one.shared) for one in asked]
        for one in asked:
            assert bytes_of_parameters(one) == {8 * len([*launch._flat(one.args)])}
        later = [(one.kernel, one.shape()) for one in launched()]
        assert later == 2 * [(one.kernel, one.shape()) for one in first][-len(later) // 2 :]
        asked_for.clear()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_arrays_of_numpy(dtype, launched):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    x, w = np.ones((1, 3, 6, 5), kind), np.ones((2, 3, 3, 3), kind)
    result = nc.conv2d(x[:, :, ::-1], w, backend="cuda", algorithm="direct")
    assert (type(result), result.shape, result.dtype) == (np.ndarray, (1, 2, 4, 3), kind)
    assert launched()
    device = nc.conv2d(upload(x), upload(w), algorithm="direct")
    assert (device.shape, device.dtype, device.copy_to_host().dtype) == ((1, 2, 4, 3), kind, kind)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "bool", "int8", "complex64"])
def test_copies_to_the_gpu_and_back_keep_every_bit(dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    numbers = np.arange(60).astype(kind).reshape(3, 4, 5)
    for array in (numbers, numbers.T, numbers[:, ::-1], numbers[..., ::2], numbers[:0]):
        back = MEMORY.to_host(MEMORY.from_host(array, None, None), None)
        assert back.dtype == kind
        np.testing.assert_array_equal(back, array)


@pytest.mark.filterwarnings("ignore:__int__ returned non-int:DeprecationWarning")  # numba-cuda 0.30, of its default stream
def test_streams(launched):
    from numba import cuda

    x, w = upload(np.zeros((1, 3, 6, 5), "f4")), upload(np.zeros((2, 3, 3, 3), "f4"))
    side, options = cuda.stream(), {"algorithm": "direct"}
    for stream, address in ((side, int(side)), (int(side), int(side)), (cuda.default_stream(), 0), (None, 0)):
        for _ in range(3):
            nc.conv2d(x, w, **options, stream=stream)
        found = launched()
        assert len(found) >= 3
        assert {one.stream for one in found} == {address}
        assert {one.first for one in found} >= {x.__cuda_array_interface__["data"][0]}
