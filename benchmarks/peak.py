"""The machine's FMA peak: the bare microkernel, on data in the L1 cache, on some threads of this process.

``numbaconv.bench.roofs`` measures the same, but these benchmarks run on commits that do not have it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

PANEL_BYTES = 16 * 1024  # of weights in the bare microkernel's loop: half of a usual L1 cache
ITEM = 4  # bytes of a float32


def tiles_gflops(threads: int, seconds: float) -> dict[str, float]:
    """Return GFLOP/s by register tile, each measured for some seconds; the most is the peak.

    Raises
    ------
    ImportError, AttributeError, TypeError
        If the package has no such microkernel, as its first versions.
    """
    from numbaconv.cpu.target import tiles

    return {f"{tile.MR} x {tile.NR}": microkernel_gflops(tile, threads, seconds) for tile in tiles()}


@cache
def loop() -> Callable:
    """Return what calls a microkernel again and again, on every thread with its own data."""
    import numba

    from numbaconv.cpu.simd import call

    @numba.njit(parallel=True)
    def multiply(micro, addresses, table, taps, row, step, repeats):
        for thread in numba.prange(addresses.shape[0]):
            inputs, weights, sums = addresses[thread]
            for _ in range(repeats):
                call(micro, inputs, table, taps, weights, sums, row, step, 0)

    return multiply


def microkernel_gflops(tile: Any, threads: int, seconds: float) -> float:
    """Measure the bare microkernel of a tile on data in the L1 cache."""
    from numbaconv.cpu.microkernel import along_channels
    from numbaconv.cpu.target import vector_bytes

    width = tile.NR * vector_bytes() // ITEM
    taps = PANEL_BYTES // (width * ITEM)
    micro = along_channels(tile, np.dtype(np.float32))
    sizes = taps * tile.MR, taps * width, tile.MR * width
    arrays = [[on_a_page(size) for size in sizes] for _ in range(threads)]
    addresses = np.array([[array.ctypes.data for array in line] for line in arrays])
    offsets = np.arange(taps) * (tile.MR * ITEM)

    def run(repeats: int) -> None:
        loop()(micro.address, addresses, offsets.ctypes.data, taps, width * ITEM, ITEM, repeats)

    run(1)
    flops = 2 * threads * taps * tile.MR * width
    repeats = 1 + int(seconds / 10 * 1e11 * threads / flops)
    return flops * repeats / fastest(lambda: run(repeats), seconds) * 1e-9


def on_a_page(count: int) -> np.ndarray:
    """Return that many ones, which begin on a page."""
    memory = np.ones(count + 1024, np.float32)
    first = -memory.ctypes.data % 4096 // ITEM
    return memory[first : first + count]


def fastest(function: Callable[[], Any], seconds: float) -> float:
    """Return the least seconds of a call: the peak is what the machine does when nothing else disturbs it."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)
