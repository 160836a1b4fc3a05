"""Compiled kernels are kept on disk; a cache that is damaged, stale or not to be had never stops a computation."""

import ctypes
import importlib.util
import json
import os
import sys
import warnings

import numba
import numpy as np
import pytest
from helpers import run_python
from llvmlite import ir
from numba import types
from numba.core import caching, event

from numbaconv.cpu import cache as kernel_cache
from numbaconv.cpu import machine_code

TINY = """
from numbaconv.cpu.jit import kernel

@kernel
def triple(a):
    for i in range(a.shape[0]):
        a[i] *= 3
"""
SIGNATURE = types.Array(types.float64, 1, "C")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache, with a small kernel's source beside it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "tiny.py").write_text(TINY)
    return tmp_path


def run_tiny(folder):
    """Compile or load the kernel as a new process would, check what it computes, and return whether it was compiled."""
    spec = importlib.util.spec_from_file_location("tiny", folder / "tiny.py")
    module = sys.modules["tiny"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    array = np.arange(5.0)
    with event.install_recorder("numba:compile") as recorder:
        module.triple.compile((SIGNATURE,))(array)
    np.testing.assert_array_equal(array, 3 * np.arange(5.0))
    return bool(recorder.buffer)  # and "tiny" stays in sys.modules, where a cached kernel looks for its globals


def run_vector(monkeypatch):
    """The same for a function in LLVM's IR, which stores the product of its arguments."""

    def emit(builder):
        to, a, b = builder.function.args
        builder.store(builder.mul(a, b), builder.inttoptr(to, ir.IntType(64).as_pointer()))

    monkeypatch.setattr(machine_code, "_known", {})
    result = np.zeros(1, np.int64)
    with event.install_recorder("numba:compile") as recorder:
        code = machine_code.machine_code("product, of tests", emit, 3)
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 3)(code.address)(result.ctypes.data, 6, 7)
    assert result[0] == 42
    return bool(recorder.buffer)


def files(folder, suffix="nb?"):
    return sorted((folder / "cache").rglob(f"*.{suffix}"))


def test_a_kernel_is_compiled_once(folder):
    assert run_tiny(folder)
    before = [(p, p.stat().st_mtime_ns) for p in files(folder)]
    assert [p.suffix for p, _ in before] == [".nbc", ".nbi"]
    assert not run_tiny(folder)
    assert [(p, p.stat().st_mtime_ns) for p in files(folder)] == before


def test_a_changed_source_is_compiled_anew(folder, monkeypatch):
    """Of any file of the backend: kernels inline functions of others."""
    sources = folder / "sources"
    for part in ("cpu", "compiled"):
        (sources / part).mkdir(parents=True)
    names = ["cpu/cache.py", "cpu/other.py", "compiled/call.py", "activation.py", "native.py", "table.py", "toom.py"]
    for name in names:
        (sources / name).write_text("")
    monkeypatch.setattr(kernel_cache, "__file__", str(sources / names[0]))
    stamps = []
    for name in (*names, "cpu/new.py"):
        stamps.append(kernel_cache.source_stamp.__wrapped__())
        (sources / name).write_text("changed = True")
    stamps.append(kernel_cache.source_stamp.__wrapped__())
    assert len(set(stamps)) == 9

    for stamp, compiled in [("a", True), ("a", False), ("b", True), ("b", False)]:
        monkeypatch.setattr(kernel_cache, "source_stamp", lambda stamp=stamp: stamp)
        assert (run_tiny(folder), run_vector(monkeypatch)) == (compiled, compiled)


def as_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "one byte": lambda path: path.write_bytes(path.read_bytes()[:1]),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "its end lost": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "garbage": lambda path: path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size)),
    "text": lambda path: path.write_text("not a pickle\n"),
    "another pickle": lambda path: path.write_bytes(b"\x80\x04K\x01."),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "missing": lambda path: path.unlink(),
    "a folder in its place": as_folder,
}


@pytest.mark.filterwarnings("ignore:cannot .* the kernel cache:RuntimeWarning")
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_damaged_file_costs_a_compilation_at_most(folder, suffix, damage):
    run_tiny(folder)
    [path] = files(folder, suffix)
    DAMAGE[damage](path)
    assert run_tiny(folder)
    run_tiny(folder)
    if damage != "a folder in its place":
        assert not run_tiny(folder), "the cache is not repaired"


@pytest.mark.filterwarnings("ignore:cannot .* the kernel cache:RuntimeWarning")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_machine_code_costs_a_compilation_at_most(folder, monkeypatch, damage):
    assert run_vector(monkeypatch)
    assert not run_vector(monkeypatch)
    [path] = files(folder, "nbm")
    DAMAGE[damage](path)
    assert run_vector(monkeypatch)
    assert run_vector(monkeypatch) == (damage == "a folder in its place"), "the cache is not repaired"


