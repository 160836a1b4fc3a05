"""The CUDA kernels, compiled and assembled without a GPU: registers, shared memory, and that nothing spills."""

import ctypes
import re

import ml_dtypes  # noqa: F401  (names bfloat16)
import numpy as np
import pytest
from helpers import one_in, random_array, some_of

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from assembly import assembled, check_assembly, example

from numbaconv.activation import SCALARS
from numbaconv.cuda.geometry import KC, STAGE_BYTES, ZEROS, Tiles, most_registers, resident
from numbaconv.cuda.reading import Reading
from numbaconv.cuda.storing import CHANNELS, PIXELS, Form
from numbaconv.toom import Filter, transforms

TARGETS = [((7, 5), "float32"), ((9, 0), "float32"), ((7, 5), "float64"), ((9, 0), "float64")] + [
    ((8, 0), dtype)
    for dtype in ("float32", "float64", "complex64", "complex128", "int8", "uint64", "bool", "float16", "bfloat16")
]


@pytest.mark.parametrize(("name", "target"), one_in(2, ["direct", "tiled"], TARGETS))
def test_kernels_assemble(name, target):
    from numba import from_dtype

    from numbaconv.cuda.kernels.direct import direct
    from numbaconv.cuda.kernels.tiled import tiled

    cc, dtype = target
    args, compute = example(dtype)
    ptx, registers, _ = check_assembly({"direct": direct, "tiled": tiled}[name](from_dtype(compute)), args, cc)
    assert registers * {"direct": 256, "tiled": 2 * 128}[name] <= 65536, "fewer blocks in a multiprocessor than intended"
    if name == "tiled":
        assert ptx.count("bar.sync") >= 2
    if name == "tiled" and dtype == "float32":
        assert "ld.shared.v4.f32" in ptx


# Of a block of implicit GEMM: registers a thread at most, on any of the targets, and bytes of shared memory. By dtype, tile,
# whether channels lie together, whether copies are asynchronous, how pixels are read, and how many results are stored at once.
# With 128 registers a multiprocessor holds two blocks.
BY_TAP, LISTED, VECTORS = Reading(1, False), Reading(1, True), Reading(4, False)
GEMM_RESOURCES = {
    ("float32", (8, 8, 16), False, True, BY_TAP, 4): (128, 37392),
    ("float32", (8, 8, 16), False, True, BY_TAP, 1): (128, 37392),
    ("float32", (8, 8, 16), False, True, LISTED, 4): (128, 41480),
    ("float32", (8, 8, 16), False, True, VECTORS, 4): (128, 37392),
    ("float32", (8, 8, 16), False, False, BY_TAP, 4): (144, 37392),
    ("float32", (8, 8, 16), True, True, BY_TAP, 4): (128, 37904),
    ("float32", (8, 8, 16), True, True, LISTED, 4): (128, 41992),
    ("float32", (8, 8, 8), False, True, BY_TAP, 4): (128, 50192),
    ("float32", (8, 8, 8), False, True, LISTED, 4): (128, 54280),
    ("float32", (8, 8, 8), False, True, VECTORS, 4): (128, 50192),
    ("float32", (8, 4, 16), False, True, BY_TAP, 4): (96, 29200),
    ("float32", (8, 4, 16), True, True, LISTED, 4): (104, 33800),
    ("float32", (4, 8, 16), True, True, BY_TAP, 4): (96, 27408),
    ("float32", (4, 4, 16), False, True, VECTORS, 4): (64, 19728),
    ("float64", (8, 4, 16), False, True, BY_TAP, 1): (168, 53776),
    ("complex64", (4, 4, 16), False, True, LISTED, 1): (96, 41224),
    ("int8", (8, 8, 16), False, False, LISTED, 4): (144, 41480),
    ("bfloat16", (8, 8, 16), True, False, BY_TAP, 8): (152, 37904),
}


@pytest.mark.parametrize(
    ("cc", "dtype", "tile", "last", "asynchronous", "reading", "many"),
    [
        ((7, 5), "float32", (8, 8, 16), False, False, BY_TAP, 4),
        ((9, 0), "float32", (8, 8, 16), False, True, BY_TAP, 4),
        *(((9, 0) if one[1][2] == 8 else (8, 0), *one) for one in GEMM_RESOURCES),
    ],
)
def test_implicit_gemm_assembles(dtype, tile, last, asynchronous, reading, many, cc):
    from numba import from_dtype

    from numbaconv.cuda.kernels.implicit_gemm import implicit_gemm

    args, compute = example(dtype, packed=True)
    kernel = implicit_gemm(from_dtype(compute), tile, ZEROS, last, asynchronous, reading, form(last, many))
    ptx, registers, shared = check_assembly(kernel, args, cc)
    most, bytes_of_block = GEMM_RESOURCES[dtype, tile, last, asynchronous, reading, many]
    assert registers <= most
    assert shared == bytes_of_block
    assert ptx.count("bar.sync") >= 2
    assert ("cp.async.cg" in ptx) == asynchronous
    assert ("cp.async.ca" in ptx) == (asynchronous and reading != VECTORS)
    if dtype == "float32":
        assert ptx.count("fma.rn.f32") == KC * tile[0] * tile[1]
        operands = ptx[: ptx.rindex("fma.rn.f32")]
        assert operands.count("ld.shared.v4.f32") == KC * sum(tile[:2]) // 4, "operands come as vectors"
        assert bool(re.search(r"st\.global\.v4", ptx)) == (many == 4)


