"""What every test on a GPU needs: a GPU, and a context that the test before has left whole.

With ``--emulated 9.0`` kernels are compiled for such a GPU and their PTX is run by :mod:`emulator`, without one.
"""

import os
import sys

import pytest

from numbaconv.cuda import why_unavailable

NEEDS_A_DRIVER = {"test_gpu_driver", "test_gpu_families", "test_gpu_graphs", "test_gpu_streams"}


def pytest_addoption(parser):
    parser.addoption("--emulated", metavar="CAPABILITY", help="run PTX for GPUs of a compute capability, without one")


@pytest.fixture(autouse=True)
def gpu(request):
    if request.config.getoption("--emulated"):
        yield from _emulated(request)
        return
    reason = why_unavailable()
    if reason is not None:
        pytest.skip(reason)
    from numba import cuda

    yield cuda
    try:
        cuda.synchronize()
    except Exception as broken:  # an illegal address, for example: every later call in this process would fail as well
        verdict = f"{request.node.nodeid} broke the GPU's context: {broken}"
        if "PYTEST_XDIST_WORKER" in os.environ:
            print(verdict, file=sys.stderr, flush=True)
            os._exit(3)  # another worker takes over, with a context of its own
        pytest.exit(verdict, 3)


def _emulated(request):
    from emulator.device import emulated
    from numba import cuda

    if request.module.__name__ in NEEDS_A_DRIVER or "family" in request.fixturenames:
        pytest.skip("the emulator has Numba's arrays only, and no streams")
    major, minor = map(int, request.config.getoption("--emulated").split("."))
    with emulated((major, minor)):
        yield cuda


@pytest.fixture
def long_way(monkeypatch):
    """How often calls on the GPU went the long way."""
    from helpers import count_long_ways

    return count_long_ways(monkeypatch)


@pytest.fixture(params=["numba", "cupy", "torch"])
def family(request):
    """A library whose arrays live on the GPU."""
    from families import FAMILIES

    return FAMILIES[request.param]()
