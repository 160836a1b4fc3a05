"""The PTX wrappers: their text, their meaning as NumPy loops, the fragments' tables, and that an assembler takes them."""

import re

import ml_dtypes
import numpy as np
import pytest
from offline import ptx_of

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")

from llvmlite import ir

from numbaconv.cuda import cluster, mma, ptx  # noqa: F401  (instructions)

LANES = np.arange(32)
every_instruction = pytest.mark.parametrize("one", ptx.INSTRUCTIONS, ids=lambda one: one.text.split()[0])


@every_instruction
def test_operands_are_those_of_the_text(one):
    named = sorted({int(n) for n in re.findall(r"\$(\d+)", one.text)})
    assert named == list(range(len(one.results) + len(one.operands)))
    assert one.text.endswith((";", "; }"))


@every_instruction
def test_no_branch_may_be_put_around_what_lanes_do_together(one):
    kinds = {"f": ir.FloatType(), "r": ir.IntType(32), "l": ir.IntType(64)}
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [kinds[letter] for letter in one.operands]), "f")
    one.emit(ir.IRBuilder(function.append_basic_block()), list(function.args))
    arithmetic = re.match(r"(cvt|mov|div|ld\.global\.nc)\.", one.text)
    assert str(function).count(" convergent") == (0 if arithmetic and not one.effects else 1)


def words(matrix, dtype):
    """A matrix of numbers as words of 4 bytes."""
    return np.ascontiguousarray(matrix.astype(dtype)).view(np.uint32)


PRODUCTS = [
    (ptx.mma_tf32, np.float32, 8, 2.0**-10),
    (ptx.mma_f16, np.float16, 16, 0),
    (ptx.mma_bf16, ml_dtypes.bfloat16, 16, 0),
]


@pytest.mark.parametrize(("product", "dtype", "k", "error"), PRODUCTS, ids=["tf32", "f16", "bf16"])
def test_products(product, dtype, k, error):
    """D = A B + C, with the elements where the tables say; tf32 has 10 bits of a float32's fraction."""
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((16, k)), rng.standard_normal((k, 8)), rng.standard_normal((16, 8)).astype(np.float32)
    a, b = a.astype(dtype), b.astype(dtype)
    row_words, column_words = words(a, dtype), words(b.T, dtype)
    given = [row_words[mma.a_place(LANES, i)] for i in range(4)]
    given += [column_words[mma.b_place(LANES, i)] for i in range(2)]
    given += [c[mma.c_place(LANES, i)] for i in range(4)]
    result = product.of.meaning(*given)
    exact = a.astype(np.float64) @ b.astype(np.float64) + c
    got = np.empty((16, 8))
    for i in range(4):
        got[mma.c_place(LANES, i)] = result[:, i]
    magnitude = abs(a.astype(np.float64)) @ abs(b.astype(np.float64)) + abs(c)
    assert (abs(got - exact) <= (2 * error + 2.0**-23) * magnitude).all()
    assert error == 0 or abs(got - exact).max() > 2.0**-20  # what it leaves out is really left out


def test_rounding_to_tf32():
    x = np.array([1, 1 + 2.0**-11, 1 + 2.0**-12, -1 - 2.0**-11, 3e38, np.inf, -np.inf, 0, 2.0**-140], np.float32)
    rounded = ptx.round_to_tf32.of.meaning(x.view(np.uint32)).view(np.float32)[:, 0]
    np.testing.assert_array_equal(rounded[:4], [1, 1 + 2.0**-10, 1, -1 - 2.0**-10])
    assert abs(rounded[4] / 3e38 - 1) < 2.0**-11
    np.testing.assert_array_equal(rounded[5:8], x[5:8])
    assert (rounded.view(np.uint32) & 0x1FFF == 0).all()


def test_ldmatrix_brings_the_fragments_of_a_and_of_b():
    """With a lane's address from ``matrix_row``, the registers are those of the tables."""
    tile = np.arange(16 * mma.WORDS, dtype=np.uint32).reshape(16, mma.WORDS)
    row, half = mma.matrix_row(LANES)
    loaded = ptx.ldmatrix_x4.of.meaning(tile.ctypes.data + row * mma.WORDS * 4 + half * 16)
    for i in range(mma.A_REGISTERS):
        np.testing.assert_array_equal(loaded[:, i], tile[mma.a_place(LANES, i)])
    for fragment in range(2):  # of 8 columns each
        for i in range(mma.B_REGISTERS):
            column, word = mma.b_place(LANES, i)
            np.testing.assert_array_equal(loaded[:, fragment + 2 * i], tile[8 * fragment + column, word])


def test_copies_fill_up_with_zeros():
    source, target = np.arange(32 * 16, dtype=np.uint8), np.full(32 * 16, 99, np.uint8)
    count = LANES % 17
    ptx.copy_async_16.of.meaning(target.ctypes.data + 16 * LANES, source.ctypes.data + 16 * LANES, count)
    expected = np.where(np.arange(16) < count[:, None], source.reshape(32, 16), 0)
    np.testing.assert_array_equal(target.reshape(32, 16), expected)


def test_vectors_are_four_words_from_a_multiple_of_16_bytes():
    memory = np.arange(32 * 4 + 8, dtype=np.uint32)
    memory = memory[-memory.ctypes.data % 16 // 4 :][: 32 * 4]
    loaded = ptx.load_words.of.meaning(memory.ctypes.data + 16 * LANES[::-1])
    np.testing.assert_array_equal(loaded, memory.reshape(32, 4)[::-1])
    with pytest.raises(ValueError, match="multiple of 16"):
        ptx.load_words.of.meaning(memory.ctypes.data + 16 * LANES + 4)


@pytest.mark.parametrize(("place", "registers"), [(mma.a_place, 4), (mma.b_place, 2), (mma.c_place, 4)])
def test_a_wrong_table_is_noticed(place, registers):
    rows, columns = {4: (16, 8), 2: (8, 8)}[registers]
    assert mma._cover(place, registers, rows, columns)
    assert not mma._cover(lambda lane, i: place(lane ^ (lane == 3), i), registers, rows, columns)


@pytest.mark.parametrize("cc", [(8, 0), (9, 0)])
def test_they_assemble(cc):
    """A kernel of one product, with its operands from memory."""
    linking = pytest.importorskip("cuda.core")
    from numba import cuda, float32, types, uint32

    rounded = ptx.round_to_tf32
    for product in (ptx.mma_tf32, ptx.mma_f16, ptx.mma_bf16):

        def kernel(a, c):
            lane = cuda.threadIdx.x
            w = rounded(a[lane])
            d0, d1, d2, d3 = product(w, w, w, w, w, w, c[0], c[1], c[2], c[3])
            c[lane] = d0 + d1 + d2 + d3

        signature = types.void(types.CPointer(uint32), types.CPointer(float32))
        text = ptx_of(kernel, signature, cc)
        assert "mma.sync.aligned.m16n8" in text
        assert "cvt.rna.tf32.f32" in text
        options = linking.LinkerOptions(arch=f"sm_{cc[0]}{cc[1]}")
        linking.Linker(linking.ObjectCode.from_ptx(text.encode()), options=options).link("cubin")
