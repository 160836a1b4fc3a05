"""Blocks of threads that run a program: all threads of one that are at the same place go on together, the hindmost first.

The blocks of a cluster take turns.
"""

from typing import Any, NamedTuple

import numpy as np

from emulator.memory import Arena, FaultError, Shared

WORDS = {1: np.bool_, 16: np.uint16, 32: np.uint32, 64: np.uint64}
MOST_TURNS = 2_000_000
NOWHERE, EVERYBODY, OF_CLUSTER = -1, 0, 16  # a thread waits at no barrier, at the block's first one, at the cluster's
WINDOW = 24  # bits of an address in a block's shared memory; above them the cluster's addresses have a block's rank, and 1 more


class Copies(NamedTuple):
    """Asynchronous copies of several threads: the group of each, where to, where from, how many bytes of how many are copied."""

    groups: np.ndarray
    threads: np.ndarray
    to: np.ndarray
    origin: np.ndarray
    size: np.ndarray
    many: int
    text: str

    def of(self, lanes: np.ndarray) -> "Copies":
        return Copies(*(one[lanes] for one in self[:5]), self.many, self.text)


class Products(NamedTuple):
    """Asynchronous products of a warpgroup: their group, and the words that they read."""

    warpgroup: int
    group: int
    words: np.ndarray


