"""A measurement as one figure: the layers below the machine's roofs, and the ratio of each to its fastest peer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from numbaconv.bench import noise
from numbaconv.bench.libraries import OURS
from numbaconv.bench.noise import Ratio
from numbaconv.bench.record import Document, Record
from numbaconv.errors import bad_value

__all__ = ["check_suffix", "draw"]

SUFFIXES = (".pdf", ".png", ".svg")
COLOURS = {
    "direct": "#4477aa", "direct_unpacked": "#77aadd", "pointwise": "#228833", "winograd2": "#ee8866", "winograd4": "#cc3311",
    "depthwise": "#aa3377", "depthwise_blocked": "#dd88bb", "pixels": "#997700", "rows": "#666666",
}  # fmt: skip
VERDICTS = {"+": "#4477aa", "-": "#cc3311", "~": "#bbbbbb", "?": "#dddddd"}
MEANING = {"+": "numbaconv is faster", "-": "slower", "~": "a tie: within the noise", "?": "noise unknown"}
LEAST = 1.0  # GFLOP/s: layers below it measure what a call takes, and are bars only


def check_suffix(path: Path) -> None:
    """Raise ValueError for a file that is no picture by its name."""
    if path.suffix.lower() not in SUFFIXES:
        raise bad_value("--plot", f"a file ending in {', '.join(SUFFIXES)}", repr(str(path)))


def draw(document: Document, path: Path) -> None:
    """Draw roofline and bars, and write the picture.

    Raises
    ------
    ValueError
        If nothing was measured.
    """
    measured = [record for record in document.records if record.seconds(OURS)]
    if not measured:
        raise ValueError("there is nothing to draw: numbaconv was measured on no layer")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    bars = _bars(document)
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": "numbaconv",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        height = max(6.0, 1.8 + 0.21 * len(bars))
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(15, height), width_ratios=(1.25, 1), layout="constrained")
        numbers = {record.layer: number for number, record in enumerate(document.records, 1)}
        _roofline(left, document, measured, numbers)
        _ratios(right, bars)
        figure.suptitle(f"{document.machine.get('gpu', document.machine['cpu'])}: {document.how}", fontsize=11)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else None  # so that equal results are equal files
        figure.savefig(path, dpi=130, metadata=metadata)
        pyplot.close(figure)


# ---------------------------------------------------------------- the roofline


def _roofline(axis: Any, document: Document, measured: list[Record], numbers: dict[str, int]) -> None:
    points = [(r, r.flops / r.bytes, r.flops / (r.seconds(OURS) or math.inf) * 1e-9) for r in measured]
    shown = [point for point in points if point[2] >= LEAST] or points
    intensities, speeds = [p[1] for p in shown], [p[2] for p in shown]
    axis.set_xscale("log")
    axis.set_yscale("log")
    peak = document.roofs.peak if document.roofs else None
    ridge = [peak / min(document.roofs.bandwidths.values())] if document.roofs and peak else []
    axis.set_xlim(min(intensities + ridge) / 2, max(intensities) * 2)
    axis.set_ylim(min(speeds) / 2, max(speeds + ([peak] if peak else [])) * 2)
    _ticks(axis.xaxis, axis.get_xlim())
    _ticks(axis.yaxis, axis.get_ylim())
    axis.grid(which="major", color="#eeeeee", zorder=0)
    axis.set_xlabel("arithmetic intensity, flops a byte of input, weight and result")
    axis.set_ylabel("GFLOP/s by the definition")
    if document.roofs:
        _roofs(axis, document.roofs.bandwidths, peak)
    _points(axis, shown, numbers)
    title = "Roofline: a point is a layer, numbered as its bar"
    axis.set_title(title + (";\nWinograd's may lie above the roof, as it multiplies less" if peak else ""), fontsize=9)


def _roofs(axis: Any, bandwidths: dict[str, float], peak: float | None) -> None:
    low, high = axis.get_xlim()
    x = np.geomspace(low, high, 300)
    bottom = axis.get_ylim()[0]
    for (level, speed), style in zip(bandwidths.items(), (":", "--", "-"), strict=False):
        if peak and speed * low > 0.7 * peak:
            continue  # flat, as far as it is seen
        axis.plot(x, np.minimum(speed * x, peak or math.inf), color="#333333", linestyle=style, linewidth=1, zorder=1)
        at = max(low * 1.05, bottom * 1.15 / speed)
        axis.annotate(
            f"{level}: {speed:.0f} GB/s",
            (at, speed * at),
            (7, -2),
            textcoords="offset points",
            fontsize=7,
        )
    if peak:
        axis.text(high * 0.97, peak * 1.02, f"bare microkernel: {peak:.0f} GFLOP/s", ha="right", va="bottom", fontsize=7)


def _points(axis: Any, points: list[tuple[Record, float, float]], numbers: dict[str, int]) -> None:
    by_algorithm: dict[str, list[tuple[Record, float, float]]] = {}
    for point in points:
        by_algorithm.setdefault(point[0].notes.get(OURS, "unknown"), []).append(point)
    for algorithm, some in by_algorithm.items():
        colour = COLOURS.get(algorithm, "#000000")
        axis.scatter([p[1] for p in some], [p[2] for p in some], s=26, color=colour, label=algorithm, zorder=3, edgecolor="white")
    for record, intensity, speed in points:
        number = str(numbers[record.layer])
        axis.annotate(number, (intensity, speed), (4, 3), textcoords="offset points", fontsize=7, zorder=4, clip_on=True)
    axis.legend(loc="lower right", fontsize=8, frameon=False)


# ---------------------------------------------------------------- the bars


def _bars(document: Document) -> list[tuple[str, Ratio | None]]:
    """Labels and ratios: the layers, then the networks, then the geometric mean."""
    bars: list[tuple[str, Ratio | None]] = [
        (f"{record.layer}   {number}", document.ratio(record)) for number, record in enumerate(document.records, 1)
    ]
    floor = document.floor
    bars += [(f"all of {title}", noise.ratio(blocks, floor)) for title, blocks in document.totals().items()]
    return [*bars, ("geometric mean of the layers", document.mean)]


def _ratios(axis: Any, bars: list[tuple[str, Ratio | None]]) -> None:
    drawn = [(place, label, found) for place, (label, found) in enumerate(bars) if found is not None]
    axis.set_yticks(range(len(bars)), [label for label, _ in bars], fontsize=7)
    axis.set_ylim(max(len(bars), 12) - 0.4, -0.6)
    axis.set_title("Time of the fastest peer over numbaconv's; the whisker is the noise", fontsize=9)
    if not drawn:
        axis.text(0.5, 0.5, "no peer was measured", ha="center", transform=axis.transAxes)
        return
    for verdict, colour in VERDICTS.items():
        some = [(place, found) for place, _, found in drawn if found.verdict == verdict]
        if some:
            places, values = [place for place, _ in some], [found.value for _, found in some]
            widths = [value - 1 for value in values]
            axis.barh(places, widths, 0.7, left=1, color=colour, label=MEANING[verdict], zorder=2)
            noises = [0.0 if math.isnan(found.noise) else found.value * found.noise for _, found in some]
            lower = [value - value**2 / (value + n) for value, n in zip(values, noises, strict=True)]  # as far on a log axis
            axis.errorbar(values, places, xerr=[lower, noises], fmt="none", ecolor="#333333", elinewidth=0.8, zorder=3)
    ends = [(found.value, 0 if math.isnan(found.noise) else found.noise) for _, _, found in drawn]
    low, high = min(v / (1 + n) for v, n in ends), max(v * (1 + n) for v, n in ends)
    axis.set_xscale("log")
    axis.set_xlim(min(0.8, low / 1.05), max(1.25, high * 1.6))
    _ticks(axis.xaxis, axis.get_xlim())
    axis.axvline(1, color="#333333", linewidth=0.8, zorder=4)
    for place, _, found in drawn:
        end = max(1, found.value * (1 + (0 if math.isnan(found.noise) else found.noise)))
        axis.annotate(f"{found.value:.2f} {found.peer}", (end, place), (3, -2.5), textcoords="offset points", fontsize=6.5)
    axis.grid(axis="x", color="#eeeeee", zorder=0)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.04), ncols=4, fontsize=8, frameon=False)


def _ticks(axis: Any, limits: tuple[float, float]) -> None:
    """Round numbers along a logarithmic axis, few if it is long."""
    from matplotlib.ticker import FixedLocator, NullLocator

    low, high = limits
    steps = (1, 1.5, 2, 3, 5) if high < 20 * low else (1, 2, 5) if high < 2000 * low else (1,)
    ticks = [step * 10.0**power for power in range(-6, 9) for step in steps]
    axis.set_major_locator(FixedLocator([tick for tick in ticks if low <= tick <= high]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")
