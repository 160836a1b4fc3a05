"""A bound call as a program: what compiled code runs without Python.

A program is words in memory. Its steps are tasks over their frames (:mod:`numbaconv.cpu.frame`): packing weights into scratch
memory, computing from them. What differs from call to call, the addresses of its arrays, is a second block of words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.cpu.frame import ADDRESS, BASES
from numbaconv.cpu.intrinsics import address_of, aligned, keep, word
from numbaconv.cpu.jit import address, inner, kernel
from numbaconv.cpu.threads import FORKED, OMP, STARTS, STATE, Launch, in_parallel, in_series, see_layer, tasks_of

__all__ = ["BIAS", "INPUT", "OPERANDS", "RESIDUAL", "RESULT", "WEIGHT", "Program", "runner"]

NOTHING, INPUT, WEIGHT, RESULT, BIAS, RESIDUAL, SCRATCH, OPERANDS = range(8)  # words of a block of operands, and their number
HEAD = 5  # words of a program before the spans of its operands
STEP = 4 + 2 * BASES  # words of a step: whether its tasks run in parallel, their number, code and frame, and its bases
LINE = 64


@intrinsic
def as_base(typing_context: Any, address: Any) -> Any:
    """An address as tasks are launched with it."""
    return ADDRESS(types.int64), lambda context, builder, signature, args: args[0]


@intrinsic
def put_word(typing_context: Any, address: Any, value: Any) -> Any:
    """Store a 64-bit integer at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[1], builder.inttoptr(args[0], ir.IntType(64).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def on_a_thread_of_python(typing_context: Any) -> Any:
    """Whether Python started the calling thread, or has called it: one of Numba's is in the midst of a parallel loop."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(8).as_pointer(), [])
        function = cgutils.get_or_insert_function(builder.module, kind, "PyGILState_GetThisThreadState")
        return builder.zext(cgutils.is_not_null(builder, builder.call(function, [])), ir.IntType(64))

    return types.int64(), codegen


@intrinsic
def ask(typing_context: Any, function: Any) -> Any:
    """Call the C function ``int (void)`` at an address; 0 where there is none."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number, word = ir.IntType(32), ir.IntType(64)
        answer = cgutils.alloca_once_value(builder, word(0))
        with builder.if_then(builder.icmp_unsigned("!=", args[0], word(0))):
            called = builder.call(builder.inttoptr(args[0], ir.FunctionType(number, []).as_pointer()), [])
            builder.store(builder.sext(called, word), answer)
        return builder.load(answer)

    return types.int64(types.int64), codegen


@inner
def base(block, at):
    """The address that a step names: a word of the block, and bytes from there."""
    return word(block + 8 * word(at)) + word(at + 8)


@inner
def overlaps(spans, block):
    """Whether the result lies in memory that the call reads."""
    low, high = word(block + 8 * RESULT) + word(spans + 16 * RESULT), word(block + 8 * RESULT) + word(spans + 16 * RESULT + 8)
    for number in range(SCRATCH):
        at = word(block + 8 * number)
        if number != RESULT and at != 0 and at + word(spans + 16 * number) < high and low < at + word(spans + 16 * number + 8):
            return True
    return False


@kernel
def run(program, block):
    """Run a program on the operands in a block. Return whether that is left to Python, which alone can do it."""
    steps, state = word(program), word(program + 16)
    spans = program + 8 * HEAD
    first = spans + 16 * SCRATCH
    if word(program + 32) != 0 and overlaps(spans, block):
        return 1
    alone = word(state + 8 * FORKED) != 0 or not on_a_thread_of_python() or ask(word(state + 8 * OMP)) != 0
    if word(program + 24) != 0 and not alone and word(state + 8 * STARTS) == 0:
        return 1
    scratch = aligned(word(program + 8), np.uint8)
    put_word(block + 8 * SCRATCH, address_of(scratch))
    for step in range(steps):
        at = first + 8 * STEP * step
        count, code, frame = word(at + 8), word(at + 16), as_base(word(at + 24))
        bases = at + 32
        a, b, c = as_base(base(block, bases)), as_base(base(block, bases + 16)), as_base(base(block, bases + 32))
        d, e = as_base(base(block, bases + 48)), as_base(base(block, bases + 64))
        if word(at) != 0 and not alone:
            in_parallel(count, code, frame, a, b, c, d, e)
        else:
            in_series(count, code, frame, a, b, c, d, e)
    keep(scratch)
    return 0


@cache
def runner() -> int:
    """Return the address of :func:`run`, a function of two words that returns one and may raise, as Numba calls its own.

    Numba tells LLVM where its threads' functions are when it launches them, and kernels from the cache see to that; but not those
    that were compiled beside a parallel function which came from there. LLVM then links none of their functions.
    """
    numba.get_num_threads()  # launches them
    return address(run, types.int64, types.int64)


class Program:
    """A program that is being written.

    Parameters
    ----------
    given
        Whether the result is an array of the caller's, which may overlap what is read.
    """

    def __init__(self, given: bool) -> None:
        self._given, self._steps, self._scratch = given, list[int](), 0
        self._parallel, self._kept = False, list[object]()

    def scratch(self, array: np.ndarray) -> tuple[int, int]:
        """Set memory aside for an array like this one; return where it is: a word of the block, and bytes from there."""
        place = SCRATCH, self._scratch
        self._scratch += -(-array.nbytes // LINE) * LINE
        return place

    def add(self, launch: Launch, places: Sequence[tuple[int, int]]) -> None:
        """Add what a bound launch runs; its first arguments are at these places."""
        tasks = tasks_of(launch)
        self._parallel |= tasks.parallel
        self._kept.append(launch)
        nowhere = [(NOTHING, 0)] * (BASES - len(places))
        self._steps += tasks.parallel, tasks.number, tasks.code, tasks.frame.ctypes.data, *chain(*places, *nowhere)

    def written(self, operands: Mapping[int, np.ndarray]) -> np.ndarray:
        """Return the words of the program for operands like these, each at its place in the block."""
        see_layer()
        spans = [span(operands[number]) if number in operands else (0, 0) for number in range(SCRATCH)]
        steps = len(self._steps) // STEP
        head = steps, self._scratch, STATE.ctypes.data, self._parallel, self._given
        words = np.array([*head, *chain(*spans), *self._steps], np.int64).view(_Words)
        words.kept = self._kept
        return words


class _Words(np.ndarray):
    """The words of a program."""

    kept: object  # has to live as long


def span(array: np.ndarray) -> tuple[int, int]:
    """The bytes of an array, from that to below that, counted from its first element."""
    if not array.size:
        return 0, 0
    steps = [step * (n - 1) for step, n in zip(array.strides, array.shape, strict=True)]
    return sum(min(0, step) for step in steps), sum(max(0, step) for step in steps) + array.itemsize
