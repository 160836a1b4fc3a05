"""The record that every algorithm fills in, and what it is handed when it runs."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numbaconv.spec import ConvSpec

__all__ = ["Algorithm", "Operands", "Runner"]


class Operands(NamedTuple):
    """The arrays of one call, in canonical form (see :mod:`numbaconv.spec`), native and aligned.

    On a device they are shadows (see :mod:`numbaconv.arrays`).
    """

    input: np.ndarray
    weight: Any  # what pack() returned
    bias: np.ndarray | None  # (groups, out_channels / groups), any dtype
    residual: np.ndarray | None  # the result's shape, any dtype
    output: np.ndarray  # of the spec's out dtype, apart from all others
    stream: Any = None


Runner = Callable[[Operands], None]


@dataclass(frozen=True)
class Algorithm:
    """One way to compute a convolution on one backend.

    Attributes
    ----------
    name, backend, summary
        How tables and messages call it, and one line on what it does.
    why_not
        A sentence why this problem is beyond it, or None.
    cost
        Predicted seconds of one call, from a formula that its module states.
    pack
        Brings a canonical weight into the form that the kernel reads, on a stream if it is on a device.
    prepare
        Fixes everything that depends on the problem alone and returns the function that computes.
    sums_directly
        Whether it adds up the products themselves, as ``algorithm="accurate"`` asks.
    summation
        Algorithms of the same one give the same bits: "taps" adds up the products of a channel block tap by tap, and then the
        bias and the residual. None is an order of its own.
    packing_cost
        Predicted seconds of :attr:`pack`, which calls with no prepared operator spend too.
    packer
        What packs weights in compiled code, of a kind that the backend knows: None where only :attr:`pack` does.
    packing
        What the form of a packed weight depends on, beside the weight and the compute dtype: where equal, it is packed once.
    """

    name: str
    backend: str
    summary: str
    why_not: Callable[[ConvSpec], str | None]
    cost: Callable[[ConvSpec], float]
    pack: Callable[[ConvSpec, np.ndarray, Any], Any]
    prepare: Callable[[ConvSpec], Runner]
    packing_cost: Callable[[ConvSpec], float] = lambda spec: 0.0
    sums_directly: bool = True
    summation: str | None = None
    packer: Callable[[ConvSpec], Any] = lambda spec: None
    packing: Callable[[ConvSpec], Hashable] = lambda spec: None

    def seconds(self, spec: ConvSpec, prepared: bool) -> float:
        """Predict what a call takes, with the packing of its weight unless a prepared operator did that before."""
        return self.cost(spec) + (0.0 if prepared else self.packing_cost(spec))
