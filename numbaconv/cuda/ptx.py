"""PTX instructions that Numba has no name for: a small function each, and what it means for the lanes of a warp.

An :class:`Instruction` holds its text, the kinds of its operands, and its meaning as a NumPy function on all lanes at once.
Called in a kernel it is that instruction; in the simulator, which runs no PTX, the lanes of a warp meet and compute the meaning.
This module imports Numba's CUDA, so that only kernels import it.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.cuda.extending import intrinsic

from numbaconv.cuda import mma as fragments
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.mma import LANES
from numbaconv.cuda.target import simulated

__all__ = [
    "INSTRUCTIONS", "SHARED", "Instruction", "address_of", "bits_float", "commit", "copy_async_4", "copy_async_8",
    "copy_async_16", "divide", "float_bits", "ldmatrix_x4", "load_16_bytes", "load_words", "meeting", "mma_bf16", "mma_f16",
    "mma_tf32", "moved", "round_to_tf32", "shared_address", "this_thread", "wait_for_all_but",
]  # fmt: skip

INSTRUCTIONS: list[Instruction] = []
_LLVM = {"f": ir.FloatType(), "r": ir.IntType(32), "l": ir.IntType(64)}
_NUMPY = {"f": np.float32, "r": np.uint32, "l": np.int64}
_NUMBA = {"f": types.float32, "r": types.uint32, "l": types.int64}


@dataclass(frozen=True)
class Instruction:
    """A PTX instruction.

    Attributes
    ----------
    text
        In PTX: ``$0`` and so on are the results, then the operands.
    results, operands
        A letter each: ``f`` for a float32, ``r`` for a word of 4 bytes, ``l`` for one of 8.
    meaning
        What the lanes of a warp get, ``(32, results)``, for what they give, ``(32, operands)`` as columns.
    effects
        Whether it reads or writes memory, so that it stays where it is.
    together
        Whether the lanes of a warp exchange something, and so have to call it together.
    """

    text: str
    results: str
    operands: str
    meaning: Callable[..., Any]
    effects: bool = False
    together: bool = False

    def emit(self, builder: Any, operands: list[Any]) -> Any:
        """Generate it; several results are a struct. Where lanes or memory are in it, no branch may be put around it."""
        constraints = [*("=" + letter for letter in self.results), *self.operands, *["~{memory}"] * self.effects]
        kinds = [_LLVM[letter] for letter in self.results]
        result = ir.VoidType() if not kinds else kinds[0] if len(kinds) == 1 else ir.LiteralStructType(kinds)
        function = ir.FunctionType(result, [_LLVM[letter] for letter in self.operands])
        code = ir.InlineAsm(function, self.text, ",".join(constraints), side_effect=self.effects)
        return builder.call(code, operands, attrs=("convergent",) if self.effects or self.together else ())


def instruction(text: str, results: str, operands: str, meaning: Callable[..., Any], **properties: bool) -> Any:
    """Return what kernels call, with as many arguments as there are operands; it has the :class:`Instruction` in ``.of``."""
    one = Instruction(text, results, operands, meaning, **properties)
    INSTRUCTIONS.append(one)
    if simulated():
        return _Simulated(one)
    kinds = [_NUMBA[letter] for letter in results]
    returned = types.void if not kinds else kinds[0] if len(kinds) == 1 else types.Tuple(kinds)

    def typed(typing_context: Any, *args: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            result = one.emit(builder, list(values))
            if len(kinds) > 1:
                return context.make_tuple(builder, returned, [builder.extract_value(result, i) for i in range(len(kinds))])
            return result if kinds else context.get_dummy_value()

        return returned(*[_NUMBA[letter] for letter in operands]), codegen

    names = ["typing_context", *(f"{letter}{i}" for i, letter in enumerate(operands))]
    positional = Parameter.POSITIONAL_OR_KEYWORD
    typed.__dict__["__signature__"] = Signature([Parameter(name, positional) for name in names])  # Numba knows no *args here
    called = intrinsic(typed)
    called.of = one
    return called


class _Simulated:
    """An instruction under the simulator. Where lanes exchange something, all threads of a block meet."""

    def __init__(self, of: Instruction) -> None:
        self.of = of

    def __call__(self, *args: Any) -> Any:
        if not self.of.together:
            return self._result([args], 0)
        thread: Any = threading.current_thread()
        given = thread._manager.__dict__.setdefault("given", {})
        given[thread.thread_id] = args
        thread.syncthreads()
        first = thread.thread_id // LANES * LANES
        result = self._result([given[first + lane] for lane in range(LANES)], thread.thread_id - first)
        thread.syncthreads()
        return result

    def _result(self, lanes: list[tuple], lane: int) -> Any:
        columns = zip(zip(*lanes, strict=True), self.of.operands, strict=True)
        results = self.of.meaning(*(np.array(column).astype(_NUMPY[letter]) for column, letter in columns))
        if not self.of.results:
            return None
        return results[lane, 0] if len(self.of.results) == 1 else tuple(results[lane])


# ---------------------------------------------------------------- addresses


def _shared_address(array: Any) -> Any:
    return np.int64(array.ctypes.data)


def _address_of(pointer: Any) -> Any:
    return np.int64(pointer.memory.ctypes.data + pointer.before * pointer.memory.itemsize)


def _moved(address: Any, count: Any) -> Any:
    return address + count


if simulated():
    shared_address, address_of, moved = _shared_address, _address_of, _moved
else:

    @inlined
    def moved(address: Any, count: Any) -> Any:
        """A shared address, so many bytes further."""
        return types.uint32(address + count)

    @intrinsic
    def shared_address(typing_context: Any, array: Any) -> Any:
        """The address of an array in shared memory, as instructions take it."""

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, value=args[0]).data
            return builder.ptrtoint(builder.addrspacecast(data, data.type.pointee.as_pointer(3)), _LLVM["r"])

        return types.uint32(array), codegen

    @intrinsic
    def address_of(typing_context: Any, pointer: Any) -> Any:
        """The address that a pointer to global memory holds."""
        return types.int64(pointer), lambda context, builder, signature, args: builder.ptrtoint(args[0], _LLVM["l"])


# ---------------------------------------------------------------- products


def _tf32(words: np.ndarray) -> np.ndarray:
    """The numbers in words: the hardware looks at the upper 19 bits."""
    return (words & np.uint32(0xFFFFE000)).view(np.float32)[..., None]


def _f16(words: np.ndarray) -> np.ndarray:
    return words.view(np.float16).reshape(*words.shape, 2)


def _bf16(words: np.ndarray) -> np.ndarray:
    return (words.view(np.uint16).astype(np.uint32) << 16).view(np.float32).reshape(*words.shape, 2)


def _product(read: Callable[[np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    """The meaning of mma.m16n8 for numbers of a type: D = A B + C."""

    def meaning(*columns: np.ndarray) -> np.ndarray:
        a, b, c = (np.stack(part, 1) for part in (columns[:4], columns[4:6], columns[6:]))
        rows, cols, sums = (np.zeros(shape, dtype) for shape, dtype in (((16, 8), "u4"), ((8, 8), "u4"), ((16, 8), "f4")))
        for lane in range(LANES):
            for i in range(fragments.A_REGISTERS):
                rows[fragments.a_place(lane, i)] = a[lane, i]
                sums[fragments.c_place(lane, i)] = c[lane, i]
            for i in range(fragments.B_REGISTERS):
                cols[fragments.b_place(lane, i)] = b[lane, i]
        left, right = (read(words).reshape(len(words), -1).astype(np.float64) for words in (rows, cols))
        total = (left @ right.T + sums).astype(np.float32)
        lane, i = np.mgrid[:LANES, : fragments.C_REGISTERS]
        return total[fragments.c_place(lane, i)]

    return meaning


def _mma(shape: str, kind: str, read: Callable[[np.ndarray], np.ndarray]) -> Any:
    operands = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13}"
    text = f"mma.sync.aligned.{shape}.row.col.f32.{kind}.{kind}.f32 {operands};"
    return instruction(text, "ffff", "rrrrrrffff", _product(read), together=True)


mma_tf32 = _mma("m16n8k8", "tf32", _tf32)
mma_f16 = _mma("m16n8k16", "f16", _f16)
mma_bf16 = _mma("m16n8k16", "bf16", _bf16)


def _rounded(words: np.ndarray) -> np.ndarray:
    """To the nearest of 10 fraction bits, ties away from zero."""
    finite = (words & np.uint32(0x7F800000)) != 0x7F800000
    return np.where(finite, (words + np.uint32(0x1000)) & np.uint32(0xFFFFE000), words)[:, None]


round_to_tf32 = instruction("cvt.rna.tf32.f32 $0, $1;", "r", "r", _rounded)
float_bits = instruction("mov.b32 $0, $1;", "r", "f", lambda x: x.view(np.uint32)[:, None])
divide = instruction("div.u32 $0, $1, $2;", "r", "rr", lambda a, b: (a // b)[:, None])  # Numba's // has 64 bits, and asks for 0
bits_float = instruction("mov.b32 $0, $1;", "f", "r", lambda x: x.view(np.float32)[:, None])


# ---------------------------------------------------------------- moves


# The width of an address in shared memory: the simulator's are those of the process.
SHARED = "l" if simulated() else "r"


def _matrices(addresses: np.ndarray) -> np.ndarray:
    """Lane l gets word l % 4 of row l // 4 of each of four matrices, the rows of which lanes 0-7, 8-15 ... point to."""
    result = np.empty((LANES, 4), np.uint32)
    for lane in range(LANES):
        for i in range(4):
            result[lane, i] = ctypes.c_uint32.from_address(int(addresses[8 * i + lane // 4]) + 4 * (lane % 4)).value
    return result


ldmatrix_x4 = instruction(
    "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0,$1,$2,$3}, [$4];", "rrrr", SHARED, _matrices, effects=True, together=True
)  # fmt: skip


def _copied_bytes(many: int) -> Any:
    """Copying so many bytes: those that are counted, and zeros for the others; done by the wait for its group."""

    def meaning(to: np.ndarray, origin: np.ndarray, count: np.ndarray) -> None:
        for target, source, size in zip(to, origin, count, strict=True):
            ctypes.memset(int(target), 0, many)
            ctypes.memmove(int(target), int(source), int(size))

    level = "cg" if many == 16 else "ca"  # the L1 cache is passed by only with 16 bytes
    one = instruction(f"cp.async.{level}.shared.global [$0], [$1], {many}, $2;", "", f"{SHARED}lr", meaning, effects=True)
    return _deferred(one) if simulated() else one


class _Copies:
    """The copies of a simulated thread that are under way: closed groups, and an open one."""

    def __init__(self) -> None:
        self.groups: list[list[Callable[[], Any]]] = []
        self.open: list[Callable[[], Any]] = []

    @classmethod
    def of_thread(cls) -> _Copies:
        return threading.current_thread().__dict__.setdefault("copies", cls())

    def commit(self) -> None:
        self.groups.append(self.open)
        self.open = []

    def wait(self, groups: int) -> None:
        while len(self.groups) > groups:
            for copy in self.groups.pop(0):
                copy()


def _deferred(one: Any) -> Any:
    """A simulated copy that happens as late as it may, so that a wait too few is noticed."""

    def copy(*args: Any) -> None:
        _Copies.of_thread().open.append(lambda: one(*args))

    copy.__dict__["of"] = one.of
    return copy


copy_async_4, copy_async_8, copy_async_16 = map(_copied_bytes, (4, 8, 16))
commit = instruction("cp.async.commit_group;", "", "", lambda: None, effects=True)
if simulated():
    commit = lambda: _Copies.of_thread().commit()  # noqa: E731


@cache
def wait_for_all_but(groups: int) -> Any:
    """Return the instruction that waits until no more than so many groups of a thread's copies are under way."""
    if simulated():
        return lambda: _Copies.of_thread().wait(groups)
    return instruction(f"cp.async.wait_group {groups};", "", "", lambda: None, effects=True)


def _this_thread() -> np.ndarray:
    thread: Any = threading.current_thread()
    return np.array([[thread.thread_id]], np.uint32)


# As cuda.threadIdx.x, found anew: what is made of it is not kept in registers from before a loop.
this_thread = instruction("mov.u32 $0, %tid.x;", "r", "", _this_thread, effects=True)


# ---------------------------------------------------------------- barriers


@cache
def meeting(number: int, threads: int) -> Any:
    """Return the instruction at which so many threads of a block, whole warps, wait for each other: barrier 0 to 15."""
    if simulated():
        return lambda: _meeting_place(number, threads).wait(_PATIENCE)
    return instruction(f"bar.sync {number}, {threads};", "", "", lambda: None, effects=True)


_PATIENCE = 60  # seconds after which a simulated thread says that the others do not come


def _meeting_place(number: Hashable, threads: int) -> threading.Barrier:
    """A simulated block's barrier."""
    thread: Any = threading.current_thread()
    places: dict = thread._manager.__dict__.setdefault("meetings", {})
    return places.setdefault(number, threading.Barrier(threads))


# ---------------------------------------------------------------- vectors


def _words(addresses: np.ndarray) -> np.ndarray:
    """The four words at each lane's address, which is a multiple of 16."""
    if (addresses % 16).any():
        raise ValueError("an address is no multiple of 16")
    return np.array([list((ctypes.c_uint32 * 4).from_address(int(address))) for address in addresses], np.uint32)


load_words = instruction("ld.global.nc.v4.b32 {$0,$1,$2,$3}, [$4];", "rrrr", "l", _words)  # of memory that nobody writes


def _load_16_bytes(pointer: Any, index: Any) -> Any:
    many = 16 // pointer.memory.itemsize
    inside = pointer[index], pointer[index + many - 1]
    words = load_words(_address_of(pointer) + index * pointer.memory.itemsize)
    return tuple(np.array(words, np.uint32).view(inside[0].dtype))


if simulated():
    load_16_bytes = _load_16_bytes
else:

    @intrinsic
    def load_16_bytes(typing_context: Any, pointer: Any, index: Any) -> Any:
        """The elements from pointer[index] on, by :data:`load_words`, as a tuple."""
        kind, many = pointer.dtype, 128 // pointer.dtype.bitwidth

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            model = context.data_model_manager[kind]
            address = builder.ptrtoint(builder.gep(args[0], [args[1]]), _LLVM["l"])
            words, vector = load_words.of.emit(builder, [address]), ir.Constant(ir.VectorType(_LLVM["r"], 4), ir.Undefined)
            for i in range(4):
                vector = builder.insert_element(vector, builder.extract_value(words, i), ir.Constant(_LLVM["r"], i))
            vector = builder.bitcast(vector, ir.VectorType(model.get_data_type(), many))
            parts = [builder.extract_element(vector, ir.Constant(_LLVM["r"], i)) for i in range(many)]
            return context.make_tuple(builder, signature.return_type, [model.from_data(builder, part) for part in parts])

        return types.UniTuple(kind, many)(pointer, types.int64), codegen
