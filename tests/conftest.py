"""Hypothesis profiles, and which tests run only when they are asked for."""

import os
import tempfile
from pathlib import Path

import pytest

try:
    import hypothesis
except ImportError:  # of tests/gpu, none needs it
    pass
else:
    hypothesis.settings.register_profile("ci", max_examples=200, derandomize=True, deadline=None, database=None)
    hypothesis.settings.register_profile("nightly", max_examples=5000, deadline=None)
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# What the user's own measurements choose must not decide what is tested, here or in the processes that tests start.
_CACHE = tempfile.TemporaryDirectory(prefix="numbaconv-tests-")
os.environ["NUMBACONV_CACHE_DIR"] = os.path.join(_CACHE.name, "none")

ON_REQUEST = {"slow": "takes long", "gpu": "needs a CUDA GPU"}


GPU = Path(__file__).parent / "gpu"  # thousands of tests, each of which would be skipped for the same reason


def pytest_ignore_collect(collection_path, config):
    return True if collection_path == GPU and "gpu" not in config.getoption("markexpr") else None


def pytest_report_header(config):
    return [] if "gpu" in config.getoption("markexpr") else "tests/gpu: left out, needs a CUDA GPU; run with -m gpu"


def pytest_collection_modifyitems(config, items):
    asked = config.getoption("markexpr")
    for marker, why in ON_REQUEST.items():
        if marker in asked:
            continue
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{why}; run with -m {marker}"))


def pytest_unconfigure():
    _CACHE.cleanup()
