"""What this machine's CPU offers to the kernels: the width of its vectors, the tiles that its registers hold, and its threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

import llvmlite.binding
import numba

from numbaconv.errors import bad_value

__all__ = ["NUM_THREADS", "SETTING", "Tile", "cores", "many_registers", "thread_limit", "threads", "tiles", "vector_bytes"]

NUM_THREADS = "NUMBACONV_NUM_THREADS"
SETTING = os.environ.get(NUM_THREADS, "")  # once, as NUMBACONV_BACKEND


@dataclass(frozen=True)
class Tile:
    """A register tile: MR output channels times NR vectors of positions, as accumulators.

    Its loop needs ``MR * NR`` registers for them and NR for a row of vectors; where the instruction set cannot broadcast from
    memory, one more for the scalar.
    """

    MR: int
    NR: int

    def __post_init__(self) -> None:
        assert self.registers <= 32

    @property
    def registers(self) -> int:
        """How many vector registers the tile takes."""
        return self.MR * self.NR + self.NR


# Of 32 registers (AVX-512; NEON, where LLVM keeps some for scalars), and of 16 (AVX2). Wide tiles load least; the others fit
# channels and positions better.
_TILES = {
    "avx512": (Tile(14, 2), Tile(8, 3), Tile(6, 4), Tile(28, 1), Tile(16, 1), Tile(4, 4), Tile(1, 8)),
    "neon": (Tile(12, 2), Tile(8, 3), Tile(6, 4), Tile(24, 1), Tile(16, 1), Tile(4, 4), Tile(1, 8)),
    "avx2": (Tile(6, 2), Tile(4, 3), Tile(12, 1), Tile(8, 1), Tile(2, 4), Tile(1, 6)),
}


@cache
def _features() -> frozenset[str]:
    """The features that Numba compiles for: the host's, or those of ``NUMBA_CPU_FEATURES``."""
    named = numba.config.CPU_FEATURES
    if named is not None:
        return frozenset(f[1:] for f in named.split(",") if f.startswith("+"))
    return frozenset(name for name, has in llvmlite.binding.get_host_cpu_features().items() if has)


@cache
def vector_bytes() -> int:
    """The bytes of a vector register that the kernels use."""
    return 64 if "avx512f" in _features() else 32 if {"avx2", "fma"} <= _features() else 16


assert all(tile.registers <= {"avx512": 32, "neon": 31, "avx2": 15}[name] for name, table in _TILES.items() for tile in table)


@cache
def many_registers() -> bool:
    """Whether there are 32 vector registers, and not 16."""
    return max(tile.registers for tile in tiles()) > 16


@cache
def tiles() -> tuple[Tile, ...]:
    """The tiles that this machine's registers hold."""
    x86 = {"sse2", "avx2", "avx512f"} & _features()
    return _TILES["neon" if not x86 else "avx512" if "avx512f" in x86 else "avx2"]


def cores() -> int:
    """How many cores this process has: what algorithms are chosen for, so that no number of threads changes a result's bits."""
    count: int = numba.config.NUMBA_DEFAULT_NUM_THREADS
    return count


def thread_limit() -> int | None:
    """Return how many threads the environment leaves to the kernels, or None where it does not say.

    Raises
    ------
    ValueError
        If that is no number of threads that Numba has.
    """
    if not SETTING:
        return None
    most = numba.config.NUMBA_NUM_THREADS
    limit = int(SETTING) if SETTING.isascii() and SETTING.isdigit() and len(SETTING) < 10 else 0
    if not 1 <= limit <= most:
        raise bad_value(NUM_THREADS, f"an int from 1 to {most}, the threads that Numba has", repr(SETTING))
    return limit


def threads() -> int:
    """How many threads kernels may have, however many are in use just now: what problems are cut for, which no bit depends on."""
    return thread_limit() or numba.config.NUMBA_NUM_THREADS