@pytest.mark.filterwarnings("ignore:cannot .* the kernel cache:RuntimeWarning")
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs owners of files")
def test_what_belongs_to_another_user_is_not_loaded(folder, monkeypatch):
    assert run_vector(monkeypatch)
    assert run_tiny(folder)
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(folder / "own"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 4321)
        assert run_vector(monkeypatch)
        with pytest.warns(RuntimeWarning, match="compiles anew.*belongs to another user"):
            assert run_tiny(folder)
    assert not run_tiny(folder)


HOLES = """
import os, pathlib, sys, warnings
import test_jit_cache
warnings.simplefilter("ignore", RuntimeWarning)
folder = pathlib.Path(sys.argv[1])
[path] = test_jit_cache.files(folder, "nbc")
data, failed = path.read_bytes(), {}
for start in range(0, len(data), 2048):
    holed = bytearray(data)
    holed[start : start + 1024] = bytes(len(data[start : start + 1024]))
    path.write_bytes(holed)
    child = os.fork()
    if child == 0:
        try:
            test_jit_cache.run_tiny(folder)
            os._exit(0)
        except BaseException:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        failed[start] = status
assert not failed, f"{failed} of {len(data)} bytes"
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash is looked for in forked children")
def test_a_hole_in_a_file_is_noticed(folder):
    """A block of zeros anywhere, as a machine that loses power leaves them: such code must not run, it would do anything."""
    run_tiny(folder)
    run_python(HOLES, folder, env={"NUMBA_CACHE_DIR": folder / "cache"})


@pytest.mark.parametrize("error", [PermissionError, OSError])
def test_no_folder_that_can_be_written(folder, monkeypatch, error):
    def refuse(*args, **kwargs):
        raise error("read-only")

    monkeypatch.setattr(caching.tempfile, "TemporaryFile", refuse)
    with pytest.warns(RuntimeWarning, match="compiles anew"):
        assert run_tiny(folder)
    assert kernel_cache.cache_folder().startswith("none")
    assert not files(folder)


@pytest.mark.parametrize("method", ["_open_for_write", "_save_index", "_save_data"])
def test_a_disk_that_is_full(folder, monkeypatch, method):
    def refuse(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cannot .* the kernel cache", RuntimeWarning)
        patch.setattr(caching.IndexDataCacheFile, method, refuse)
        for _ in range(2):
            assert run_tiny(folder)
    run_tiny(folder)
    assert not run_tiny(folder)


# ---------------------------------------------------------------- the whole, process by process

CONVOLVE = """
import json, warnings
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    import numpy as np
    from numba.core import event
    import numbaconv as nc
    with event.install_recorder("numba:compile") as recorder:
        X = np.stack([np.arange(9.0), np.arange(1.0, 10.0)]).reshape(2, 3, 3).astype(np.float32)
        K = np.array([[[0, 1], [2, 3]], [[1, 2], [3, 4]]], np.float32)
        y = nc.corr2d_multi_in(X, K)
        ones = nc.conv2d(np.ones((1, 8, 9, 9)), np.ones((8, 8, 3, 3)), activation="tanh")
assert y.tolist() == [[56, 72], [104, 120]], y
assert (ones == 1).all()
print(json.dumps({"compiled": len(recorder.buffer), "warnings": [str(w.message) for w in seen if w.category is RuntimeWarning]}))
"""


def convolve(cache):
    return json.loads(run_python(CONVOLVE, env={"NUMBA_CACHE_DIR": cache}).stdout)


def test_a_second_process_compiles_nothing_and_damage_is_survived(tmp_path):
    cache = tmp_path / "cache"
    first = convolve(cache)
    assert first["compiled"]
    written = sorted(cache.rglob("*.nb?"))
    assert {p.suffix for p in written} == {".nbi", ".nbc", ".nbm"}
    assert convolve(cache) == {"compiled": 0, "warnings": []}
    assert sorted(cache.rglob("*.nb?")) == written

    for path in written:
        DAMAGE["truncated"](path)
    after = convolve(cache)
    assert after["compiled"]
    assert all("kernel cache" in message for message in after["warnings"])


def test_a_file_where_the_folder_should_be(tmp_path):
    """Numba then finds another folder, or none."""
    (tmp_path / "file").write_text("")
    convolve(tmp_path / "file" / "cache")


OUTSIDE = """
import numpy as np, numbaconv as nc
nc.conv2d(np.ones((1, 1, 300, 300), np.float32), np.ones((64, 1, 1, 1), np.float32))
"""
INSIDE = """
import numpy as np, numbaconv as nc
from numba import njit
@njit
def call(x, w):
    return nc.conv2d(x, w)
assert (call(np.ones((1, 1, 4, 4), np.float32), np.ones((64, 1, 1, 1), np.float32)) == 1).all()
"""


def test_compiled_calls_when_all_is_in_the_cache(tmp_path):
    """What runs them is compiled beside a parallel function from the cache, and then comes from there itself."""
    for program in (OUTSIDE, INSIDE, INSIDE):
        run_python(program, env={"NUMBA_CACHE_DIR": str(tmp_path)})
