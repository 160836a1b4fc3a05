"""What compiled calls find without Python: a list of nodes in memory, each behind the words by which it is found."""

from __future__ import annotations

import os
from threading import Lock

import numpy as np

from numbaconv.bound import Memo

__all__ = ["NEXT", "Table"]

LIMIT = 256  # nodes of a table, through which a call looks one by one; calls beyond are Python's
NEXT = 0  # the word of a node that holds the address of the next


_writing, _written = Lock(), Lock()


class Table(Memo[np.ndarray]):
    """Nodes, which compiled calls find without Python: they are never moved, and live as long as the table.

    Attributes
    ----------
    head : numpy.ndarray
        One word: the address of the first node, or 0.
    address : int
        Of a word that holds the address of the head.
    """

    def __init__(self) -> None:
        super().__init__()
        self.head = np.zeros(1, np.int64)
        self._place = np.array([self.head.ctypes.data])
        self.address = self._place.ctypes.data
        self._old: list[np.ndarray] = []

    def remember(self, key: tuple, bound: np.ndarray) -> None:
        """Link a node, unless the list is long."""
        with _writing:
            if len(self._entries) < LIMIT and key not in self._entries:
                bound[NEXT] = self.head[0]
                self._entries[key] = bound
                with _written:  # whose release has all of it in memory before the head
                    pass
                self.head[0] = bound.ctypes.data

    def clear(self) -> None:
        """Have calls ask again: threads may look at the nodes meanwhile."""
        with _writing:
            for key, node in self._entries.items():
                node[len(node) - len(key)] = 0  # where it had the number of its request
            self._old += self._entries.values()
            self._entries.clear()


def _in_child() -> None:
    global _writing, _written
    _writing, _written = Lock(), Lock()  # their holders may not be in this process


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
