"""Whether a kernel may run on several threads just now, and how it gets them.

Numba's threading layers have two limits of their own. ``workqueue`` aborts the process when two threads enter parallel kernels at
once, so that there they take turns. GNU OpenMP kills a forked child at its first parallel kernel, so that a child runs them
in the forking thread alone; whichever layer it inherited, its threads did not survive the fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numba
from numba import int64, prange, types

from numbaconv.cpu.intrinsics import invoke
from numbaconv.cpu.jit import address, compiled, kernel

__all__ = ["forked", "launcher"]

_turn = threading.Lock()
_free = False  # the layer is known, and takes any number of threads
_used = False
_forked = False


def forked() -> bool:
    """Whether this process was forked from one that had started its threads."""
    return _forked


@kernel(parallel=True)
def in_parallel(count, task, args):
    """All tasks, over the threads."""
    for number in prange(count):
        invoke(task, int64(number), args)


@kernel
def in_series(count, task, args):
    """All tasks, in the calling thread."""
    for number in range(count):
        invoke(task, number, args)


def launcher(task: Callable, signature: tuple, count: int, small: bool) -> Callable:
    """Compile what is wanted now, and return what runs ``task(number, *args)`` for all numbers below `count`.

    What is small runs in the calling thread.
    """
    code = address(task, types.int64, *signature)
    words = types.int64, types.int64, types.Tuple(signature)
    if small or forked():
        alone = compiled(in_series, *words)
        return lambda *args: alone(count, code, args)
    entry = compiled(in_parallel, *words)

    def launch(*args: object) -> None:
        if forked():
            compiled(in_series, *words)(count, code, args)
        else:
            _in_turn(entry, count, code, args)

    return launch


def _in_turn(kernel: Callable, *args: object) -> None:
    """Call a parallel kernel: at once where the layer allows it, else after those of other Python threads."""
    global _free, _used
    if _free:
        kernel(*args)
        return
    with _turn:
        _used = True
        kernel(*args)
        _free = numba.threading_layer() != "workqueue"


def _after_fork() -> None:
    global _turn, _forked
    _turn = threading.Lock()  # its holder may not be in this process
    _forked = _forked or _used


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
