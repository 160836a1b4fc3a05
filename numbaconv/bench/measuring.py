"""The measurement itself: libraries take turns, block by block, on one layer after the other."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from numbaconv.bench.case import Case, Failure
from numbaconv.bench.exact import exact, relative_error
from numbaconv.bench.libraries import LIBRARIES
from numbaconv.bench.record import Record
from numbaconv.bench.worker import Block, Worker

__all__ = ["WRONG", "measure"]

WRONG = 0.03  # relative to the result: above what sums in bfloat16 are off by


def measure(record: Record, case: Case, workers: Sequence[Worker], rounds: int, block: float) -> Iterator[str]:
    """Fill in a record, round by round, so that what is known is in it at any moment, and yield what is being done.

    Parameters
    ----------
    record
        Of the layer, empty.
    case
        The layer, and how.
    workers
        The libraries. Each round begins with another one, so that no library always follows the same.
    rounds
        Blocks of each library.
    block
        Seconds of calls in a turn.
    """
    yield "the result in float64"
    expected = exact(case)
    ready = []
    for worker in workers:
        yield f"preparing {worker.name}"
        if _prepare(record, case, worker, expected):
            ready.append(worker)
    for turn in range(rounds):
        yield f"round {turn + 1} of {rounds}"
        first = turn % max(1, len(ready))
        for worker in ready[first:] + ready[:first]:
            if worker.name not in record.failures:
                _take_turn(record, worker, block)


def _prepare(record: Record, case: Case, worker: Worker, expected: np.ndarray) -> bool:
    """Have a library compute a layer once, and say whether it is to be measured."""
    answer = worker.ask(case)
    if isinstance(answer, Failure):
        record.failures[worker.name] = answer.reason
        return False
    result, note = answer
    record.errors[worker.name] = error = relative_error(result, expected)
    record.notes.update({worker.name: note} if note else {})
    if not error <= WRONG:
        record.failures[worker.name] = f"its result is wrong: rms error {error:.1e}"
    return error <= WRONG


def _take_turn(record: Record, worker: Worker, block: float) -> None:
    answer = worker.ask(Block(block))
    if isinstance(answer, Failure):
        record.failures[worker.name] = answer.reason
        record.blocks.pop(worker.name, None)
    else:
        record.blocks.setdefault(worker.name, []).append(answer)
        time.sleep(LIBRARIES[worker.name].rest)
