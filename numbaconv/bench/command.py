"""``numbaconv bench``: check what was asked for, measure, show it, write it."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from numbaconv import cpu, cuda
from numbaconv.bench import cuda as on_gpu
from numbaconv.bench import machine, plot, record, tables
from numbaconv.bench.arguments import DEFAULT
from numbaconv.bench.case import Case, Failure, number_type
from numbaconv.bench.libraries import LIBRARIES, OURS, PEERS, entries, missing
from numbaconv.bench.measuring import measure
from numbaconv.bench.record import Document, Record
from numbaconv.bench.worker import MeasureRoofs, Version, Worker, interrupts_ignored
from numbaconv.errors import bad_value
from numbaconv.measure import problem
from numbaconv.networks import NETWORKS, Layer, layers

__all__ = ["run"]

Step = tuple[float, str]  # how many layers are done, and what is being done
WIDTH = 170  # columns of a table that goes to no terminal
OF_ROOFS = 10  # blocks that each roof is measured for


def run(options: argparse.Namespace) -> None:
    """Run the command.

    Raises
    ------
    ValueError, TypeError
        For arguments that make no sense, before anything is measured.
    OSError
        If a file cannot be read or written; that, too, is tried before.
    ImportError
        If a module is not installed that is needed.
    BackendUnavailableError
        If there is no GPU, where one is asked for.
    KeyboardInterrupt
        If it was interrupted, after what was measured so far was shown and written.
    """
    _import("rich")
    _check_files(options)
    if options.source:
        if options.shape or options.json:
            raise ValueError("--from: expected no network, shape or --json beside it, as it measures nothing")
        _show(record.read(options.source), options)
        return
    cases, networks = _asked(options)
    if options.backend == "cuda":
        on_gpu.check()
    document = Document(
        command=shlex.join(["numbaconv", *sys.argv[1:]]),
        settings=_settings(options),
        machine=machine.machine(),
        versions=machine.versions(),
        load={"before": machine.load(), "after": None},
        networks=networks,
    )
    if options.backend == "cuda":
        measuring = on_gpu.measure_all(document, cases)
    else:
        measuring = _measure_all(document, cases, options)
    _watch(measuring, document, len(cases))
    with interrupts_ignored():  # what follows is short, and worth having
        document.load["after"] = machine.load()
        _show(document, options)
    if document.interrupted:
        raise KeyboardInterrupt


# ---------------------------------------------------------------- what is asked for


def _asked(options: argparse.Namespace) -> tuple[list[Case], dict[str, dict[str, int]]]:
    """Each layer once, and how often each network has it."""
    if options.backend == "cpu" and (options.threads or 1) > machine.allowed_cores():
        cores = machine.allowed_cores()
        raise bad_value("--threads", f"{cores} at most, the cores that this process may use", options.threads)
    number_type(options.dtype)
    names = ["auto", "accurate", *(a.name for a in {"cpu": cpu, "cuda": cuda}[options.backend].ALGORITHMS)]
    if options.algorithm not in names:
        raise bad_value("--algorithm", f"one of {', '.join(names)}", repr(options.algorithm))
    _peers(options)
    found: dict[str, Layer] = {}
    networks = {}
    for text in options.shape or [DEFAULT]:
        some = layers(text)
        found.update((layer.word, layer) for layer in some)
        if text in NETWORKS and text != DEFAULT:  # which is no network
            networks[text] = {layer.word: layer.count for layer in some}
    for word, layer in found.items():
        try:
            products = problem(layer, options.layout, options.dtype).multiply_adds
        except ValueError as error:
            raise ValueError(f"SHAPE {word}: {error}") from None
        if not products:
            raise bad_value("SHAPE", "a layer that has something to compute", repr(word))
    how = {name: value for name, value in _settings(options).items() if name in Case.__dataclass_fields__}
    return [Case(layer, **how) for layer in found.values()], networks


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("dtype", "layout", "mode", "algorithm", "rounds", "block", "backend")
    return {"threads": options.threads or machine.allowed_cores(), **{name: getattr(options, name) for name in names}}


def _peers(options: argparse.Namespace) -> list[str]:
    peers = list(PEERS) if options.peers is None else list(filter(None, options.peers.split(",")))
    for name in peers:
        if name not in PEERS:
            raise bad_value("--peers", f"some of {','.join(PEERS)}", repr(name))
    return peers


def _check_files(options: argparse.Namespace) -> None:
    """Fail now, and not after the measurement, for files that cannot be written."""
    if options.plot:
        plot.check_suffix(options.plot)
        _import("matplotlib")
    for path in filter(None, (options.json, options.markdown, options.plot)):
        existed = path.exists()
        with open(path, "ab"):
            pass
        if not existed:
            path.unlink()


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'numbaconv bench needs {module}: pip install "numbaconv[bench]" ({error})') from None


# ---------------------------------------------------------------- measuring


def _measure_all(document: Document, cases: Sequence[Case], options: argparse.Namespace) -> Iterator[Step]:
    """Fill in a document, in steps. The record of a layer is in it from the layer's first step."""
    workers: list[Worker] = []
    try:
        for name in entries(_peers(options)):
            reason = missing(name)
            worker = Worker(name, document.settings["threads"])
            workers.append(worker)
            yield 0, f"starting {name}"
            version = Failure(reason) if reason else worker.ask(Version())
            if isinstance(version, Failure):
                document.skipped[name] = version.reason
                workers.remove(worker)
                worker.close()
            else:
                document.versions[LIBRARIES[name].peer] = version
        if options.json or options.plot or options.markdown:
            yield 0, "measuring the roofs"
            _measure_roofs(document, workers)
        steps = 1 + len(workers) + options.rounds
        for number, case in enumerate(cases):
            found = Record(case.layer.word, case.flops, case.bytes)
            document.records.append(found)
            for step, text in enumerate(measure(found, case, workers, options.rounds, options.block)):
                yield number + step / steps, f"{case.layer.word}: {text}"
    finally:
        with interrupts_ignored():
            for worker in workers:
                worker.close()


