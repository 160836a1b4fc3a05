"""The 2-D functions as C functions."""

import ctypes
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers import random_array
from scipy import LowLevelCallable

import numbaconv as nc
from numbaconv import native

DTYPES = ["float32", "float64", "complex64", "complex128", "int64", "uint64"]


def call(function, x, w, b, y, geometry):
    arrays = x, np.array(x.shape), w, np.array(w.shape), b, y, np.array(y.shape), np.array(geometry)
    return function(*[None if a is None else a.ctypes.data for a in arrays])


@pytest.mark.parametrize("dtype", DTYPES)
def test_conv2d(dtype):
    x, w, b = random_array((2, 4, 9, 8), dtype), random_array((6, 2, 3, 2), dtype, 1), random_array((6,), dtype, 2)
    function = native.conv2d(dtype).ctypes
    for bias in (b, None):
        expected = nc.conv2d(x, w, bias, (2, 1), ((1, 0), (2, 1)), (1, 2), 2)
        for _ in range(2):
            y = np.zeros_like(expected)
            assert call(function, x, w, bias, y, [2, 1, 1, 0, 2, 1, 1, 2, 2]) == 0
            np.testing.assert_array_equal(y, expected)


def test_conv_transpose2d():
    x, w, b = random_array((2, 4, 9, 8), np.float32), random_array((4, 3, 3, 2), np.float32, 1), random_array((6,), np.float32, 2)
    for bias in (b, None):
        expected = nc.conv_transpose2d(x, w, bias, (2, 1), ((1, 0), (2, 1)), (1, 0), 2, (1, 2))
        y = np.zeros_like(expected)
        geometry = [2, 1, 1, 0, 2, 1, 1, 2, 2, 1, 0]
        assert call(native.conv_transpose2d().ctypes, x, w, bias, y, geometry) == 0
        np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("change", ["out", "weight", "stride", "groups"])
def test_what_is_wrong_is_a_status(change):
    x, w, y = np.ones((1, 2, 5, 5), np.float32), np.ones((3, 2, 2, 2), np.float32), np.full((1, 3, 4, 4), 7, np.float32)
    geometry = [1, 1, 0, 0, 0, 0, 1, 1, 1]
    function = native.conv2d(np.float32).ctypes
    assert call(function, x, w, None, y, geometry) == 0
    assert (y == 8).all()
    w = w[:, :1].copy() if change == "weight" else w
    z = np.full((1, 3, 4, 3), 7, np.float32) if change == "out" else np.full_like(y, 7)
    geometry[{"stride": 0, "groups": 8}.get(change, 0)] = 0 if change in ("stride", "groups") else 1
    assert call(function, x, w, None, z, geometry) == 1
    assert (z == 7).all()


@pytest.mark.parametrize("dtype", ["int8", "uint16", "bool", "float16", "U3", object])
def test_dtypes_that_it_has_not(dtype):
    with pytest.raises(TypeError, match=r"^dtype: expected one of"):
        native.conv2d(dtype)


def test_it_is_a_capsule_of_its_signature():
    function = native.conv2d(np.float64)
    assert function.signature.startswith("int64_t (const double *, const int64_t *, ")
    callable_ = LowLevelCallable(function.capsule)
    assert callable_.signature == function.signature
    address = ctypes.pythonapi.PyCapsule_GetPointer
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    assert address(function.capsule, function.signature.encode()) == function.address


PROGRAM = """
#include <stdint.h>
#include <complex.h>
%s
int64_t blur(int64_t (*convolve)(%s), const float *image, float *out, int64_t n) {
    const float weight[9] = {1, 2, 1, 2, 4, 2, 1, 2, 1};
    const int64_t shape[4] = {1, 1, n, n}, kernel[4] = {1, 1, 3, 3}, geometry[9] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
    return convolve(image, shape, weight, kernel, 0, out, shape, geometry);
}
"""


@pytest.mark.skipif(shutil.which("cc") is None or sys.platform == "win32", reason="needs a C compiler, as cc")
def test_a_c_program_calls_it(tmp_path):
    function = native.conv2d(np.float32)
    (tmp_path / "blur.c").write_text(PROGRAM % (function.declaration, function.signature[len("int64_t (") : -1]))
    subprocess.run(["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-o", "blur.so", "blur.c"], cwd=tmp_path, check=True)
    blur = ctypes.CDLL(str(tmp_path / "blur.so")).blur
    x = random_array((1, 1, 12, 12), np.float32)
    y, weight = np.zeros_like(x), np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32)[None, None]
    pointers = [ctypes.c_void_p(address) for address in (function.address, x.ctypes.data, y.ctypes.data)]
    assert blur(*pointers, ctypes.c_int64(12)) == 0
    np.testing.assert_array_equal(y, nc.conv2d(x, weight, padding=1))
