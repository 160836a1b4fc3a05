"""numbaconv beside cuDNN (through PyTorch) on the GPU: first whether every algorithm is right, then layer by layer how fast.

From a checkout, with numba, numba-cuda, numpy, ml_dtypes and a PyTorch with CUDA installed and nothing else::

    python benchmarks/gpu.py [--precision ieee tf32 f16 bf16] [--layout NCHW NHWC] [--layers SUBSTRING]
                             [--algorithm NAME|all|tiles] [--markdown FILE] [--json FILE]

Both libraries take turns, call by call, between CUDA events, with the L2 cache overwritten before each; calls that can be
captured are replays of a CUDA graph, for both. Times are medians, with the quartiles beside them. A ratio is cuDNN's time over
ours: above 1, numbaconv is faster. The floor is the longer of the arithmetic at the GPU's peak and of the operands moved once,
with peaks that are measured first: the largest matrix product in that precision (on tensor cores, but for ieee), and a copy.

With ``--algorithm all`` every algorithm that can take a layer is timed, with ``--algorithm tiles`` those that have tiles, in each
of them; ``--json`` keeps what the cost model predicts beside it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last, so that an installed numbaconv comes first

from benchmarks.gpu_check import asked_for, check, dtype_of, rms, rms_bound, to_torch
from benchmarks.layers import BATCHES, LAYERS
from numbaconv.bench.cuda import replayed, said, turns

ALL = {**LAYERS, **BATCHES}
PRECISIONS = ("ieee", "tf32", "f16", "bf16")
CALLS = 200  # at a time, to tell what one costs the host


class Times(NamedTuple):
    """Milliseconds of a call: the median and the quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{1e3 * self.median:.1f} ({1e3 * self.low:.1f} to {1e3 * self.high:.1f})"


@dataclass
class Row:
    """One algorithm on one layer, in one precision and layout; times in milliseconds, errors relative and rms."""

    layer: str
    precision: str
    layout: str
    algorithm: str
    chosen: bool  # by the cost model
    predicted: float
    ours: Times
    cudnn: Times
    floor: float
    peak: float  # operations a second, relative to those of the largest matrix product
    error: float
    bound: float

    @property
    def ratio(self) -> float:
        return self.cudnn.median / self.ours.median

    def __str__(self) -> str:
        mark = "" if self.error <= self.bound else "  WRONG"
        names = f"{self.precision:4} {self.layout} {self.layer:26} {self.algorithm:13}"
        times = f"{1e3 * self.ours.median:9.1f} us, cuDNN {1e3 * self.cudnn.median:9.1f}, ratio {self.ratio:5.2f}"
        return f"{names} {times}, {self.peak:4.0%} of the peak, error {self.error:.1e}{mark}"


# ---------------------------------------------------------------- what is measured


class Variant(NamedTuple):
    """An algorithm, with the tile that it chooses or another one."""

    algorithm: str
    tile: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return self.algorithm if self.tile is None else f"{self.algorithm} {'x'.join(map(str, self.tile))}"

    @contextmanager
    def only(self) -> Iterator[None]:
        """Let operators that are first called meanwhile have the tile, their products in one part."""
        if self.tile is None:
            yield
            return
        from numbaconv import execute
        from numbaconv.cuda.splitting import Cut

        module = import_module(f"numbaconv.cuda.{self.algorithm}")
        usual = module.cut
        module.cut = lambda spec: Cut(self.tile, 1)
        execute.forget()
        try:
            yield
        finally:
            module.cut = usual
            execute.forget()


def in_tiles() -> Iterator[Variant]:
    """Every tile of every algorithm that has several."""
    for algorithm in ("implicit_gemm", "tensor_gemm", "warpgroup_gemm", "tma_gemm", "halo_gemm"):
        module = import_module(f"numbaconv.cuda.{algorithm}")
        yield from (Variant(algorithm, tile) for tile in module.TILES)


# ---------------------------------------------------------------- how fast


def in_turns(calls: list[Callable[[], Any]], flush: Any, rounds: int) -> list[Times]:
    """Time calls one after the other, so many rounds, each after the L2 cache was overwritten."""
    return times([replay(call) for call in calls], flush, rounds)


