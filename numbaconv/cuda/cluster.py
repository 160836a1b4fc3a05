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

__all__ = ["arrive_at", "load_pixels", "load_rows", "meet", "meet_ready", "rank"]

# Which of the cluster's blocks this one is.
rank = instruction("mov.u32 $0, %cluster_ctarank;", "r", "", lambda: np.zeros((1, 1), np.uint32))


def _meet() -> None:
    thread: Any = threading.current_thread()
    thread.syncthreads()


def _arrive_at(address: Any, of: Any) -> None:
    if of[0]:
        raise RuntimeError(f"there is no block {of[0]}: a simulated cluster has one")
    tma._arrive(address)


# All threads of all blocks wait for each other, and see what was written to shared memory before. `meet_ready` is for those who
# have but made barriers ready, which is fenced: the other waits for all that is on its way to memory.
_WAIT = "barrier.cluster.wait.acquire;"
meet = instruction(f"barrier.cluster.arrive.release; {_WAIT}", "", "", _meet, effects=True)
meet_ready = instruction(f"barrier.cluster.arrive.relaxed; {_WAIT}", "", "", _meet, effects=True)

# At the barrier which lies in the shared memory of the block of a rank where this one's lies in its own. It orders nothing but
# what this block sees: what other blocks may overwrite was read before.
_THERE = ".reg .b32 there; mapa.shared::cluster.u32 there, $0, $1;"
arrive_at = instruction(
    f"{{ {_THERE} mbarrier.arrive.shared::cluster.b64 _, [there]; }}", "", f"{SHARED}r", _arrive_at, effects=True
)


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