def form(last, many):
    """How results are stored: many at once, of channels that lie together, or of pixels."""
    return Form(CHANNELS if last else PIXELS, many)


def whole(kind, args):
    """The same with vectors of 16 bytes, of pixels for one kind of numbers and of channels for the others."""
    return form(kind != "f16", 16 // args[4].itemsize)


@pytest.mark.parametrize(
    ("cc", "dtype"), [((7, 5), "float32"), ((8, 0), "complex128"), ((8, 0), "int8"), ((9, 0), "float32"), ((9, 0), "bfloat16")]
)
def test_reductions_assemble(cc, dtype):
    from numba import from_dtype

    from numbaconv.cuda.kernels.splitting import reduction

    args, compute = example(dtype)
    sums = np.zeros((1,) * 6, compute)
    check_assembly(reduction(from_dtype(compute)), (sums, sums, *args[2:]), cc)


TENSOR_RESOURCES = {
    ((2, 4, 4, 4), "tf32"): (160, 51200),
    ((2, 4, 4, 4), "bf16"): (144, 51200),
    ((4, 2, 2, 4), "tf32"): (128, 38912),
    ((2, 2, 2, 4), "tf32"): (128, 25600),
    ((2, 2, 2, 2), "f16"): (80, 19456),
}


@pytest.mark.parametrize(("cc", "tile", "kind"), [((8, 0), (2, 4, 4, 4), "tf32"), *(((9, 0), *one) for one in TENSOR_RESOURCES)])
def test_tensor_gemm_assembles(tile, kind, cc):
    from numbaconv.cuda.kernels.tensor_gemm import tensor_gemm

    args, _ = example("float32" if kind == "tf32" else "float16")
    ptx, registers, shared = check_assembly(tensor_gemm(kind, *tile, ZEROS, whole(kind, args)), args, cc)
    most, bytes_of_block = TENSOR_RESOURCES[tile, kind]
    assert registers <= most
    assert shared == bytes_of_block
    assert ptx.count("mma.sync") == 2 * tile[2] * tile[3], "two products of 32 bytes for each pair of fragments"
    assert ptx.count("cp.async.cg") >= 2
    assert not re.search(r"(div|rem)\.[su]64", ptx)


WARPGROUP_RESOURCES = {
    ((2, 256, 4), "bf16"): (224, 199680),
    ((2, 256, 4), "tf32"): (224, 199680),
    ((2, 128, 3), "f16"): (128, 101376),
    ((2, 64, 4), "bf16"): (120, 101376),
    ((1, 128, 4), "tf32"): (160, 100352),
    ((1, 64, 4), "f16"): (120, 67584),
}


@pytest.mark.parametrize(("tile", "kind"), WARPGROUP_RESOURCES)
def test_warpgroup_gemm_assembles(tile, kind):
    from numbaconv.cuda.kernels.warpgroup_gemm import warpgroup_gemm

    args, _ = example("float32" if kind == "tf32" else "float16")
    kernel = warpgroup_gemm(kind, *tile, ZEROS, whole(kind, args))
    ptx, registers, shared = check_assembly(kernel, args, (9, 0, "a"))
    most, bytes_of_block = WARPGROUP_RESOURCES[tile, kind]
    assert registers <= most
    assert shared == bytes_of_block <= 227 * 1024
    assert ptx.count("wgmma.mma_async") == 4, "a step's 128 bytes a row, 32 at a time"
    assert registers * tile[0] * 128 <= 65536


TMA_RESOURCES = {
    ((3, 128, 4, 1, 1), "f16"): (128, 168000),
    ((3, 128, 4, 2, 1), "bf16"): (104, 168000),
    ((3, 128, 4, 1, 2), "tf32"): (104, 168000),
    ((2, 256, 4, 1, 1), "bf16"): (168, 199744),
    ((2, 256, 4, 2, 1), "tf32"): (160, 199744),
    ((2, 256, 4, 1, 2), "f16"): (168, 199744),
    ((2, 128, 6, 1, 1), "f16"): (144, 199776),
    ((2, 128, 6, 2, 1), "bf16"): (104, 199776),
    ((2, 128, 6, 1, 2), "tf32"): (96, 199776),
    ((2, 64, 4, 1, 1), "bf16"): (72, 101440),
    ((1, 128, 4, 1, 1), "tf32"): (96, 100416),
    ((1, 64, 4, 1, 1), "f16"): (72, 67648),
}


@pytest.mark.parametrize(("tile", "kind"), TMA_RESOURCES)
def test_tma_gemm_assembles(tile, kind):
    from numbaconv.cuda.kernels.tma_gemm import ASKING, tma_gemm
    from numbaconv.cuda.tensor_map import TensorMap

    args, _ = example("float32" if kind == "tf32" else "float16")
    maps = np.zeros(1, np.int64)
    args = *args, maps, TensorMap(maps, None), TensorMap(maps, None)
    ptx, registers, shared = check_assembly(tma_gemm(kind, *tile, whole(kind, args)), args, (9, 0, "a"))
    most, bytes_of_block = TMA_RESOURCES[tile, kind]
    *_, down, across = tile
    assert registers <= most
    assert registers <= most_registers(tile[0] * 128 + ASKING, resident(tile[2] * (64 * tile[0] + tile[1]) * 128))
    assert shared == bytes_of_block <= 227 * 1024
    assert ptx.count("wgmma.mma_async") in (4, 12), "a step, whose loop may be peeled twice"
    for rank, several in (("4d", across > 1), ("3d", down > 1)):
        loads = re.findall(rf"cp\.async\.bulk\.tensor\.{rank}\S*", ptx)
        assert {load.endswith(".multicast::cluster") for load in loads} == {several}
    assert (f".reqnctapercluster {down * across}, 1, 1" in ptx) == (down * across > 1)
    assert not re.search(r"(div|rem)\.[su]64", ptx)


HALO_RESOURCES = {
    ((4, 64), "bf16"): (128, 232448),
    ((2, 64), "tf32"): (128, 230400),
    ((4, 32), "tf32"): (128, 232448),
    ((2, 32), "f16"): (128, 230400),
}


@pytest.mark.parametrize(("tile", "kind"), HALO_RESOURCES)
def test_halo_gemm_assembles(tile, kind):
    from numbaconv.cuda.halo_gemm import Tile, bytes_of_sums
    from numbaconv.cuda.kernels import warpgroup_tile
    from numbaconv.cuda.kernels.halo_gemm import halo_gemm

    args, _ = example("float32" if kind == "tf32" else "float16")
    ptx, registers, shared = check_assembly(halo_gemm(kind, *tile, ZEROS, whole(kind, args)), args, (9, 0, "a"))
    most, bytes_of_block = HALO_RESOURCES[tile, kind]
    assert registers <= most
    assert shared == bytes_of_block <= 227 * 1024
    assert ptx.count("wgmma.mma_async") == 4
    assert not re.search(r"(div|rem)\.[su]64", ptx)
    assert max(warpgroup_tile.bytes_of_sums(1, tile[1], form(last, 1)) for last in (False, True)) == bytes_of_sums(Tile(*tile))


def test_tables_of_tiles_are_those_that_are_chosen_from():
    from numbaconv.cuda import halo_gemm, tensor_gemm, tma_gemm, warpgroup_gemm

    assert {tile for tile, _ in TENSOR_RESOURCES} == set(tensor_gemm.TILES)
    assert {tile for tile, _ in WARPGROUP_RESOURCES} == set(warpgroup_gemm.TILES)
    assert {tile for tile, _ in TMA_RESOURCES} == set(tma_gemm.TILES)
    assert {tile for tile, _ in HALO_RESOURCES} == set(halo_gemm.TILES)


# Registers a thread at most of depthwise, with (ROWS, TAPS, SPAN, deep, last): a multiprocessor holds four blocks of 256 threads.
DEPTHWISE_REGISTERS = {
    ((7, 5), "float32", (8, 3, 1, False, False)): 64,
    ((8, 0), "int8", (8, 5, 2, False, True)): 64,
    ((9, 0), "float32", (8, 7, 1, False, True)): 64,
    ((9, 0), "float16", (8, None, None, False, False)): 64,
    ((8, 0), "bfloat16", (8, 3, 1, False, True)): 64,
    ((9, 0), "complex128", (1, None, None, True, True)): 96,
}


@pytest.mark.parametrize(("cc", "dtype", "variant"), DEPTHWISE_REGISTERS)
def test_depthwise_assembles(dtype, variant, cc):
    from numba import from_dtype

    from numbaconv.cuda.depthwise import held
    from numbaconv.cuda.kernels.depthwise import depthwise

    args, compute = example(dtype)
    ptx, registers, shared = check_assembly(depthwise(from_dtype(compute), *held(np.dtype(dtype)), *variant), args, cc)
    assert registers <= DEPTHWISE_REGISTERS[cc, dtype, variant]
    assert shared == STAGE_BYTES
    assert ptx.count("bar.sync") >= 3
    loads = [found.start() for found in re.finditer(r"ld\.global\.nc\.v4", ptx)]
    assert len(loads) == {"complex128": 0, "int8": 2}.get(dtype, 4)
    if loads:
        assert "st.shared" not in ptx[loads[0] : loads[-1]], "all are under way before the first is stored"
    if dtype == "float32" and variant[1] == 7:
        assert ptx.count("fma.rn.f32") == 7 * 8, "a column of inputs is loaded once for all its taps"


# Of Winograd's transforms: registers a thread at most, on any of the targets, and bytes of shared memory.
WINOGRAD_RESOURCES = {
    ("input", 2): (64, 0),
    ("input", 4): (80, 0),
    ("weight", 2): (64, 0),
    ("weight", 4): (72, 0),
    ("output", 2): (64, 2080),
    ("output", 4): (96, 8448),
    ("output, channels last", 2): (64, 2304),
    ("output, channels last", 4): (88, 9216),
}


def winograd_kernel(name, m):
    """One of the transforms, with arguments."""
    from numbaconv.cuda.kernels.winograd import input_transform, output_transform, weight_transform

    (input, weight, bias, residual, output, s, g), _ = example("float32")
    tiles = Tiles(1, 1, 0, 1, 8)
    if name == "input":
        return input_transform(m, g.mode), (input, input, s.input, g, tiles, 8)
    if name == "weight":
        return weight_transform(m), (weight, weight, s.weight, g)
    return output_transform(m, "last" in name), (input, bias, residual, output, s, g, tiles)


@pytest.mark.parametrize("cc", [(7, 5), (8, 0), (9, 0)])
@pytest.mark.parametrize(("name", "m"), WINOGRAD_RESOURCES)
def test_winograd_transforms_assemble(name, m, cc):
    ptx, registers, shared = check_assembly(*winograd_kernel(name, m), cc)
    most, bytes_of_block = WINOGRAD_RESOURCES[name, m]
    assert registers <= most
    assert shared == bytes_of_block
    assert not re.search(r"(mul|fma)\.(rn\.)?f(32|64)\s.*(0f[3B]F800000|0f[08]0000000|0d[3B]FF0{13}|0d[08]0{15})", ptx)
    if name == "input":
        assert len(re.findall(r"ld\.global\.f32", ptx)) == len(re.findall(r"st\.global\.f32", ptx)) == (m + 2) ** 2


def test_winograd_transform_in_a_padding_mode_assembles():
    from numbaconv.cuda.geometry import REFLECT
    from numbaconv.cuda.kernels.winograd import input_transform

    _, args = winograd_kernel("input", 4)
    _, registers, _ = check_assembly(input_transform(4, REFLECT), args, (9, 0))
    assert registers <= 80


@pytest.mark.parametrize(("dtype", "m"), [("float32", 4), ("float64", 4), ("float32", 2)])
@pytest.mark.parametrize("which", range(3))
def test_transforms_of_registers_compute(which, dtype, m):
    """The instructions that kernels are made of, run on the CPU, on every second value from the fourth on."""
    from llvmlite import binding, ir

    from numbaconv.cuda.transforms import multiply

    matrix = transforms(Filter(m, 3))[which]
    kind, word = {"float32": ir.FloatType(), "float64": ir.DoubleType()}[dtype], ir.IntType(64)
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [kind.as_pointer(), word, word]), "multiply")
    builder = ir.IRBuilder(function.append_basic_block())
    multiply(builder, matrix, *function.args)
    builder.ret_void()
    machine = binding.Target.from_default_triple().create_target_machine()
    with binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine) as engine:
        values = random_array((20,), dtype)
        expected = values.astype(np.float64)
        columns = expected[3 : 3 + 2 * len(matrix[0]) : 2].copy()
        expected[3 : 3 + 2 * len(matrix) : 2] = np.array(matrix, np.float64) @ columns
        called = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(engine.get_function_address("multiply"))
        called(values.ctypes.data, 3, 2)
    np.testing.assert_allclose(values, expected, rtol=0, atol=64 * np.finfo(dtype).eps)


@pytest.mark.parametrize("activation", some_of(["relu", "gelu"], 0))
def test_activations_assemble(activation):
    from numba import float32

    from numbaconv.cuda.kernels.tiled import tiled

    args, _ = example("float32")
    plain, _ = assembled(tiled(float32), args, (8, 0))
    ptx, registers, _ = check_assembly(tiled(float32, SCALARS[activation]), args, (8, 0))
    assert ptx != plain
    assert registers * 128 <= 65536
