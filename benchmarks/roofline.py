"""The roofline of this machine and the layers below it: ``python benchmarks/roofline.py --help``.

No kernel computes faster than the cores multiply and add, nor faster than its operands arrive. The first roof is measured with
the bare microkernel on data in the L1 cache, the others by copying arrays as large as fit in the L2 cache, in the L3 cache and
in memory alone. A layer is a point: its GFLOP/s by its arithmetic intensity, which is the operations of the definition over the
bytes of input, weight and result, each moved once. Winograd takes fewer operations than the definition, so that its points may
lie above the roof. Each number of threads is measured in a process of its own, as kernels are planned for all threads there are.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # last, so that an installed numbaconv comes first
from benchmarks.compare import aligned, allowed_cores, caches, cpu_model, flops_of, operands, output_shape
from benchmarks.layers import LAYERS
from benchmarks.peak import ITEM, fastest, tiles_gflops

LEAST = 1  # GFLOP/s: layers below it measure what a call takes, and are in the table only
CAPTION = (
    "A point is a layer: flops of the definition over bytes of input, weight and result. Points of Winograd may lie above the "
    "roof: it multiplies less than the definition."
)
COLOURS = {
    "direct": "tab:blue", "pointwise": "tab:green", "winograd2": "tab:orange", "winograd4": "tab:red",
    "depthwise": "tab:purple", "pixels": "tab:brown", "rows": "tab:gray",
}  # fmt: skip


class Point(NamedTuple):
    """A layer as it was measured."""

    layer: str
    algorithm: str
    intensity: float  # flops a byte
    seconds: float
    gflops: float


class Measured(NamedTuple):
    """A machine and the layers on it, on some threads."""

    threads: int
    tiles: dict[str, float]  # GFLOP/s of the bare microkernel, by tile
    bandwidths: dict[str, float]  # GB/s, by where the data are
    points: list[Point]

    @property
    def peak(self) -> float:
        """The most GFLOP/s that a tile reaches."""
        return max(self.tiles.values())


# ---------------------------------------------------------------- roofs


def copy_sizes(threads: int) -> dict[str, int]:
    """Return for each level the bytes of an array, two of which for each thread lie there and in no cache below it."""
    found = caches()
    sizes = {"L2": found.get("L2", 2**20) // 4, "L3": found.get("L3", 2**24) // 4 // threads}
    return {**sizes, "memory": max(2**26, 4 * found.get("L3", 2**24) // threads)}


def bandwidth(size: int, threads: int, seconds: float) -> float:
    """Measure GB/s, of bytes read and bytes written, of threads that copy arrays of a size."""
    repeats = max(1, int(seconds / 5 * 10e9 / size))

    def copy_all(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repeats):
            np.copyto(*pair)

    pairs = [(np.ones(size // ITEM, np.float32), np.ones(size // ITEM, np.float32)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        best = fastest(lambda: list(pool.map(copy_all, pairs)), seconds)
    return 2 * size * repeats * threads / best * 1e-9


# ---------------------------------------------------------------- layers


def point(layer: str, layout: str, seconds: float) -> Point:
    """Measure a layer with a prepared operator: the median call."""
    import numbaconv as nc

    x, weight, options = operands(layer)
    size = x.size + weight.size + math.prod(output_shape(x.shape, weight.shape, **options))
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if layout == "NHWC" else x
    op = nc.Conv2d(weight, **options, layout=layout)
    op(x)
    times, end = [], time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        op(x)
        times.append(time.perf_counter() - start)
    taken, flops = float(np.median(times)), flops_of(layer)
    return Point(layer, op.explain(x).algorithm, flops / (size * ITEM), taken, flops / taken * 1e-9)


def measure(threads: int, layout: str, seconds: float) -> Measured:
    """Measure everything in this process, which was started for so many threads."""
    found = tiles_gflops(threads, seconds)
    speeds = {level: bandwidth(size, threads, seconds) for level, size in copy_sizes(threads).items()}
    return Measured(threads, found, speeds, [point(layer, layout, seconds) for layer in LAYERS])


def measure_apart(threads: int, layout: str, seconds: float) -> Measured:
    """Measure in a fresh process."""
    os.environ["NUMBA_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(threads)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, threads, layout, seconds).result()


# ---------------------------------------------------------------- reports


def report(measured: Measured) -> str:
    """Return the roofs and the layers in words."""
    heading, peak = ["layer", "algorithm", "flops a byte", "us", "GFLOP/s", "share of the bare microkernel"], measured.peak
    cells = [
        [
            p.layer,
            p.algorithm,
            f"{p.intensity:.2f}",
            f"{p.seconds * 1e6:.1f}",
            f"{p.gflops:.1f}",
            f"{p.gflops / peak:.0%}",
        ]
        for p in measured.points
    ]
    return "\n".join([
        f"threads: {measured.threads}",
        "bare microkernel, GFLOP/s by tile: " + ", ".join(f"{tile}: {speed:.0f}" for tile, speed in measured.tiles.items()),
        "copying, GB/s read and written: " + ", ".join(f"{level}: {speed:.0f}" for level, speed in measured.bandwidths.items()),
        "",
        *aligned([heading, *cells]),
    ])  # fmt: skip


def draw(measured: list[Measured], layout: str, path: Path) -> None:
    """Draw the roofs and the points, a panel for each number of threads, and write the picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "roofline", "font.size": 9})
    figure, axes = pyplot.subplots(1, len(measured), figsize=(7 * len(measured), 5.6), sharey=True, squeeze=False)
    for axis, one in zip(axes[0], measured, strict=True):
        draw_roofs(axis, one)
        draw_points(axis, one.points)
        axis.set_title(f"{cpu_model()}, float32, {layout}, {'one thread' if one.threads == 1 else f'{one.threads} threads'}")
        axis.set_xlabel("arithmetic intensity, flops a byte")
    axes[0, 0].set_ylabel("GFLOP/s")
    axes[0, 0].legend(loc="upper left")
    figure.text(0.5, 0.01, CAPTION, ha="center", fontsize=8, wrap=True)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


