"""The CUDA backend: under Numba's simulator, what the driver gets of it, and where it is missing.

``test_assembly.py`` has its kernels compiled, ``tests/gpu`` run on a GPU.
"""

import ctypes
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import ml_dtypes  # noqa: F401  (names bfloat16)
import numpy as np
import pytest
from helpers import run_python
from offline import ptx_of

import numbaconv as nc
from numbaconv.cuda import ALGORITHMS, launch, streams, why_unavailable

TESTS = Path(__file__).parent
MISSING = why_unavailable()


FILES = sorted((TESTS / "simulator").glob("test_*.py"))
PROCESSES = 3  # for all of them: each takes seconds to import what it needs


def simulate(files, *options, timeout):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", *files, *options],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *sys.path])},
        cwd=TESTS.parent, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE)
    assert all(line.endswith("takes long; run with -m slow") for line in skipped), done.stdout
    assert re.search(r"^\d+ passed(, \d+ (skipped|deselected))? in ", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.parametrize("first", range(PROCESSES))
def test_simulator(first):
    simulate(FILES[first::PROCESSES], timeout=280)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_simulator_whole():
    simulate(FILES, "-m", "slow", timeout=3600)


pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")
pytest.importorskip("cuda.core", reason="cuda-core is not installed")

# ---------------------------------------------------------------- launches, as the driver gets them


class Driver:
    """What a launch calls of the driver; keeps the words behind the parameters."""

    def __init__(self, parameters):
        self.parameters, self.calls = parameters, []

    def cuLaunchKernel(self, handle, *numbers):

        *shape, stream, pointers, _ = numbers
        addresses = (ctypes.c_uint64 * self.parameters).from_address(pointers)
        self.calls.append((handle, shape, stream, [ctypes.c_int64.from_address(a).value for a in addresses]))
        return (0,)


def test_the_driver_gets_every_parameter(monkeypatch):
    from assembly import example
    from numba import float32

    from numbaconv.cuda.kernels.direct import direct
    from numbaconv.cuda.shadow import imagined

    args, _ = example("float32")
    text = ptx_of(direct(float32), launch.signature(args), (8, 0))
    declared = re.findall(r"\.param \.(\w+)", text)
    assert set(declared) == {"u64"}, "a launch hands words of 8 bytes"
    driver = Driver(len(declared))
    monkeypatch.setattr("cuda.bindings.driver.cuLaunchKernel", driver.cuLaunchKernel)
    monkeypatch.setattr("numbaconv.cuda.driver.function", lambda name: None)
    monkeypatch.setattr(launch, "current_device", lambda: 3)
    monkeypatch.setattr(launch.Launch, "_load", lambda self, device: f"handle on {device}")

    real = [np.zeros((1, 2, 3, 4, 5, 6), "f4") for _ in range(2)]
    moving = imagined(real[0], 1)[..., 2:]
    one = launch.Launch(direct(float32), 7, (32, 2), (moving, real[1], *args[2:]))
    for base in (1 << 40, 5 << 41):
        one.play(9, [0, base])
    expected = [*np.array([*launch._flat(args[5:])])]
    for base, (handle, shape, stream, words) in zip((1 << 40, 5 << 41), driver.calls, strict=True):
        assert (handle, shape, stream) == ("handle on 3", [7, 1, 1, 32, 2, 1, 0], 9)
        assert words[:2] == [base + 8, real[1].ctypes.data]
        assert words[5:] == expected


def test_a_failed_launch_is_an_error(monkeypatch):
    monkeypatch.setattr("cuda.bindings.driver.cuLaunchKernel", lambda *args: (launch_failure,))
    monkeypatch.setattr("numbaconv.cuda.driver.function", lambda name: None)
    monkeypatch.setattr(launch, "current_device", lambda: 0)
    monkeypatch.setattr(launch.Launch, "_load", lambda self, device: "handle")
    from cuda.bindings.driver import CUresult

    launch_failure = CUresult.CUDA_ERROR_LAUNCH_FAILED
    with pytest.raises(RuntimeError, match="launching a CUDA kernel failed: CUDA_ERROR_LAUNCH_FAILED"):
        launch.Launch(lambda: None, 1, 1, (5,)).play(0)


@pytest.mark.parametrize("kernel", [SimpleNamespace(handle="it", _handle="another"), SimpleNamespace(_handle="it")])
def test_the_handle_of_a_kernel_in_any_version_of_cuda_core(kernel, monkeypatch):
    monkeypatch.setattr(launch, "binary", lambda *args: None)
    monkeypatch.setattr(launch, "capability", lambda: (9, 0))
    monkeypatch.setattr(launch, "_loaded", lambda code: kernel)
    assert launch.Launch(lambda: None, 1, 1, (5,))._load(0) == "it"


def test_counts_beyond_32_bits_are_refused(monkeypatch):
    from numbaconv.cuda import implicit_gemm, tensor_gemm, warpgroup_gemm
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    for module in (implicit_gemm, tensor_gemm.tensor_operands, warpgroup_gemm):
        monkeypatch.setattr(module, "capability", lambda: (9, 0))

    small, _ = normalise(
        2, *(ArraySpec((8, 8, 1, 1), np.dtype("f4")) for _ in range(2)), None, None, ConvOptions(precision="tf32")
    )
    for module in (implicit_gemm, tensor_gemm, warpgroup_gemm):
        assert module.why_not(replace(small, batch=1, input_size=(1, 30000, 30000))) is None
        assert "2500000000 pixels" in module.why_not(replace(small, batch=1, input_size=(1, 50000, 50000)))
        many = replace(small, batch=1, groups=2**30, in_channels=2**30, out_channels=2**30)
        assert f"{2**30} blocks" in module.why_not(many)
        assert f"{2**26} output channels" in module.why_not(replace(small, batch=1, input_size=(1, 1, 1), out_channels=2**26))


@pytest.mark.parametrize("bit", ["conj", "neg"])
def test_what_torch_conjugates_when_it_is_read_is_refused(bit, monkeypatch):
    import torch

    from numbaconv.cuda import memory

    plain = torch.ones(4, dtype=torch.complex64)
    lazy = plain.conj() if bit == "conj" else plain.conj().imag
    monkeypatch.setattr(memory, "cast_shadow", lambda array, argument: "its shadow")
    assert memory.DEVICE.view(plain, "input") == "its shadow"
    with pytest.raises(TypeError, match=rf"^input: .*resolve_{bit}.*is_{bit}\(\)"):
        memory.DEVICE.view(lazy, "input")


# ---------------------------------------------------------------- where it is missing


@pytest.mark.parametrize("module", ["numbaconv", "numbaconv.cuda"])
def test_importing_the_package_imports_no_cuda(module):
    found = "[name in sys.modules for name in ('numba.cuda', 'numbaconv.cuda.device')]"
    assert run_python(f"import {module}, sys; print({found})").stdout == "[False, False]\n"


def test_device_functions_name_the_extra_that_is_missing():
    done = run_python("import sys; sys.modules['numba_cuda'] = None; import numbaconv.cuda.device", check=False)
    assert re.search(r'^ImportError: .*numba-cuda is not installed; pip install "numbaconv\[cuda13\]"', done.stderr, re.MULTILINE)


@pytest.mark.skipif(MISSING is None, reason="there is a GPU")
def test_without_a_gpu():
    assert "no usable NVIDIA driver or GPU" in MISSING
    assert nc.backends()["cuda"] == MISSING
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    with pytest.raises(nc.BackendUnavailableError, match=re.escape(MISSING)):
        nc.conv2d(x, w, backend="cuda")
    with pytest.raises(nc.BackendUnavailableError, match=re.escape(MISSING)), nc.use_backend("cuda"):
        pass
    rows = {row.algorithm: row for row in nc.explain("conv2d", x, w).rows if row.backend == "cuda"}
    assert set(rows) == {a.name for a in ALGORITHMS}
    assert {row.why_not for row in rows.values()} == {MISSING}


@pytest.mark.parametrize(
    ("blocked", "message"),
    [
        ("sys.modules['numba_cuda'] = None", "numba-cuda is not installed"),
        ("sys.modules['numba.cuda'] = None", "numba-cuda cannot be used (import of numba.cuda halted"),
        ("import numba.cuda as c; c.is_available = lambda: False; c.cuda_error = lambda: None", "nvvm is missing"),
        ("import numba.cuda as c; c.is_available = lambda: 1 / 0", "numba-cuda cannot be used (division by zero)"),
        (
            "import numba.cuda as c, numpy; c.is_available = lambda: True; vars(numpy).pop('row_stack', None)",  # as of NumPy 2.5
            "numba-cuda cannot be used (module 'numpy' has no attribute 'row_stack')",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_extras(blocked, message):
    code = f"import sys; {blocked}\nimport numbaconv; print(numbaconv.backends()['cuda'])"
    reason = run_python(code).stdout
    assert message in reason
    assert 'pip install "numbaconv[cuda13]"' in reason
    assert '"numbaconv[cuda12]"' in reason


# ---------------------------------------------------------------- streams


class TorchStream:
    cuda_stream = 1234


class CuPyStream:
    ptr = 1234


class CoreStream:
    def __cuda_stream__(self):
        return 0, 1234


@pytest.mark.parametrize(
    "stream", [1234, TorchStream(), CuPyStream(), CoreStream()], ids=["pointer", "torch", "cupy", "cuda.core"]
)
def test_foreign_streams_are_wrapped(stream, monkeypatch):
    monkeypatch.setattr("numba.cuda.external_stream", lambda pointer: ("wrapped", pointer))
    assert streams.as_stream(stream) == ("wrapped", 1234)


def test_numba_streams_are_taken_as_they_are():
    from numba.cuda.cudadrv.driver import Stream

    stream = Stream(1234)
    assert streams.as_stream(stream) is stream
    assert streams.as_stream(None) == streams.as_stream(0) == 0
    with pytest.raises(TypeError, match=r"^stream: .*got 'fast'"):
        streams.as_stream("fast")
