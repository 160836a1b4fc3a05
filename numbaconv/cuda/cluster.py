"""PTX of sm_90's clusters: blocks that run at the same time, reach each other's shared memory, and are brought tiles together.

Blocks of a cluster are counted by their rank. What is said here in NumPy is what a cluster of one block does, which is all that
the simulator has.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from numbaconv.cuda import tma
from numbaconv.cuda.ptx import SHARED, instruction

__all__ = ["arrive_at", "load_pixels", "load_rows", "meet", "rank", "release_at"]

# Which of the cluster's blocks this one is.
rank = instruction("mov.u32 $0, %cluster_ctarank;", "r", "", lambda: np.zeros((1, 1), np.uint32))


def _meet() -> None:
    thread: Any = threading.current_thread()
    thread.syncthreads()


def _arrive_at(address: Any, of: Any) -> None:
    if of[0]:
        raise RuntimeError(f"there is no block {of[0]}: a simulated cluster has one")
    tma._arrive(address)


# All threads of all blocks wait for each other, and see what was written to shared memory before.
meet = instruction("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;", "", "", _meet, effects=True)


def _arriving(how: str) -> Any:
    there = ".reg .b32 there; mapa.shared::cluster.u32 there, $0, $1;"
    text = f"{{ {there} mbarrier.arrive.{how}shared::cluster.b64 _, [there]; }}"
    return instruction(text, "", f"{SHARED}r", _arrive_at, effects=True)


# At the barrier which lies in the shared memory of the block of a rank where this one's lies in its own. The second way waits
# until the other blocks see what the thread read and wrote, which takes as long as that is on its way to memory.
arrive_at, release_at = _arriving(""), _arriving("release.cluster.")


# ---------------------------------------------------------------- tiles that go to several blocks

# As tma.load_pixels and tma.load_rows, for the blocks whose ranks are the bits of a mask, the last operand: the tile goes to the
# same place of the shared memory of each, whose barrier there counts its bytes.
_MULTICAST = f"{tma.LOAD}.multicast::cluster"
_MASK = ".reg .b16 mask; cvt.u16.u32 mask, {};"
_PIXELS = f"{_MULTICAST.format('4d', 'im2col')} [$0], [$1, {{$2, $3, $4, $5}}], [$6], {{right, down}}, mask;"
_ROWS = f"{_MULTICAST.format('3d', 'tile')} [$0], [$1, {{$2, $3, $4}}], [$5], mask;"

load_pixels = instruction(
    f"{{ {tma.OFFSETS} {_MASK.format('$9')} {_PIXELS} }}",
    "", f"{SHARED}lrrrr{SHARED}rrr", lambda *operands: tma._load_pixels(*operands[:-1]), effects=True,
)  # fmt: skip
load_rows = instruction(
    f"{{ {_MASK.format('$6')} {_ROWS} }}",
    "", f"{SHARED}lrrr{SHARED}r", lambda *operands: tma._load_rows(*operands[:-1]), effects=True,
)  # fmt: skip
