"""Calls through the real numba-cuda, cuda.core and cuda.bindings, with a driver that needs no GPU (``fake_driver``)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

TESTS = Path(__file__).parent
CALLS = TESTS / "fake_driver" / "calls.py"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
@pytest.mark.skipif(sys.platform != "linux", reason="the driver is one of Linux")
@pytest.mark.parametrize("options", [(), pytest.param(("-m", "slow"), marks=pytest.mark.slow)], ids=["usual", "slow"])
def test_calls(options, tmp_path):
    driver = tmp_path / "libcuda.so.1"
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", driver, TESTS / "fake_driver" / "cuda.c", "-ldl"], check=True)
    before = os.environ.get("LD_LIBRARY_PATH")
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS), *sys.path]),
        "LD_LIBRARY_PATH": os.pathsep.join([str(tmp_path), *([before] if before else [])]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(CALLS), *options],
        env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.search(r"^\d+ passed, \d+ (skipped|deselected) in ", done.stdout, re.MULTILINE), done.stdout
    assert all(line.endswith("takes long; run with -m slow") for line in re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE))
