"""PTX of sm_90a, for the four warps of a warpgroup together: products of matrices in shared memory, with the sums in registers.

A matrix lies in rows of 128 bytes, of which eight are 1024 bytes from a multiple of that on; the parts, of 16 bytes, of a row are
exchanged by its number (:func:`place`), as the hardware's swizzle of 128 bytes does. Or else one part of all rows lies after the
other, without a swizzle (:func:`descriptor_of_parts`), so that a matrix may begin at any row. As in :mod:`numbaconv.cuda.ptx`
each function says in NumPy what it means, and the simulator runs that. The sums travel as a tuple, from one product to the next.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.cuda import cgutils
from numba.cuda.extending import intrinsic

from numbaconv.cuda.geometry import PART
from numbaconv.cuda.inlined import inlined
from numbaconv.cuda.ptx import _PATIENCE, _bf16, _f16, _meeting_place, _tf32, instruction
from numbaconv.cuda.target import simulated

__all__ = [
    "BYTES_OF_K", "ROW", "M", "commit", "descriptor", "descriptor_of_parts", "fence", "further", "place", "products", "publish",
    "sum_place",
]  # fmt: skip

M = 64  # rows of A
THREADS = 128
ROW, EIGHT_ROWS = 128, 1024
BYTES_OF_K = 32  # of a row that one product takes
READ = {"tf32": _tf32, "f16": _f16, "bf16": _bf16}
SHAPES = {"tf32": ("k8", "p, 1, 1"), "f16": ("k16", "p, 1, 1, 0, 0"), "bf16": ("k16", "p, 1, 1, 0, 0")}

# What was written to shared memory, also by copies that have arrived, is there for products that come after a barrier.
publish = instruction("fence.proxy.async.shared::cta;", "", "", lambda: None, effects=True)
fence = instruction("wgmma.fence.sync.aligned;", "", "", lambda: None, effects=True)
commit = instruction("wgmma.commit_group.sync.aligned;", "", "", lambda: None, effects=True)


def place(row: Any, part: Any) -> Any:
    """How many bytes from a matrix's first a part of a row lies."""
    return row * ROW + (part ^ row & 7) * 16


def sum_place(thread: Any, i: Any) -> tuple[Any, Any]:
    """The row and the column of a thread's i-th sum (PTX ISA, "Register fragments for wgmma.mma_async.m64nNk16")."""
    return thread // 32 * 16 + thread % 32 // 4 + i % 4 // 2 * 8, i // 4 * 8 + thread % 4 * 2 + i % 2


# ---------------------------------------------------------------- descriptors of matrices

# Start in units of 16 bytes; 1, which swizzled matrices ignore; the eight rows' 1024 bytes; the swizzle of 128 bytes.
_SWIZZLED = 1 << 62 | (EIGHT_ROWS >> 4) << 32 | 1 << 16


def _descriptor(address: Any) -> Any:
    return types.uint64((address & 0x3FFFF) >> 4) | types.uint64(_SWIZZLED)


# Without a swizzle: eight rows take 128 bytes, and from a part to the next there are as many bytes as all rows of one take.
_PLAIN = (8 * PART >> 4) << 32


def _descriptor_of_parts(address: Any, plane: Any) -> Any:
    start = types.uint64((address & 0x3FFFF) >> 4)
    return start | types.uint64(types.uint64(plane >> 4) << types.uint64(16)) | types.uint64(_PLAIN)


def _further(matrix: Any, count: Any) -> Any:
    return types.uint64(matrix + types.uint64(count >> 4))


_PLANE = 48  # where the simulator's descriptors have what is between parts, above the address


if simulated():
    descriptor: Any = lambda address: address  # noqa: E731
    descriptor_of_parts: Any = lambda address, plane: int(address) | int(plane) << _PLANE  # noqa: E731
    further: Any = lambda matrix, count: int(matrix) + int(count)  # noqa: E731
else:
    descriptor = inlined(_descriptor)
    descriptor_of_parts = inlined(_descriptor_of_parts)
    further = inlined(_further)


