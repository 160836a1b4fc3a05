"""What no kernel exceeds: the speed of the bare microkernel on data in the L1 cache, and the bandwidths of caches and memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from numbaconv.bench.case import number_type
from numbaconv.bench.machine import caches

__all__ = ["Roofs", "measure_roofs"]

PANEL_BYTES = 16 * 1024  # of weights in the bare microkernel's loop: half of a usual L1 cache
ITEM = 4  # bytes of what is copied at a time


@dataclass(frozen=True)
class Roofs:
    """Speeds of a machine, on some threads.

    Attributes
    ----------
    tiles
        GFLOP/s of the bare microkernel, by register tile; empty for numbers that it does not take.
    bandwidths
        GB/s read and written by copies, by where the data are.
    """

    tiles: dict[str, float]
    bandwidths: dict[str, float]

    @property
    def peak(self) -> float | None:
        """The most GFLOP/s that a tile reaches."""
        return max(self.tiles.values(), default=None)


def measure_roofs(threads: int, dtype: str, seconds: float) -> Roofs:
    """Measure in this process, which was started for so many threads, each speed for some seconds."""
    from numbaconv.cpu.target import tiles

    summed = _summed_in(number_type(dtype))
    found = {} if summed is None else {f"{t.MR} x {t.NR}": _microkernel(t, summed, threads, seconds) for t in tiles()}
    return Roofs(found, {level: _bandwidth(size, threads, seconds) for level, size in _copy_sizes(threads).items()})


def _summed_in(dtype: np.dtype) -> np.dtype | None:
    """The dtype that the microkernel computes in for operands of another, or None where it computes in none that is real."""
    if dtype.kind in "biuc":
        return None
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


@cache
def _loop() -> Callable[..., None]:
    """What calls a microkernel again and again, on every thread with its own data."""
    import numba

    from numbaconv.cpu.simd import call

    @numba.njit(parallel=True)
    def multiply(micro, addresses, table, taps, row, step, repeats):  # type: ignore[no-untyped-def]
        for thread in numba.prange(addresses.shape[0]):
            inputs, weights, sums = addresses[thread]
            for _ in range(repeats):
                call(micro, inputs, table, taps, weights, sums, row, step, 0)

    return multiply


def _microkernel(tile: Any, dtype: np.dtype, threads: int, seconds: float) -> float:
    """Measure the GFLOP/s of a tile."""
    from numbaconv.cpu.microkernel import along_channels
    from numbaconv.cpu.target import vector_bytes

    item = dtype.itemsize
    width = tile.NR * vector_bytes() // item
    taps = PANEL_BYTES // (width * item)
    micro = along_channels(tile, dtype)
    sizes = taps * tile.MR, taps * width, tile.MR * width
    arrays = [[_on_a_page(size, dtype) for size in sizes] for _ in range(threads)]
    addresses = np.array([[array.ctypes.data for array in line] for line in arrays])
    offsets = np.arange(taps) * (tile.MR * item)

    def run(repeats: int) -> None:
        _loop()(micro.address, addresses, offsets.ctypes.data, taps, width * item, item, repeats)

    run(1)
    flops = 2 * threads * taps * tile.MR * width
    repeats = 1 + int(seconds / 10 * 1e11 * threads / flops)
    return flops * repeats / _fastest(lambda: run(repeats), seconds) * 1e-9


def _on_a_page(count: int, dtype: np.dtype) -> np.ndarray:
    """That many ones, which begin on a page."""
    memory = np.ones(count + 4096 // dtype.itemsize, dtype)
    first = -memory.ctypes.data % 4096 // dtype.itemsize
    return memory[first : first + count]


def _fastest(function: Callable[[], Any], seconds: float) -> float:
    """The least seconds of a call: a roof is what the machine does when nothing else disturbs it."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def _copy_sizes(threads: int) -> dict[str, int]:
    """For each level the bytes of an array, two of which for each thread lie there and in no cache below it."""
    found = caches()
    sizes = {"L2": found.get("L2", 2**20) // 4, "L3": found.get("L3", 2**24) // 4 // threads}
    return {**sizes, "memory": max(2**26, 4 * found.get("L3", 2**24) // threads)}


def _bandwidth(size: int, threads: int, seconds: float) -> float:
    """Measure the GB/s, of bytes read and bytes written, of threads that copy arrays of a size."""
    repeats = max(1, int(seconds / 5 * 10e9 / size))

    def copy_all(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repeats):
            np.copyto(*pair)

    pairs = [(np.ones(size // ITEM, np.float32), np.ones(size // ITEM, np.float32)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        best = _fastest(lambda: list(pool.map(copy_all, pairs)), seconds)
    return 2 * size * repeats * threads / best * 1e-9
