"""The products of whole warps, by the tables of the PTX ISA and not by those that the kernels are made of."""

import numpy as np

WARP, WARPGROUP, M = 32, 128, 64
LANE = np.arange(WARP)
ROW, COLUMN = LANE // 4, LANE % 4  # "groupID" and "threadID_in_group"


def numbers(words: np.ndarray, kind: str) -> np.ndarray:
    """The float64 numbers in words of 4 bytes, along a new last axis."""
    if kind == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(np.float32)[..., None].astype(np.float64)
    halves = np.ascontiguousarray(words).view(np.uint16).reshape(*words.shape, 2)
    if kind == "f16":
        return halves.view(np.float16).astype(np.float64)
    assert kind == "bf16", kind
    return (halves.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def mma(kind: str, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """mma.sync.m16n8k8 of tf32 or m16n8k16 of halves, for registers (warps, 4, 32), (warps, 2, 32) and (warps, 4, 32)."""
    each = 1 if kind == "tf32" else 2
    k = 8 * each
    left, right = np.zeros((len(a), 16, k)), np.zeros((len(a), k, 8))
    for e in range(each):
        for i in range(4):
            left[:, ROW + 8 * (i % 2), each * COLUMN + e + 4 * each * (i // 2)] = numbers(a[:, i], kind)[..., e]
        for i in range(2):
            right[:, each * COLUMN + e + 4 * each * i, ROW] = numbers(b[:, i], kind)[..., e]
    product = left @ right
    sums = [product[:, ROW + 8 * (i // 2), 2 * COLUMN + i % 2] + c[:, i] for i in range(4)]
    return np.stack(sums, 1).astype(np.float32)


def matrix(descriptor: int, rows: int) -> np.ndarray:
    """The words of 32 bytes of rows, by "Matrix descriptor format", K-major with the swizzle of 128 bytes or without one.

    Without one, eight rows of 16 bytes lie together; `leading` is from these to the next 16 bytes of the same rows.
    """
    start, leading, stride = ((descriptor >> bit & 0x3FFF) << 4 for bit in (0, 16, 32))
    assert descriptor >> 62 in (0, 1), "no swizzle, or that of 128 bytes"
    assert descriptor >> 49 & 7 == 0, "its pattern begins with the first row"
    row, word = np.mgrid[:rows, :8]
    if descriptor >> 62 == 0:
        return (start + row // 8 * stride + row % 8 * 16 + word // 4 * leading + word % 4 * 4) // 4
    address = start + row // 8 * stride + row % 8 * 128 + 4 * word
    return (address ^ (address >> 7 & 7) << 4) // 4


def wgmma(kind: str, a: np.ndarray, b: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """wgmma.mma_async of matrices' words, (64, 8) and (n, 8); sums are (n / 2, 128)."""
    left, right = (numbers(words, kind).reshape(len(words), -1) for words in (a, b))
    product, thread, i = left @ right.T, np.arange(WARPGROUP), np.arange(len(sums))[:, None]
    rows = 16 * (thread // WARP) + thread % WARP // 4 + 8 * (i // 2 % 2)
    columns = 2 * (thread % 4) + 8 * (i // 4) + i % 2
    return (product[rows, columns] + sums).astype(np.float32)
