"""Whether a kernel may run on several threads just now, and how it gets them.

Numba's threading layers have two limits of their own. ``workqueue`` aborts the process when two threads enter parallel kernels at
once, so that there they take turns, and when one of its own threads does, which runs them alone therefore. GNU OpenMP kills a
forked child at its first parallel kernel, so that a child runs them in the forking thread alone; whichever layer it inherited,
its threads did not survive the fork.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from itertools import zip_longest
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange, types

from numbaconv.cpu.frame import ADDRESS, BASES, Frame, FrameType, spilled
from numbaconv.cpu.intrinsics import attempt, invoke, word
from numbaconv.cpu.jit import address, compiled, kernel
from numbaconv.cpu.target import SETTING, threads
from numbaconv.forks import forked

__all__ = ["FORKED", "OMP", "STARTS", "STATE", "Launch", "Launcher", "Tasks", "in_parallel", "in_series", "see_layer", "tasks_of"]

Launch = Callable[..., None]  # of the bases, an array or None each
_NO_BASES = (None,) * BASES
_WORDS = (types.int64, types.int64, *[ADDRESS] * (1 + BASES))

_turn = threading.Lock()
_free = False  # the layer is known, and takes any number of threads
# What compiled code has to know: whether it may start threads without asking Python, whether this process may start none, and
# where ``omp_in_parallel`` is, or 0.
STATE = np.array([False, forked(), 0], np.int64)
STARTS, FORKED, OMP = range(3)


@kernel(parallel=True)
def in_parallel(count, task, frame, a, b, c, d, e):
    """All tasks, over the threads. Where one finds no memory, those that have not begun are left out."""
    block = spilled(frame, a, b, c, d, e)
    failed = block + 8 * (1 + BASES)
    for number in prange(count):
        attempt(task, (number, block), failed)
    if word(failed):
        raise MemoryError("there is not enough memory for the blocks of the threads")


@kernel
def in_series(count, task, frame, a, b, c, d, e):
    """All tasks, in the calling thread."""
    block = spilled(frame, a, b, c, d, e)
    for number in range(count):
        invoke(task, (number, block))


class Launcher:
    """Runs ``task(number, frame)`` for all numbers below a count.

    Parameters
    ----------
    task
        Compiled now, for a frame of arguments of the types in `signature`.
    count
        Of tasks.
    small
        Whether all of them run in the calling thread.
    """

    def __init__(self, task: Callable, signature: tuple[types.Type, ...], count: int, small: bool) -> None:
        code = address(task, types.int64, FrameType(signature))
        if small or forked():
            self._launch: Launch = partial(compiled(in_series, *_WORDS), count, code)
        else:
            self._launch = partial(_in_turn, compiled(in_parallel, *_WORDS), count, code)

    def __call__(self, args: tuple) -> None:
        """Run the tasks on the arguments of a call."""
        self._launch(Frame.of(args), *_NO_BASES)

    def bind(self, args: tuple, bases: Sequence[np.ndarray | None], *kept: object) -> Launch:
        """Return what runs the tasks on arguments like these, given the arrays that the first of them are views of.

        It keeps the arguments that are no such views, and what else is `kept`, alive.
        """
        frame = Frame.of(args, bases)
        frame.kept = ([arg for arg, base in zip_longest(args, bases) if base is None], kept)
        return partial(self._launch, frame)


class _Caller(threading.local):
    """The calling thread."""

    def __init__(self) -> None:
        """See whether Python started it; if not, it may be one of Numba's, in the midst of a parallel kernel of the user's."""
        self.foreign = threading.get_ident() not in {thread.ident for thread in threading.enumerate()}


_caller = _Caller()


def _in_turn(parallel: Callable, count: int, code: int, *arrays: np.ndarray | None) -> None:
    """Call a parallel kernel: at once where the layer allows it, else after those of other Python threads."""
    if forked():
        compiled(in_series, *_WORDS)(count, code, *arrays)
    elif _free:
        parallel(count, code, *arrays)
    elif _caller.foreign:
        compiled(in_series, *_WORDS)(count, code, *arrays)
    else:
        with _turn:
            parallel(count, code, *arrays)
            see_layer()


def see_layer() -> None:
    """Note what the layer takes, if Numba has launched one. Where its threads are limited, Python starts them."""
    global _free
    try:
        _free = numba.threading_layer() != "workqueue"
    except ValueError:  # there is none yet
        return
    if numba.threading_layer() == "omp":
        library = ctypes.CDLL(import_module("numba.np.ufunc.omppool").__file__)
        STATE[OMP] = ctypes.cast(library.omp_in_parallel, ctypes.c_void_p).value or 0
    STATE[STARTS] = _free and not SETTING


class Tasks(NamedTuple):
    """What a launch runs, for who starts it otherwise."""

    parallel: bool
    number: int
    code: int
    frame: Frame


def tasks_of(launch: Launch) -> Tasks:
    """Take apart what :meth:`Launcher.bind` returned."""
    return Tasks(launch.func is _in_turn, *launch.args[-3:])  # type: ignore[attr-defined]


def _within_limit(start: Launch) -> Launch:
    """Start kernels on no more threads than the environment leaves them. Numba's own setting is what it was afterwards."""

    def limited(*args: Any) -> None:
        before = numba.get_num_threads()
        numba.set_num_threads(min(before, threads()))
        try:
            start(*args)
        finally:
            numba.set_num_threads(before)

    return limited


if SETTING:
    _in_turn = _within_limit(_in_turn)


def _in_child() -> None:
    global _turn
    _turn = threading.Lock()  # its holder may not be in this process
    STATE[FORKED] = forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
