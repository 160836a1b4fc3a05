"""What a call takes beside its operands, its result and packed weights, and that it gives all of it back."""

import json

import pytest
from helpers import CPU_ALGORITHMS, run_python, some_of

MIB = 2**20
LIMIT = 6 * MIB  # of a thread: docs/guide/threads.md says so
# Problems that ask for much: rows that are long, many channels, large kernels, edges that are read from afar.
DENSE = [
    ((1, 64, 60, 60), (70, 64, 3, 3), {"padding": 1}),
    ((1, 1, 1, 40000), (70, 1, 1, 9), {"padding": (0, 4)}),
    ((1, 32, 1, 40000), (70, 32, 1, 3), {"padding": (0, 1)}),
    ((1, 3, 160, 160), (256, 3, 1, 1), {}),
    ((1, 512, 14, 14), (16, 512, 7, 7), {"padding": 3}),
    ((1, 2048, 7, 7), (32, 2048, 3, 3), {"padding": 1, "padding_mode": "reflect"}),
]
DEPTHWISE = [
    ((1, 32, 300, 300), (32, 1, 3, 3), {"padding": 1, "groups": 32, "padding_mode": mode})
    for mode in ("zeros", "reflect", "circular")
] + [((1, 16, 1, 20000), (16, 1, 1, 5), {"padding": (0, 2), "groups": 16})]
PROBLEMS = {
    "depthwise": DEPTHWISE,
    "depthwise_blocked": DEPTHWISE,
    "pointwise": [((1, 2048, 20, 20), (32, 2048, 1, 1), {}), ((1, 3, 160, 160), (256, 3, 1, 1), {})],
}
PEAKS = """
import json, sys, tracemalloc
import numba, numpy as np, numbaconv as nc
from scarce import trace_kernels
from test_memory_bounds import DENSE, PROBLEMS

trace_kernels()
algorithm, found = sys.argv[1], []
for shape, weight, options in PROBLEMS.get(algorithm, DENSE):
    for layout in ("NCHW", "NHWC"):
        x = np.ones(shape if layout == "NCHW" else [shape[axis] for axis in (0, 2, 3, 1)], np.float32)
        w = np.ones(weight, np.float32)
        try:
            op = nc.Conv2d(w, **options, layout=layout, algorithm=algorithm, backend="cpu")
            out = op(x)
        except ValueError as error:
            assert str(error).startswith("algorithm: expected one that can take this problem")
            continue
        op(x, out=out)
        numba.set_num_threads(1)  # what it takes is that of one task then, though cut for several
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        op(x, out=out)
        after, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        found.append((f"{shape} {weight} {options} {layout}", peak - before, after - before))
print(json.dumps(found))
"""


@pytest.mark.parametrize("algorithm", some_of(CPU_ALGORITHMS, 0, 2, 6))
def test_what_threads_work_on_is_small(algorithm):
    found = json.loads(run_python(PEAKS, algorithm, timeout=280).stdout)
    assert found
    for problem, peak, left in found:
        print(problem, f"{peak / MIB:.2f} MiB, {left} bytes left")
        assert peak <= LIMIT, problem
        assert left < 2000, problem


LEAKS = """
import gc, resource
import numpy as np, numbaconv as nc
from numba.core.runtime import rtsys

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()

w, depthwise = np.ones((16, 16, 3, 3), np.float32), np.ones((16, 1, 3, 3), np.float32)
op, transposed = nc.Conv2d(w, padding=1), nc.ConvTranspose2d(w, stride=2)
far = np.ones((1, 16, 40, 41), ">f4")  # the long way, every time
far_view = np.ones((1, 40, 41, 32), np.float32).transpose(0, 3, 1, 2)[:, ::2]


def call(i):
    x = np.ones((1, 16, 40 + i, 41), np.float32)
    for y in (nc.conv2d(x, w, padding=1), op(x), transposed(x), nc.conv2d(x, depthwise, groups=16), op(far), op(far_view)):
        assert y.size
    nc.grad.conv2d_input(x.shape, w, x[:, :, 2:, 2:])
    nc.grad.conv2d_weight(x, w.shape, x[:, :, 2:, 2:])


def counts():
    gc.collect()
    stats = rtsys.get_allocation_stats()
    return stats.alloc - stats.free, stats.mi_alloc - stats.mi_free


for kind, step in (("the same", 0), ("new shapes", 1)):
    for i in range(30):
        call(i * step)
    alive, before = counts(), resident()
    for i in range(1000 if not step else 60):
        call(30 + i * step if step else 0)
    assert counts() == alive, kind
    grown = resident() - before
    print(kind, grown)
    assert grown < (4 if not step else 12) * 2**20, f"{kind}: {grown} bytes more"
"""


def test_a_thousand_calls_leave_nothing_behind():
    """New shapes leave a plan each, of which a bounded number is kept."""
    print(run_python(LEAKS, env={"NUMBA_NRT_STATS": "1"}, timeout=280).stdout)
