"""Documents as tables of text, for the terminal and for Markdown. No time is without its spread, no ratio without its noise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from numbaconv.bench import noise
from numbaconv.bench.libraries import OURS
from numbaconv.bench.record import Document, Record

__all__ = ["HOW_TO_READ", "about", "layer_rows", "markdown", "reasons", "short_rows", "summary", "total_rows"]

HOW_TO_READ = (
    "Times are medians of blocks ± half the range between their quartiles. A ratio is the fastest peer's time over numbaconv's "
    "± its noise: + numbaconv is faster, - slower, ~ a tie within the noise, ? noise unknown (3 rounds at least). "
    "Errors are rms, relative to float64."
)
Rows = list[list[str]]


def layer_rows(document: Document) -> Rows:
    """Return the heading and a row for each layer, with the times of all libraries."""
    names = document.names
    heading = ["layer", "algorithm", *(f"{name}, us" for name in names), "GFLOP/s", "ratio", "best peer", "error", "best peer's"]
    return [
        heading,
        *([r.layer, _algorithm(r), *(_time(r, name) for name in names), *_ending(document, r)] for r in document.records),
    ]


def short_rows(document: Document) -> Rows:
    """Return the same with our times and the best peer's alone, which fits a terminal."""
    rows: Rows = [["layer", "algorithm", f"{OURS}, us", "best peer, us", "GFLOP/s", "ratio", "best peer", "error", "best peer's"]]
    for record in document.records:
        ending = _ending(document, record)
        rows.append([record.layer, _algorithm(record), _time(record, OURS), _time(record, ending[2]), *ending])
    return rows


def total_rows(document: Document) -> Rows:
    """Return the heading and a row for each network: the time of all its convolutions, each as often as it has it."""
    names, floor = document.names, document.floor
    rows: Rows = [["network", "convolutions", *(f"{name}, ms" for name in names), "ratio", "best peer"]]
    for title, blocks in document.totals().items():
        found = noise.ratio(blocks, floor)
        times = [spread_text(blocks.get(name, ()), 1e3) for name in names]
        ending = [str(found), found.peer] if found else ["-", "-"]
        rows.append([title, str(sum(document.networks[title].values())), *times, *ending])
    return rows


def summary(document: Document) -> list[str]:
    """Return sentences on all ratios and on the noise."""
    found = [ratio for record in document.records if (ratio := document.ratio(record))]
    floor = "not known" if math.isnan(document.floor) else f"{document.floor:.1%}"
    lines = [f"Noise floor: {floor} (the same function in two processes, median of the layers)."]
    mean = document.mean
    if mean is None:
        lines.append("No layer was measured with a peer.")
    else:
        counts = {verdict: sum(ratio.verdict == verdict for ratio in found) for verdict in "+-~?"}
        words = {"+": "faster", "-": "slower", "~": "ties within the noise", "?": "of unknown noise"}
        said = ", ".join(f"{count} {words[verdict]}" for verdict, count in counts.items() if count)
        lines.append(f"Of {len(found)} layers beside the fastest peer of each: {said}; geometric mean {mean}.")
    return [*lines, *(["Interrupted: this is what was measured so far."] if document.interrupted else [])]


def reasons(document: Document) -> list[str]:
    """Return why libraries were left out, a line for each reason."""
    lines = [f"{name} is skipped: {reason}" for name, reason in document.skipped.items()]
    found: dict[tuple[str, str], list[str]] = {}
    for record in document.records:
        for name, reason in record.failures.items():
            found.setdefault((name, reason), []).append(record.layer)
    for (name, reason), layers in found.items():
        where = "all layers" if len(layers) == len(document.records) else _some(layers)
        lines.append(f"{name}, {where}: {reason}")
    return lines


def about(document: Document) -> list[str]:
    """Return what the times depend on, a line each."""
    machine = dict(document.machine)
    machine["caches"] = _in_words({name: f"{size // 1024} KiB" for name, size in machine.get("caches", {}).items()}) or "unknown"
    lines = [f"{name}: {value}" for name, value in machine.items()]
    lines += [f"load average (1, 5, 15 minutes) {when}: {_load(value)}" for when, value in document.load.items()]
    lines += [f"versions: {_in_words(document.versions)}", f"settings: {_in_words(document.settings)}"]
    if document.roofs:
        unit = {"tiles": "bare microkernel, GFLOP/s by tile", "bandwidths": "copying, GB/s read and written"}
        speeds = {"tiles": document.roofs.tiles, "bandwidths": document.roofs.bandwidths}
        lines += [f"{unit[kind]}: {_in_words({k: f'{v:.0f}' for k, v in row.items()})}" for kind, row in speeds.items() if row]
    return lines


def markdown(document: Document) -> str:
    """Return all of it as a page."""
    title = f"# {OURS} beside its peers: {document.how}"
    parts = [title, f"`{document.command}`", _list(about(document)), HOW_TO_READ, _table(layer_rows(document), 2)]
    if len(total_rows(document)) > 1:
        parts.append(_table(total_rows(document), 1))
    parts += ["\n".join(summary(document)), _list(reasons(document))]
    return "\n\n".join(filter(None, parts)) + "\n"


def spread_text(values: Sequence[float], scale: float) -> str:
    """Return the median of times and half the range between their quartiles, with three digits."""
    if not values:
        return "-"
    found = noise.spread(values)
    half = "?" if math.isnan(found.half) else _number(found.half * scale)
    return f"{_number(found.median * scale)} ± {half}"


def _ending(document: Document, record: Record) -> list[str]:
    """Our GFLOP/s; ratio, best peer; our error, and its."""
    ours, found = record.seconds(OURS), document.ratio(record)
    peer = found.peer if found else "-"
    errors = (f"{record.errors[name]:.1e}" if name in record.errors else "-" for name in (OURS, peer))
    return [_number(record.flops / ours * 1e-9) if ours else "-", str(found) if found else "-", peer, *errors]


def _algorithm(record: Record) -> str:
    return record.notes.get(OURS, "-")


def _time(record: Record, name: str) -> str:
    return spread_text(record.blocks.get(name, ()), 1e6)


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _some(layers: Sequence[str]) -> str:
    return " ".join(layers) if len(layers) <= 3 else f"{layers[0]} and {len(layers) - 1} other layers"


def _load(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else "unknown"


def _in_words(items: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in items.items())


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(rows: Rows, words: int) -> str:
    """Markdown; the first columns are words, the others numbers."""
    heading, *cells = rows
    lines = [heading, ["---"] * words + ["---:"] * (len(heading) - words), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
