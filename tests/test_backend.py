"""Where a call is computed: by argument, by block, by the environment, by the name of an algorithm."""

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import assert_conforms, random_array, run_python

import numbaconv as nc
from numbaconv import cuda, reference


@pytest.fixture
def reference_calls(monkeypatch):
    """A list that grows by one with each call that the reference computes."""
    calls, correlate = [], reference.correlate
    monkeypatch.setattr(reference, "correlate", lambda *args: calls.append(1) or correlate(*args))
    return calls


SMALL = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 2, 2), np.float32)


def test_backend_by_argument_and_block(reference_calls):
    def computed_by_reference(**options):
        reference_calls.clear()
        np.testing.assert_array_equal(nc.conv2d(*SMALL, **options), np.full((1, 3, 3, 3), 8))
        return bool(reference_calls)

    assert not computed_by_reference()
    assert computed_by_reference(backend="reference")
    with nc.use_backend("reference"):
        assert computed_by_reference()
        assert not computed_by_reference(backend="cpu")
        with nc.use_backend("cpu"):
            assert not computed_by_reference()
        assert computed_by_reference()
    assert not computed_by_reference()


IN_ENVIRONMENT = """
import threading
import numpy as np, numbaconv as nc
from numbaconv import reference
calls, correlate = [], reference.correlate
reference.correlate = lambda *args: calls.append(1) or correlate(*args)
x, w = np.ones((1, 2, 4, 4), np.float32), np.ones((3, 2, 2, 2), np.float32)
op = nc.Conv2d(w)
def by_reference(**options):
    calls.clear()
    nc.conv2d(x, w, **options)
    thread = threading.Thread(target=op, args=(x,))
    if not options:
        thread.start()
        thread.join()
    return len(calls)
"""


def test_backend_of_the_environment():
    checks = """
for _ in range(2):
    assert by_reference() == 2
    assert by_reference(backend="cpu") == 0
    with nc.use_backend("cpu"):
        assert by_reference() == 1  # the other thread's
"""
    run_python(IN_ENVIRONMENT + checks, env={"NUMBACONV_BACKEND": "reference"})
    run_python(IN_ENVIRONMENT + "assert by_reference() == 0", env={"NUMBACONV_BACKEND": ""})


def test_use_backend_ends_with_an_exception(reference_calls):
    with pytest.raises(KeyError), nc.use_backend("reference"):
        raise KeyError
    nc.conv2d(*SMALL)
    assert not reference_calls


def test_use_backend_is_of_one_thread(reference_calls):
    with nc.use_backend("reference"), ThreadPoolExecutor(1) as pool:
        pool.submit(nc.conv2d, *SMALL).result()
    assert not reference_calls


@pytest.mark.parametrize("name", ["tpu", "CPU"])
def test_an_unknown_backend_in_the_environment_is_named(name):
    code = "import numpy as np, numbaconv as nc; nc.conv2d(np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2)))"
    done = run_python(code, env={"NUMBACONV_BACKEND": name}, check=False)
    assert done.returncode != 0
    assert re.search(f"\nValueError: NUMBACONV_BACKEND: expected .*'cpu'.*got '{name}'", done.stderr)


def test_backends_says_what_is_there():
    found = nc.backends()
    assert list(found) == ["cpu", "cuda", "reference"]
    assert found["cpu"] == found["reference"] == "available"
    assert isinstance(found["cuda"], str)


@pytest.mark.parametrize("choose", [lambda: nc.conv2d(*SMALL, backend="cuda"), lambda: nc.use_backend("cuda").__enter__()])
def test_a_backend_that_is_not_there_says_what_is_missing(choose, monkeypatch):
    monkeypatch.setattr(cuda, "why_unavailable", lambda: "no driver; install one")
    with pytest.raises(nc.BackendUnavailableError, match=r"cuda backend.*no driver; install one"):
        choose()


@pytest.mark.parametrize(("name", "by_reference"), [("direct", False), ("reference", True), ("accurate", False)])
def test_an_algorithm_by_name(name, by_reference, reference_calls):
    x, w = random_array((1, 8, 20, 20), np.float32), random_array((8, 8, 3, 3), np.float32)
    result = nc.conv2d(x, w, algorithm=name)
    assert bool(reference_calls) == by_reference
    assert_conforms(result, {"input": x, "weight": w}, {})
