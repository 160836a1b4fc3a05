"""Branches, barriers, loads, stores and asynchronous copies."""

from collections.abc import Callable

import numpy as np

from emulator.arithmetic import DTYPES
from emulator.block import OF_CLUSTER, WINDOW, Block, Copies
from emulator.code import Code, leave, special
from emulator.memory import FaultError
from emulator.parser import Operation
from emulator.tiles import load_tile

Step = Callable[[Block], None]
ADDRESS_BITS = 57  # at most, on any GPU


@special
def bra(code: Code, operation: Operation) -> Step:
    target = code.labels[operation.operands[-1]]

    def branch(b: Block) -> None:
        b.at[b.active()] = target

    return branch


@special
def ret(code: Code, operation: Operation) -> Step:
    return leave


@special
def bar(code: Code, operation: Operation) -> Step:
    assert operation.parts[:2] == ("bar", "sync"), operation.text
    number, *count = operation.operands
    assert 0 <= number < OF_CLUSTER, operation.text
    return lambda b: b.wait_at(number, *(count or [None]))


@special
def barrier(code: Code, operation: Operation) -> Step:
    """The cluster's: arriving and waiting for all are two instructions."""
    ways = ("arrive", "release"), ("arrive", "relaxed"), ("wait", "acquire")
    assert operation.parts[1] == "cluster", operation.text
    assert operation.parts[2:] in ways, operation.text

    def arrive(b: Block) -> None:
        b.arrived[b.active()] = True

    def wait(b: Block) -> None:
        if not b.arrived[b.active()].all():
            raise FaultError(f"threads wait that have not arrived: {operation.text}")
        b.at_barrier[b.active()] = OF_CLUSTER

    return arrive if operation.parts[2] == "arrive" else wait


@special
def mapa(code: Code, operation: Operation) -> Step:
    """The cluster's address of what lies in another block's shared memory where an address lies in this one's."""
    assert operation.parts[1:] == ("shared::cluster", "u32"), operation.text
    target, source, rank = operation.operands
    address, of, write = code.reader(source, np.uint32), code.reader(rank, np.uint32), code.writer(target)

    def translate(b: Block) -> None:
        ranks = np.broadcast_to(of(b), b.count)
        if (ranks[b.active()] >= len(b.cluster)).any():
            raise FaultError(f"there is no such block in the cluster: {operation.text}")
        write(b, ((ranks + np.uint32(1)) << np.uint32(WINDOW)) | address(b))

    return translate


@special
def membar(code: Code, operation: Operation) -> Step:
    return lambda b: None


@special
def fence(code: Code, operation: Operation) -> Step:
    if operation.parts[1:] == ("proxy", "async", "shared::cta"):
        return lambda b: b.shared.publish(b.active())
    return lambda b: None


# ---------------------------------------------------------------- moves


@special
def mov(code: Code, operation: Operation) -> Step:
    target, source = operation.operands
    kind = DTYPES[operation.parts[-1]]
    if isinstance(source, tuple):
        return _pack(code, target, source, kind)
    if isinstance(target, tuple):
        return _unpack(code, target, source, kind)
    read, write = code.reader(source, kind), code.writer(target)
    return lambda b: write(b, read(b))


def _pack(code: Code, target: str, sources: tuple, kind: type) -> Step:
    part = np.dtype(f"u{np.dtype(kind).itemsize // len(sources)}").type
    reads, write = [code.reader(one, part) for one in sources], code.writer(target)

    def pack(b: Block) -> None:
        parts = [np.broadcast_to(read(b), b.count) for read in reads]
        write(b, np.stack(parts, 1).view(kind)[:, 0])

    return pack


def _unpack(code: Code, targets: tuple, source: str, kind: type) -> Step:
    part = np.dtype(f"u{np.dtype(kind).itemsize // len(targets)}").type
    read, writes = code.reader(source, kind), [None if one == "_" else code.writer(one) for one in targets]

    def unpack(b: Block) -> None:
        parts = np.ascontiguousarray(read(b)).view(part).reshape(-1, len(writes)).T.copy()
        for values, write in zip(parts, writes, strict=True):
            if write is not None:
                write(b, values)

    return unpack


def _vector(code: Code, operand: object, address: object, operation: Operation) -> tuple:
    """The parts of a vector, what reads the addresses of the first, the dtype, and whether it is in global memory."""
    parts = operand if isinstance(operand, tuple) else (operand,)
    kind, read = DTYPES[operation.parts[-1]], code.address(address)
    size = len(parts) * np.dtype(kind).itemsize
    assert operation.parts[1] in ("global", "shared"), operation.text

    def aligned(b: Block) -> np.ndarray:
        found = read(b)
        if (found % size).any():
            raise FaultError(f"a vector is not aligned: {operation.text}")
        return found

    return parts, aligned, kind, operation.parts[1] == "global"


@special
def ld(code: Code, operation: Operation) -> Step:
    target, source = operation.operands
    if operation.parts[1] == "param":
        number, put = code.parameters[source.base], code.writer(target)
        kind = np.dtype({"u": "u", "s": "i", "b": "u"}[operation.parts[2][0]] + str(int(operation.parts[2][1:]) // 8))
        first = source.offset // kind.itemsize
        return lambda b: put(b, np.array([b.words[number]], np.int64).view(kind)[first : first + 1])  # or a part of the word
    parts, address, kind, in_global = _vector(code, target, source, operation)
    writes, size = [code.writer(one) for one in parts], np.dtype(kind).itemsize

    def load(b: Block) -> None:
        first, values = address(b), np.zeros(b.count, kind)
        for i, write in enumerate(writes):
            at = first + i * size
            found = b.arena.read(at, kind, operation.text) if in_global else b.shared.read(at, kind, b.active(), operation.text)
            values[b.active()] = found
            write(b, values)

    return load


@special
def st(code: Code, operation: Operation) -> Step:
    target, source = operation.operands
    parts, address, kind, in_global = _vector(code, source, target, operation)
    reads, size = [code.lanes(one, kind) for one in parts], np.dtype(kind).itemsize

    def store(b: Block) -> None:
        first = address(b)
        for i, read in enumerate(reads):
            at = first + i * size
            if in_global:
                b.arena.write(at, read(b), operation.text)
            else:
                b.shared.write(at, read(b), b.active(), operation.text)

    return store


# ---------------------------------------------------------------- asynchronous copies


@special
def cp(code: Code, operation: Operation) -> Step:
    assert operation.parts[:2] == ("cp", "async"), operation.text
    if "bulk" in operation.parts:
        return load_tile(code, operation)
    if operation.parts[2] == "commit_group":
        return _commit
    if operation.parts[2] == "wait_group":
        return lambda b: b.finish(operation.operands[0])
    target, source, many, *rest = operation.operands
    to, origin, size = code.address(target), code.address(source), code.lanes(rest[0] if rest else many, np.uint32)

    def copy(b: Block) -> None:
        threads, first = b.active(), origin(b)
        if (first >> ADDRESS_BITS).any():
            raise FaultError(f"what is no address, even if nothing is copied: {operation.text}")
        b.begin(Copies(b.groups[threads], threads, to(b), first, size(b).copy(), many, operation.text))

    return copy


def _commit(b: Block) -> None:
    b.groups[b.active()] += 1
