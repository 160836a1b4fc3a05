"""What a fork has to see to: that locks are free in the child, and that it knows which threads it does not have.

Registered when the package is imported, as what a child inherits may be somebody else's: Numba's threads are everybody's.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import nullcontext

import numba
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

__all__ = ["forked"]

_forked = False
# A fork waits for who compiles in another thread: nobody would ever release these in the child.
_COMPILING = (global_compiler_lock, getattr(ffi.lib, "_lock", nullcontext()))


def forked() -> bool:
    """Whether this process was forked from one in which Numba had started its threads, for whose function ever."""
    return _forked


def _before_fork() -> None:
    for lock in _COMPILING:
        lock.__enter__()


def _after_fork() -> None:
    for lock in reversed(_COMPILING):
        lock.__exit__(None, None, None)


def _in_child() -> None:
    global _forked
    _after_fork()
    _forked = _forked or _threads_started()


def _threads_started() -> bool:
    """Whether Numba has launched its threads, or another library may have those of GNU OpenMP."""
    try:
        numba.threading_layer()
    except ValueError:
        return _loaded("libgomp.so.1")
    return True


def _loaded(library: str) -> bool:
    try:
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
