"""Processes: forked at bad moments on every threading layer, started afresh, and all at one cache, or with none."""

import ctypes.util
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import one_in, run_python, some_of
from threading_layers import INSTALLED, forks, settings

import numbaconv as nc

PREPARE = """
import multiprocessing, os, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor
import numba
import numpy as np, numbaconv as nc
from numbaconv.forks import forked

rng = np.random.default_rng(0)
x, w = rng.standard_normal((2, 16, 30, 30), np.float32), rng.standard_normal((16, 16, 3, 3), np.float32)
expected = nc.conv2d(x, w, backend="reference")

def right(y=None):
    return np.allclose(nc.conv2d(x, w) if y is None else y, expected, rtol=0, atol=1e-3)

def child(work):
    "Whether a forked child says yes, and then ends as any Python process does."
    number = os.fork()
    if number == 0:
        signal.alarm(200)  # one that hangs is killed; the first may have to compile
        sys.exit(0 if work() else 1)
    status = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    assert status == 0, f"the child ended with {status}"
    return True
"""
FORKS = {
    "os.fork": """
assert right()
op = nc.Conv2d(w)
assert right(op(x))
child(lambda: right() and right(op(x)) and right(nc.Conv2d(w)(x)) and forked())
assert right() and not forked()
""",
    "a child's child": "assert right(); child(lambda: right() and child(right))",
    "multiprocessing": """
assert right()
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(map(right, pool.starmap(nc.conv2d, [(x, w)] * 4)))
""",
    "ProcessPoolExecutor": """
assert right()
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    assert all(map(right, pool.map(nc.conv2d, [x] * 4, [w] * 4)))
""",
    "before the first use": "child(lambda: right() and not forked()); assert right(); child(right)",
    "threads that have only been counted": "numba.set_num_threads(2); child(right); assert right()",
    "threads of somebody else's function": """
@numba.njit(parallel=True)
def own(n):
    s = 0
    for i in numba.prange(n):
        s += i
    return s
assert own(100) == 4950
child(right)
assert right()
""",
    "while another thread computes": """
assert right()
done = False
def compute():
    while not done:
        nc.conv2d(x, w)
thread = threading.Thread(target=compute)
thread.start()
for _ in range(5):
    child(right)
done = True
thread.join()
assert right()
""",
}
LAYER = "\nassert numba.threading_layer() == {!r}"


@forks
@pytest.mark.parametrize(("kind", "layer"), one_in(len(INSTALLED), FORKS, INSTALLED))
def test_a_forked_child(kind, layer):
    run_python(PREPARE + FORKS[kind] + LAYER.format(layer), env=settings(layer), timeout=250)


HOLDERS = {
    "Numba's lock": "from numba.core.compiler_lock import global_compiler_lock\nwith global_compiler_lock: wait()",
    "LLVM's lock": "from llvmlite.binding import ffi\nwith ffi.lib._lock: wait()",
    "a plan": """
from dataclasses import replace
from numbaconv import dispatch
from numbaconv.backend import BACKENDS
backend = BACKENDS["reference"]
slow = replace(backend.algorithms[0], prepare=lambda spec: wait())
dispatch.Plan(None, backend, slow).run
""",
}
HOLD = (
    PREPARE
    + """
assert right()
held = threading.Event()

def wait():
    held.set()
    time.sleep(0.3)

def compile_():
    exec(sys.argv[1], {"wait": wait})

thread = threading.Thread(target=compile_)
thread.start()
held.wait()
child(lambda: right(nc.conv2d(x, w, algorithm="rows")))  # planned, and taken from the cache
thread.join()
"""
)


@forks
@pytest.mark.parametrize("held", HOLDERS)
def test_a_fork_while_another_thread_compiles(held):
    """Nobody in the child releases what that thread holds."""
    run_python(HOLD, HOLDERS[held], timeout=250)


OPEN_MP = (
    PREPARE
    + """
import ctypes
both, body = [], ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: both.append(1))
ctypes.CDLL("libgomp.so.1").GOMP_parallel(body, None, 2, 0)
assert len(both) == 2
child(right)
"""
)


