"""Vector code in LLVM's IR, written as Python expressions: what loops in Python alone do not reach.

A function such as ``def double(code, source, target): code.store(code.load(source) * 2, target)`` is run once, on
:class:`Value` operands that stand for machine words and vectors, and what it does to them is the code that
:func:`vector_function` compiles. Arithmetic on values rounds as NumPy's on arrays does, except that a product and a sum may be
fused, so that the same Python function, given arrays, is its own definition and test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from numbaconv.cpu.machine_code import MachineCode, machine_code
from numbaconv.cpu.target import vector_bytes

__all__ = ["Code", "Value", "call", "has_vectors", "lanes", "vector_function"]

WORDS = 8  # what every vector function takes: 64-bit integers, addresses among them
_WORD = ir.IntType(64)
_INDEX = ir.IntType(32)
_ELEMENTS = {
    "float32": ir.FloatType(), "float64": ir.DoubleType(),
    "int32": ir.IntType(32), "int64": _WORD, "uint64": _WORD,
}  # fmt: skip


def has_vectors(dtype: np.dtype) -> bool:
    """Whether vectors can have elements of a dtype."""
    return dtype.name in _ELEMENTS


def lanes(dtype: np.dtype) -> int:
    """How many elements a vector has."""
    return vector_bytes() // dtype.itemsize


def vector_function(emit: Callable, dtype: np.dtype, *key: Any) -> MachineCode:
    """Compile ``emit(code, *words)``.

    The function at the address takes eight words; `emit` takes as many of them as it names. `key` is what the code depends on
    beside the name of `emit` and the dtype: by that it is found in the cache on disk, which keeps functions of this package.
    """
    vector = ir.VectorType(_ELEMENTS[dtype.name], lanes(dtype))
    count = emit.__code__.co_argcount - 1

    def body(builder: ir.IRBuilder) -> None:
        code = Code(builder, vector, dtype)
        emit(code, *(Value(code, word) for word in builder.function.args[:count]))

    ours = emit.__module__.startswith("numbaconv.") and (key or not emit.__closure__)
    name = f"{emit.__module__}.{emit.__qualname__}{(dtype.name, vector_bytes(), *key)}" if ours else None
    return machine_code(name, body, WORDS)


@intrinsic
def call(typing_context: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Call the vector function at `address`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        function = ir.FunctionType(ir.VoidType(), [_WORD] * WORDS).as_pointer()
        builder.call(builder.inttoptr(args[0], function), args[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * (1 + WORDS)), codegen


class Value:
    """A word or a vector in generated code; ``+ - *`` generate more of it."""

    __slots__ = ("code", "ir")

    def __init__(self, code: Code, value: Any) -> None:
        self.code = code
        self.ir = value

    def __add__(self, other: Any) -> Value:
        return self._operate("add", self, self._of_my_kind(other))

    def __sub__(self, other: Any) -> Value:
        return self._operate("sub", self, self._of_my_kind(other))

    def __mul__(self, other: Any) -> Value:
        return self._operate("mul", self, self._of_my_kind(other))

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Value:
        return self._of_my_kind(0) - self

    def _of_my_kind(self, other: Any) -> Value:
        if isinstance(other, Value):
            return other
        kind = self.ir.type
        if isinstance(kind, ir.VectorType):
            return Value(self.code, ir.Constant(kind, [ir.Constant(kind.element, other)] * kind.count))
        return Value(self.code, ir.Constant(kind, other))

    def _operate(self, name: str, left: Value, right: Value) -> Value:
        build = self.code.builder
        if isinstance(left.ir.type, ir.VectorType) and self.code.dtype.kind == "f":
            return Value(self.code, getattr(build, "f" + name)(left.ir, right.ir, flags=("contract",)))
        return Value(self.code, getattr(build, name)(left.ir, right.ir))


class Variable:
    """A vector that changes: LLVM keeps it in a register."""

    def __init__(self, code: Code, start: Value) -> None:
        self._code = code
        self._slot = cgutils.alloca_once_value(code.builder, start.ir)

    @property
    def value(self) -> Value:
        """What it is now."""
        return Value(self._code, self._code.builder.load(self._slot))

    @value.setter
    def value(self, value: Value) -> None:
        self._code.builder.store(value.ir, self._slot)


class Code:
    """The code of one vector function as it grows. Addresses are words, counted in bytes; nothing needs to be aligned.

    Attributes
    ----------
    dtype : numpy.dtype
        Of the elements of vectors.
    lanes : int
        How many a vector has.
    bytes : int
        Of a vector.
    """

    def __init__(self, builder: Any, vector: Any, dtype: np.dtype) -> None:
        self.builder = builder
        self.dtype = dtype
        self.lanes = vector.count
        self.bytes = vector.count * dtype.itemsize
        self._vector = vector

    @property
    def zero(self) -> Value:
        """A vector of zeros."""
        return Value(self, ir.Constant(self._vector, None))

    def load(self, address: Value, mask: Value | None = None) -> Value:
        """A vector from memory; with a mask, lanes outside of it are zero and their memory is not touched."""
        at = self._pointer(address, self._vector)
        if mask is None:
            return Value(self, self.builder.load(at, align=self.dtype.itemsize))
        name = f"llvm.masked.load.{self._suffix}.p0"
        kind = ir.FunctionType(self._vector, [at.type, _INDEX, mask.ir.type, self._vector])
        align = _INDEX(self.dtype.itemsize)
        return Value(self, self._intrinsic(kind, name, at, align, mask.ir, self.zero.ir))

    def store(self, value: Value, address: Value, mask: Value | None = None) -> None:
        """A vector to memory; with a mask, memory outside of it is not touched."""
        at = self._pointer(address, self._vector)
        if mask is None:
            self.builder.store(value.ir, at, align=self.dtype.itemsize)
            return
        name = f"llvm.masked.store.{self._suffix}.p0"
        kind = ir.FunctionType(ir.VoidType(), [self._vector, at.type, _INDEX, mask.ir.type])
        self._intrinsic(kind, name, value.ir, at, _INDEX(self.dtype.itemsize), mask.ir)

    def broadcast(self, address: Value) -> Value:
        """A vector whose lanes are all the element at an address."""
        element = self.builder.load(self._pointer(address, self._vector.element), align=self.dtype.itemsize)
        undefined = ir.Constant(self._vector, ir.Undefined)
        first = Value(self, self.builder.insert_element(undefined, element, _INDEX(0)))
        return self.shuffle(first, first, [0] * self.lanes)

    def load_parts(self, addresses: Sequence[Value]) -> Value:
        """A vector of so many equal parts from memory, the first in the lowest lanes."""
        part = ir.VectorType(self._vector.element, self.lanes // len(addresses))
        parts = [Value(self, self.builder.load(self._pointer(at, part), align=self.dtype.itemsize)) for at in addresses]
        while len(parts) > 1:
            both = range(2 * parts[0].ir.type.count)
            parts = [self.shuffle(a, b, both) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def store_parts(self, value: Value, addresses: Sequence[Value]) -> None:
        """So many equal parts of a vector to memory, the lowest lanes first."""
        count = self.lanes // len(addresses)
        for i, at in enumerate(addresses):
            part = self.shuffle(value, value, range(i * count, (i + 1) * count)) if len(addresses) > 1 else value
            self.builder.store(part.ir, self._pointer(at, part.ir.type), align=self.dtype.itemsize)

    def word(self, address: Value) -> Value:
        """The word at an address."""
        return Value(self, self.builder.load(self._pointer(address, _WORD), align=8))

    def fetch(self, address: Value, writing: bool = False) -> None:
        """Begin to bring the line of memory there to the L1 cache, for it to be read or written."""
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            self.builder.module, ir.FunctionType(ir.VoidType(), [byte, number, number, number]), "llvm.prefetch.p0i8"
        )
        self.builder.call(function, [self.builder.inttoptr(address.ir, byte), *(number(n) for n in (int(writing), 3, 1))])

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """``a * b + c`` of vectors, rounded once.

        64-bit integers whose operands fit in 32 bits were tried with 32 x 32 -> 64 bit products: slower (39 against 53 billion
        operations a second on Zen 4, in one run), for the instructions that tell LLVM so.
        """
        if self.dtype.kind != "f":
            return a * b + c
        kind = ir.FunctionType(self._vector, [self._vector] * 3)
        return Value(self, self._intrinsic(kind, f"llvm.fma.{self._suffix}", a.ir, b.ir, c.ir))

    def shuffle(self, a: Value, b: Value, index: Sequence[int]) -> Value:
        """``concatenate([a, b])[index]``."""
        mask = ir.Constant(ir.VectorType(_INDEX, len(index)), list(index))
        return Value(self, self.builder.shuffle_vector(a.ir, b.ir, mask))

    def mask(self, count: Value) -> Value:
        """The mask of the lanes whose number is less than `count`."""
        return self.window(self.constant(0), count)

    def window(self, first: Value, size: Value) -> Value:
        """The mask of the lanes i for which ``0 <= first + i < size``."""
        kind = ir.VectorType(_WORD, self.lanes)
        numbers = ir.Constant(kind, [_WORD(i) for i in range(self.lanes)])
        position = self.builder.add(self._spread(first), numbers)
        return Value(self, self.builder.icmp_unsigned("<", position, self._spread(size)))

    def _spread(self, word: Value) -> Any:
        kind = ir.VectorType(_WORD, self.lanes)
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, word.ir, _INDEX(0))
        return self.builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INDEX, self.lanes), None))

    def constant(self, value: int) -> Value:
        """A word."""
        return Value(self, _WORD(value))

    def smaller(self, a: Value, b: Value) -> Value:
        """``min(a, b)`` of words."""
        return Value(self, self.builder.select(self.builder.icmp_signed("<", a.ir, b.ir), a.ir, b.ir))

    def larger(self, a: Value, b: Value) -> Value:
        """``max(a, b)`` of words."""
        return Value(self, self.builder.select(self.builder.icmp_signed(">", a.ir, b.ir), a.ir, b.ir))

    def round_up(self, word: Value, multiple: int) -> Value:
        """The next multiple of a power of two."""
        return Value(self, self.builder.and_((word + (multiple - 1)).ir, _WORD(-multiple)))

    def variable(self, start: Value) -> Variable:
        """A vector that changes."""
        return Variable(self, start)

    @contextmanager
    def loop(self, count: Value, step: int = 1) -> Iterator[Value]:
        """``for i in range(0, count, step)``."""
        with cgutils.for_range_slice(self.builder, _WORD(0), count.ir, _WORD(step), _WORD, inc=True) as (i, _):
            yield Value(self, i)

    @contextmanager
    def either(self, left: Value, right: Value) -> Iterator[tuple[Any, Any]]:
        """``if left >= right``: two contexts, for what happens then and else."""
        with self.builder.if_else(self.builder.icmp_signed(">=", left.ir, right.ir)) as branches:
            yield branches

    @property
    def _suffix(self) -> str:
        return f"v{self.lanes}{'f' if self.dtype.kind == 'f' else 'i'}{8 * self.dtype.itemsize}"

    def _pointer(self, address: Value, kind: Any) -> Any:
        return self.builder.inttoptr(address.ir, kind.as_pointer())

    def _intrinsic(self, kind: Any, name: str, *args: Any) -> Any:
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), args)
