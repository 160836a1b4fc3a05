"""Compiled CUDA kernels, and their files."""

import warnings

import numpy as np
import pytest
from helpers import run_python

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

from numba import cuda, float32, njit
from numba.cuda import types

from numbaconv import activation
from numbaconv.cuda import binary
from numbaconv.cuda.kernels.direct import direct

SIGNATURE = types.void(types.CPointer(float32), types.int64)


@binary.factory
def doubled(kind, extra=None):
    def doubled_kernel(pointer, count):
        i = cuda.grid(1)
        if i < count:
            pointer[i] = kind(2) * pointer[i]

    return doubled_kernel


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path))
    binary.binary.cache_clear()
    return tmp_path / "cuda"


def forbidden(*args):
    raise AssertionError("compiled again")


def test_a_kernel_is_compiled_once_for_all_processes(folder, monkeypatch):
    first = binary.binary(doubled(float32), SIGNATURE, (8, 0))
    assert first.code[:4] == b"\x7fELF"
    assert "doubled_kernel" in first.name
    assert [path.suffix for path in folder.iterdir()] == [".cubin"]
    binary.binary.cache_clear()
    monkeypatch.setattr(binary, "compiled", forbidden)
    assert binary.binary(doubled(float32), SIGNATURE, (8, 0)) == first
    with pytest.raises(AssertionError, match="compiled again"):
        binary.binary(doubled(float32), SIGNATURE, (9, 0))


@pytest.mark.parametrize("harm", [b"", b"x", "shorter", "other"])
def test_damaged_files_are_compiled_anew(folder, harm):
    binary.binary(doubled(float32), SIGNATURE, (8, 0))
    [path] = folder.iterdir()
    data = path.read_bytes()
    path.write_bytes({"shorter": data[:-1], "other": data[:-1] + bytes([data[-1] ^ 1])}.get(harm, harm))
    binary.binary.cache_clear()
    with pytest.warns(RuntimeWarning, match="cannot read the CUDA kernel cache"):
        anew = binary.binary(doubled(float32), SIGNATURE, (8, 0))
    binary.binary.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert binary.binary(doubled(float32), SIGNATURE, (8, 0)) == anew


def test_a_folder_that_cannot_be_made_is_no_obstacle(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NUMBACONV_CACHE_DIR", str(tmp_path / "file"))
    binary.binary.cache_clear()
    with pytest.warns(RuntimeWarning, match="cannot write the CUDA kernel cache"):
        assert binary.binary(doubled(float32), SIGNATURE, (8, 0)).code


def test_a_callers_own_function_is_not_kept(folder):
    own = njit(lambda x: x).py_func
    for extra in (own, lambda x: x):
        assert doubled(float32, extra).origin is None
    assert doubled(float32, activation.relu).origin.endswith("(float32, numbaconv.activation.relu)")
    binary.binary(doubled(float32, own), SIGNATURE, (8, 0))
    assert not folder.exists()


ORIGINS = """
from numba import float32
from numbaconv.activation import relu
from numbaconv.cuda.kernels.direct import direct
from numbaconv.cuda.kernels.implicit_gemm import implicit_gemm
from numbaconv.cuda.reading import Reading
from numbaconv.cuda.kernels.winograd import output_transform
from numbaconv.cuda.storing import PIXELS, Form
gemm = implicit_gemm(float32, (8, 8, 16), 0, False, True, Reading(1, False), Form(PIXELS, 4))
made = direct(float32), direct(float32, relu), gemm, output_transform(4, True, relu)
print(*[function.origin for function in made], sep="\\n")
"""


def test_origins_are_the_same_in_every_process():
    first, second = (run_python(ORIGINS).stdout for _ in range(2))
    assert first == second
    assert len(set(first.split("\n"))) == 5
    assert "0x" not in first
    assert first.startswith("numbaconv.cuda.kernels.direct.direct(float32)\n")


def test_the_machine_code_is_what_is_loaded(monkeypatch):
    from numbaconv.cuda import launch

    asked = []
    monkeypatch.setattr(launch, "capability", lambda: (8, 0))
    monkeypatch.setattr(launch, "binary", lambda *args: asked.append(args) or binary.Binary("name", b"code"))
    monkeypatch.setattr(launch, "_loaded", lambda code: type("Kernel", (), {"handle": code}))
    one = launch.Launch(direct(float32), 1, 1, (np.zeros((1,) * 6, "f4"), 3))
    assert one._load(0) == binary.Binary("name", b"code")
    [(function, signature, capability)] = asked
    assert (function, capability) == (direct(float32), (8, 0))
    assert signature == types.void(types.CPointer(float32), types.int64)
