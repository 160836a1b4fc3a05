"""A program made ready to run: a function of the block for each operation."""

from collections.abc import Callable
from typing import Any

import numpy as np

from emulator.arithmetic import meaning
from emulator.block import EVERYBODY, WORDS, Block
from emulator.parser import Address, Constant, Operation, Program

SPECIAL: dict[str, Callable] = {}  # instructions that are more than arithmetic: what makes the function of an operation
ENDS = {"bra", "bar", "barrier", "ret"}


def special(make: Callable) -> Callable:
    """Decorate what makes the function for an instruction of its name."""
    SPECIAL[make.__name__.rstrip("_")] = make
    return make


class Code:
    """A kernel's name, where labels and names lead to, and its steps."""

    def __init__(self, program: Program, name: str) -> None:
        self.name = name
        self.names = {name: i for i, name in enumerate(program.registers)}
        self.widths = list(program.registers.values())
        self.parameters = {name: i for i, name in enumerate(program.parameters)}
        self.places, self.fixed = {}, 0
        for name, align, size in sorted(program.shared, key=lambda one: one[2] is None):
            self.fixed = -(-self.fixed // align) * align
            self.places[name] = self.fixed
            self.fixed += size or 0
        self.labels, self.cluster = program.labels, program.cluster
        self.ends = set(program.labels.values())
        self.steps = [self._step(number, one) for number, one in enumerate(program.operations)]
        self.steps.append((None, leave, "the end"))
        self.ends.add(len(self.steps))

    def _step(self, number: int, operation: Operation) -> tuple:
        guard = None
        if operation.guard is not None:
            name, positive = operation.guard
            read = self.reader(name, np.bool_)
            guard = read if positive else (lambda b: ~read(b))
        if operation.parts[0] in ENDS:
            self.ends.add(number + 1)
        return guard, self._compiled(operation), operation.text

    def _compiled(self, operation: Operation) -> Callable[[Block], None]:
        name = operation.parts[0]
        if name in SPECIAL:
            return SPECIAL[name](self, operation)
        what = meaning(operation)
        target, *sources = operation.operands
        read = [self.reader(one, kind) for one, kind in zip(sources, what.operands, strict=True)]
        write = self.writer(target)
        compute, result = what.compute, what.result
        return lambda b: write(b, _as(compute(*(one(b) for one in read)), result))

    # ------------------------------------------------------------ operands

    def reader(self, operand: Any, kind: type) -> Callable[[Block], np.ndarray]:
        """Return what reads an operand as a dtype."""
        if isinstance(operand, int):
            word = operand & (1 << 8 * np.dtype(kind).itemsize) - 1
            operand = Constant(word)
        if isinstance(operand, Constant):
            value = np.array([operand.bits], f"u{np.dtype(kind).itemsize}").view(kind)
            return lambda b: value
        if operand in self.names:
            i, width = self.names[operand], self.widths[self.names[operand]]
            size = np.dtype(kind).itemsize
            if width == 1 or 8 * size == width:
                return lambda b: b.registers[i].view(kind)
            assert 8 * size < width, f"{operand} of {width} bits as {kind}"
            return lambda b: b.registers[i].astype(f"u{size}").view(kind)
        if operand in self.places:
            value = np.array([self.places[operand]]).astype(kind)
            return lambda b: value
        assert operand.startswith("%") or operand == "WARP_SZ", operand
        return lambda b: np.broadcast_to(np.asarray(b.special[operand]), b.count).astype(kind)

    def writer(self, operand: str) -> Callable[[Block, np.ndarray], None]:
        """Return what writes an operand; narrower numbers are extended by their sign or by zeros."""
        i = self.names[operand]
        width = self.widths[i]
        word = WORDS[width]

        def write(b: Block, values: np.ndarray) -> None:
            if width > 1:
                if 8 * values.itemsize != width:
                    assert 8 * values.itemsize < width
                    values = values.astype(f"{'i' if values.dtype.kind == 'i' else 'u'}{width // 8}")
                values = values.view(word)
            if b.mask is None:
                b.registers[i][:] = values
            else:
                np.copyto(b.registers[i], values, where=b.mask)

        return write

    def address(self, operand: Address) -> Callable[[Block], np.ndarray]:
        """Return what reads the addresses of the threads that go on."""
        known = operand.base in self.places
        base = self.reader(operand.base, np.int64 if known else WORDS[self.widths[self.names[operand.base]]])

        def read(b: Block) -> np.ndarray:
            found = np.broadcast_to(base(b), b.count).astype(np.int64) + operand.offset
            return found if b.mask is None else found[b.mask]

        return read

    def lanes(self, operand: Any, kind: type) -> Callable[[Block], np.ndarray]:
        """Return what reads an operand of the threads that go on."""
        read = self.reader(operand, kind)

        def chosen(b: Block) -> np.ndarray:
            values = np.broadcast_to(read(b), b.count)
            return values if b.mask is None else values[b.mask]

        return chosen


def leave(b: Block) -> None:
    """End the threads."""
    b.gone[b.active()] = True
    b.open(EVERYBODY, None)


def _as(values: np.ndarray, kind: type) -> np.ndarray:
    """Values that have the dtype already, or truth values."""
    return values if values.dtype == kind else values.astype(kind)
