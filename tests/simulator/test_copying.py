"""Copies between device arrays under the simulator: what the kernels write, and which of them is chosen."""

import ml_dtypes
import numpy as np
import pytest
from helpers import random_array
from hypothesis import given, settings
from hypothesis import strategies as st

from numbaconv.cuda import copying

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def lying(shape, order, dtype, gap=0, offset=0):
    """An array whose axes lie in memory in an order, the last of them with a gap, so many elements from 16 aligned bytes on."""
    stored = [shape[axis] for axis in order]
    stored[-1] += gap
    memory = np.zeros(int(np.prod(stored)) + 16 + offset, dtype)
    begin = -memory.ctypes.data % 16 // memory.itemsize + offset
    array = memory[begin : begin + int(np.prod(stored))].reshape(stored)[..., : shape[order[-1]]]
    return array.transpose(np.argsort(order))


def check(target, source, conjugate=False):
    """Copy, compare with NumPy, and see that nothing beside the target was written."""
    base = target if target.base is None else target.base
    before = base.copy()
    copying.copy(target, source, None, conjugate)
    expected = (source.conj() if conjugate else source).astype(target.dtype)
    np.testing.assert_array_equal(target, expected)
    assert target.dtype != bool or target.view(np.uint8).max(initial=0) <= 1
    target[...] = 0
    np.testing.assert_array_equal(base, before)


LAYOUTS = {
    "contiguous": ((3, 5, 7), (0, 1, 2), (0, 1, 2)),
    "one long row and a rest": ((45,), (0,), (0,)),
    "channels last": ((2, 3, 3, 5), (0, 2, 3, 1), (0, 1, 2, 3)),
    "channels first": ((2, 3, 3, 5), (0, 1, 2, 3), (0, 2, 3, 1)),
    "many columns, few rows": ((2, 21), (0, 1), (1, 0)),
    "many rows, few columns": ((21, 2), (0, 1), (1, 0)),
    "three orders": ((3, 4, 5), (1, 2, 0), (0, 2, 1)),
    "five axes": ((2, 3, 2, 3, 2), (4, 2, 1, 0, 3), (3, 0, 1, 4, 2)),
}


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name, gap):
    shape, target, source = LAYOUTS[name]
    for offset in (0, 1):
        given = lying(shape, source, "float32", gap, offset)
        given[...] = random_array(shape, "float32")
        check(lying(shape, target, "float32", gap, offset), given)


PAIRS = [
    ("float32", BFLOAT16), ("float32", "float16"), (BFLOAT16, "float32"), (BFLOAT16, BFLOAT16), ("float16", "float32"),
    ("float64", BFLOAT16), ("float64", "complex64"), ("complex64", "complex64"), ("complex64", "complex128"),
    ("complex128", "complex128"), ("int8", "int8"), ("uint8", "float32"), ("int64", "int8"), ("int32", "bool"), ("bool", "bool"),
    ("bool", "float32"), ("int32", BFLOAT16), ("uint64", "float64"),
]  # fmt: skip


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("of", "to"), PAIRS, ids=lambda dtype: np.dtype(dtype).name)
def test_conversions(of, to, transposed):
    numbers = np.arange(-17, 18).reshape(5, 7)
    numbers = 128 * numbers if to == "bool" else numbers % 100 if np.dtype(of).kind == "u" else numbers
    source = numbers.astype(of)
    if np.dtype(of).kind == "c":
        source += 1j * numbers[::-1]
    if np.dtype(of).kind in "fc" and np.dtype(of).itemsize >= 4:
        source += source.dtype.type(1 / 3)
    check(lying((7, 5) if transposed else (5, 7), (0, 1), to), source.T if transposed else source)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_conjugates(dtype, transposed):
    source = random_array((3, 5), dtype)
    source = source.T if transposed else source
    check(np.zeros(source.shape, dtype), source, conjugate=True)


def test_what_is_moved_only_keeps_its_bits():
    words = np.arange(0x7F80, 0x7F80 + 15, dtype=np.uint16)
    target = np.zeros(15, BFLOAT16)
    copying.copy(target, words.view(BFLOAT16), None)
    np.testing.assert_array_equal(target.view(np.uint16), words)


def test_strides_of_all_kinds():
    x = random_array((4, 3, 6), "float32")
    views = [x[::-1], x[..., ::-1], x[:, ::-1, ::2], x[::-1, ::-1, ::-1], x.T[::-1, :, ::2], x[:, 1], x[:, :0]]
    views += [np.broadcast_to(v, (4, 3, 6)) for v in (x[0], x[:, :1], x[..., :1], x[0, 0, 0])]
    for view in views:
        check(np.zeros(view.shape, "float32"), view)
        check(np.zeros(view.shape[::-1], "float32").T, view)
        check(np.zeros(view.shape, "float32")[..., ::-1], view)


@settings(max_examples=40)
@given(st.data())
def test_any_layouts(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4)))
    orders, gaps, dtypes = st.permutations(range(len(shape))), st.integers(0, 4), st.sampled_from(["float32", "float16"])
    flips = st.tuples(*[st.sampled_from([1, -1])] * len(shape))

    def drawn():
        array = lying(shape, *map(data.draw, (orders, dtypes, gaps, gaps)))
        return array[tuple(slice(None, None, step) for step in data.draw(flips))]

    source, target = drawn(), drawn()
    source[...] = np.arange(source.size).reshape(shape)
    check(target, source)


def test_halves_of_what_has_more_elements_than_kernels_count(monkeypatch):
    monkeypatch.setattr(copying, "MOST", 11)
    check(np.zeros((3, 4, 5), "float32"), random_array((5, 4, 3), "float32").T)