def stored(start: int, rows: int) -> np.ndarray:
    """The words of a matrix that a descriptor says to start there: its rows' next 32 bytes, the swizzle undone."""
    if plane := int(start) >> _PLANE:
        first = int(start) & (1 << _PLANE) - 1
        parts = [np.ctypeslib.as_array((ctypes.c_uint32 * (4 * rows)).from_address(first + part * plane)) for part in range(2)]
        return np.hstack([part.reshape(rows, 4) for part in parts])
    first = int(start) & -EIGHT_ROWS
    memory = np.ctypeslib.as_array((ctypes.c_uint32 * (rows * ROW // 4)).from_address(first))
    row, word = np.mgrid[:rows, : BYTES_OF_K // 4]
    offset = int(start) - first + row * ROW + 4 * word
    return memory[(offset ^ (offset >> 7 & 7) << 4) // 4]


# ---------------------------------------------------------------- products


@cache
def products(kind: str, n: int) -> Any:
    """Return what works on the sums of 64 rows by n columns (a multiple of 8 up to 256), n / 2 a thread, for a kind of numbers.

    ``zeros()``; ``add(sums, a, b)`` adds the products of 32 bytes of the rows of matrices, b's rows being the columns;
    ``settle(sums)`` waits for all of them, as does ``wait_for_all()``; ``wait_for_all_but_1()`` for those before the last commit;
    ``hold(sums)`` lets none be moved across; ``store_rows(sums, address, pitch, thread)`` writes them to shared memory, so many
    bytes between rows, and ``store_columns`` so many between columns.
    """
    return _simulated(kind, n) if simulated() else _compiled(kind, n)


def meaning(kind: str, n: int) -> Callable[[int, tuple, int, int], tuple]:
    """What ``add`` returns to a thread of a warpgroup."""

    def add(thread: int, sums: tuple, a: int, b: int) -> tuple:
        left, right = (READ[kind](stored(start, rows)).reshape(rows, -1).astype("f8") for start, rows in ((a, M), (b, n)))
        row, column = sum_place(thread, np.arange(n // 2))
        return tuple(((left[row] * right[column]).sum(1) + np.array(sums)).astype(np.float32))

    return add


def _meet() -> None:
    """Let a warpgroup's threads wait for each other: products are over for all of them together."""
    thread: Any = threading.current_thread()
    _meeting_place(("warpgroup", thread.thread_id // THREADS), THREADS).wait(_PATIENCE)


def _simulated(kind: str, n: int) -> Any:
    add = meaning(kind, n)

    def store_rows(sums: tuple, address: int, pitch: int, thread: int, row_step: int = 0) -> None:
        for i, value in enumerate(sums):
            row, column = sum_place(thread, i)
            ctypes.c_float.from_address(
                int(address + row * (row_step or pitch) + column * (pitch if row_step else 4))
            ).value = value

    def settle(sums: tuple) -> tuple:
        _meet()
        return sums

    def store_columns(sums: tuple, address: int, pitch: int, thread: int) -> None:
        store_rows(sums, address, pitch, thread, row_step=4)

    return SimpleNamespace(
        zeros=lambda: (np.float32(0),) * (n // 2),
        add=lambda sums, a, b: add(threading.current_thread().thread_id % THREADS, sums, a, b),  # type: ignore[attr-defined]
        settle=settle, hold=lambda sums: sums, wait_for_all_but_1=_meet, wait_for_all=_meet,
        store_rows=store_rows, store_columns=store_columns,
    )  # fmt: skip


def _compiled(kind: str, n: int) -> Any:
    count = n // 2
    sums = types.UniTuple(types.float32, count)
    floats = ir.LiteralStructType([ir.FloatType()] * count)

    def changed(text: str, operands: int) -> Any:
        """An instruction that changes the sums in their registers, and may take two descriptors."""
        constraints = ["=f"] * count + [str(i) for i in range(count)] + ["l"] * operands + ["~{memory}"]
        function = ir.FunctionType(floats, [ir.FloatType()] * count + [ir.IntType(64)] * operands)

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            code = ir.InlineAsm(function, text, ",".join(constraints), side_effect=True)
            result = builder.call(code, cgutils.unpack_tuple(builder, args[0]) + list(args[1:]), attrs=("convergent",))
            return context.make_tuple(builder, sums, [builder.extract_value(result, i) for i in range(count)])

        if operands:
            return intrinsic(lambda typing_context, values, a, b: (sums(sums, types.uint64, types.uint64), codegen))
        return intrinsic(lambda typing_context, values: (sums(sums), codegen))

    def zero(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.make_tuple(builder, sums, [ir.Constant(ir.FloatType(), 0.0)] * count)

    def storing(codegen: Callable) -> Any:
        signature = types.void(sums, types.uint32, types.uint32, types.uint32)
        return intrinsic(lambda typing_context, values, address, pitch, thread: (signature, codegen))

    wait = "wgmma.wait_group.sync.aligned"
    return SimpleNamespace(
        zeros=intrinsic(lambda typing_context: (sums(), zero)), add=changed(_add_text(kind, n), 2), hold=changed("", 0),
        settle=changed(f"{wait} 0;", 0),
        wait_for_all_but_1=instruction(f"{wait} 1;", "", "", lambda: None, effects=True),
        wait_for_all=instruction(f"{wait} 0;", "", "", lambda: None, effects=True),
        store_rows=storing(_store_rows), store_columns=storing(_store_columns),
    )  # fmt: skip


def _add_text(kind: str, n: int) -> str:
    """The product of a shape: its sums are operands 0 to n / 2 - 1, and tied to as many more; then come the descriptors."""
    k, flags = SHAPES[kind]
    registers = ",".join(f"${i}" for i in range(n // 2))
    shape = f"m64n{n}{k}.f32.{kind}.{kind}"
    return (
        f"{{ .reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.{shape} {{{registers}}}, ${n}, ${n + 1}, {flags}; }}"
    )


def _first_place(builder: Any, thread: Any) -> tuple[Any, Any]:
    """The row and the column of a thread's first sum: see :func:`sum_place`."""
    word = ir.IntType(32)
    warp, lane = builder.udiv(thread, word(32)), builder.urem(thread, word(32))
    row = builder.add(builder.mul(warp, word(16)), builder.udiv(lane, word(4)))
    return row, builder.mul(builder.urem(lane, word(4)), word(2))


def _store_rows(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Write a thread's sums in pairs of neighbours."""
    word, pair = ir.IntType(32), ir.VectorType(ir.FloatType(), 2)
    values, (address, pitch, thread) = cgutils.unpack_tuple(builder, args[0]), args[1:]
    row, column = _first_place(builder, thread)
    first = builder.add(address, builder.add(builder.mul(row, pitch), builder.mul(column, word(4))))
    for half in range(2):
        start = builder.add(first, builder.mul(pitch, word(8 * half)))
        for i in range(2 * half, len(values), 4):
            two = builder.insert_element(ir.Constant(pair, ir.Undefined), values[i], word(0))
            two = builder.insert_element(two, values[i + 1], word(1))
            there = builder.inttoptr(builder.add(start, word(8 * (i - 2 * half))), pair.as_pointer(3))
            builder.store(two, there).align = 8
    return context.get_dummy_value()


def _store_columns(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    """Write a thread's sums one by one."""
    word = ir.IntType(32)
    values, (address, pitch, thread) = cgutils.unpack_tuple(builder, args[0]), args[1:]
    row, column = _first_place(builder, thread)
    first = builder.add(address, builder.add(builder.mul(column, pitch), builder.mul(row, word(4))))
    for i, value in enumerate(values):
        down, right = 8 * (i % 4 // 2), i // 4 * 8 + i % 2
        there = builder.add(first, builder.add(builder.mul(pitch, word(right)), word(4 * down)))
        builder.store(value, builder.inttoptr(there, ir.FloatType().as_pointer(3))).align = 4
    return context.get_dummy_value()
