"""What every test on a GPU needs: a GPU, and a context that the test before has left whole."""

import os
import sys

import pytest

from numbaconv.cuda import why_unavailable


@pytest.fixture(autouse=True)
def gpu(request):
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