def draw_roofs(axis: Any, measured: Measured) -> None:
    """Draw what the bandwidths and the bare microkernel allow."""
    low, high = (f(p.intensity for p in measured.points) for f in (min, max))
    x = np.geomspace(low / 2, high * 2, 200)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.set_xlim(x[0], x[-1])
    axis.set_ylim(min(p.gflops for p in measured.points if p.gflops > LEAST) / 2, measured.peak * 4)
    for (level, speed), style in zip(measured.bandwidths.items(), (":", "--", "-"), strict=True):
        axis.plot(x, np.minimum(speed * x, measured.peak), color="black", linestyle=style, linewidth=1)
        at = max(x[0] * 1.1, axis.get_ylim()[0] * 1.3 / speed)
        axis.annotate(f"{level}: {speed:.0f} GB/s", (at, speed * at), (8, -3), textcoords="offset points", fontsize=7)
    axis.text(x[0] * 1.1, measured.peak * 1.04, f"bare microkernel: {measured.peak:.0f} GFLOP/s", fontsize=7)


def draw_points(axis: Any, points: list[Point]) -> None:
    """Draw the layers, coloured by the algorithm that they took."""
    for algorithm, colour in COLOURS.items():
        some = [p for p in points if p.algorithm == algorithm]
        if some:
            axis.scatter([p.intensity for p in some], [p.gflops for p in some], s=18, color=colour, label=algorithm, zorder=3)
    for p in points:
        axis.annotate(p.layer, (p.intensity, p.gflops), xytext=(3, 3), textcoords="offset points", fontsize=5, clip_on=True)


# ---------------------------------------------------------------- the command


def main() -> None:
    parser = argparse.ArgumentParser(description="The roofline of this machine, and the layers of benchmarks/layers.py below it.")
    parser.add_argument("--threads", type=int, default=allowed_cores(), help="beside one; all allowed cores unless told")
    parser.add_argument("--layout", choices=("NCHW", "NHWC"), default="NCHW")
    parser.add_argument("--output", type=Path, default=Path("docs/roofline.svg"), metavar="FILE", help="the picture, SVG or PNG")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time for each measurement")
    args = parser.parse_args()
    measured = []
    for threads in sorted({1, args.threads}):
        measured.append(measure_apart(threads, args.layout, 0.03 if args.quick else 0.3))
        print(report(measured[-1]), end="\n\n", flush=True)
    print(CAPTION)
    try:
        draw(measured, args.layout, args.output)
    except ImportError as error:
        print(f"no picture: {error}")
    else:
        print(f"{args.output} shows it")


if __name__ == "__main__":
    main()
