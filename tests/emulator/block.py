"""A block of threads that runs a program: all threads that are at the same place go on together, the hindmost first."""

from typing import Any, NamedTuple

import numpy as np

from emulator.memory import Arena, FaultError, Shared

WORDS = {1: np.bool_, 16: np.uint16, 32: np.uint32, 64: np.uint64}
MOST_TURNS = 2_000_000


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
        self.waiting, self.gone, self.idle = (np.zeros(self.count, bool) for _ in range(3))
        self.mask: np.ndarray | None = None  # of the threads that go on; None: all
        self.groups, self.copies = np.zeros(self.count, np.int64), list[Copies]()
        self.product_groups, self.products = np.zeros(self.count // 128, np.int64), list[Products]()
        self.tiles: dict[int, list[slice]] = {}  # words that a barrier waits for
        self.made_ready: dict[int, tuple[int, int]] = {}  # by which thread a barrier was, after how many others

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
            first = int(self.at[able].min())
            self._go_on(first, able & (self.at == first))
        raise FaultError("the block does not end")

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
