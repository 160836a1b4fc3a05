"""Global memory, which knows what was allocated, and a block's shared memory, which knows who touched it last."""

import numpy as np

POISON = 0xFF  # what nobody has written: NaN as floating point
GAP = 512  # bytes that belong to nobody between arrays
EVERYONE = -2


class FaultError(Exception):
    """An access that a GPU, or a checker of its memory, would not let pass."""


class Arena:
    """Global memory: arrays live in it, and an address is that of this process."""

    def __init__(self, size: int) -> None:
        store = np.full(size + 4096, POISON, np.uint8)
        self.bytes = store[-store.ctypes.data % 4096 :][:size]
        self.base = self.bytes.ctypes.data
        self.allocated = np.zeros(size, bool)
        self.used = GAP

    def empty(self, shape, dtype) -> np.ndarray:
        """Allocate an array, on a multiple of 256 bytes."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        start = -(-self.used // 256) * 256
        if start + size + GAP > len(self.bytes):
            raise MemoryError(f"{shape} of {dtype}: the arena has no room")
        self.used = start + size + GAP
        self.allocated[start : start + size] = True
        return self.bytes[start : start + size].view(dtype).reshape(shape)

    def free_all(self) -> None:
        self.allocated[: self.used], self.bytes[: self.used], self.used = False, POISON, GAP

    def indices(self, addresses: np.ndarray, size: int, text: str) -> np.ndarray:
        """Where so many bytes at each address lie; they have to be allocated, and aligned."""
        offsets = addresses.astype(np.int64) - self.base
        good = (offsets >= 0) & (offsets + size <= len(self.bytes)) & (offsets % size == 0)
        good[good] = self.allocated[offsets[good]] & self.allocated[offsets[good] + size - 1]
        if not good.all():
            raise FaultError(f"global memory at {offsets[~good][:4]} (from the arena's beginning), {size} bytes: {text}")
        return offsets

    def read(self, addresses: np.ndarray, dtype: type, text: str) -> np.ndarray:
        size = np.dtype(dtype).itemsize
        return self.bytes.view(dtype)[self.indices(addresses, size, text) // size]

    def write(self, addresses: np.ndarray, values: np.ndarray, text: str) -> None:
        self.bytes.view(values.dtype)[self.indices(addresses, values.itemsize, text) // values.itemsize] = values


class Shared:
    """A block's shared memory, in words of 4 bytes.

    Between two barriers a word may be read by all, or be written, and then read, by one thread. While an asynchronous copy is on
    its way to a word nobody may touch it; while an asynchronous product reads it, nobody may write it. Such a product sees what
    was written after the writer's fence.
    """

    def __init__(self, size: int) -> None:
        size = -(-size // 16) * 16
        store = np.full(size + 1024, POISON, np.uint8)
        self.bytes = store[-store.ctypes.data % 1024 :][:size]
        self.first = self.bytes.ctypes.data
        self.writer, self.written, self.reader, self.looked_at = np.full((4, size // 4), -1)
        self.coming, self.in_use = np.zeros(size // 4, bool), np.zeros(size // 4, int)
        self.unseen = np.zeros(size // 4, bool)  # by the asynchronous proxy
        self.epoch = 0  # barriers that were passed

    def offsets(self, addresses: np.ndarray, size: int, text: str) -> np.ndarray:
        offsets = addresses.astype(np.int64)
        good = (offsets >= 0) & (offsets + size <= len(self.bytes)) & (offsets % size == 0)
        if not good.all():
            raise FaultError(f"shared memory at {offsets[~good][:4]} of {len(self.bytes)}, {size} bytes: {text}")
        return offsets

    def read(self, addresses: np.ndarray, dtype: type, threads: np.ndarray, text: str) -> np.ndarray:
        size = np.dtype(dtype).itemsize
        offsets = self.offsets(addresses, size, text)
        for byte in range(0, size, 4):
            self._note_read((offsets + byte) // 4, threads, text)
        return self.bytes.view(dtype)[offsets // size]

    def write(self, addresses: np.ndarray, values: np.ndarray, threads: np.ndarray, text: str) -> None:
        offsets = self.offsets(addresses, values.itemsize, text)
        for byte in range(0, values.itemsize if values.itemsize >= 4 else 0, 4):  # parts of words are not looked at
            self._note_write((offsets + byte) // 4, threads, text)
        self.bytes.view(values.dtype)[offsets // values.itemsize] = values

    # ------------------------------------------------------------ what is on its way

    def begin_copy(self, addresses: np.ndarray, size: int, threads: np.ndarray, text: str) -> None:
        """Note that so many bytes may arrive at each address from now on."""
        for byte in range(0, size, 4):
            words = (self.offsets(addresses, size, text) + byte) // 4
            self._check_write(words, threads, text)
            self.coming[words] = True

    def begin_tile(self, address: int, size: int, text: str) -> slice:
        """The same of a tile that is not a thread's; return its words."""
        words = slice(address // 4, (address + size) // 4)
        if self.coming[words].any() or self.in_use[words].any() or address + size > len(self.bytes):
            raise FaultError(f"a tile is on its way to shared memory in use: {text}")
        if (self.written[words] == self.epoch).any() or (self.looked_at[words] == self.epoch).any():
            raise FaultError(f"a race: a tile is on its way to what threads touched since the last barrier: {text}")
        if self.unseen[words].any():
            raise FaultError(f"a tile is on its way to what was written without a fence.proxy.async after it: {text}")
        self.coming[words] = True
        return words

    def begin_use(self, words: np.ndarray, text: str) -> None:
        """Note that an asynchronous product reads words."""
        self._check_arrived(words, text)
        if (self.written[words] == self.epoch).any():
            raise FaultError(f"a race: a product reads what has been written since the last barrier: {text}")
        if self.unseen[words].any():
            raise FaultError(f"a product reads what was written without a fence.proxy.async after it: {text}")
        self.in_use[words] += 1

    def pass_barrier(self, threads: np.ndarray | None) -> None:
        """Note that threads of the block, or all, met: what they did is over, but not what others did.

        It is over for these others too, which is more than a GPU says.
        """
        before, self.epoch = self.epoch, self.epoch + 1
        if threads is not None:
            for when, who in ((self.written, self.writer), (self.looked_at, self.reader)):
                when[(when == before) & ~np.isin(who, (*threads, EVERYONE))] = self.epoch

    def publish(self, threads: np.ndarray) -> None:
        """Let asynchronous products see what threads have written."""
        self.unseen &= ~np.isin(self.writer, threads)

    # ------------------------------------------------------------ races

    def _check_arrived(self, words: np.ndarray, text: str) -> None:
        if self.coming[words].any():
            raise FaultError(f"a word is touched that an asynchronous copy is on its way to: {text}")

    def _note_read(self, words: np.ndarray, threads: np.ndarray, text: str) -> None:
        self._check_arrived(words, text)
        if ((self.written[words] == self.epoch) & (self.writer[words] != threads)).any():
            raise FaultError(f"a race: a word is read that another thread has written since the last barrier: {text}")
        by_others = (self.looked_at[words] == self.epoch) & (self.reader[words] != threads)
        self.looked_at[words], self.reader[words] = self.epoch, threads
        by_others |= self.reader[words] != threads  # several threads read one word at a time
        self.reader[words[by_others]] = EVERYONE

    def _check_write(self, words: np.ndarray, threads: np.ndarray, text: str) -> None:
        self._check_arrived(words, text)
        if self.in_use[words].any():
            raise FaultError(f"a word is written that a product still reads: {text}")
        if ((self.written[words] == self.epoch) & (self.writer[words] != threads)).any():
            raise FaultError(f"a race: a word is written that another thread has written since the last barrier: {text}")
        if ((self.looked_at[words] == self.epoch) & (self.reader[words] != threads)).any():
            raise FaultError(f"a race: a word is written that another thread has read since the last barrier: {text}")

    def _note_write(self, words: np.ndarray, threads: np.ndarray, text: str) -> None:
        self._check_write(words, threads, text)
        self.written[words], self.writer[words], self.unseen[words] = self.epoch, threads, True
        if (self.writer[words] != threads).any():
            raise FaultError(f"a race: threads write one word at a time: {text}")
