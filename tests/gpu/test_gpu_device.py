"""The device functions for kernels of the caller's own, beside PyTorch in float64, and the example around one."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import random_array
from numba import cuda, float32

pytestmark = pytest.mark.gpu
EXAMPLE = Path(__file__).parents[2] / "examples" / "fused_cuda_kernel.py"
PROBLEMS = [((5, 37, 53), (7, 5, 3, 3), 1, 1), ((16, 64, 64), (70, 16, 3, 3), 1, 1), ((3, 45, 31), (9, 3, 5, 5), 2, 2)]


def by_pixel(x, w, y, stride, padding):
    from numbaconv.cuda import device

    value = device.pixel(w.shape[2:], stride=stride, padding=padding)

    @cuda.jit
    def kernel(image, weight, out):
        e, (_, out_h, out_w) = cuda.grid(1), out.shape
        if e < out.size:
            o, h, w = e // (out_h * out_w), e // out_w % out_h, e % out_w
            out[o, h, w] = value(image, image.shape[1:], weight[o], h, w)

    kernel[-(-y.size // 128), 128](x, w, y)


def by_tile(x, w, y, stride, padding):
    from numbaconv.cuda import device

    add_tile = device.tile(w.shape[2:], stride=stride, padding=padding, shape=(8, 32), outs=4)
    elements = add_tile.shared

    @cuda.jit
    def kernel(image, weight, out):
        shared, sums = cuda.shared.array(elements, float32), cuda.local.array(4, float32)
        o0, h0, w0 = cuda.blockIdx.z * 4, cuda.blockIdx.y * 8, cuda.blockIdx.x * 32
        for o in range(4):
            sums[o] = 0
        add_tile(sums, shared, image, image.shape[1:], weight, o0, h0, w0)
        h, w = h0 + cuda.threadIdx.y, w0 + cuda.threadIdx.x
        for o in range(4):
            if o0 + o < out.shape[0] and h < out.shape[1] and w < out.shape[2]:
                out[o0 + o, h, w] = sums[o]

    grid = tuple(-(-n // part) for n, part in zip(y.shape[::-1], (32, 8, 4), strict=True))
    kernel[grid, add_tile.threads](x, w, y)


def by_gemm_tile(x, w, y, stride, padding):
    from numbaconv.cuda import device

    add_tile = device.gemm_tile(w.shape[2:], stride=stride, padding=padding)
    across, elements = add_tile.across, add_tile.shared

    @cuda.jit
    def kernel(image, weight, out):
        shared, sums = cuda.shared.array(elements, float32), cuda.local.array((8, 4), float32)
        m0, o0 = cuda.blockIdx.x * 128, cuda.blockIdx.y * 64
        for i in range(8):
            for j in range(4):
                sums[i, j] = 0
        add_tile(sums, shared, image, image.shape[1:], weight, out.shape[2], m0, o0)
        for i in range(8):
            for j in range(4):
                m, o = m0 + cuda.threadIdx.x % across + i * across, o0 + cuda.threadIdx.x // across * 4 + j
                if m < out.shape[1] * out.shape[2] and o < out.shape[0]:
                    out[o, m // out.shape[2], m % out.shape[2]] = sums[i, j]

    kernel[(-(-y.shape[1] * y.shape[2] // 128), -(-y.shape[0] // 64)), add_tile.threads](x, w, y)


@pytest.mark.parametrize("compute", [by_pixel, by_tile, by_gemm_tile])
@pytest.mark.parametrize(("input", "weight", "stride", "padding"), PROBLEMS)
def test_sums_in_kernels_of_the_callers(compute, input, weight, stride, padding):
    import torch

    x, w = random_array(input, np.float32), random_array(weight, np.float32, 1)
    exact = torch.nn.functional.conv2d(torch.from_numpy(x).double(), torch.from_numpy(w).double(), None, stride, padding)
    y = cuda.to_device(np.full(exact.shape, np.nan, np.float32))
    compute(cuda.to_device(x), cuda.to_device(w), y, stride, padding)
    bound = 2 * np.prod(weight[1:]) * np.finfo(np.float32).eps * np.abs(x).max() * np.abs(w).max()
    np.testing.assert_allclose(y.copy_to_host(), exact.numpy(), rtol=0, atol=bound)


def test_the_example():
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
