"""Clusters of blocks: their instructions run by :mod:`emulator`, and what it does not let pass."""

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from emulator.device import ARENA, emulated
from emulator.memory import FaultError
from numba import cuda, float32, int64, uint32
from offline import ptx_of

from numbaconv.cuda import cluster, launch, ptx, tma

THREADS, BLOCKS = 64, 6


@pytest.fixture
def gpu():
    with emulated((9, 0)) as driver:
        yield driver


def zeros():
    stored = ARENA.empty((BLOCKS, THREADS), np.float32)
    stored[...] = 0
    return stored


def run(kernel, *arrays, blocks=2):
    kernel.cluster = blocks
    launch.launch(kernel, BLOCKS, THREADS, None, *arrays)


def telling(ready=True, waits=True, stays=True, arrivals=THREADS):
    """A kernel in which all threads of a cluster's other block arrive at a block's barrier before it stores."""

    def kernel(out):
        barrier = cuda.shared.array(1, int64)
        at, thread, rank = ptx.shared_address(barrier), cuda.threadIdx.x, cluster.rank()
        if thread == 0:
            tma.prepare(at, uint32(arrivals))
            tma.fence_barriers()
        if ready:
            cluster.meet()
        cluster.arrive_at(at, uint32(rank ^ uint32(1)))
        if waits:
            tma.wait(at, uint32(0))
        out[cuda.blockIdx.x * THREADS + thread] = rank + 1
        if stays:
            cluster.meet()

    return kernel


def test_blocks_of_a_cluster_tell_each_other(gpu):
    out = zeros()
    run(telling(), out)
    np.testing.assert_array_equal(out, np.tile([[1], [2]], (BLOCKS // 2, THREADS)))


def test_ranks_count_neighbours(gpu):
    out = zeros()

    def kernel(out):
        out[cuda.blockIdx.x * THREADS + cuda.threadIdx.x] = cluster.rank()
        cluster.meet()

    run(kernel, out, blocks=3)
    np.testing.assert_array_equal(out[:, 0], [0, 1, 2] * 2)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"ready": False}, "nobody has made ready|that another thread made"),
        ({"arrivals": THREADS + 1}, "does not end"),
        ({"waits": False, "stays": False}, "of a block that has ended|a phase is not over"),
    ],
)
def test_blocks_that_do_not_wait_for_each_other(gpu, wrong, fault, monkeypatch):
    monkeypatch.setattr("emulator.block.MOST_TURNS", 1000)
    with pytest.raises((FaultError, AssertionError), match=fault):
        run(telling(**wrong), zeros())


def test_a_block_outside_of_the_cluster(gpu):
    def kernel(out):
        barrier = cuda.shared.array(1, int64)
        cluster.arrive_at(ptx.shared_address(barrier), uint32(2))
        out[0] = 0

    with pytest.raises(FaultError, match="no such block in the cluster"):
        run(kernel, zeros())


def meeting(threads, number_of_others):
    """A kernel whose first warp reads what the second one wrote, after a barrier for so many threads."""
    first, second, warp = ptx.meeting(3, threads), ptx.meeting(number_of_others, threads), THREADS // 2

    def kernel(out):
        shared = cuda.shared.array(THREADS, float32)
        thread = cuda.threadIdx.x
        shared[thread] = thread
        if thread < warp:
            first()
            out[thread] = shared[thread ^ 1] + shared[thread + warp]
        elif threads > warp:
            second()

    return kernel


def test_parts_of_a_block_meet(gpu):
    out, half = zeros(), THREADS // 2
    run(meeting(THREADS, 3), out, blocks=1)
    np.testing.assert_array_equal(out[0, :half], (np.arange(half) ^ 1) + np.arange(half) + half)
    with pytest.raises(FaultError, match="a race: a word is read that another thread has written"):
        run(meeting(half, 3), zeros(), blocks=1)
    with pytest.raises(FaultError, match="barriers that others do not come to"):
        run(meeting(THREADS, 4), zeros(), blocks=1)


def test_kernels_say_how_large_their_clusters_are():
    kernel = telling()
    kernel.cluster = 2
    text = ptx_of(kernel, launch.signature((np.zeros(1, np.float32),)), (9, 0, "a"))
    entry = text[text.index(".visible .entry") :]
    assert entry[entry.index(")") :].split("\n{")[0].split() == [")", ".explicitcluster", ".reqnctapercluster", "2,", "1,", "1"]
