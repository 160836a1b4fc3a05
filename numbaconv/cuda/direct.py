"""Direct convolution on the GPU: one thread an output element; takes every problem."""

from __future__ import annotations

import math

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cuda.geometry import geometry
from numbaconv.cuda.launch import convolve
from numbaconv.cuda.target import BANDWIDTH, LATENCY, RATE
from numbaconv.spec import ConvSpec

__all__ = ["DIRECT"]

THREADS = 256  # of a block; any number would do
EFFICIENCY = 0.03  # the share of the GPU's arithmetic rate that two loads and two addresses a product leave
PRODUCT = 3e-8  # seconds of a thread's product, which waits for its loads: a guess


def prepare(spec: ConvSpec) -> Runner:
    """Return what launches the kernel."""
    g = geometry(spec)
    elements = math.prod(spec.output_shape)
    threads = max(1, min(THREADS, elements))

    def run(ops: Operands) -> None:
        from numbaconv.cuda.kernels.direct import direct

        convolve(direct, spec, ops, g, -(-elements // threads), threads)

    return run


def cost(spec: ConvSpec) -> float:
    """Seconds: a launch, and the longest of the arithmetic, a thread's products one by one, and the memory traffic."""
    one_by_one = PRODUCT * math.prod(spec.weight_shape[2:])
    arithmetic = 2 * spec.multiply_adds * spec.dtypes.compute.itemsize / 4 / (EFFICIENCY * RATE)
    return LATENCY + max(arithmetic, one_by_one, spec.bytes_moved / BANDWIDTH)


DIRECT = Algorithm(
    name="direct",
    backend="cuda",
    summary="one thread an output element; any problem",
    why_not=lambda spec: None,
    cost=cost,
    pack=lambda spec, weight, stream: weight,
    prepare=prepare,
)
