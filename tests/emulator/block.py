"""A block of threads that runs a program: all threads that are at the same place go on together, the hindmost first."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from emulator import tensor
from emulator.arithmetic import DTYPES, meaning
from emulator.memory import Arena, FaultError, Shared
from emulator.parser import Address, Constant, Operation, Program

WORDS = {1: np.bool_, 16: np.uint16, 32: np.uint32, 64: np.uint64}
MOST_TURNS = 2_000_000
FREE = {"fence", "membar", "griddepcontrol", "prefetch"}


class Block:
    """The threads of a block, their registers and what is on its way to them."""

    def __init__(self, code: "Code", block: tuple, index: tuple, grid: tuple, words: list[int], dynamic: int, arena: Arena) -> None:
        self.code, self.arena, self.words = code, arena, words
        self.count = int(np.prod(block))
        self.threads = np.arange(self.count)
        self.registers = [np.zeros(self.count, WORDS[width]) for width in code.widths]
        self.shared = Shared(code.fixed + dynamic)
        x, y, z = (self.threads % block[0], self.threads // block[0] % block[1], self.threads // (block[0] * block[1]))
        self.special = {"%dynamic_smem_size": dynamic, "%laneid": self.threads % 32}
        for axis, tid, ntid, ctaid, nctaid in zip("xyz", (x, y, z), block, index, grid, strict=True):
            self.special |= {f"%tid.{axis}": tid, f"%ntid.{axis}": ntid, f"%ctaid.{axis}": ctaid, f"%nctaid.{axis}": nctaid}
        self.at = np.zeros(self.count, np.int64)
        self.waiting, self.gone, self.idle = (np.zeros(self.count, bool) for _ in range(3))
        self.groups = np.zeros(self.count, np.int64)  # of asynchronous copies that were committed
        self.copies: list[tuple] = []
        self.mask: np.ndarray | None = None  # of the threads that go on; None: all
        self.barriers: dict[int, Any] = {}

    def run(self) -> None:
        for _ in range(MOST_TURNS):
            able = ~(self.waiting | self.gone)
            if not able.any():
                if self.gone.all():
                    return
                self.waiting[:] = False
                self.shared.epoch += 1
                continue
            if (able & ~self.idle).any():
                able &= ~self.idle
            first = self.at[able].min()
            mask = able & (self.at == first)
            self._go_on(int(first), mask)
        raise FaultError("the block does not end")

    def _go_on(self, first: int, mask: np.ndarray) -> None:
        """Run the threads of a mask up to the next label, branch, barrier or end."""
        self.mask = None if mask.all() else mask
        at = first
        while True:
            guard, run, text = self.code.steps[at]
            at += 1
            self.at[mask] = at
            outer = self.mask
            if guard is not None:
                chosen = guard(self) & mask
                self.mask = None if chosen.all() else chosen
            if guard is None or chosen.any():
                try:
                    run(self)
                except (NotImplementedError, FaultError):
                    raise
                except Exception as error:
                    raise AssertionError(f"while running {text}: {error!r}") from error
            self.mask = outer
            if at in self.code.ends:
                return

    def active(self) -> np.ndarray:
        """The numbers of the threads that go on."""
        return self.threads if self.mask is None else self.threads[self.mask]

    def whole(self, size: int, text: str) -> np.ndarray:
        """The same, (groups, size): of these groups all or none have to be there."""
        found = self.active()
        if len(found) % size or (found.reshape(-1, size) % size != np.arange(size)).any():
            raise FaultError(f"threads of a group of {size} are not together: {text}")
        return found.reshape(-1, size)

    # ------------------------------------------------------------ asynchronous copies

    def finish(self, most: int) -> None:
        """Let those copies of the threads arrive that belong to all but the last groups."""
        rest = []
        mask = np.ones(self.count, bool) if self.mask is None else self.mask
        for entry in self.copies:
            group, threads, to, origin, size, many, text = entry
            done = mask[threads] & (group < self.groups[threads] - most)
            if done.any():
                self._arrive(threads[done], to[done], origin[done], size[done], many, text)
            if not done.all():
                rest.append((*(one[~done] for one in entry[:5]), many, text))
        self.copies = rest

    def _arrive(self, threads: np.ndarray, to: np.ndarray, origin: np.ndarray, size: np.ndarray, many: int, text: str) -> None:
        data = np.zeros((len(threads), many), np.uint8)
        for length in np.unique(size):
            if length:
                lanes = np.flatnonzero(size == length)
                first = self.arena.indices(origin[lanes], 1, text)
                self.arena.indices(origin[lanes] + np.uint64(length - 1), 1, text)
                data[lanes, :length] = self.arena.bytes[first[:, None] + np.arange(length)]
        words = data.view(np.uint32)
        for i in range(many // 4):
            self.shared.write(to + np.uint64(4 * i), words[:, i], threads, text)


class Code:
    """A program made ready to run: a function for each operation."""

    def __init__(self, program: Program) -> None:
        self.names = {name: i for i, name in enumerate(program.registers)}
        self.widths = list(program.registers.values())
        self.parameters = {name: i for i, name in enumerate(program.parameters)}
        self.places, self.fixed = {}, 0
        for name, align, size in sorted(program.shared, key=lambda one: one[2] is None):
            self.fixed = -(-self.fixed // align) * align
            self.places[name] = self.fixed
            self.fixed += size or 0
        self.labels = program.labels
        self.ends = set(program.labels.values())
        self.steps = [self._step(number, one) for number, one in enumerate(program.operations)]
        end = len(self.steps)
        self.steps.append((None, _exit, "the end"))
        self.ends |= {end + 1}

    def _step(self, number: int, operation: Operation) -> tuple:
        guard = None
        if operation.guard is not None:
            name, positive = operation.guard
            read = self.reader(name, np.bool_)
            guard = read if positive else (lambda b: ~read(b))
        name = operation.parts[0]
        if name in ("bra", "bar", "ret", "exit", "barrier"):
            self.ends.add(number + 1)
        return guard, self._compiled(operation), operation.text

    def _compiled(self, operation: Operation) -> Callable[[Block], None]:
        name = operation.parts[0]
        if name in FREE:
            return lambda b: None
        special = getattr(self, f"_{name}", None)
        if special is not None:
            return special(operation)
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
            value = np.array([operand & (1 << 64) - 1 if operand < 0 else operand], np.uint64).astype(f"u{max(1, np.dtype(kind).itemsize)}").view(kind)
            return lambda b: value
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

    def address(self, operand: Address, kind: type = np.uint64) -> Callable[[Block], np.ndarray]:
        """Return what reads the addresses of the threads that go on."""
        width = 64 if operand.base in self.places else self.widths[self.names[operand.base]]
        base = self.reader(operand.base, WORDS[width])
        offset = operand.offset

        def read(b: Block) -> np.ndarray:
            found = np.broadcast_to(base(b), b.count).astype(np.int64) + offset
            return (found if b.mask is None else found[b.mask]).astype(kind)

        return read

    def lanes(self, operand: Any, kind: type) -> Callable[[Block], np.ndarray]:
        """Return what reads an operand of the threads that go on."""
        read = self.reader(operand, kind)

        def chosen(b: Block) -> np.ndarray:
            values = np.broadcast_to(read(b), b.count)
            return values if b.mask is None else values[b.mask]

        return chosen

    # ------------------------------------------------------------ the flow

    def _bra(self, operation: Operation) -> Callable[[Block], None]:
        target = self.labels[operation.operands[-1]]

        def branch(b: Block) -> None:
            b.at[b.active()] = target

        return branch

    def _ret(self, operation: Operation) -> Callable[[Block], None]:
        return _exit

    _exit = _ret

    def _bar(self, operation: Operation) -> Callable[[Block], None]:
        assert operation.parts[:2] == ("bar", "sync")
        assert operation.operands == (0,)

        def wait(b: Block) -> None:
            b.waiting[b.active()] = True

        return wait

    # ------------------------------------------------------------ moves

    def _mov(self, operation: Operation) -> Callable[[Block], None]:
        target, source = operation.operands
        kind = DTYPES[operation.parts[-1]]
        if isinstance(source, tuple):
            part = f"u{np.dtype(kind).itemsize // len(source)}"
            reads, write = [self.reader(one, np.dtype(part).type) for one in source], self.writer(target)

            def pack(b: Block) -> None:
                parts = [np.broadcast_to(read(b), b.count) for read in reads]
                write(b, np.ascontiguousarray(np.stack(parts, 1)).view(kind)[:, 0])

            return pack
        if isinstance(target, tuple):
            part = np.dtype(f"u{np.dtype(kind).itemsize // len(target)}").type
            read, writes = self.reader(source, kind), [self.writer(one) if one != "_" else None for one in target]

            def unpack(b: Block) -> None:
                parts = np.ascontiguousarray(read(b)).view(part).reshape(-1, len(writes))
                for i, write in enumerate(writes):
                    if write is not None:
                        write(b, np.ascontiguousarray(parts[:, i]))

            return unpack
        read, write = self.reader(source, kind), self.writer(target)
        return lambda b: write(b, read(b))

    def _ld(self, operation: Operation) -> Callable[[Block], None]:
        target, source = operation.operands
        kind, text = DTYPES[operation.parts[-1]], operation.text
        if operation.parts[1] == "param":
            number, write = self.parameters[source.base], self.writer(target)
            assert source.offset == 0
            return lambda b: write(b, np.array([b.words[number] & (1 << 64) - 1], np.uint64))
        targets = target if isinstance(target, tuple) else (target,)
        address, writes, size = self.address(source), [self.writer(one) for one in targets], np.dtype(kind).itemsize
        space = operation.parts[1]
        assert space in ("global", "shared"), text

        def load(b: Block) -> None:
            to = address(b)
            if len(targets) > 1 and (to % (size * len(targets))).any():
                raise FaultError(f"a vector is not aligned: {text}")
            for i, write in enumerate(writes):
                at = to + np.uint64(i * size)
                found = b.arena.read(at, kind, text) if space == "global" else b.shared.read(at, kind, b.active(), text)
                if b.mask is None:
                    write(b, found)
                else:
                    values = np.zeros(b.count, kind)
                    values[b.mask] = found
                    write(b, values)

        return load

    def _st(self, operation: Operation) -> Callable[[Block], None]:
        target, source = operation.operands
        kind, text = DTYPES[operation.parts[-1]], operation.text
        sources = source if isinstance(source, tuple) else (source,)
        address, reads, size = self.address(target), [self.lanes(one, kind) for one in sources], np.dtype(kind).itemsize
        space = operation.parts[1]
        assert space in ("global", "shared"), text

        def store(b: Block) -> None:
            to = address(b)
            if len(reads) > 1 and (to % (size * len(reads))).any():
                raise FaultError(f"a vector is not aligned: {text}")
            for i, read in enumerate(reads):
                at = to + np.uint64(i * size)
                if space == "global":
                    b.arena.write(at, read(b), text)
                else:
                    b.shared.write(at, read(b), b.active(), text)

        return store

    def _cp(self, operation: Operation) -> Callable[[Block], None]:
        if "bulk" in operation.parts:
            return self._tile(operation)
        if operation.parts[2] == "commit_group":
            return lambda b: b.groups.__setitem__(b.active(), b.groups[b.active()] + 1)
        if operation.parts[2] == "wait_group":
            return lambda b: b.finish(operation.operands[0])
        target, source, many, *rest = operation.operands
        to, origin, size = self.address(target), self.address(source), self.lanes(rest[0] if rest else many, np.uint32)

        def copy(b: Block) -> None:
            threads, here, there = b.active(), to(b), origin(b)
            if (here % many).any() or (there % many).any():
                raise FaultError(f"a copy is not aligned: {operation.text}")
            b.copies.append((b.groups[threads], threads, here, there, size(b).copy(), many, operation.text))

        return copy

    # ------------------------------------------------------------ warps

    def _ldmatrix(self, operation: Operation) -> Callable[[Block], None]:
        assert operation.parts == ("ldmatrix", "sync", "aligned", "m8n8", "x4", "shared", "b16"), operation.text
        targets, source = operation.operands
        address, writes = self.address(source), [self.writer(one) for one in targets]
        row, word = tensor.LANE // 4, tensor.LANE % 4

        def load(b: Block) -> None:
            warps = b.whole(tensor.WARP, operation.text)
            rows = address(b).reshape(-1, 4, 8)
            if (rows % 16).any():
                raise FaultError(f"a row is not aligned: {operation.text}")
            for i, write in enumerate(writes):
                at = rows[:, i][:, row] + (4 * word).astype(np.uint64)
                values = np.zeros(b.count, np.uint32)
                values[warps.ravel()] = b.shared.read(at.ravel(), np.uint32, warps.ravel(), operation.text)
                write(b, values)

        return load

    def _mma(self, operation: Operation) -> Callable[[Block], None]:
        shape, kind = operation.parts[3], operation.parts[7]
        assert (shape, kind) in (("m16n8k8", "tf32"), ("m16n8k16", "f16"), ("m16n8k16", "bf16")), operation.text
        assert operation.parts == ("mma", "sync", "aligned", shape, "row", "col", "f32", kind, kind, "f32")
        targets, *sources = operation.operands
        reads = [[self.reader(one, dtype) for one in part] for part, dtype in zip(sources, ("u4", "u4", "f4"), strict=True)]
        writes = [self.writer(one) for one in targets]

        def multiply(b: Block) -> None:
            warps = b.whole(tensor.WARP, operation.text)
            a, c, sums = (np.stack([read(b)[warps] for read in part], 1) for part in reads)
            result = tensor.mma(kind, a, c, sums)
            for i, write in enumerate(writes):
                values = np.zeros(b.count, np.float32)
                values[warps] = result[:, i]
                write(b, values)

        return multiply

    def _wgmma(self, operation: Operation) -> Callable[[Block], None]:
        if operation.parts[1] != "mma_async":
            return lambda b: b.whole(tensor.WARPGROUP, operation.text) is None
        _, _, _, _, shape, _, kind, again = operation.parts
        sums, a, c, keep, *flags = operation.operands
        assert kind == again
        assert flags == ([1, 1] if kind == "tf32" else [1, 1, 0, 0]), "no negation, K-major"
        reads, writes = [self.reader(one, np.float32) for one in sums], [self.writer(one) for one in sums]
        left, right, kept = self.reader(a, np.uint64), self.reader(c, np.uint64), self.reader(keep, np.bool_)

        def multiply(b: Block) -> None:
            before = np.stack([read(b) for read in reads])
            for group in b.whole(tensor.WARPGROUP, operation.text):
                assert kept(b)[group].all()
                first, second = (np.broadcast_to(read(b), b.count)[group] for read in (left, right))
                if (first != first[0]).any() or (second != second[0]).any():
                    raise FaultError(f"threads of a warpgroup have several descriptors: {operation.text}")
                before[:, group] = tensor.wgmma(shape, kind, b.shared.bytes, first[0], second[0], before[:, group])
            for values, write in zip(before, writes, strict=True):
                write(b, values)

        return multiply

    # ------------------------------------------------------------ the Tensor Memory Accelerator

    def _mbarrier(self, operation: Operation) -> Callable[[Block], None]:
        from numbaconv.cuda import tma

        if operation.parts[1] == "try_wait":
            target, source, parity = operation.operands
            address, read, write = self.address(source), self.lanes(parity, np.uint32), self.writer(target)

            def ask(b: Block) -> None:
                passed = np.zeros(b.count, bool)
                threads = b.active()
                passed[threads] = [b.barriers[int(at)].passed(int(p)) for at, p in zip(address(b), read(b), strict=True)]
                b.idle[threads] = ~passed[threads]
                if passed.any():
                    b.idle[:] = False
                write(b, passed)

            return ask
        *_, source, count = operation.operands
        address, read = self.address(source), self.lanes(count, np.uint32)

        def change(b: Block) -> None:
            for at, number in zip(address(b), read(b), strict=True):
                if operation.parts[1] == "init":
                    assert at % 8 == 0
                    b.barriers[int(at)] = tma._Barrier()
                else:
                    assert operation.parts[1:3] == ("arrive", "expect_tx"), operation.text
                    assert b.barriers[int(at)].expected is None, "a phase is not over, and the next one begins"
                    b.barriers[int(at)].expected = int(number)
            b.idle[:] = False

        return change

    def _tile(self, operation: Operation) -> Callable[[Block], None]:
        from numbaconv.cuda import tma

        images = "im2col" in operation.parts
        target, origin, barrier, *offsets = operation.operands
        at, maps, told = (self.address(one) for one in (target, origin, barrier))
        places = [self.lanes(one, np.int32) for one in origin.coordinates]
        moved = [self.lanes(one, np.uint16) for one in (offsets[0] if offsets else ())]

        def ask(b: Block) -> None:
            first = b.shared.bytes.ctypes.data
            b.barriers_at = {first + key: value for key, value in b.barriers.items()}
            tma._barriers.update(b.barriers_at)
            column = partial(np.full, 1)
            for i in range(len(b.active())):
                words = b.arena.read(maps(b)[i : i + 1], np.int64, operation.text)
                numbers = [column(one(b)[i], np.int32) for one in places]
                shift = [column(int(one(b)[i])) for one in moved]
                args = [column(first + int(at(b)[i])), column(int(maps(b)[i])), *numbers, column(first + int(told(b)[i])), *shift]
                (tma._load_pixels if images else tma._load_rows)(*args)

        return ask


def _exit(b: Block) -> None:
    b.gone[b.active()] = True


def _as(values: np.ndarray, kind: type) -> np.ndarray:
    """Values that have the dtype already, or truth values."""
    return values if values.dtype == kind else values.astype(kind)
