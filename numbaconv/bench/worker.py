"""A library in a process of its own, which answers requests one after the other."""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from numbaconv.bench.case import Case, Failure, Prepared, UnableError
from numbaconv.bench.libraries import prepare, version
from numbaconv.bench.roofs import Roofs, measure_roofs

__all__ = ["Block", "MeasureRoofs", "Version", "Worker", "interrupts_ignored"]

PATIENCE = 600.0  # seconds that an answer may take
SHORT = 50e-6  # seconds below which calls are timed several at a time
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Block:
    """Call what was prepared for so many seconds: the median seconds of a call."""

    seconds: float


@dataclass(frozen=True)
class MeasureRoofs:
    """Measure what the machine can do at most."""

    threads: int
    dtype: str
    seconds: float


@dataclass(frozen=True)
class Version:
    """Say the library's version."""


class Worker:
    """The process of a library. One that has ended is started anew for the next layer.

    Parameters
    ----------
    name
        The library's, as in ``libraries.LIBRARIES``.
    threads
        Of the process, as far as its environment decides.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._threads = threads
        self._process: Any = None
        self._connection: Any = None

    def ask(self, request: Any, patience: float = PATIENCE) -> Any:
        """Return the answer to a request, or the failure."""
        if self._process is None:
            if isinstance(request, Block):
                return Failure("its process has ended")
            self._start()
        try:
            self._connection.send(request)
            if self._connection.poll(patience):
                return self._connection.recv()
        except (EOFError, OSError):
            process = self._process
            process.join(5)
            self.close()
            return Failure(f"its process ended (exit code {process.exitcode})")
        self.close()
        return Failure(f"no answer within {patience:g} s")

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._connection.close()
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, self.name), daemon=True)
        with _environment(dict.fromkeys(VARIABLES, str(self._threads))), interrupts_ignored():
            self._process.start()
        other.close()  # so that the end of the process is the end of the pipe


def serve(connection: Any, name: str) -> None:
    """Answer requests until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    served = _Served(name)
    while True:
        try:
            request = connection.recv()
        except EOFError:
            return
        try:
            answer = served.answer(request)
        except Exception as error:
            said = " ".join(str(error).split())[:300]
            answer = Failure(said if isinstance(error, UnableError) else f"{type(error).__name__}: {said}")
        connection.send(answer)


class _Served:
    """What a process knows between requests: the layer that it has prepared."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._prepared: Prepared | None = None
        self._repeats = 1

    def answer(self, request: Case | Block | MeasureRoofs | Version) -> Any:
        if isinstance(request, Version):
            return version(self._name)
        if isinstance(request, MeasureRoofs):
            return _roofs(request)
        if isinstance(request, Block):
            assert self._prepared is not None, "no layer is prepared"
            return median_of_calls(self._prepared.call, request.seconds, self._repeats)
        self._prepared = None  # before the next takes memory
        self._prepared = prepare(self._name, request)
        result = self._prepared.result()
        self._repeats = max(1, int(SHORT / median_of_calls(self._prepared.call, 5e-3, 1)))
        return result, self._prepared.note


def _roofs(request: MeasureRoofs) -> Roofs:
    return measure_roofs(request.threads, request.dtype, request.seconds)


def median_of_calls(call: Callable[[], Any], seconds: float, repeats: int) -> float:
    """Return the median seconds of a call over a block, the first call aside, which finds cold caches."""
    call()
    times: list[float] = []
    begin = stop = time.perf_counter()
    while not times or stop - begin < seconds:
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        stop = time.perf_counter()
        times.append((stop - start) / repeats)
    return statistics.median(times)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Have processes started in the block, and nothing else, find these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C in the block, and in processes that are started there, for good: one process is to answer it, not all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
