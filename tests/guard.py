"""Arrays next to memory that nobody may touch: a byte read or written beyond their end or beginning kills the process."""

import ctypes
import math
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
SLACK = 0x5A  # in every byte between the array and the other end of its memory
_libc = ctypes.CDLL(None, use_errno=True)


class Guarded:
    """An array between two pages without any access: it ends where the second one begins, or begins behind the first.

    Attributes
    ----------
    array : numpy.ndarray
        In C order. The memory lives as long as this object.
    """

    def __init__(self, shape, dtype, at_end=True):
        dtype = np.dtype(dtype)
        nbytes = math.prod(shape) * dtype.itemsize
        size = -(-max(1, nbytes) // PAGE) * PAGE
        self._map = mmap.mmap(-1, size + 2 * PAGE)
        whole = np.frombuffer(self._map, np.uint8)
        for first in (0, PAGE + size):
            address = ctypes.c_void_p(whole.ctypes.data + first)
            if _libc.mprotect(address, ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        self._between = whole[PAGE : PAGE + size]
        self._between[:] = SLACK
        first = size - nbytes if at_end else 0
        self._around = np.ones(size, bool)
        self._around[first : first + nbytes] = False
        self.array = self._between[first : first + nbytes].view(dtype).reshape(shape)

    def is_whole(self):
        """Whether what lies beside the array, on its own pages, is as it was."""
        return bool((self._between[self._around] == SLACK).all())


def guarded(array, at_end=True):
    """A copy of an array next to a page without access."""
    memory = Guarded(array.shape, array.dtype, at_end)
    memory.array[...] = array
    return memory
