"""What runs PTX without a GPU: that it computes as a GPU does, and what it does not let pass."""

import math

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")

from emulator import block
from emulator.device import ARENA, emulated
from emulator.memory import FaultError
from emulator.parser import Address, Constant, parse
from numba import cuda, float32, float64, int8, int32, int64, uint8, uint16, uint32, uint64
from numba.core.types import float16

from numbaconv.cuda import launch, ptx

THREADS = 64
WORDS = np.array([0, 1, 2, 5, 31, 32, 63, 64, -1, -2, -7, 2**31 - 1, -(2**31), 2**40 + 3, -(2**63), 2**63 - 1], np.int64)


@pytest.fixture
def gpu():
    with emulated((8, 0)) as driver:
        yield driver


def on_device(values):
    """A copy of an array in the arena."""
    stored = ARENA.empty(values.shape, values.dtype)
    stored[...] = values
    return stored


def run(kernel, *arrays, blocks=1, threads=THREADS, shared=0):
    launch.launch(kernel, blocks, threads, None, *arrays, shared=shared)


# ---------------------------------------------------------------- arithmetic

PAIRS = np.array([(a, b) for a in WORDS for b in WORDS if b], np.int64)
BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "and": lambda a, b: a & b,
    "xor": lambda a, b: a ^ b,
    "or": lambda a, b: a | b,
    "less": lambda a, b: a < b,
    "least": lambda a, b: min(a, b),
    "most": lambda a, b: max(a, b),
}


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("kind", [int64, uint64, int32, uint32, uint16, int8])
def test_integers(gpu, kind, name):
    dtype = np.dtype(str(kind))
    pairs = PAIRS.astype(dtype)
    pairs = pairs[pairs[:, 1] != 0]
    if dtype.kind == "i":
        pairs = pairs[~((pairs[:, 0] == np.iinfo(dtype).min) & (pairs[:, 1] == -1))]
    function = BINARY[name]
    inner = cuda.jit(device=True, inline="always")(function)
    a, b = (on_device(np.ascontiguousarray(one)) for one in pairs.T)
    out = on_device(np.zeros_like(a))
    count = len(pairs)

    def kernel(a, b, out):
        i = cuda.grid(1)
        if i < count:
            out[i] = kind(inner(a[i], b[i]))

    run(kernel, a, b, out, blocks=-(-count // THREADS))
    with np.errstate(over="ignore"):
        expected = [function(int(x), int(y)) for x, y in pairs]
    np.testing.assert_array_equal(out, np.array([wrapped(one, dtype) for one in expected], dtype))


def wrapped(number, dtype):
    bits = 8 * dtype.itemsize
    low = int(number) & (1 << bits) - 1
    return low - (1 << bits) if dtype.kind == "i" and low >> bits - 1 else low


@pytest.mark.parametrize("to", [int8, uint8, int32, uint32, int64, uint64, float16, float32, float64], ids=str)
@pytest.mark.parametrize("of", [int8, uint16, int32, int64, float32, float64], ids=str)
def test_conversions(gpu, of, to):
    source, target = np.dtype(str(of)), np.dtype(str(to))
    numbers = np.array([0, 1, -1, 2.5, -3.75, 100, -100, 1000, 60000], "f8")
    if source.kind != "f":
        numbers = WORDS
    values = on_device(numbers.astype(source))
    out = on_device(np.zeros(len(values), target))
    count = len(values)

    def kernel(values, out):
        i = cuda.grid(1)
        if i < count:
            out[i] = to(values[i])

    run(kernel, values, out)
    if source.kind == "f" and target.kind in "iu":
        least, most = (-(2**63), 2**63 - 1) if target.kind == "i" else (0, 2**64 - 1)
        fits = (values >= least) & (values <= most) & (values >= np.iinfo(target).min) & (values <= np.iinfo(target).max)
        np.testing.assert_array_equal(out[fits], values[fits].astype(target))
    else:
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out, values.astype(target))


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "erf", "fabs", "floor"])
@pytest.mark.parametrize("kind", [float32, float64], ids=str)
def test_functions(gpu, kind, name):
    function, dtype = getattr(math, name), np.dtype(str(kind))
    values = on_device(np.linspace(0.01, 8, 50).astype(dtype))
    out = on_device(np.zeros_like(values))

    def kernel(values, out):
        i = cuda.grid(1)
        if i < 50:
            out[i] = function(values[i])

    run(kernel, values, out)
    np.testing.assert_allclose(out, [function(x) for x in values], rtol=16 * np.finfo(dtype).eps, atol=16 * np.finfo(dtype).eps)


