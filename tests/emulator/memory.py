"""Global memory, which knows what was allocated, and the shared memory of a block, which knows who touched it last."""

import numpy as np

POISON = 0xFF  # what nobody has written: NaN as floating point
GAP = 512  # bytes that belong to nobody between arrays
EVERYONE = -2


class FaultError(Exception):
    """An access that a GPU, or a checker of its memory, would not let pass."""


class Arena:
    """Global memory: arrays live in it, and an address is that of this process."""

    def __init__(self, size: int) -> None:
        self.bytes = np.full(size + 4096, POISON, np.uint8)
        self.first = -self.bytes.ctypes.data % 4096
        self.base = self.bytes.ctypes.data + self.first
        self.bytes = self.bytes[self.first : self.first + size]
        self.allocated = np.zeros(size, bool)
        self.used = GAP

    def empty(self, shape, dtype) -> np.ndarray:
        """Allocate an array, on a multiple of 256 bytes."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        start = -(-self.used // 256) * 256
        self.used = start + size + GAP
        if self.used > len(self.bytes):
            raise MemoryError("the arena is full")
        self.allocated[start : start + size] = True
        return self.bytes[start : start + size].view(dtype).reshape(shape)

    def free_all(self) -> None:
        self.allocated[:], self.bytes[:], self.used = False, POISON, GAP

    def indices(self, addresses: np.ndarray, size: int, text: str) -> np.ndarray:
        """Where so many bytes at each address lie; they have to be allocated, and aligned."""
        offsets = addresses.astype(np.uint64).astype(np.int64) - self.base
        within = (offsets >= 0) & (offsets + size <= len(self.bytes))
        good = within & (offsets % size == 0)
        good[good] = self.allocated[offsets[good]] & self.allocated[offsets[good] + size - 1]
        if not good.all():
            raise FaultError(f"global memory at {offsets[~good][:4]} (from the arena's beginning), {size} bytes: {text}")
        return offsets

    def read(self, addresses: np.ndarray, dtype: type, text: str) -> np.ndarray:
        return self.bytes.view(dtype)[self.indices(addresses, np.dtype(dtype).itemsize, text) // np.dtype(dtype).itemsize]

    def write(self, addresses: np.ndarray, values: np.ndarray, text: str) -> None:
        self.bytes.view(values.dtype)[self.indices(addresses, values.itemsize, text) // values.itemsize] = values


class Shared:
    """A block's shared memory. Between two barriers a word may be read by all, or be written, and then read, by one thread."""

    def __init__(self, size: int) -> None:
        size = -(-size // 16) * 16
        store = np.full(size + 1024, POISON, np.uint8)
        self.bytes = store[-store.ctypes.data % 1024 :][:size]
        self.writer, self.written = np.full(size // 4, -1), np.full(size // 4, -1)
        self.reader, self.looked_at = np.full(size // 4, -1), np.full(size // 4, -1)
        self.epoch = 0

    def _offsets(self, addresses: np.ndarray, size: int, text: str) -> np.ndarray:
        offsets = addresses.astype(np.int64)
        good = (offsets >= 0) & (offsets + size <= len(self.bytes)) & (offsets % size == 0)
        if not good.all():
            raise FaultError(f"shared memory at {offsets[~good][:4]} of {len(self.bytes)}, {size} bytes: {text}")
        return offsets

    def read(self, addresses: np.ndarray, dtype: type, threads: np.ndarray, text: str) -> np.ndarray:
        size = np.dtype(dtype).itemsize
        offsets = self._offsets(addresses, size, text)
        for word in range(0, size, 4):
            self._note_read((offsets + word) // 4, threads, text)
        return self.bytes.view(dtype)[offsets // size]

    def write(self, addresses: np.ndarray, values: np.ndarray, threads: np.ndarray, text: str) -> None:
        offsets = self._offsets(addresses, values.itemsize, text)
        if values.itemsize >= 4:
            for word in range(0, values.itemsize, 4):
                self._note_write((offsets + word) // 4, threads, text)
        self.bytes.view(values.dtype)[offsets // values.itemsize] = values

    def _note_read(self, words: np.ndarray, threads: np.ndarray, text: str) -> None:
        if ((self.written[words] == self.epoch) & (self.writer[words] != threads)).any():
            raise FaultError(f"a race: a word is read that another thread has written since the last barrier: {text}")
        known = self.looked_at[words] == self.epoch
        shared = known & (self.reader[words] != threads)
        self.looked_at[words], self.reader[words] = self.epoch, threads
        shared |= self.reader[words] != threads
        self.reader[words[shared]] = EVERYONE

    def _note_write(self, words: np.ndarray, threads: np.ndarray, text: str) -> None:
        if ((self.written[words] == self.epoch) & (self.writer[words] != threads)).any():
            raise FaultError(f"a race: a word is written that another thread has written since the last barrier: {text}")
        if ((self.looked_at[words] == self.epoch) & (self.reader[words] != threads)).any():
            raise FaultError(f"a race: a word is written that another thread has read since the last barrier: {text}")
        self.written[words], self.writer[words] = self.epoch, threads
        if (self.writer[words] != threads).any():
            raise FaultError(f"a race: threads write one word at a time: {text}")
