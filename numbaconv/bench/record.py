"""What was measured, as one document: layer by layer all blocks, and what they depend on. Its file is JSON.

docs/benchmarking.md describes the format. What follows from the blocks is written too, for other readers; :func:`read`
computes it anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from numbaconv.bench import noise
from numbaconv.bench.libraries import AGAIN, OURS
from numbaconv.bench.noise import Ratio
from numbaconv.bench.roofs import Roofs

__all__ = ["FORMAT", "Document", "Record", "read", "write"]

FORMAT = "numbaconv bench 1"


@dataclass
class Record:
    """What was measured on a layer, by library.

    Attributes
    ----------
    layer
        Its word.
    flops, bytes
        The operations of its definition; the bytes of input, weight and result.
    blocks
        The seconds of a call, one number for each round: the median of a block of calls.
    errors
        The rms error relative to float64.
    notes
        How the library computed it: numbaconv's algorithm, for example.
    failures
        Why it did not.
    """

    layer: str
    flops: int
    bytes: int
    blocks: dict[str, list[float]] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    def seconds(self, name: str) -> float | None:
        """The median time of a library."""
        return float(np.median(self.blocks[name])) if self.blocks.get(name) else None


@dataclass
class Document:
    """A measurement: how, where, and its records.

    Attributes
    ----------
    command
        What was typed.
    settings
        dtype, layout, mode, threads, algorithm, rounds, block, backend.
    machine, versions
        What times depend on.
    load
        The load averages "before" and "after".
    skipped
        Libraries that were asked for and not measured, and why.
    networks
        For each network how often it has a layer, by the layer's word.
    roofs
        What this machine can do at most, where that was measured.
    records
        One for each layer.
    interrupted
        Whether there are layers missing, or rounds.
    """

    command: str
    settings: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]
    load: dict[str, Any]
    skipped: dict[str, str] = field(default_factory=dict)
    networks: dict[str, dict[str, int]] = field(default_factory=dict)
    roofs: Roofs | None = None
    records: list[Record] = field(default_factory=list)
    interrupted: bool = False

    @property
    def how(self) -> str:
        """What was asked for, in words."""
        settings = self.settings
        place = "CUDA" if settings["backend"] == "cuda" else f"threads: {settings['threads']}"
        return f"{settings['dtype']}, {settings['layout']}, {settings['mode']}, {place}"

    @property
    def names(self) -> list[str]:
        """The libraries that were measured, ours last."""
        found = dict.fromkeys(name for record in self.records for name in record.blocks)
        return [*(name for name in found if name not in (OURS, AGAIN)), *(name for name in (OURS, AGAIN) if name in found)]

    @property
    def floor(self) -> float:
        """The noise floor of the whole measurement."""
        return noise.noise_floor([record.blocks for record in self.records])

    @property
    def mean(self) -> Ratio | None:
        """The geometric mean of the ratios."""
        return noise.geometric_mean([record.blocks for record in self.records])

    def ratio(self, record: Record) -> Ratio | None:
        """A layer's ratio, with its noise."""
        return noise.ratio(record.blocks, self.floor)

    def totals(self) -> dict[str, dict[str, list[float]]]:
        """The seconds of each network whose layers were all measured, by library and round."""
        records = {record.layer: record for record in self.records}
        whole = {title: counts for title, counts in self.networks.items() if counts.keys() <= records.keys()}
        return {
            title: noise.total([records[word].blocks for word in counts], list(counts.values()))
            for title, counts in whole.items()
        }


def write(document: Document, path: Path) -> None:
    """Write a document as JSON, a line for each layer."""
    head = {"format": FORMAT, **asdict(document), **_derived(document)}
    del head["records"]
    lines = ",\n".join("  " + json.dumps(_plain(_layer(document, record))) for record in document.records)
    text = json.dumps(_plain(head), indent=1).removesuffix("\n}")
    path.write_text(f'{text},\n "layers": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def read(path: Path) -> Document:
    """Return the document of a file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is no result of ``numbaconv bench``, or a damaged one; the message names the file and what is wrong.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f'it has no "format": "{FORMAT}"')
        roofs = None if found["roofs"] is None else Roofs(**found["roofs"])
        layers = [_record(layer) for layer in found["layers"]]
        rest = {name: found[name] for name in Document.__dataclass_fields__ if name not in ("roofs", "records")}
        document = Document(**rest, roofs=roofs, records=layers)
        _check(document)
    except KeyError as error:
        raise ValueError(f"{path}: no result of numbaconv bench: it has no {error}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no result of numbaconv bench: {error}") from None
    return document


def _derived(document: Document) -> dict[str, Any]:
    floor = document.floor
    totals = {
        title: {"seconds": _spreads(blocks), "ratio": _ratio(noise.ratio(blocks, floor))}
        for title, blocks in document.totals().items()
    }
    return {"noise_floor": floor, "geometric_mean": _ratio(document.mean), "totals": totals}


def _layer(document: Document, record: Record) -> dict[str, Any]:
    ours = record.seconds(OURS)
    return {
        **asdict(record),
        "seconds": _spreads(record.blocks),
        "noise": noise.self_noise(record.blocks),
        "ratio": _ratio(document.ratio(record)),
        "gflops": record.flops / ours * 1e-9 if ours else None,
    }


def _spreads(blocks: noise.Blocks) -> dict[str, dict[str, float]]:
    return {name: noise.spread(times)._asdict() for name, times in blocks.items() if times}


def _ratio(found: Ratio | None) -> dict[str, Any] | None:
    return None if found is None else {**found._asdict(), "verdict": found.verdict}


def _plain(value: Any) -> Any:
    """The same with null for what is no number, which JSON has no word for."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _record(layer: dict[str, Any]) -> Record:
    record = Record(**{name: layer[name] for name in Record.__dataclass_fields__})
    record.errors = {name: math.inf if error is None else float(error) for name, error in record.errors.items()}
    return record


def _check(document: Document) -> None:
    """Raise ValueError for what no measurement gives, TypeError and KeyError for what has another form."""
    for record in document.records:
        _positive(f"the times and counts of {record.layer!r}", record.flops, record.bytes, *chain(*record.blocks.values()))
        _texts(f"notes and failures of {record.layer!r}", record.layer, *record.notes.values(), *record.failures.values())
    for title, counts in document.networks.items():
        _positive(f"the counts of {title!r}", *counts.values())
    if document.roofs:
        _positive("the roofs", *document.roofs.tiles.values(), *document.roofs.bandwidths.values())
    _positive("the caches", *document.machine.get("caches", {}).values())
    _texts("skipped and command", document.command, document.machine["cpu"], *document.skipped.values())
    for items in (document.settings, document.versions, document.load):
        if not isinstance(items, dict):
            raise ValueError("settings, versions and load are to be objects")
    for name in ("threads", "dtype", "layout", "mode", "backend"):
        document.settings[name]


def _positive(what: str, *numbers: Any) -> None:
    if not all(isinstance(n, (int, float)) and 0 < n < math.inf for n in numbers):
        raise ValueError(f"{what} are to be positive numbers")


def _texts(what: str, *texts: Any) -> None:
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"{what} are to be texts")
