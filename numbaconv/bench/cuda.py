"""On a GPU: numbaconv, and numbaconv again, beside cuDNN through PyTorch, in one process, between CUDA events.

Written for a GPU, and not run on one yet. ``benchmarks/gpu.py`` measures by the same functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import numbaconv as nc
from numbaconv.backend import use_backend
from numbaconv.bench.case import Case, UnableError
from numbaconv.bench.exact import exact, relative_error
from numbaconv.bench.libraries import AGAIN, OURS
from numbaconv.bench.measuring import WRONG
from numbaconv.bench.record import Document, Record
from numbaconv.errors import BackendUnavailableError

__all__ = ["check", "measure_all", "replayed", "said", "turns"]

CUDNN = "cudnn"
DTYPES = ("float16", "bfloat16", "float32", "float64")
FLUSH = 2**28  # bytes that are overwritten before each call: more than an L2 cache


def check() -> None:
    """Raise BackendUnavailableError where numbaconv or PyTorch has no GPU, and ImportError where there is no PyTorch."""
    with use_backend("cuda"):
        pass
    try:
        import torch
    except ImportError:
        raise ImportError("--backend cuda needs a PyTorch with CUDA, which brings cuDNN") from None
    if not torch.cuda.is_available():
        raise BackendUnavailableError("--backend cuda: PyTorch finds no CUDA GPU, and cuDNN is measured through it")


def measure_all(document: Document, cases: Sequence[Case]) -> Iterator[tuple[float, str]]:
    """Fill in a document, and yield how many layers are done, and what is being done."""
    import torch

    document.machine["gpu"] = torch.cuda.get_device_name()
    document.versions.update(torch=torch.__version__, cudnn=str(torch.backends.cudnn.version()))
    torch.backends.cudnn.benchmark = True  # cuDNN chooses by measurement
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    flush = torch.empty(FLUSH, dtype=torch.uint8, device="cuda")
    for number, case in enumerate(cases):
        record = Record(case.layer.word, case.flops, case.bytes)
        document.records.append(record)
        yield number, record.layer
        try:
            _measure(record, case, document.settings["rounds"], flush)
        except Exception as failure:  # of one layer; the others are measured
            record.failures[OURS] = str(failure) if isinstance(failure, UnableError) else said(failure)


def _measure(record: Record, case: Case, rounds: int, flush: Any) -> None:
    import torch

    calls = _calls(case, record)
    expected = exact(case)
    for name, (call, out) in calls.items():
        result = call()
        torch.cuda.synchronize()
        record.errors[name] = relative_error((out if result is None else result).double().cpu().numpy(), expected)
        if not record.errors[name] <= WRONG:
            record.failures[name] = f"its result is wrong: rms error {record.errors[name]:.1e}"
    right = [name for name in calls if name not in record.failures]
    times = turns([replayed(calls[name][0], print) for name in right], flush, rounds)
    record.blocks.update((name, [1e-3 * ms for ms in row]) for name, row in zip(right, times, strict=True))


def _calls(case: Case, record: Record) -> dict[str, tuple[Callable[[], Any], Any]]:
    """By library a call, and what it writes to."""
    import torch

    if case.dtype not in DTYPES:
        raise UnableError(f"cuDNN is measured in {', '.join(DTYPES)}, not in {case.dtype}")
    if case.channels_last and case.ndim == 1:
        raise UnableError("PyTorch has no channels-last order for one spatial axis")
    formats = {2: torch.channels_last, 3: torch.channels_last_3d}
    order = formats[case.ndim] if case.channels_last else torch.contiguous_format
    kind = getattr(torch, case.dtype)
    x, w = (torch.from_numpy(a.astype(np.float64)).to("cuda", kind).contiguous(memory_format=order) for a in case.operands())
    theirs = getattr(torch.nn.functional, f"conv{case.ndim}d")
    options = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation, "groups": case.groups}
    own = {**options, "algorithm": case.algorithm, "backend": "cuda"}
    op = getattr(nc, f"Conv{case.ndim}d")(w, **own)
    record.notes[OURS] = op.explain(x).algorithm
    result = theirs(x, w, **options)

    def ours() -> tuple[Callable[[], Any], Any]:
        out = torch.full_like(result, float("nan"))
        if case.mode == "prepared":
            return lambda: op(x, out=out), out
        return lambda: getattr(nc, f"conv{case.ndim}d")(x, w, **own, out=out), out

    return {CUDNN: (lambda: theirs(x, w, **options), result), OURS: ours(), AGAIN: ours()}


def replayed(call: Callable[[], Any], tell: Callable[[str], Any]) -> Callable[[], Any]:
    """Return the replay of a call, or the call itself where it cannot be captured, and tell why."""
    import torch

    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call()
    except Exception as failure:
        tell(f"    not captured: {said(failure)}")
        torch.cuda.synchronize()
        return call
    return graph.replay


def turns(calls: Sequence[Callable[[], Any]], flush: Any, rounds: int) -> list[list[float]]:
    """Return the milliseconds of calls that take turns, so many rounds, each after the L2 cache was overwritten."""
    import torch

    found: list[list[float]] = [[] for _ in calls]
    for turn in range(rounds):
        order = list(enumerate(calls))
        first = turn % len(order) if order else 0
        for number, call in order[first:] + order[:first]:
            flush.zero_()
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            found[number].append(start.elapsed_time(end))
    return found


def said(failure: Exception) -> str:
    """Return an exception on one line."""
    return f"{type(failure).__name__}: {' '.join(str(failure).split())[:160]}"