# ---------------------------------------------------------------- the flow


def test_threads_that_go_different_ways_meet_again(gpu):
    out = on_device(np.zeros((3, THREADS), np.int64))

    def kernel(out):
        i = cuda.threadIdx.x
        total = 0
        for k in range(i % 7):
            if k % 2:
                total += 10 * k
            else:
                total -= k
        block = cuda.blockIdx.x
        shared = cuda.shared.array(THREADS, int64)
        shared[i] = total
        if i % 3 == 0:
            total += 1000
        cuda.syncthreads()
        if i >= 60:
            return
        out[block * THREADS + i] = total + shared[THREADS - 1 - i]

    run(kernel, out, blocks=3)
    totals = [sum(10 * k if k % 2 else -k for k in range(i % 7)) for i in range(THREADS)]
    expected = [t + 1000 * (i % 3 == 0) + totals[THREADS - 1 - i] for i, t in enumerate(totals)]
    assert (out[:, :60] == expected[:60]).all()
    assert not out[:, 60:].any()


def test_grids_and_blocks_of_several_axes(gpu):
    out = on_device(np.full(2 * 3 * 4 * 2, -1))

    def kernel(out):
        x, y = cuda.grid(2)
        out[(y * cuda.gridsize(2)[0] + x) * 2 + cuda.threadIdx.z] = 100 * y + 10 * x + cuda.threadIdx.z

    run(kernel, out, blocks=3, threads=(4, 2, 2))
    assert out.tolist() == [100 * y + 10 * x + z for y in range(2) for x in range(12) for z in range(2)]


def test_a_block_that_does_not_end(gpu, monkeypatch):
    monkeypatch.setattr(block, "MOST_TURNS", 100)
    out = on_device(np.zeros(1, np.int64))

    def kernel(out):
        while out[0] == 0:
            cuda.threadfence()

    with pytest.raises(FaultError, match="does not end"):
        run(kernel, out)


# ---------------------------------------------------------------- what is not let pass


def test_reads_and_writes_outside_of_arrays(gpu):
    values, out = on_device(np.ones(THREADS - 1, np.float32)), on_device(np.zeros(THREADS, np.float32))

    def kernel(values, out):
        out[cuda.threadIdx.x] = values[cuda.threadIdx.x]

    with pytest.raises(FaultError, match=r"global memory at .* 4 bytes: ld\.global"):
        run(kernel, values, out)
    with pytest.raises(FaultError, match=r"global memory at .* 4 bytes: st\.global"):
        run(kernel, out, values)
    run(kernel, values, out, threads=THREADS - 1)
    assert out.sum() == THREADS - 1


def test_what_nobody_wrote_is_no_number(gpu):
    values, out = ARENA.empty(THREADS, np.float32), on_device(np.zeros(THREADS, np.float32))

    def kernel(values, out):
        shared = cuda.shared.array(THREADS, float32)
        if cuda.threadIdx.x % 2:
            shared[cuda.threadIdx.x] = 1
        out[cuda.threadIdx.x] = shared[cuda.threadIdx.x] if cuda.threadIdx.x < 8 else values[cuda.threadIdx.x]

    run(kernel, values, out)
    assert np.isnan(out[0:8:2]).all()
    assert (out[1:8:2] == 1).all()
    assert np.isnan(out[8:]).all()


def test_shared_memory_beyond_its_end(gpu):
    out = on_device(np.zeros(THREADS, np.float32))

    def kernel(out):
        shared = cuda.shared.array(0, float32)
        shared[uint64(cuda.threadIdx.x)] = 1
        out[cuda.threadIdx.x] = shared[uint64(cuda.threadIdx.x)]

    with pytest.raises(FaultError, match=r"shared memory at .* of 240"):
        run(kernel, out, shared=4 * 60)
    run(kernel, out, shared=4 * THREADS)
    assert out.all()


def race(read_first, meet):
    """A kernel in which each thread writes a word and reads its neighbour's."""

    def kernel(out):
        shared = cuda.shared.array(THREADS, float32)
        i = cuda.threadIdx.x
        if read_first:
            total = shared[(i + 1) % THREADS]
            if meet:
                cuda.syncthreads()
            shared[i] = i
        else:
            shared[i] = i
            if meet:
                cuda.syncthreads()
            total = shared[(i + 1) % THREADS]
        out[i] = total

    return kernel