class Block:
    """The threads of a block, their registers and what is on its way to them."""

    def __init__(self, code: Any, shape: tuple, index: tuple, grid: tuple, words: list[int], dynamic: int, arena: Arena) -> None:
        self.code, self.arena, self.words = code, arena, words
        self.count = int(np.prod(shape))
        self.threads = np.arange(self.count)
        self.registers = [np.zeros(self.count, WORDS[width]) for width in code.widths]
        self.shared = Shared(code.fixed + dynamic)
        places = self.threads % shape[0], self.threads // shape[0] % shape[1], self.threads // (shape[0] * shape[1])
        self.special = {"%dynamic_smem_size": dynamic, "%laneid": self.threads % 32}
        for axis, tid, ntid, ctaid, nctaid in zip("xyz", places, shape, index, grid, strict=True):
            self.special |= {f"%tid.{axis}": tid, f"%ntid.{axis}": ntid, f"%ctaid.{axis}": ctaid, f"%nctaid.{axis}": nctaid}
        self.at = np.zeros(self.count, np.int64)
        self.at_barrier = np.full(self.count, NOWHERE)
        self.arrived, self.gone, self.idle = (np.zeros(self.count, bool) for _ in range(3))  # arrived: at the cluster's barrier
        self.cluster = [self]
        self.mask: np.ndarray | None = None  # of the threads that go on; None: all
        self.groups, self.copies = np.zeros(self.count, np.int64), list[Copies]()
        self.product_groups, self.products = np.zeros(self.count // 128, np.int64), list[Products]()
        self.tiles: dict[int, list[slice]] = {}  # words that a barrier waits for
        self.made_ready: dict[int, tuple[int, int]] = {}  # by which thread a barrier was, after how many others

    def turn(self) -> bool:
        """Let some threads go on; return whether there were any that can."""
        able = (self.at_barrier == NOWHERE) & ~self.gone
        if not able.any():
            return False
        if (able & ~self.idle).any():
            able &= ~self.idle
        first = int(self.at[able].min())
        self._go_on(first, able & (self.at == first))
        return True

    def wait_at(self, barrier: int, count: int | None) -> None:
        """Let the threads wait at a barrier until so many do, or all that are left."""
        self.at_barrier[self.active()] = barrier
        self.open(barrier, count)

    def open(self, barrier: int, count: int | None) -> None:
        """Let those go on who wait at a barrier, if all are there."""
        waiting = self.at_barrier == barrier
        if waiting.any() and waiting.sum() == (count or self.count - self.gone.sum()):
            self.at_barrier[waiting] = NOWHERE
            self.shared.pass_barrier(None if count is None else np.flatnonzero(waiting))

    def place(self, address: int, text: str) -> tuple["Block", int]:
        """Which block's shared memory an address of the cluster's lies in, and where."""
        rank = int(address) >> WINDOW
        block = self.cluster[rank - 1] if rank else self
        if block.gone.all():
            raise FaultError(f"the shared memory of a block that has ended: {text}")
        return block, int(address) & (1 << WINDOW) - 1

    def wake(self) -> None:
        """Let all ask again who wait for something to come."""
        for block in self.cluster:
            block.idle[:] = False

    def _go_on(self, at: int, mask: np.ndarray) -> None:
        """Run the threads of a mask up to the next label, branch, barrier or end."""
        everyone = None if mask.all() else mask
        while True:
            guard, run, text = self.code.steps[at]
            at += 1
            self.at[mask] = at
            self.mask = everyone
            if guard is not None:
                chosen = guard(self) & mask
                self.mask = None if chosen.all() else chosen
            if guard is None or chosen.any():
                try:
                    run(self)
                except FaultError:
                    raise
                except Exception as error:
                    raise AssertionError(f"while running {text}: {error!r}") from error
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

    # ------------------------------------------------------------ what is on its way

    def begin(self, copies: Copies) -> None:
        if (copies.to % copies.many).any() or (copies.origin % copies.many).any():
            raise FaultError(f"a copy is not aligned: {copies.text}")
        self.shared.begin_copy(copies.to, copies.many, copies.threads, copies.text)
        self.copies.append(copies)

    def finish(self, most: int) -> None:
        """Let those copies of the threads arrive that belong to all but the last groups."""
        mask = np.ones(self.count, bool) if self.mask is None else self.mask
        before, self.copies = self.copies, []
        for copies in before:
            done = mask[copies.threads] & (copies.groups < self.groups[copies.threads] - most)
            if done.any():
                self._arrive(copies.of(done))
            if not done.all():
                self.copies.append(copies.of(~done))

    def _arrive(self, copies: Copies) -> None:
        data = np.zeros((len(copies.threads), copies.many), np.uint8)
        for length in np.unique(copies.size[copies.size > 0]):
            lanes = np.flatnonzero(copies.size == length)
            first = self.arena.indices(copies.origin[lanes], 1, copies.text)
            self.arena.indices(copies.origin[lanes] + int(length) - 1, 1, copies.text)
            data[lanes, :length] = self.arena.bytes[first[:, None] + np.arange(length)]
        for i, words in enumerate(data.view(np.uint32).T):
            self.shared.coming[(copies.to + 4 * i) // 4] = False
            self.shared.write(copies.to + 4 * i, words, copies.threads, copies.text)

    def settle(self, warpgroup: int, most: int) -> None:
        """Wait for the products of all but the last groups."""
        done = [one for one in self.products if one.warpgroup == warpgroup and one.group < self.product_groups[warpgroup] - most]
        self.products = [one for one in self.products if not any(one is other for other in done)]
        for one in done:
            self.shared.in_use[one.words] -= 1


class Cluster:
    """Blocks that run at the same time and reach each other's shared memory."""

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        for rank, block in enumerate(blocks):
            block.cluster = blocks
            block.special |= {"%cluster_ctarank": rank, "%cluster_nctarank": len(blocks)}

    def run(self) -> None:
        for _ in range(MOST_TURNS):
            went = [block.turn() for block in self.blocks]
            if not any(went) and not self._meet():
                if all(block.gone.all() for block in self.blocks):
                    return
                raise FaultError("threads wait at barriers that others do not come to")
        raise FaultError("the block does not end")

    def _meet(self) -> bool:
        """Open the cluster's barrier, if all who are left are there."""
        waiting = [block.at_barrier == OF_CLUSTER for block in self.blocks]
        there = all((one | block.gone).all() for one, block in zip(waiting, self.blocks, strict=True))
        if not there or not any(one.any() for one in waiting):
            return False
        for one, block in zip(waiting, self.blocks, strict=True):
            block.at_barrier[one], block.arrived[:] = NOWHERE, False
            block.shared.pass_barrier(None)
        return True
