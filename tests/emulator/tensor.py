"""Instructions of whole warps and warpgroups, by the tables of the PTX ISA and not by those that the kernels are made of."""

import re

import numpy as np

WARP, WARPGROUP = 32, 128
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
    for i in range(4):
        for e in range(each):
            left[:, ROW + 8 * (i % 2), each * COLUMN + e + 4 * each * (i // 2)] = numbers(a[:, i], kind)[..., e]
    for i in range(2):
        for e in range(each):
            right[:, each * COLUMN + e + 4 * each * i, ROW] = numbers(b[:, i], kind)[..., e]
    product = left @ right
    sums = [product[:, ROW + 8 * (i // 2), 2 * COLUMN + i % 2] + c[:, i] for i in range(4)]
    return np.stack(sums, 1).astype(np.float32)


def wgmma(shape: str, kind: str, shared: np.ndarray, a: int, b: int, sums: np.ndarray) -> np.ndarray:
    """wgmma.mma_async of two matrices that descriptors say to lie in shared memory, K-major; sums are (n / 2, 128)."""
    n, words = int(re.fullmatch(r"m64n(\d+)k\d+", shape)[1]), 8
    left, right = (numbers(_matrix(shared, int(one), rows, words), kind).reshape(rows, -1) for one, rows in ((a, 64), (b, n)))
    product = left @ right.T
    thread = np.arange(WARPGROUP)
    row, column = 16 * (thread // WARP) + thread % WARP // 4, 2 * (thread % 4)
    added = [product[row + 8 * (i // 2 % 2), column + 8 * (i // 4) + i % 2] for i in range(n // 2)]
    return (np.stack(added) + sums).astype(np.float32)


def _matrix(shared: np.ndarray, descriptor: int, rows: int, words: int) -> np.ndarray:
    """What a descriptor of "Matrix descriptor format" describes, for the swizzle of 128 bytes: 8 rows follow 8 rows by a stride."""
    start, stride = (descriptor & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    assert descriptor >> 62 == 1, "the swizzle of 128 bytes"
    assert descriptor >> 49 & 7 == 0, "the swizzle begins with the first row"
    r, w = np.mgrid[:rows, :words]
    address = start + r // 8 * stride + r % 8 * 128 + 4 * w
    address ^= (address >> 7 & 7) << 4
    return shared.view(np.uint32)[address // 4]
