"""The kernels that copy arrays, compiled and assembled without a GPU: registers, shared memory, and what is under way at once."""

import re

import ml_dtypes  # noqa: F401  (names bfloat16)
import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from assembly import check_assembly


def copy_kernel(make, of, to, axes, many, *numbers):
    """A kernel that copies between dtypes, with arguments; it conjugates complex numbers."""
    from numba import from_dtype

    from numbaconv.cuda.kernels.copy import Layout

    ones, read = (1,) * axes, np.dtype({"bfloat16": "float32", "bool": "uint8"}.get(of, of))
    kernel = make(from_dtype(read), many, conjugate=read.kind == "c", boolean=to == "bool")
    return kernel, (np.zeros(ones, to), np.zeros(ones, of), Layout(ones, ones, ones), *numbers)


# Of the plain copy: registers a thread at most, by dtypes, axes, and neighbours moved at once.
COPY_REGISTERS = {
    ("uint8", "uint8", 2, 16): 72,
    ("uint16", "uint16", 2, 8): 80,
    ("uint32", "uint32", 2, 4): 56,
    ("uint32", "uint32", 3, 1): 48,
    ("uint32", "uint32", 6, 1): 48,
    ("float32", "bfloat16", 2, 4): 56,
    ("float32", "float16", 3, 4): 56,
    ("float16", "float32", 2, 4): 56,
    ("bfloat16", "float32", 3, 1): 48,
    ("float64", "bfloat16", 6, 1): 48,
    ("int32", "bool", 2, 4): 56,
    ("complex64", "complex64", 3, 1): 56,
    ("complex128", "complex128", 6, 1): 64,
}


@pytest.mark.parametrize(("of", "to", "axes", "many"), COPY_REGISTERS)
def test_copies_assemble(of, to, axes, many):
    from numbaconv.cuda.kernels.copy import copy

    ptx, registers, shared = check_assembly(*copy_kernel(copy, of, to, axes, many, 1), (9, 0))
    assert registers <= COPY_REGISTERS[of, to, axes, many]
    assert shared == 0
    assert bool(re.search(r"ld\.global\.v\d", ptx)) == bool(re.search(r"st\.global\.v\d", ptx)) == (many > 1)
    last_load, first_store = ptx.rindex("ld.global"), ptx.index("st.global")
    assert last_load < first_store, "all loads are under way before the first is stored"
    assert not re.search(r"\bdiv\.[us]64", ptx)


# Of the transposing one: registers, and bytes of shared memory. A multiprocessor holds five blocks of 256 threads with 48.
TRANSPOSE_RESOURCES = {
    ((7, 5), "uint32", "uint32", 3, 2): (64, 9216),
    ((9, 0), "uint32", "uint32", 3, 2): (48, 9216),
    ((9, 0), "uint32", "uint32", 6, 1): (48, 9216),
    ((9, 0), "uint16", "uint16", 3, 2): (48, 4608),
    ((9, 0), "float32", "bfloat16", 3, 2): (48, 9216),
    ((9, 0), "float32", "float16", 3, 2): (48, 9216),
    ((9, 0), "bfloat16", "float32", 3, 2): (56, 9216),
    ((9, 0), "int32", "bool", 3, 2): (48, 9216),
    ((9, 0), "uint64", "uint64", 3, 2): (64, 18432),
    ((9, 0), "complex128", "complex128", 4, 1): (80, 36864),
}


@pytest.mark.parametrize(("cc", "of", "to", "axes", "many"), TRANSPOSE_RESOURCES)
def test_transposing_copies_assemble(of, to, axes, many, cc):
    from numbaconv.cuda.kernels.transpose import transpose

    ptx, registers, shared = check_assembly(*copy_kernel(transpose, of, to, axes, many, 5, 1), cc)
    most, bytes_of_block = TRANSPOSE_RESOURCES[cc, of, to, axes, many]
    assert registers <= most
    assert shared == bytes_of_block
    assert ptx.count("bar.sync") == 2
    assert ptx.rindex("ld.global") < ptx.index("st.shared"), "all loads are under way before the first is stored"
    assert bool(re.search(r"st\.global\.v2", ptx)) == (many > 1)
