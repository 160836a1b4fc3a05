"""PTX of warpgroups: its text, and what it means."""

import re

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")

from numbaconv.cuda import warpgroup

THREADS = np.arange(warpgroup.THREADS)


@pytest.mark.parametrize("n", [8, 16, 64, 256])
@pytest.mark.parametrize("kind", ["tf32", "f16", "bf16"])
def test_operands_are_those_of_the_text(kind, n):
    """The sums are written and read in the same registers, and two descriptors come after both."""
    text = warpgroup._add_text(kind, n)
    assert [int(i) for i in re.findall(r"\$(\d+)", text)] == [*range(n // 2), n, n + 1]
    assert f"m64n{n}k{8 if kind == 'tf32' else 16}.f32.{kind}.{kind}" in text


@pytest.mark.parametrize("n", [8, 64, 256])
def test_every_sum_has_one_place(n):
    row, column = warpgroup.sum_place(THREADS[:, None], np.arange(n // 2))
    assert sorted((row * n + column).ravel()) == list(range(64 * n))


def test_the_swizzle_keeps_rows_and_parts_apart():
    row, part = np.mgrid[:16, :8]
    places = warpgroup.place(row, part)
    assert sorted(places.ravel()) == list(range(0, 2048, 16))
    assert (places // 128 == row).all()
    banks = places[:8] // 4 % 32
    assert all(len(set(column)) == 8 for column in banks.T), "the same part of eight rows lies in eight groups of banks"


def aligned(count):
    memory = np.zeros(count + 256, np.uint32)
    skip = -memory.ctypes.data % 1024 // 4
    return memory[skip : skip + count]


def swizzled(matrix):
    """A matrix of words, 32 a row, as products read it."""
    memory = aligned(matrix.size)
    row, word = np.mgrid[: len(matrix), :32]
    memory[(warpgroup.place(row, word // 4) + word % 4 * 4) // 4] = matrix
    return memory


@pytest.mark.parametrize(("kind", "dtype"), [("tf32", np.float32), ("f16", np.float16), ("bf16", ml_dtypes.bfloat16)])
def test_products(kind, dtype):
    """Four products, 32 bytes further each, make the product of rows of 128 bytes."""
    rng, n = np.random.default_rng(0), 16
    a, b = (rng.standard_normal((rows, 128 // np.dtype(dtype).itemsize)).astype(dtype) for rows in (64, n))
    left, right = (swizzled(m.view(np.uint32)) for m in (a, b))
    add = warpgroup.meaning(kind, n)
    got = np.empty((64, n))
    for thread in THREADS:
        sums = (np.float32(1),) * (n // 2)
        for k in range(4):
            sums = add(thread, sums, left.ctypes.data + 32 * k, right.ctypes.data + 32 * k)
        got[warpgroup.sum_place(thread, np.arange(n // 2))] = sums
    exact = a.astype(np.float64) @ b.astype(np.float64).T + 1
    magnitude = abs(a.astype(np.float64)) @ abs(b.astype(np.float64)).T + 1
    error = 2.0**-10 if kind == "tf32" else 0  # of a number whose lower bits are left out
    assert (abs(got - exact) <= (2 * error + 2.0**-20) * magnitude).all()
    assert kind != "tf32" or abs(got - exact).max() > 2.0**-16
