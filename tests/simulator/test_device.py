"""The device functions for kernels of the caller's own, and the example around one, under Numba's simulator."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_conforms, case, operands, random_array
from numba import complex64, cuda, float32, float64, int32, int64

import numbaconv as nc
from numbaconv.cuda import device

EXAMPLE = Path(__file__).parents[2] / "examples" / "fused_cuda_kernel.py"


def guarded(image, c, y, x):
    """The input, by a function that is asked for what there is only; NumPy would take an index below zero."""
    assert 0 <= c < image.shape[0]
    assert 0 <= y < image.shape[1]
    assert 0 <= x < image.shape[2]
    return image[c, y, x]


def by_pixel(image, weight, out, compute, load=guarded, size=None, **options):
    """Compute `out`, an array (O, H, W), by a thread for each value."""
    value = device.pixel(weight.shape[2:], compute=compute, load=load, **options)

    @cuda.jit
    def kernel(image, size, weight, out):
        e, (_, out_h, out_w) = cuda.grid(1), out.shape
        if e < out.size:
            o, h, w = e // (out_h * out_w), e // out_w % out_h, e % out_w
            out[o, h, w] = value(image, size, weight[o], h, w)

    kernel[-(-out.size // 8), 8](image, size or image.shape[1:], weight, out)


def by_tile(image, weight, out, compute, load=guarded, size=None, shape=(2, 3), outs=2, channels=2, start=0, times=1, **options):
    """The same by a block for each tile; the sums start from a number, and are added so many times."""
    add_tile = device.tile(weight.shape[2:], compute=compute, load=load, shape=shape, outs=outs, channels=channels, **options)

    @cuda.jit
    def kernel(image, size, weight, out):
        shared, sums = cuda.shared.array(add_tile.shared, compute), cuda.local.array(outs, compute)
        o0, h0, w0 = cuda.blockIdx.z * outs, cuda.blockIdx.y * shape[0], cuda.blockIdx.x * shape[1]
        for o in range(outs):
            sums[o] = start
        for _ in range(times):
            add_tile(sums, shared, image, size, weight, o0, h0, w0)
        h, w = h0 + cuda.threadIdx.y, w0 + cuda.threadIdx.x
        for o in range(outs):
            if o0 + o < out.shape[0] and h < out.shape[1] and w < out.shape[2]:
                out[o0 + o, h, w] = sums[o]

    grid = tuple(-(-size // part) for size, part in zip(out.shape[::-1], (shape[1], shape[0], outs), strict=True))
    kernel[grid, add_tile.threads](image, size or image.shape[1:], weight, out)


def by_gemm_tile(
    image, weight, out, compute, load=guarded, size=None, shape=(4, 4), each=(2, 2), step=5, start=0, times=1, **options
):
    """The same by a block for each tile of the matrix product."""
    add_tile = device.gemm_tile(weight.shape[2:], compute=compute, load=load, shape=shape, each=each, step=step, **options)
    across = add_tile.across

    @cuda.jit
    def kernel(image, size, weight, out, out_w):
        shared, sums = cuda.shared.array(add_tile.shared, compute), cuda.local.array(each, compute)
        m0, o0 = cuda.blockIdx.x * shape[0], cuda.blockIdx.y * shape[1]
        for i in range(each[0]):
            for j in range(each[1]):
                sums[i, j] = start
        for _ in range(times):
            add_tile(sums, shared, image, size, weight, out_w, m0, o0)
        m, o = m0 + cuda.threadIdx.x % across, o0 + cuda.threadIdx.x // across * each[1]
        for i in range(each[0]):
            for j in range(each[1]):
                if m + i * across < out.shape[1] and o + j < out.shape[0]:
                    out[o + j, m + i * across] = sums[i, j]

    flat = out.reshape(len(out), -1)
    grid = tuple(-(-size // part) for size, part in zip(flat.shape[::-1], shape, strict=True))
    kernel[grid, add_tile.threads](image, size or image.shape[1:], weight, flat, out.shape[2])


ways = pytest.mark.parametrize("way", [by_pixel, by_tile, by_gemm_tile])
by_blocks = pytest.mark.parametrize("way", [by_tile, by_gemm_tile])

GRID = [
    case((1, 3, 5, 6), (3, 3, 3, 3), padding=1),
    case((1, 2, 5, 7), (5, 2, 2, 3), stride=(2, 1), padding=(0, 2)),
    case((1, 1, 7, 9), (1, 1, 3, 2), stride=(1, 3), dilation=(2, 3)),
    case((1, 5, 3, 4), (2, 5, 1, 1)),
    case((1, 2, 2, 2), (2, 2, 2, 2), padding=3),  # pixels of zeros alone
    case((1, 2, 4, 4), (3, 2, 1, 2), stride=3, padding=(1, 0), dilation=(1, 2)),
]


def convolved(way, arrays, compute, **options):
    """The result of one of the functions, in the shape of a batch of one."""
    expected = nc.conv2d(**arrays, backend="reference", **{k: v for k, v in options.items() if k in nc.spec.ConvOptions._fields})
    out = np.zeros(expected.shape[1:], np.dtype(str(compute)))
    way(arrays["input"][0], arrays["weight"], out, compute, **options)
    return out[None]


@ways
@pytest.mark.parametrize("case", GRID, ids=str)
def test_functions_conform(way, case):
    arrays = operands(case, np.float32)
    assert_conforms(convolved(way, arrays, float32, **case.options), arrays, case.options)


@ways
@pytest.mark.parametrize(
    ("dtype", "compute"),
    [("float16", float32), ("float32", float64), ("int8", int32), ("uint8", int64), ("complex64", complex64), ("bool", int32)],
)
def test_sums_have_the_type_that_the_caller_names(way, dtype, compute):
    problem = case((1, 2, 3, 4), (2, 2, 2, 2), padding=1)
    arrays = operands(problem, dtype)
    result = convolved(way, arrays, compute, padding=1)
    assert result.dtype == np.dtype(str(compute))
    assert_conforms(result, {name: a.astype(result.dtype) for name, a in arrays.items()}, {"padding": 1})


@ways
def test_inputs_and_weights_are_converted_before_they_are_multiplied(way):
    out = np.zeros((1, 1, 1), "i4")
    way(np.full((1, 1, 1), 2.75), np.full((1, 1, 1, 1), 3.5, "f4"), out, int32)
    assert out == 6


@ways
def test_arrays_of_other_strides(way):
    arrays = operands(case((1, 2, 4, 5), (3, 2, 2, 2)), np.float32)
    arrays = {name: np.asfortranarray(a) for name, a in arrays.items()}
    assert_conforms(convolved(way, arrays, float32), arrays, {})


@pytest.mark.parametrize(
    ("shape", "each", "step"), [((2, 8), (1, 2), 3), ((8, 2), (4, 2), 4), ((6, 3), (1, 3), 1), ((1, 1), (1, 1), 9)]
)
def test_tiles_of_the_matrix_product(shape, each, step):
    arrays = operands(case((1, 2, 4, 4), (3, 2, 2, 2)), np.float32)
    assert_conforms(convolved(by_gemm_tile, arrays, float32, shape=shape, each=each, step=step), arrays, {})


@pytest.mark.parametrize(("shape", "outs", "channels"), [((1, 5), 1, 4), ((3, 1), 4, 1), ((4, 4), 3, 2)])
def test_tiles_through_shared_memory(shape, outs, channels):
    arrays = operands(case((1, 3, 5, 4), (3, 3, 2, 2), padding=1), np.float32)
    result = convolved(by_tile, arrays, float32, shape=shape, outs=outs, channels=channels, padding=1)
    assert_conforms(result, arrays, {"padding": 1})


@by_blocks
def test_sums_are_added_to_what_is_there(way):
    """Twice, in the same shared memory: no thread writes there while another reads what was there before."""
    arrays = operands(case((1, 2, 3, 3), (2, 2, 2, 2)), "float64")
    result = convolved(way, arrays, float64, start=0.5, times=2)
    np.testing.assert_allclose(result, 0.5 + 2 * nc.conv2d(**arrays, backend="reference"), rtol=1e-13, atol=1e-13)


@ways
@pytest.mark.filterwarnings("ignore:.*invalid value encountered")
def test_an_infinite_weight_meets_padding(way):
    out = np.zeros((1, 3, 3), "f4")
    way(np.ones((1, 2, 2), "f4"), np.full((1, 1, 2, 2), np.inf, "f4"), out, float32, padding=1)
    assert out[0, 1, 1] == np.inf
    assert np.isnan(out).sum() == 8


@ways
def test_no_channels(way):
    out = np.ones((2, 3, 3), "f4")
    way(np.zeros((0, 3, 3), "f4"), np.zeros((2, 0, 1, 1), "f4"), out, float32)
    assert not out.any()


@ways
def test_what_comes_before_is_computed_when_it_is_read(way):
    """The images are read by a function of the caller's: two of them, of bytes, with the channels last."""
    first, second = (random_array((3, 4, 2), "uint8", seed) for seed in (0, 1))
    weight = random_array((2, 2, 2, 3), "float64")

    def difference(images, c, y, x):
        return (float(images[0, y, x, c]) - float(images[1, y, x, c])) / 255

    options, pair = {"stride": (1, 2), "padding": 1}, np.stack([first, second])
    before = ((first.astype(float) - second) / 255).transpose(2, 0, 1)
    expected = nc.conv2d(before[None], weight, backend="reference", **options)[0]
    out = np.zeros(expected.shape)
    way(pair, weight, out, float64, load=difference, size=first.shape[:2], **options)
    np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: device.pixel(0), "kernel: expected an int or 2 ints of at least 1"),
        (lambda: device.tile(3, stride=0), "stride: "),
        (lambda: device.tile(3, padding=-1), "padding: "),
        (lambda: device.tile(3, outs=0), "outs: expected an int of at least 1"),
        (lambda: device.tile(3, shape=(64, 32)), "shape: expected at most 1024 threads, got 2048"),
        (lambda: device.gemm_tile(3, shape=(256, 64), each=(4, 2)), "shape: expected at most 1024 threads, got 2048"),
        (lambda: device.tile(3, load=1), "load: expected a device function"),
        (lambda: device.gemm_tile(3, compute="bool"), "compute: expected a type of integers, floats or complex numbers"),
        (lambda: device.gemm_tile(3, compute="fast"), "compute: .*'fast'"),
        (lambda: device.gemm_tile(3, shape=(8, 4), each=(3, 2)), r"each: expected two divisors of shape, \(8, 4\)"),
        (lambda: device.gemm_tile(3, shape=(6, 2), each=(3, 1)), "each: expected as many threads as divide the 6 pixels"),
    ],
)
def test_what_is_wrong_is_named(make, message):
    with pytest.raises((ValueError, TypeError), match="^" + message):
        make()


def test_the_example():
    done = subprocess.run([sys.executable, EXAMPLE], env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 240 values" in done.stdout