def _measure_roofs(document: Document, workers: Sequence[Worker]) -> None:
    settings = document.settings
    request = MeasureRoofs(settings["threads"], settings["dtype"], OF_ROOFS * settings["block"])
    for worker in workers:
        if worker.name == OURS:
            answer = worker.ask(request)
            if isinstance(answer, Failure):
                document.skipped["the roofs"] = answer.reason
            else:
                document.roofs = answer


def _watch(measuring: Iterator[Step], document: Document, layers: int) -> None:
    """Let it measure, with a bar on a terminal, and a line for each layer anywhere; an interruption ends it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    told = 0
    try:
        with bar:
            task = bar.add_task("", total=layers)
            for done, text in measuring:
                whole = len(document.records) - 1
                for found in document.records[told:whole]:
                    bar.console.print(_line(document, found), markup=False)
                told = max(told, whole)
                bar.update(task, completed=done, description=text)
            for found in document.records[told:]:
                bar.console.print(_line(document, found), markup=False)
    except KeyboardInterrupt:
        document.interrupted = True
    finally:
        measuring.close()  # type: ignore[attr-defined]
    document.records = [found for found in document.records if found.blocks or not document.interrupted]


def _line(document: Document, found: Record) -> str:
    """What is known of a layer, in few words; its noise is that layer's own, as the floor is not known yet."""
    ratio = document.ratio(found)
    ours = tables.spread_text(found.blocks.get(OURS, ()), 1e6)
    return f"{found.layer}: {ours} us ({found.notes.get(OURS, 'failed')})" + (f", {ratio} beside {ratio.peer}" if ratio else "")


# ---------------------------------------------------------------- reports


def _show(document: Document, options: argparse.Namespace) -> None:
    """Print the tables, and write the files; the picture last, as it is what can fail."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    for line in tables.about(document):
        console.print(line, markup=False, soft_wrap=True)
    for rows in (tables.short_rows(document), tables.total_rows(document)):
        if len(rows) > 1:
            console.print(_rich_table(rows))
    ending = [tables.HOW_TO_READ, *tables.summary(document), *tables.reasons(document)]
    console.print("\n".join(ending), markup=False, soft_wrap=True)
    if not document.records:
        return
    if options.json:
        record.write(document, options.json)
    if options.markdown:
        options.markdown.write_text(tables.markdown(document), encoding="utf-8")
    if options.plot:
        plot.draw(document, options.plot)
    for path in filter(None, (options.json, options.markdown, options.plot)):
        console.print(f"written: {path}", markup=False, soft_wrap=True)


def _rich_table(rows: Sequence[Sequence[str]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    heading, *cells = rows
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, title in enumerate(heading):
        words = title in ("layer", "algorithm", "network", "best peer")
        table.add_column(Text(title), justify="left" if words else "right", no_wrap=number == 0)
    for line in cells:
        table.add_row(*map(Text, line))
    return table
