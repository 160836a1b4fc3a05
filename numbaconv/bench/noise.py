"""From the seconds of blocks to what can be said: medians, quartiles, ratios, and the noise within which a ratio means nothing.

Blocks of all libraries lie in rounds, so that the same number of each is of the same moment of the machine. The noise of a
layer is what two processes that do the same thing show: how far the ratio of their medians is from 1, or half the range of the
middle half of the ratios of single rounds, whichever is more. All ratios are compared as logarithms, so that twice as fast is as
far from 1 as half as fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from numbaconv.bench.libraries import AGAIN, OURS

__all__ = ["Blocks", "Ratio", "Spread", "geometric_mean", "noise_floor", "ratio", "self_noise", "spread", "total"]

LEAST = 3  # blocks from which a spread is known
Blocks = Mapping[str, Sequence[float]]  # seconds by library


class Spread(NamedTuple):
    """The median and the quartiles of some numbers."""

    median: float
    low: float
    high: float

    @property
    def half(self) -> float:
        """Half the range between the quartiles."""
        return (self.high - self.low) / 2


class Ratio(NamedTuple):
    """The time of the best peer over ours, and how far from 1 chance alone brings such a ratio: 0.05 is 5 %."""

    value: float
    noise: float
    peer: str = ""

    @property
    def verdict(self) -> str:
        """Whether we are faster, ``+``, or slower, ``-``; ``~`` where the noise hides which, ``?`` where it is not known."""
        if math.isnan(self.noise):
            return "?"
        if abs(math.log(self.value)) <= math.log1p(self.noise):
            return "~"
        return "+" if self.value > 1 else "-"

    def __str__(self) -> str:
        plus_minus = "?" if math.isnan(self.noise) else f"{self.value * self.noise:.2f}"
        return f"{self.value:.2f} ± {plus_minus} {self.verdict}"


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles; these are NaN for less than 3 values."""
    if len(values) < LEAST:
        return Spread(float(np.median(values)), math.nan, math.nan)
    low, median, high = (float(q) for q in np.quantile(values, (0.25, 0.5, 0.75)))
    return Spread(median, low, high)


def self_noise(blocks: Blocks) -> float:
    """Return the noise of what was measured, by what was measured twice; NaN where it was not."""
    if not blocks.get(OURS) or not blocks.get(AGAIN):
        return math.nan
    return _off(_log_ratio(blocks, AGAIN), _log_ratios(blocks, AGAIN))


def noise_floor(all_blocks: Sequence[Blocks]) -> float:
    """Return the median of the layers' noises: no ratio is told from 1 by less, even where a layer was quiet by chance."""
    known = [noise for noise in map(self_noise, all_blocks) if not math.isnan(noise)]
    return float(np.median(known)) if known else math.nan


def ratio(blocks: Blocks, floor: float) -> Ratio | None:
    """Return the ratio of the fastest peer, or None where there is none, or no time of ours.

    Its noise is the most of the layer's own, the floor, and half the range of the middle half of the rounds' ratios.
    """
    peers = {name: float(np.median(times)) for name, times in blocks.items() if times and name not in (OURS, AGAIN)}
    if not peers or not blocks.get(OURS):
        return None
    best = min(peers, key=peers.__getitem__)
    noises = self_noise(blocks), floor, _off(0.0, _log_ratios(blocks, best))
    return Ratio(math.exp(_log_ratio(blocks, best)), _most(noises), best)


def geometric_mean(all_blocks: Sequence[Blocks]) -> Ratio | None:
    """Return the geometric mean of the layers' ratios, each to its own best peer, with the noise of that mean."""
    found = [(blocks, r) for blocks in all_blocks if (r := ratio(blocks, 0.0))]
    if not found:
        return None
    mean = float(np.mean([math.log(r.value) for _, r in found]))
    noise = _off(0.0, _mean_of_rounds([_log_ratios(blocks, r.peer) for blocks, r in found]))
    if all(blocks.get(AGAIN) for blocks, _ in found):
        by_round = _mean_of_rounds([_log_ratios(blocks, AGAIN) for blocks, _ in found])
        itself = _off(float(np.mean([_log_ratio(blocks, AGAIN) for blocks, _ in found])), by_round)
    else:
        itself = math.nan
    return Ratio(math.exp(mean), _most((noise, itself)))


def total(all_blocks: Sequence[Blocks], counts: Sequence[int]) -> dict[str, list[float]]:
    """Return the seconds of a network, round by round, by the libraries that have all of its layers."""
    everywhere = [name for name in all_blocks[0] if all(blocks.get(name) for blocks in all_blocks)] if all_blocks else []
    return {
        name: [
            sum(count * s for count, s in zip(counts, seconds, strict=True))
            for seconds in zip(*(blocks[name] for blocks in all_blocks), strict=False)  # an interrupted round is left out
        ]
        for name in everywhere
    }


def _log_ratio(blocks: Blocks, other: str) -> float:
    return math.log(float(np.median(blocks[other])) / float(np.median(blocks[OURS])))


def _log_ratios(blocks: Blocks, other: str) -> list[float]:
    return [math.log(a / b) for a, b in zip(blocks[other], blocks[OURS], strict=False)]


def _mean_of_rounds(rows: Sequence[Sequence[float]]) -> list[float]:
    return [float(np.mean(column)) for column in zip(*rows, strict=False)]


def _off(log_ratio: float, log_ratios: Sequence[float]) -> float:
    """How far a ratio is from 1, or its rounds from each other."""
    if len(log_ratios) < LEAST:
        return math.nan
    return math.expm1(max(abs(log_ratio), spread(log_ratios).half))


def _most(noises: Sequence[float]) -> float:
    """The largest, and NaN where one is not known."""
    return math.nan if any(map(math.isnan, noises)) else max(noises)