@forks
@pytest.mark.skipif(not ctypes.util.find_library("gomp"), reason="GNU OpenMP is not on this machine")
def test_a_fork_after_another_librarys_openmp():
    """Its threads are gone in the child, where the next parallel region waits for them for ever."""
    run_python(OPEN_MP, env=settings("omp"), timeout=250)


@pytest.mark.parametrize("method", sorted({"spawn", "forkserver"}.intersection(multiprocessing.get_all_start_methods())))
def test_a_child_that_starts_afresh_has_threads(method):
    code = f"""
assert right()
with multiprocessing.get_context({method!r}).Pool(1) as pool:
    assert right(pool.apply(nc.conv2d, (x, w))) and not pool.apply(forked)
"""
    run_python(PREPARE + code, timeout=250)


# ---------------------------------------------------------------- caches

CORR2D = """
import numpy as np, numbaconv as nc
X, K = np.arange(9, dtype=np.float32).reshape(3, 3), np.arange(4, dtype=np.float32).reshape(2, 2)
assert nc.corr2d(X, K).tolist() == [[19, 25], [37, 43]]
"""
TINY = """
import sys, time
import numpy as np
from numba import types
from numbaconv.cpu.jit import compiled, kernel

@kernel
def triple(a):
    for i in range(a.shape[0]):
        a[i] *= 3

while time.time() < float(sys.argv[1]):
    pass
for dtype in (types.float32, types.float64, types.int64):
    array = np.arange(5).astype(str(dtype))
    compiled(triple, types.Array(dtype, 1, "C"))(array)
    assert array.tolist() == [0, 3, 6, 9, 12]
"""


@pytest.mark.parametrize("code", [TINY, pytest.param(CORR2D, marks=pytest.mark.slow)], ids=["a kernel", "corr2d"])
def test_many_processes_and_one_cold_cache(tmp_path, code):
    script, cache = tmp_path / "script.py", tmp_path / "cache"
    script.write_text(code)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "NUMBACONV_CACHE_DIR": str(cache), "NUMBA_NUM_THREADS": "1"}
    env["PYTHONPATH"] = str(Path(nc.__file__).parents[1])
    command = [sys.executable, "-W", "error::RuntimeWarning", str(script), str(time.time() + 4)]
    running = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(8)]
    ended = [(process.communicate(timeout=240)[1], process.returncode) for process in running]
    assert ended == [("", 0)] * 8
    assert any(path.is_file() for path in cache.rglob("*"))
    assert not subprocess.run(command, env=env, check=True, capture_output=True).stderr


# Runs Python code, its second argument, where permissions bind even root.
BOUND = """
import ctypes, os, sys
if os.geteuid() == 0:
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""
NOWHERE = """
import os, pwd, sys, warnings

def getpwuid(number):
    raise KeyError(number)

if "HOME" not in os.environ:
    pwd.getpwuid = getpwuid
try:
    open(os.path.join(sys.argv[1], "file"), "w")
except PermissionError:
    warnings.simplefilter("error")  # but those of ours
    warnings.filterwarnings("default", category=RuntimeWarning)
else:
    sys.exit("the package can be written to")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's capabilities and folders")
@pytest.mark.parametrize("home", some_of(["writable", "read-only", None], 1))
def test_a_package_that_is_read_only(tmp_path, home):
    """Installed by another user, and run by one who may have no home: a warning at most."""
    package, here = tmp_path / "numbaconv", tmp_path / "here"
    shutil.copytree(Path(nc.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "writable").mkdir()
    (tmp_path / "read-only").mkdir()
    here.mkdir()
    for folder in (package, *(p for p in package.rglob("*") if p.is_dir()), here, tmp_path / "read-only"):
        folder.chmod(0o555)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG", "HOME"))}
    env |= {"PYTHONPATH": str(tmp_path), **({} if home is None else {"HOME": str(tmp_path / home)})}
    command = [sys.executable, "-c", BOUND, NOWHERE + CORR2D, str(package)]
    done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "Warning" in line]
    assert all("RuntimeWarning" in line for line in warned)
    assert home != "writable" or not warned
    assert bool([p for p in (tmp_path / "writable").rglob("*") if p.is_file()]) == (home == "writable")
