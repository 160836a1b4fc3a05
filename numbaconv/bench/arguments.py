"""The arguments of ``numbaconv bench``. Nothing is measured, and nothing imported that measures, before they are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numbaconv.bench.libraries import PEERS
from numbaconv.networks import NETWORKS

__all__ = ["DEFAULT", "add"]

DEFAULT = "selection"


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the command to a command line, and return its parser."""
    bench: argparse.ArgumentParser = commands.add_parser(
        "bench",
        help="measure this machine: numbaconv beside other libraries",
        description="Each library has a process of its own; they take turns in short blocks. See docs/benchmarking.md.",
    )
    networks = f"one of {', '.join(NETWORKS)} (default: {DEFAULT})"
    shape = f"as 1x64x56x56,64,3x3,s1,p1,g1,d1 (input, output channels, kernel ...), or {networks}"
    bench.add_argument("shape", nargs="*", metavar="NETWORK|SHAPE", help=shape)
    bench.add_argument("--peers", metavar="NAME,NAME", help=f"of {', '.join(PEERS)} (default: those that are installed)")
    bench.add_argument("--threads", type=_at_least(int, 1), help="of every library (default: all cores that may be used)")
    bench.add_argument("--layout", choices=("NCHW", "NHWC"), default="NCHW", help="of numbaconv's data (default: %(default)s)")
    bench.add_argument("--dtype", default="float32", help="of data and weight (default: %(default)s)")
    mode = "the weight packed before, or in each call: then beside those alone that do so too (default: %(default)s)"
    bench.add_argument("--mode", choices=("prepared", "functional"), default="prepared", help=mode)
    bench.add_argument("--algorithm", default="auto", metavar="NAME", help="numbaconv's (default: %(default)s)")
    bench.add_argument("--rounds", type=_at_least(int, 1), default=15, help="blocks of each library (default: %(default)s)")
    block = "of calls in a turn (default: %(default)s)"
    bench.add_argument("--block", type=_at_least(float, 0), default=0.03, metavar="SECONDS", help=block)
    bench.add_argument("--backend", choices=("cpu", "cuda"), default="cpu", help="cuda: beside cuDNN, on a GPU")
    bench.add_argument("--json", type=Path, metavar="FILE", help="write all that was measured")
    bench.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables")
    bench.add_argument("--plot", type=Path, metavar="FILE", help="draw a roofline and a bar for each layer: .png, .svg or .pdf")
    source = "measure nothing: print, draw and write tables from a file that --json wrote"
    bench.add_argument("--from", type=Path, metavar="FILE", dest="source", help=source)
    return bench


def _at_least(kind: Callable[[str], Any], least: int) -> Callable[[str], Any]:
    def number(text: str) -> Any:
        value = kind(text)
        if not least <= value < 1e9:
            raise argparse.ArgumentTypeError(f"expected {least} or more, got {text}")
        return value

    number.__name__ = kind.__name__  # for argparse's own message
    return number
