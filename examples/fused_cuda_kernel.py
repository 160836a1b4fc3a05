"""A CUDA kernel that convolves bytes to bytes in one pass: normalised as they are read, quantised as they are stored.

An RGB image of bytes, with the channels last, is scaled to mean 0 and deviation 1 when a block brings it to shared memory, and
the sums of a convolution get a bias, a ReLU and a scale in the registers that they are in. No floats but the weight's are ever
in the GPU's memory.

    python examples/fused_cuda_kernel.py                          # with a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/fused_cuda_kernel.py   # without, in Numba's simulator
"""

from __future__ import annotations

import sys

import numpy as np
from numba import cuda, float32

import numbaconv as nc
from numbaconv.cuda import device

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue, where 1 is white
TOP = 4.0  # what becomes byte 255
SHAPE, OUTS = (4, 8), 2  # threads and output channels of a block; on a GPU (8, 32) and 4 keep it busy


def normalised(image, c, y, x):
    """The input of the convolution at (c, y, x), out of an array (H, W, 3) of bytes."""
    return (float32(image[y, x, c]) / float32(255) - float32(MEAN[c])) / float32(DEVIATION[c])


add_tile = device.tile(3, stride=2, padding=1, load=normalised, shape=SHAPE, outs=OUTS, channels=3)


@cuda.jit
def bytes_to_bytes(image, weight, bias, out):
    """out[o, h, w] = relu(convolution of normalised(image) + bias[o]) as a byte, 0 to TOP; out is (O, H', W')."""
    shared, sums = cuda.shared.array(0, float32), cuda.local.array(OUTS, float32)
    o0, h0, w0 = cuda.blockIdx.z * OUTS, cuda.blockIdx.y * SHAPE[0], cuda.blockIdx.x * SHAPE[1]
    for o in range(OUTS):
        sums[o] = bias[o0 + o] if o0 + o < out.shape[0] else 0
    add_tile(sums, shared, image, image.shape[:2], weight, o0, h0, w0)
    h, w = h0 + cuda.threadIdx.y, w0 + cuda.threadIdx.x
    if h < out.shape[1] and w < out.shape[2]:
        for o in range(OUTS):
            if o0 + o < out.shape[0]:
                out[o0 + o, h, w] = int(min(max(sums[o], float32(0)), float32(TOP)) * float32(255 / TOP) + float32(0.5))


def on_the_gpu(image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Launch the kernel: a block for each tile."""
    outs, (height, width) = len(weight), ((n - 1) // 2 + 1 for n in image.shape[:2])
    out = cuda.device_array((outs, height, width), np.uint8)
    grid = -(-width // SHAPE[1]), -(-height // SHAPE[0]), -(-outs // OUTS)
    given = (cuda.to_device(a) for a in (image, weight, bias))
    bytes_to_bytes[grid, add_tile.threads, 0, add_tile.shared_bytes](*given, out)
    return out.copy_to_host()


def in_three_passes(image: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The same with NumPy and numbaconv on the CPU."""
    floats = ((image / 255 - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)
    result = nc.conv2d(floats[None], weight, bias, stride=2, padding=1, activation="relu")[0]
    return (np.minimum(result, TOP) * (255 / TOP) + 0.5).astype(np.uint8)


def main() -> int:
    """Compare the two; return the exit status."""
    if not cuda.is_available():
        print("no GPU can be used here; with NUMBA_ENABLE_CUDASIM=1 this runs in Numba's simulator", file=sys.stderr)
        return 2
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (12, 16, 3), np.uint8)
    weight, bias = rng.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32), rng.normal(0, 1, 5).astype(np.float32)
    expected, result = in_three_passes(image, weight, bias), on_the_gpu(image, weight, bias)
    off = np.abs(result.astype(int) - expected)
    print(f"{(off == 0).sum()} of {off.size} values are the same as in three passes, the others are off by {off.max()} at most")
    return 0 if off.max() <= 1 else 1  # a sum may round to the byte beside


if __name__ == "__main__":
    sys.exit(main())
