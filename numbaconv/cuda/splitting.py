"""Split-K: where there are too few tiles for the GPU, several blocks sum parts of the products of one, and a last launch adds.

The parts are added in their order, so that the same call gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from numbaconv.algorithm import Operands
from numbaconv.cuda.geometry import geometry
from numbaconv.cuda.launch import convolve
from numbaconv.cuda.memory import scratch
from numbaconv.cuda.storing import form_of
from numbaconv.cuda.target import BANDWIDTH, LATENCY
from numbaconv.spec import ConvSpec

__all__ = ["Cut", "best_cut", "convolve_split", "reduction_seconds"]

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
THREADS = 256  # of a block that adds


class Cut(NamedTuple):
    """How a problem is cut: into tiles, and the products of each into parts."""

    tile: Any
    splits: int


def best_cut(tiles: Iterable[Any], most: int, seconds: Callable[[Cut], float]) -> Cut:
    """Return the cut that takes least, into at most so many parts; the first of equals."""
    return min((Cut(tile, splits) for tile in tiles for splits in SPLITS if splits <= max(1, most)), key=seconds)


def reduction_seconds(spec: ConvSpec, splits: int) -> float:
    """Predict the time of the last launch, and of writing and reading the partial sums."""
    if splits == 1:
        return 0.0
    return LATENCY + 2 * splits * math.prod(spec.output_shape) * spec.dtypes.compute.itemsize / BANDWIDTH


def convolve_split(
    make: Callable, spec: ConvSpec, ops: Operands, blocks: int, threads: int, splits: int, more: tuple = ()
) -> None:
    """Launch ``make(compute type, form, activation)`` with so many blocks for each part of the products, and add the parts."""
    if splits == 1 or not ops.output.size:
        convolve(_in_form(make, ops), spec, ops, geometry(spec), blocks, threads, more)
        return
    from numbaconv.cuda.kernels.splitting import reduction

    sums = _partial_sums(spec, splits, ops.stream)
    dtypes = spec.dtypes._replace(out=spec.dtypes.compute)
    bare = replace(spec, has_bias=False, has_residual=False, activation=None, dtypes=dtypes)
    g = geometry(bare)._replace(splits=splits)
    parts = ops._replace(bias=None, residual=None, output=sums)
    convolve(_in_form(make, parts), bare, parts, g, splits * blocks, threads, more)
    elements = math.prod(ops.output.shape)
    last = geometry(spec)._replace(splits=splits)
    convolve(reduction, spec, ops._replace(input=sums, weight=sums), last, -(-elements // THREADS), min(THREADS, elements))


def _in_form(make: Callable, ops: Operands) -> Callable:
    """Return ``make`` for the form of the operands' result."""
    return lambda compute, activation: make(compute, form_of(ops), activation)


def _partial_sums(spec: ConvSpec, splits: int, stream: Any) -> np.ndarray:
    """Return room for the result as often as that, in its order in memory, as one of so many times the images."""
    batch, groups, outs, *size = spec.output_shape
    if not spec.channels_last:
        return scratch((splits * batch, groups, outs, *size), spec.dtypes.compute, stream)
    return scratch((splits * batch, *size, groups, outs), spec.dtypes.compute, stream).transpose(0, 4, 5, 1, 2, 3)