@pytest.mark.parametrize("read_first", [False, True])
def test_races(gpu, read_first):
    out = on_device(np.zeros(THREADS, np.float32))
    run(race(read_first, meet=True), out)
    with pytest.raises(FaultError, match="a race: a word is written that another thread has read" if read_first else "a race: a"):
        run(race(read_first, meet=False), out)


def test_threads_that_write_one_word(gpu):
    def kernel(out):
        shared = cuda.shared.array(THREADS, float32)
        shared[cuda.threadIdx.x // 2] = 1
        out[cuda.threadIdx.x] = 0

    with pytest.raises(FaultError, match="threads write one word at a time"):
        run(kernel, on_device(np.zeros(THREADS, np.float32)))


@pytest.mark.parametrize("waits", [False, True])
def test_asynchronous_copies_are_waited_for(gpu, waits):
    values, out = on_device(np.arange(THREADS, dtype="f4")), on_device(np.zeros(THREADS, np.float32))
    wait = ptx.wait_for_all_but(0)

    def kernel(values, out):
        shared = cuda.shared.array(THREADS, float32)
        i = cuda.threadIdx.x
        at, origin = ptx.moved(ptx.shared_address(shared), 4 * i), ptx.address_of(values) + 4 * i
        ptx.copy_async_4(at, origin, uint32(4 if i % 2 else 0))
        ptx.commit()
        if waits:
            wait()
        out[i] = shared[i]

    if waits:
        run(kernel, values, out)
        np.testing.assert_array_equal(out, np.where(values % 2, values, 0))
    else:
        with pytest.raises(FaultError, match=r"that an asynchronous copy is on its way to: ld\.shared"):
            run(kernel, values, out)


def test_instructions_of_warps_of_which_threads_are_missing(gpu):
    def kernel(out):
        i = cuda.threadIdx.x
        if i % 32 < 31:
            one = uint32(0x3F800000)
            out[i] = ptx.mma_tf32(one, one, one, one, one, one, float32(0), float32(0), float32(0), float32(0))[0]

    with pytest.raises(FaultError, match="threads of a group of 32 are not together: mma"):
        run(kernel, on_device(np.zeros(THREADS, np.float32)))


# ---------------------------------------------------------------- the text

MODULE = """
.version 9.0
.target sm_90a
.extern .shared .align 16 .b8 dynamic[];
.visible .shared .align 8 .b8 fixed[24];
.visible .entry name(
	.param .u64 name_param_0
)
{
	.reg .pred 	%p<2>;
	.reg .b64 	%rd<3>;
	ld.param.u64 	%rd1, [name_param_0]; // a remark; with a semicolon
$L__BB0_1:
	{ .reg .pred over; again: setp.eq.s64 over, %rd1, -1; @!over bra again; }
	{ .reg .pred over; again: @over bra again; }
	@%p1 bra $L__BB0_1;
	cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%rd1+8], [%rd2, {%rd1, %rd2}], [%rd1];
	fma.rn.f32 	%rd1, %rd2, 0f3F800000, {%rd1, _};
	ret;
}
"""


def test_parsing():
    program = parse(MODULE)
    assert program.parameters == ["name_param_0"]
    assert program.shared == [("dynamic", 16, None), ("fixed", 8, 24)]
    assert program.registers == {"%p0": 1, "%p1": 1, **{f"%rd{i}": 64 for i in range(3)}, "over@1": 1, "over@2": 1}
    assert program.labels == {"$L__BB0_1": 1, "again@1": 1, "again@2": 3}
    load, compare, back, again, jump, tile, fused, end = program.operations
    assert load.operands == ("%rd1", Address("name_param_0", 0))
    assert compare.operands == ("over@1", "%rd1", -1)
    assert (back.guard, back.operands) == (("over@1", False), ("again@1",))
    assert again.guard == ("over@2", True)
    assert (jump.guard, jump.operands) == (("%p1", True), ("$L__BB0_1",))
    assert tile.parts[-2:] == ("tile", "mbarrier::complete_tx::bytes")
    assert tile.operands == (Address("%rd1", 8), Address("%rd2", 0, ("%rd1", "%rd2")), Address("%rd1", 0))
    assert fused.operands == ("%rd1", "%rd2", Constant(0x3F800000), ("%rd1", "_"))
    assert end.parts == ("ret",)


def test_what_it_does_not_know_is_named(gpu):
    def kernel(out):
        out[0] = cuda.ballot_sync(0xFFFFFFFF, cuda.threadIdx.x)

    with pytest.raises(Exception, match="vote"):
        run(kernel, on_device(np.zeros(1, np.int64)))
