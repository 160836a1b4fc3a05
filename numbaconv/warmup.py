"""``numbaconv warmup``: kernels compiled ahead into the cache on disk, by calls like those that will need them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numba.core import event

from numbaconv import dtypes, functional, prepared
from numbaconv.networks import Layer, layers

__all__ = ["USUAL", "Call", "Warmed", "calls", "compiled_by", "shown", "warm"]

# Filters of pictures, the kinds of layers that networks have, and one spatial axis; unless told otherwise.
USUAL = (
    "1x1x256x256,1,3x3,p1", "1x3x256x256,8,5x5,p2", "1x3x224x224,64,7x7,s2,p3", "1x3x224x224,32,3x3,s2,p1",
    "1x64x56x56,64,3x3,p1", "1x64x56x56,256,1x1", "1x256x56x56,512,1x1,s2", "1x128x56x56,128,3x3,s2,p1",
    "1x256x14x14,256,3x3,p1", "1x512x7x7,512,3x3,p1", "1x96x112x112,96,3x3,s2,p1,g96", "1x144x56x56,144,3x3,p1,g144",
    "1x16x1000,32,5,p2",
)  # fmt: skip
LAYOUTS = ("NCHW", "NHWC")


class Call(NamedTuple):
    """What is called once: a layer in a dtype, with its channels first or last, functional or prepared."""

    layer: Layer
    dtype: np.dtype
    channels_last: bool
    is_prepared: bool

    def __str__(self) -> str:
        order = "channels last" if self.channels_last else "channels first"
        return f"{self.layer.word}, {self.dtype.name}, {order}, {'prepared' if self.is_prepared else 'functional'}"

    def run(self) -> None:
        """Call it, on zeros."""
        ndim, options = self.layer.ndim, dict(self.layer.options)
        x, w = np.zeros(self.layer.input, self.dtype), np.zeros(self.layer.weight, self.dtype)
        if self.channels_last:
            x = np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1)
        if self.is_prepared:
            getattr(prepared, f"Conv{ndim}d")(w, **options, backend="cpu")(x)
        else:
            getattr(functional, f"conv{ndim}d")(x, w, **options, backend="cpu")


class Warmed(NamedTuple):
    """A call that was made, and how many functions it compiled."""

    call: Call
    compiled: int


def calls(words: Sequence[str], names: Sequence[str], layouts: Sequence[str] = LAYOUTS) -> list[Call]:
    """Return the calls for layers or networks (by default :data:`USUAL`) in dtypes and orders in memory, each once.

    Raises
    ------
    ValueError, TypeError
        For a word that is no layer or network, and for a dtype that no kernel computes in.
    """
    found = [layer for word in words or USUAL for layer in layers(word)]
    distinct = {layer.word: layer for layer in found}.values()
    kinds = [dtypes.check(name, "dtype") for name in names]
    return [
        Call(layer, kind, layout == "NHWC", is_prepared)
        for kind, layer, layout, is_prepared in itertools.product(kinds, distinct, layouts, (False, True))
    ]


def warm(asked: Sequence[Call]) -> Iterator[Warmed]:
    """Make calls one after the other, each of which leaves what it compiled in the cache on disk."""
    for call in asked:
        yield Warmed(call, compiled_by(call.run))


def shown(asked: Sequence[Call]) -> Iterator[Warmed]:
    """Make calls, and show how far that is: a bar on a terminal, where rich is installed, or else a line for each."""
    if sys.stderr.isatty() and find_spec("rich"):
        yield from _with_a_bar(asked)
        return
    for number, warmed in enumerate(warm(asked), 1):
        what = f"compiled {warmed.compiled}" if warmed.compiled else "nothing to compile"
        print(f"[{number}/{len(asked)}] {warmed.call}: {what}", file=sys.stderr, flush=True)
        yield warmed


def _with_a_bar(asked: Sequence[Call]) -> Iterator[Warmed]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(asked))
        for call in asked:
            progress.update(task, description=str(call))
            yield next(warm([call]))
            progress.advance(task)


def compiled_by(function: Callable[[], Any]) -> int:
    """Return how many functions of kernels Numba compiles meanwhile, rather than load them."""
    with event.install_recorder("numba:compile") as recorder:
        function()
    return sum(entry.is_start for _, entry in recorder.buffer)
