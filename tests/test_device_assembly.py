"""Kernels around the device functions, compiled and assembled without a GPU: registers, and that sums stay in them."""

import re

import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

import numpy as np
from assembly import assembled, check_assembly
from helpers import run_python
from numba import from_dtype, types

# Compute capability, the type of input and weight, and that of the sums.
TARGETS = [((7, 5), "float32", "float32"), ((8, 0), "float16", "float32"), ((9, 0), "float64", "float64")]
targets = pytest.mark.parametrize(("cc", "dtype", "compute"), TARGETS)


def arrays(dtype, compute):
    """The signature of a kernel of image, weight, bias and result."""
    value, total = from_dtype(np.dtype(dtype)), from_dtype(np.dtype(compute))
    return types.void(*(types.Array(of, ndim, "C") for of, ndim in ((value, 3), (value, 4), (total, 1), (total, 3)))), total


@targets
def test_pixel_assembles(cc, dtype, compute):
    from numba import cuda

    from numbaconv.cuda import device

    signature, total = arrays(dtype, compute)
    value = device.pixel(3, stride=2, padding=1, compute=compute)

    def kernel(image, weight, bias, out):
        w, h, o = cuda.grid(3)
        if o < out.shape[0] and h < out.shape[1] and w < out.shape[2]:
            out[o, h, w] = max(value(image, image.shape[1:], weight[o], h, w) + bias[o], total(0))

    ptx, registers, shared = check_assembly(kernel, signature, cc)
    assert registers <= 80
    assert shared == 0
    assert not re.search(r"(div|rem)\.[su]64", ptx)
    if compute == "float32":
        assert ptx.count("fma.rn.f32") == 9, "the taps of a channel are unrolled"


@targets
def test_tile_assembles(cc, dtype, compute):
    from numba import cuda

    from numbaconv.cuda import device

    signature, total = arrays(dtype, compute)
    add_tile = device.tile(3, padding=1, compute=compute)
    outs, elements = add_tile.sums, add_tile.shared

    def kernel(image, weight, bias, out):
        shared, sums = cuda.shared.array(elements, total, 16), cuda.local.array(outs, total)
        o0, h0, w0 = cuda.blockIdx.z * outs, cuda.blockIdx.y * 8, cuda.blockIdx.x * 32
        for o in range(outs):
            sums[o] = 0
        add_tile(sums, shared, image, image.shape[1:], weight, o0, h0, w0)
        h, w = h0 + cuda.threadIdx.y, w0 + cuda.threadIdx.x
        if h < out.shape[1] and w < out.shape[2]:
            for o in range(outs):
                if o0 + o < out.shape[0]:
                    out[o0 + o, h, w] = max(sums[o] + bias[o0 + o], total(0))

    ptx, registers, shared = check_assembly(kernel, signature, cc)
    assert registers <= 64, "a multiprocessor holds four blocks of 256 threads"
    assert shared == add_tile.shared_bytes
    assert ptx.count("bar.sync") == 2
    assert not re.search(r"(div|rem)\.[su]64", ptx)
    if compute == "float32":
        assert ptx.count("fma.rn.f32") == 9 * 4
        assert ptx.count("ld.shared.v4.f32") == 9, "the weights of a tap come as one vector"


def matrix_product(total, each, shape):
    """A kernel around a tile of the matrix product, with a bias and a ReLU; its result is flat."""
    from numba import cuda

    from numbaconv.cuda import device

    add_tile = device.gemm_tile(3, padding=1, compute=total, each=each, shape=shape)
    (rows, columns), elements, across = each, add_tile.shared, add_tile.across

    def kernel(image, weight, bias, out):
        shared, sums = cuda.shared.array(elements, total, 16), cuda.local.array(each, total)
        for i in range(rows):
            for j in range(columns):
                sums[i, j] = 0
        m0, o0 = cuda.blockIdx.x * shape[0], cuda.blockIdx.y * shape[1]
        add_tile(sums, shared, image, image.shape[1:], weight, out.shape[2], m0, o0)
        m, o = m0 + cuda.threadIdx.x % across, o0 + cuda.threadIdx.x // across * columns
        for i in range(rows):
            for j in range(columns):
                if m + i * across < out.shape[1] and o + j < out.shape[0]:
                    out[o + j, m + i * across, 0] = max(sums[i, j] + bias[o + j], total(0))

    return kernel, add_tile


@targets
def test_gemm_tile_assembles(cc, dtype, compute):
    signature, total = arrays(dtype, compute)
    kernel, add_tile = matrix_product(total, (8, 4), (128, 64))
    ptx, registers, shared = check_assembly(kernel, signature, cc)
    assert registers <= {4: 128, 8: 168}[total.bitwidth // 8]
    assert shared == add_tile.shared_bytes
    assert ptx.count("bar.sync") == 2
    assert len(re.findall(r"(div|rem)\.[su]64", ptx)) <= 1, "the place of a thread's pixels, before the loop"
    if compute == "float32":
        assert ptx.count("fma.rn.f32") == 8 * 4
        assert ptx.count("ld.shared.v4.f32") == 1, "a thread's output channels come as one vector"


def test_a_large_tile_multiplies_in_registers():
    """What a caller does with 64 sums is a loop, with the sums in local memory; the products are not added there."""
    signature, total = arrays("float32", "float32")
    ptx, log = assembled(matrix_product(total, (8, 8), (128, 128))[0], signature, (9, 0))
    products = [found.start() for found in re.finditer(r"fma\.rn\.f32", ptx)]
    assert len(products) == 8 * 8
    loop = ptx[ptx.rindex("bar.sync", 0, products[0]) : ptx.index("bra", products[-1])]
    assert not re.search(r"(ld|st)\.local", loop)
    assert "0 bytes spill stores, 0 bytes spill loads" in log


@pytest.mark.parametrize("cc", [(7, 5), (9, 0)])
def test_the_example_assembles(cc):
    import fused_cuda_kernel

    image, floats = types.Array(types.uint8, 3, "C"), [types.Array(types.float32, ndim, "C") for ndim in (4, 1)]
    check_assembly(fused_cuda_kernel.bytes_to_bytes.py_func, types.void(image, *floats, image), cc)


def test_the_example_says_what_is_missing():
    done = run_python(
        "import fused_cuda_kernel as example; example.cuda.is_available = lambda: False; print(example.main())",
        env={"PYTHONPATH": "examples"},
    )
    assert done.stdout == "2\n"
    assert "NUMBA_ENABLE_CUDASIM=1" in done.stderr
