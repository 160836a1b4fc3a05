"""Transposition in registers, from and to rows that lie far apart."""

import ctypes

import numpy as np
import pytest
from helpers import random_array

from numbaconv.cpu.transpose import from_rows, to_rows


@pytest.mark.parametrize("transpose", [from_rows, to_rows])
@pytest.mark.parametrize("dtype", [np.dtype(d) for d in ("float32", "float64", "int32", "uint64")], ids=str)
def test_transpose(dtype, transpose):
    """Any size, from whole squares of vectors to less than one; what lies around the target stays as it was."""
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 8)(transpose(dtype).address)
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (16, 16), (32, 16), (1, 40), (40, 1), (0, 3), (3, 0), (17, 15), (9, 300), (300, 9)]
    sizes += rng.integers(1, 41, (150, 2)).tolist()
    for rows, columns in sizes:
        more = rng.integers(0, 5, 2)
        source = random_array((rows, columns + more[0]), dtype, rows)
        whole = np.full((columns + 2, rows + 2 + more[1]), 77, dtype)
        target = whole[1 : 1 + columns, 1 : 1 + rows]
        call(source.ctypes.data, source.strides[0], rows, columns, target.ctypes.data, whole.strides[0], 0, 0)
        np.testing.assert_array_equal(target, source[:, :columns].T)
        target[...] = 77
        assert (whole == 77).all()
