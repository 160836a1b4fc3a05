"""Ctrl-C waits while something is compiled.

Raised in the midst of that, KeyboardInterrupt may leave Numba's locks held for ever, or be lost in one of llvmlite's callbacks.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["uninterrupted"]


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Raise KeyboardInterrupt afterwards, where Python would raise it: in the main thread, if the program has no handler."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not _usual:
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _usual)
        if came:
            _usual(*came[0])


_usual = signal.default_int_handler