def replay(call: Callable[[], Any]) -> Callable[[], Any]:
    """Return the replay of a call, if it can be captured."""
    return replayed(call, partial(print, flush=True))


def times(replays: list[Callable[[], Any]], flush: Any, rounds: int) -> list[Times]:
    """As :func:`in_turns`, for what is captured already."""
    found = turns(replays, flush, rounds)
    return [Times(*(float(q) for q in np.quantile(one, (0.5, 0.25, 0.75)))) for one in found]


def peaks(precision: str, flush: Any) -> tuple[float, float]:
    """Operations and bytes a second: of a matrix product of 8192 x 8192, and of a copy of 1 GiB."""
    import torch

    set_precision(precision)
    a = torch.randn(8192, 8192, device="cuda").to(dtype_of(precision))
    source, target = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))
    products, copies = in_turns([lambda: a @ a, lambda: target.copy_(source)], flush, 10)
    return 2 * 8192**3 / (products.median / 1e3), 2 * 2**30 / (copies.median / 1e3)


def set_precision(precision: str) -> None:
    """Have cuDNN and cuBLAS compute in it, and choose by measurement."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def measure(
    layer: str, precision: str, layout: str, wanted: str, roofs: tuple[float, float], flush: Any, rounds: int
) -> Iterator[Row]:
    """Measure a layer by cuDNN and by our algorithms: the one chosen, one by its name, or all that can."""
    import torch

    import numbaconv as nc
    from numbaconv.cuda import ALGORITHMS

    torch.backends.cudnn.benchmark = False  # for float64
    shape, weight_shape, options = ALL[layer]
    rng = np.random.default_rng(0)
    x, w = (to_torch(rng.standard_normal(s, np.float32), precision) for s in (shape, weight_shape))
    order = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    x, w = x.contiguous(memory_format=order), w.contiguous(memory_format=order)
    exact = torch.nn.functional.conv2d(x[:1].double(), w.double(), **options).cpu().numpy()
    set_precision(precision)
    result = torch.nn.functional.conv2d(x, w, **options)
    precise = {"precision": asked_for(precision), "backend": "cuda"}
    chosen = nc.Conv2d(w, **options, **precise).explain(x).algorithm
    predictions, outs, replays = {}, {}, {}
    every = [Variant(a.name) for a in ALGORITHMS]
    for one in {"auto": [Variant(chosen)], "all": every, "tiles": [*in_tiles()]}.get(wanted, [Variant(wanted)]):
        with one.only():
            op = nc.Conv2d(w, **options, **precise, algorithm=one.algorithm)
            try:
                taken = op.explain(x)
            except ValueError:
                continue
            [predicted] = [row.cost for row in taken.rows if row.algorithm == one.algorithm and row.backend == "cuda"]
            predictions[one], outs[one] = predicted, torch.full_like(result, math.nan)
            replays[one] = replay(partial(op, x, out=outs[one]))
    if not replays:
        return
    theirs = replay(lambda: torch.nn.functional.conv2d(x, w, **options))
    cudnn, *ours = times([theirs, *replays.values()], flush, rounds)
    flops = 2 * result.numel() * math.prod(weight_shape[1:])
    moved = sum(t.numel() * t.element_size() for t in (x, w, result))
    floor = 1e3 * max(flops / roofs[0], moved / roofs[1])
    for mine, (one, predicted) in zip(ours, predictions.items(), strict=True):
        [algorithm] = [a for a in ALGORITHMS if a.name == one.algorithm]
        error = rms(outs[one][:1].double().cpu().numpy() - exact) / rms(exact)
        bound = rms_bound(precision, algorithm, math.prod(weight_shape[1:]))
        peak = flops / (mine.median / 1e3) / roofs[0]
        taken = one == Variant(chosen)
        yield Row(layer, precision, layout, str(one), taken, 1e3 * predicted, mine, cudnn, floor, peak, error, bound)


# ---------------------------------------------------------------- what a call costs the host


def overhead() -> list[str]:
    """Microseconds of the host for one of many calls on a tiny problem: until they are under way, and until they are done."""
    import torch
    from numba import cuda

    import numbaconv as nc

    shape, weight_shape, options = (1, 8, 8, 8), (8, 8, 3, 3), {"padding": 1}
    lines = ["| call | us to begin it | us with its end |", "| --- | --- | --- |"]
    for library, put in (("torch", lambda a: torch.from_numpy(a).cuda()), ("Numba", cuda.to_device)):
        x, w, out = (put(np.ones(s, np.float32)) for s in (shape, weight_shape, shape))
        op = nc.Conv2d(w, **options)
        calls = {
            "prepared operator, out=": lambda op=op, x=x, out=out: op(x, out=out),
            "prepared operator": lambda op=op, x=x: op(x),
            "nc.conv2d": lambda x=x, w=w: nc.conv2d(x, w, **options),
        }
        if library == "torch":
            calls["F.conv2d"] = lambda x=x, w=w: torch.nn.functional.conv2d(x, w, **options)
        for name, call in calls.items():
            for _ in range(20):
                call()
            begun, done = [], []
            for _ in range(9):
                torch.cuda.synchronize()
                start = time.perf_counter()
                for _ in range(CALLS):
                    call()
                begun.append(time.perf_counter() - start)
                torch.cuda.synchronize()
                done.append(time.perf_counter() - start)
            numbers = (f"{1e6 * float(np.median(t)) / CALLS:.1f}" for t in (begun, done))
            lines.append(f"| {library}: {name} | {' | '.join(numbers)} |")
    return lines


# ---------------------------------------------------------------- reports


def tables(rows: list[Row]) -> list[str]:
    """Markdown, a table for each precision and layout."""
    lines = []
    for precision, layout in dict.fromkeys((row.precision, row.layout) for row in rows):
        mine = [row for row in rows if (row.precision, row.layout) == (precision, layout)]
        lines += ["", f"## {precision}, {layout}", "", *table(mine)]
    return [*lines, ""]


def table(rows: list[Row]) -> list[str]:
    """Times and shares: of the floor in the time, and of the peak in operations a second."""
    head = ("layer", "algorithm", "cuDNN, us", "numbaconv, us", "predicted, us", "ratio", "floor", "peak", "rms error")
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for row in rows:
        algorithm = row.algorithm + ("" if row.chosen else " (not chosen)")
        shares = f"{row.floor / row.ours.median:.0%} | {row.peak:.0%}"
        numbers = f"{row.cudnn} | {row.ours} | {1e3 * row.predicted:.1f} | {row.ratio:.2f} | {shares} | {row.error:.1e}"
        lines.append(f"| {row.layer} | {algorithm} | {numbers} |")
    return lines


def summary(rows: list[Row], problems: list[str]) -> list[str]:
    """What to read first: ratios by precision and layout, the worst layers, wrong choices of the cost model, failures."""
    lines = ["", "summary: cuDNN's time over ours, geometric means, and the five least"]
    for precision, layout in dict.fromkeys((row.precision, row.layout) for row in rows):
        mine = [row for row in rows if (row.precision, row.layout) == (precision, layout)]
        best = [min(group, key=lambda row: row.ours.median) for group in by_layer(mine)]
        taken = [row for row in mine if row.chosen] or best
        batches = [row for row in taken if row.layer in BATCHES]
        text = f"{precision:4} {layout}: {geomean(taken):.2f} over {len(taken)} layers"
        if batches:
            text += f", {geomean(batches):.2f} in large batches (up to {max(row.peak for row in batches):.0%} of the peak)"
        if len(mine) > len(best):
            text += f"; {geomean(best):.2f} by the fastest algorithm of each"
        lines.append(text)
        for row in sorted(taken, key=lambda row: row.ratio)[:5]:
            ours = f"{1e3 * row.ours.median:8.1f} us, {row.peak:4.0%} of the peak"
            lines.append(f"    {row.ratio:5.2f}  {row.layer:26} {row.algorithm:13} {ours}")
        fastest = {row.layer: row for row in best}
        slower = [row for row in taken if fastest[row.layer].ours.median < 0.87 * row.ours.median]
        for row in sorted(slower, key=lambda row: fastest[row.layer].ours.median / row.ours.median)[:5]:
            quick = fastest[row.layer]
            share = quick.ours.median / row.ours.median
            lines.append(f"    {row.layer}: {row.algorithm} was chosen, {quick.algorithm} takes {share:.0%} of its time")
    lines.append(f"failures: {len(problems)}")
    return lines + [f"    {problem[:200]}" for problem in problems[:10]]


def geomean(rows: list[Row]) -> float:
    """The geometric mean of the ratios."""
    return math.exp(sum(math.log(row.ratio) for row in rows) / len(rows))


def by_layer(rows: list[Row]) -> list[list[Row]]:
    return [[row for row in rows if row.layer == layer] for layer in dict.fromkeys(row.layer for row in rows)]


def main() -> int:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--layout", nargs="+", choices=("NCHW", "NHWC"), default=["NCHW", "NHWC"])
    parser.add_argument("--layers", default="", metavar="SUBSTRING", help='"batch64", for example')
    parser.add_argument("--algorithm", default="auto", metavar="NAME|all|tiles")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=9, help="begin no other layer after so long")
    parser.add_argument("--no-check", action="store_true")
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    begun = time.monotonic()
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed; it brings cuDNN, which this compares with")
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA GPU")

    import numba

    versions = f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, numba {numba.__version__}"
    device = f"{torch.cuda.get_device_name()}, {versions}"
    print(device, flush=True)
    problems: list[str] = []
    rows: list[Row] = []
    notes: list[str] = []
    for number, precision in enumerate([] if args.no_check else args.precision, 1):
        print(f"{precision}: is it right?", flush=True)
        share = 1 if args.check_only else number / len(args.precision) / 3
        problems += check(precision, begun + share * 60 * args.minutes)
    if not args.check_only:
        measure_all(args, begun + 60 * args.minutes, notes, rows, problems)
    ending = notes + summary(rows, problems)
    if args.markdown:
        args.markdown.write_text("\n".join(["# numbaconv beside cuDNN", "", device, *tables(rows), *ending]) + "\n")
    if args.json:
        found = {"device": device, "rows": [asdict(row) for row in rows], "failures": problems}
        args.json.write_text(json.dumps(found, indent=1))
    print("\n".join(ending))
    return min(len(problems), 1)


def measure_all(args: argparse.Namespace, deadline: float, notes: list[str], rows: list[Row], problems: list[str]) -> None:
    """Measure layer after layer, each in all precisions and layouts, and say how it goes; a failure is noted and passed over."""
    import torch

    roofs: dict[str, tuple[float, float]] = {}
    flush = torch.empty(2**28, dtype=torch.uint8, device="cuda")

    def note(lines: list[str]) -> None:
        notes.extend(lines)
        print("\n".join(lines), flush=True)

    def find_roofs(precision: str) -> None:
        roofs[precision] = peaks(precision, flush)
        note([f"peaks, {precision}: {roofs[precision][0] / 1e12:.0f} TFLOP/s, {roofs[precision][1] / 1e12:.2f} TB/s"])

    def measure_one(layer: str, precision: str, layout: str) -> None:
        for row in measure(layer, precision, layout, args.algorithm, roofs[precision], flush, args.rounds):
            rows.append(row)
            print(f"  {row}", flush=True)
            if not row.error <= row.bound:
                error = f"rms error {row.error:.1e}, at most {row.bound:.1e}"
                problems.append(f"{precision} {layout} {layer} {row.algorithm}: {error}")

    steps: list[tuple[str, Callable[[], None]]] = [("call overhead", lambda: note(["", *overhead()]))]
    steps += [(f"peaks, {precision}", partial(find_roofs, precision)) for precision in args.precision]
    for layer, precision, layout in product((name for name in ALL if args.layers in name), args.precision, args.layout):
        steps.append((f"{precision} {layout} {layer}", partial(measure_one, layer, precision, layout)))
    for title, step in steps:
        if time.monotonic() > deadline:
            problems.append(f"{title} and all after it: no time left")
            return
        try:
            step()
        except Exception as failure:
            problems.append(f"{title}: FAILED, {said(failure)}")
            print(f"  {problems[-1]}", flush=True)
        try:
            torch.cuda.synchronize()
        except Exception as failure:
            problems.append(f"the GPU answers no more since {title}: {said(failure)}")
            return


if __name__ == "__main__":
    sys.exit(main())
