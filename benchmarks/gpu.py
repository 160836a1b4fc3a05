"""numbaconv beside cuDNN (through PyTorch) on the GPU: first whether every algorithm is right, then layer by layer how fast.

From a checkout, with numba, numba-cuda, numpy and a PyTorch with CUDA installed and nothing else::

    python benchmarks/gpu.py [--precision ieee tf32 f16] [--layout NCHW NHWC] [--layers SUBSTRING] [--markdown FILE]

Times are medians of single calls between CUDA events, with the L2 cache overwritten before each; calls that can be captured are
replays of a CUDA graph, for both libraries. The floor is the longer of the arithmetic at the GPU's peak and of the operands moved
once, with peaks that are measured first: the largest matrix product, and a copy.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.layers import LAYERS

GRID = [
    ((2, 16, 56, 57), (32, 16, 3, 3), {"padding": 1}),
    ((2, 64, 14, 14), (70, 64, 1, 1), {}),
    ((1, 3, 112, 113), (24, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((4, 256, 7, 7), (256, 256, 3, 3), {"padding": 1}),
    ((1, 3, 61, 67), (5, 3, 3, 5), {"stride": (2, 3), "dilation": (3, 1), "padding": ((4, 1), (0, 3))}),
    ((2, 24, 31, 33), (24, 1, 5, 5), {"groups": 24, "padding": "same"}),
    ((2, 28, 30, 48), (48, 1, 3, 3), {"groups": 48, "padding": 1, "stride": 2, "layout": "NHWC"}),
    ((2, 24, 56, 56), (24, 1, 7, 7), {"groups": 24, "padding": 3}),
    ((2, 24, 31, 33), (36, 6, 3, 3), {"groups": 4, "stride": 2}),
    ((1, 5, 20, 70), (9, 5, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    ((2, 37, 19, 23), (53, 37, 3, 3), {"padding": 1}),
    ((2, 41, 12, 40), (20, 40, 3, 3), {"layout": "NHWC"}),
]


class Row(NamedTuple):
    """One layer in one precision and layout."""

    layer: str
    algorithm: str
    cudnn: float
    ours: float
    floor: float
    error: float


def check(precision: str) -> int:
    """Compare every algorithm on random problems with float64 on the host; return how many are wrong."""
    import torch

    import numbaconv as nc
    from numbaconv.cuda import ALGORITHMS

    dtype, digits = ("float16", 11) if precision == "f16" else ("float32", 11 if precision == "tf32" else 24)
    rng, wrong = np.random.default_rng(0), 0
    for shape, weight_shape, options in GRID:
        x, w = (rng.standard_normal(s).astype(dtype) for s in (shape, weight_shape))
        exact = nc.conv2d(x.astype("f8"), w.astype("f8"), **options, backend="reference")
        size = np.sqrt(np.mean(exact**2))
        for algorithm in ALGORITHMS:
            asked = {**options, "algorithm": algorithm.name, "precision": "tf32" if precision == "tf32" else "ieee"}
            try:
                y = nc.conv2d(torch.from_numpy(x).cuda(), torch.from_numpy(w).cuda(), **asked).cpu().numpy()
            except ValueError as reason:
                print(f"  {algorithm.name:14} {shape} {weight_shape}: left out, {str(reason)[:90]}")
                continue
            error = np.sqrt(np.mean((y - exact) ** 2)) / size
            bad = not error <= 4 * 2.0**-digits
            wrong += bad
            print(f"  {algorithm.name:14} {shape} {weight_shape} {options}: rms error {error:.1e}{'  WRONG' if bad else ''}")
    return wrong


def median_ms(call: Callable[[], Any], flush: Any, rounds: int = 30) -> float:
    """The median milliseconds of a call, a replay of it where it can be captured."""
    import torch

    for _ in range(3):
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            call()
        call = graph.replay
    except Exception as reason:
        print(f"    not captured: {str(reason).splitlines()[0][:90]}")
        torch.cuda.synchronize()
    times = []
    for _ in range(rounds):
        flush.zero_()
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times))


def peaks(precision: str, flush: Any) -> tuple[float, float]:
    """Operations and bytes a second: of a matrix product of 8192 x 8192, and of a copy of 1 GiB."""
    import torch

    set_precision(precision)
    a = torch.randn(8192, 8192, device="cuda", dtype=torch.float16 if precision == "f16" else torch.float32)
    product = 2 * 8192**3 / (median_ms(lambda: a @ a, flush, 10) / 1e3)
    source, target = (torch.empty(2**30, dtype=torch.uint8, device="cuda") for _ in range(2))
    return product, 2 * 2**30 / (median_ms(lambda: target.copy_(source), flush, 10) / 1e3)


def set_precision(precision: str) -> None:
    """Have cuDNN and cuBLAS compute in it, and choose by measurement."""
    import torch

    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"


def measure(layer: str, precision: str, layout: str, roofs: tuple[float, float], flush: Any) -> Row:
    """Measure a layer with both libraries, in turns of all their rounds."""
    import torch

    import numbaconv as nc

    set_precision(precision)
    shape, weight_shape, options = LAYERS[layer]
    dtype = torch.float16 if precision == "f16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(s, generator=generator).to(dtype).cuda() for s in (shape, weight_shape))
    order = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    x, w = x.contiguous(memory_format=order), w.contiguous(memory_format=order)
    result = torch.nn.functional.conv2d(x, w, **options)
    asked = {**options, "precision": "tf32" if precision == "tf32" else "ieee", "backend": "cuda"}
    op, data, ours = nc.Conv2d(w, **asked), x, torch.empty_like(result)

    def call() -> Any:
        return op(data, out=ours, stream=torch.cuda.current_stream().cuda_stream)

    call()
    exact = torch.nn.functional.conv2d(x.double(), w.double(), **options)
    error = ((ours - exact).square().mean() / exact.square().mean()).sqrt().item()
    cudnn = median_ms(lambda: torch.nn.functional.conv2d(x, w, **options), flush)
    own = median_ms(call, flush)
    flops = 2 * result.numel() * math.prod(weight_shape[1:])
    moved = sum(t.numel() * t.element_size() for t in (x, w, result))
    return Row(layer, op.explain(x).algorithm, cudnn, own, 1e3 * max(flops / roofs[0], moved / roofs[1]), error)


def table(rows: list[Row]) -> str:
    """Rows as a Markdown table, with the geometric mean of the ratios last."""
    lines = ["| layer | algorithm | cuDNN, us | numbaconv, us | ratio | share of the floor | rms error |", "| --- " * 7 + "|"]
    for row in rows:
        ratio, share = row.cudnn / row.ours, row.floor / row.ours
        numbers = f"{1e3 * row.cudnn:.1f} | {1e3 * row.ours:.1f} | {ratio:.2f} | {share:.0%} | {row.error:.1e}"
        lines.append(f"| {row.layer} | {row.algorithm} | {numbers} |")
    if rows:
        mean = math.exp(sum(math.log(row.cudnn / row.ours) for row in rows) / len(rows))
        lines.append(f"\ngeometric mean of the ratios: {mean:.2f}")
    return "\n".join(lines)


def main() -> int:
    """Check, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precision", nargs="+", choices=("ieee", "tf32", "f16"), default=["ieee", "tf32", "f16"])
    parser.add_argument("--layout", nargs="+", choices=("NCHW", "NHWC"), default=["NCHW", "NHWC"])
    parser.add_argument("--layers", default="", metavar="SUBSTRING")
    parser.add_argument("--check-only", action="store_true")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("PyTorch is not installed; it brings cuDNN, which this compares with")
    if not torch.cuda.is_available():
        sys.exit("PyTorch finds no CUDA GPU")

    import numba

    name, versions = torch.cuda.get_device_name(), f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}"
    report = [f"{name}, {versions}, numba {numba.__version__}"]
    print(report[0], flush=True)
    wrong = 0
    for precision in args.precision:
        print(f"{precision}: is it right?", flush=True)
        wrong += check(precision)
    flush = torch.empty(2**28, dtype=torch.uint8, device="cuda")
    for precision in [] if args.check_only else args.precision:
        roofs = peaks(precision, flush)
        for layout in args.layout:
            report.append(f"\n## {precision}, {layout}: peaks {roofs[0] / 1e12:.0f} TFLOP/s, {roofs[1] / 1e12:.2f} TB/s\n")
            rows = []
            for layer in (layer for layer in LAYERS if args.layers in layer):
                try:
                    rows.append(measure(layer, precision, layout, roofs, flush))
                    print(f"  {precision} {layout} {rows[-1]}", flush=True)
                except Exception as failure:
                    wrong += 1
                    print(f"  {precision} {layout} {layer}: FAILED, {type(failure).__name__}: {failure}", flush=True)
            report.append(table(rows))
    print("\n".join(report))
    if args.markdown:
        args.markdown.write_text("# numbaconv beside cuDNN\n\n" + "\n".join(report) + "\n")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
