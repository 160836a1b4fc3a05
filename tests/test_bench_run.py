"""``numbaconv bench`` at work: processes, turns, the command line, and what an interruption leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import numbaconv as nc
from numbaconv.__main__ import main
from numbaconv.bench import command, cuda, libraries, record, worker
from numbaconv.bench.case import Case, Failure, UnableError
from numbaconv.bench.exact import exact, relative_error
from numbaconv.bench.libraries import AGAIN, LIBRARIES, OURS
from numbaconv.bench.measuring import measure
from numbaconv.bench.record import Record
from numbaconv.bench.worker import Block, MeasureRoofs, Version, Worker
from numbaconv.networks import layers

TINY = "1x4x8x8,4,3x3,p1"
# Strides, padding, groups, dilation, kernels of even size, and one to three axes.
LAYERS = (
    "1x3x9x10,8,3x3,s2x1,p1", "2x4x9x9,4,3x5,p1x2,g4", "1x1x13x12,1,4x3,p1", "1x4x12x11,6,3x3,p2,d2x1,g2", "1x2x9x9,3,5x5",
    "2x4x19,8,3,s2,d2,g2", "1x2x5x6x7,4,2x3x3,p1",
)  # fmt: skip
CASES = (
    *((word, "float32", "NCHW") for word in LAYERS),
    *((word, "float32", "NHWC") for word in LAYERS[:2]),
    (LAYERS[1], "float64", "NCHW"),
    (LAYERS[0], "int8", "NCHW"),
)
QUICK = ("--rounds", "3", "--block", "0.001", "--threads", "1")


def case_of(word, **how):
    return Case(layers(word)[0], **how)


# ---------------------------------------------------------------- what results are held against


@pytest.mark.parametrize("dtype", ["float64", "complex128", "int32"])
@pytest.mark.parametrize("word", LAYERS)
def test_the_float64_sums_are_those_of_the_reference(word, dtype):
    case = case_of(word, dtype=dtype)
    x, weight = case.operands()
    expected = getattr(nc, f"conv{case.ndim}d")(x, weight, **case.layer.options, backend="reference")
    assert case.output_shape == expected.shape
    np.testing.assert_allclose(exact(case), expected, rtol=1e-12, atol=1e-12)


def test_errors_are_relative_and_see_shapes():
    assert relative_error(np.array([1.1, 2.2]), np.array([1.0, 2.0])) == pytest.approx(0.1)
    assert relative_error(np.ones((2, 1)), np.ones((1, 2))) == np.inf
    assert not relative_error(np.array([np.nan]), np.ones(1)) <= 1


@pytest.mark.parametrize("name", [name for name in LIBRARIES if name != AGAIN])
def test_libraries_compute_the_layers(name):
    """Each that is installed, in its process, or it says why it does not."""
    reason = libraries.missing(name)
    if reason:
        pytest.skip(reason)
    process, taken = Worker(name, 1), []
    try:
        for word, dtype, layout in CASES:
            case = case_of(word, dtype=dtype, layout=layout)
            answer = process.ask(case)
            if isinstance(answer, Failure):
                assert "process" not in answer.reason  # a reason, and no crash
                continue
            taken.append(dtype)
            assert relative_error(answer[0], exact(case)) <= (1e-6 if dtype == "float32" else 1e-12), (word, dtype, layout)
            assert 0 < process.ask(Block(1e-4)) < 10
        assert taken.count("float32") >= 4
    finally:
        process.close()


def test_functional_calls_are_measured_too():
    process = Worker(OURS, 1)
    try:
        case = case_of(TINY, mode="functional", algorithm="direct")
        result, note = process.ask(case)
        assert note == "direct"
        assert relative_error(result, exact(case)) < 1e-6
    finally:
        process.close()


@pytest.mark.parametrize(
    ("word", "dtype", "reason"),
    [("1x1x9x9,1,3x3,s2", "float32", "no stride"), ("1x16x9x9,16,3x3", "float32", "256 calls"), (TINY, "float16", "not float16")],
)
def test_scipy_says_what_it_does_not_take(word, dtype, reason):
    with pytest.raises(UnableError, match=reason):
        libraries.prepare("scipy", case_of(word, dtype=dtype))


def test_counts_follow_from_shapes():
    case = case_of("2x6x8x9,4,3x3,s2,p1,g2")
    assert case.output_shape == (2, 4, 4, 5)
    assert case.flops == 2 * (2 * 4 * 4 * 5) * 27
    assert case.bytes == 4 * (2 * 6 * 8 * 9 + 4 * 3 * 9 + 2 * 4 * 4 * 5)
    assert case_of("2x6x8x9,4,3x3,s2,p1,g2", dtype="int8").bytes == 2 * 6 * 8 * 9 + 4 * 3 * 9 + 4 * (2 * 4 * 4 * 5)


# ---------------------------------------------------------------- processes


def test_a_process_that_ends_is_reported_and_started_anew():
    process = Worker(OURS, 1)
    try:
        assert process.ask(Version()) == nc.__version__
        first = process._process.pid
        os.kill(first, signal.SIGKILL)
        assert process.ask(Block(1e-3)) == Failure("its process ended (exit code -9)")
        assert process.ask(Block(1e-3)) == Failure("its process has ended")
        assert not isinstance(process.ask(case_of(TINY)), Failure)
        assert process._process.pid != first
    finally:
        process.close()


def test_a_process_that_hangs_is_ended():
    process = Worker(OURS, 1)
    try:
        process.ask(case_of(TINY))
        begun = time.monotonic()
        assert process.ask(Block(60), patience=0.2) == Failure("no answer within 0.2 s")
        assert time.monotonic() - begun < 20
        assert process._process is None
    finally:
        process.close()


def test_threads_are_set_for_processes_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("NUMBA_NUM_THREADS", raising=False)
    with worker._environment({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}):
        assert os.environ["OMP_NUM_THREADS"] == os.environ["NUMBA_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "NUMBA_NUM_THREADS" not in os.environ


# ---------------------------------------------------------------- turns


class Pretended:
    """A library that answers what it is told to, and writes down when it was asked for blocks."""

    def __init__(self, name, log, result=None, fails_in_round=None):
        self.name, self._log, self._result, self._fails = name, log, result, fails_in_round
        self._rounds = 0

    def ask(self, request):
        if isinstance(request, Case):
            return Failure("it will not") if self._result is None else (self._result, "")
        self._log.append(self.name)
        self._rounds += 1
        return Failure("it ended") if self._rounds == self._fails else 1e-6 * self._rounds


def test_libraries_take_turns():
    case, log = case_of(TINY), []
    right = exact(case)
    found = Record("x", 1, 1)
    pretended = [
        Pretended("torch", log, right),
        Pretended("scipy", log),
        Pretended("opencv", log, right + 1),
        Pretended("jax", log, right, fails_in_round=2),
        Pretended(OURS, log, right),
    ]
    steps = list(measure(found, case, pretended, 3, 0.01))
    assert log == ["torch", "jax", OURS, "jax", OURS, "torch", OURS, "torch"]
    assert found.blocks == {"torch": [1e-6, 2e-6, 3e-6], OURS: [1e-6, 2e-6, 3e-6]}
    assert found.failures["scipy"] == "it will not"
    assert found.failures["jax"] == "it ended"
    assert "wrong" in found.failures["opencv"]
    assert found.errors["torch"] == 0
    assert steps[-1] == "round 3 of 3"


def test_calls_on_a_gpu_take_turns(monkeypatch):
    """On a pretended clock: the order of turns, and what is between the events, without what overwrites the cache."""
    import torch

    clock, log = [0.0], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = clock[0]

        def elapsed_time(self, end):
            return end.at - self.at

    class Flush:
        def zero_(self):
            clock[0] += 100

    def call(name, milliseconds):
        log.append(name)
        clock[0] += milliseconds

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    found = cuda.turns([lambda: call("a", 1), lambda: call("b", 2), lambda: call("c", 3)], Flush(), 4)
    assert found == [[1] * 4, [2] * 4, [3] * 4]
    assert "".join(log) == "abcbcacababc"


# ---------------------------------------------------------------- the command line


def bench(*arguments, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "numbaconv", "bench", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def test_a_run_beside_torch(tmp_path, capsys):
    files = {name: tmp_path / f"r.{name}" for name in ("json", "markdown", "png")}
    outputs = "--json", files["json"], "--markdown", files["markdown"], "--plot", files["png"]
    process = bench(TINY, TINY + "*2", "1x1x20,1,3", "--peers", "torch", *QUICK, *outputs)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    document = record.read(files["json"])
    assert [found.layer for found in document.records] == [TINY, "1x1x20,1,3"]
    assert {"torch", "torch.channels_last", OURS, AGAIN} == set(document.records[0].blocks)
    assert all(len(times) == 3 for times in document.records[0].blocks.values())
    assert max(document.records[0].errors.values()) < 1e-6
    assert "no channels-last order" in document.records[1].failures["torch.channels_last"]
    assert document.settings["threads"] == 1
    assert document.versions["torch"].startswith("2.")
    assert len(document.load["before"]) == len(document.load["after"]) == 3
    assert document.roofs.peak == max(document.roofs.tiles.values()) > 0.1
    assert set(document.roofs.bandwidths) == {"L2", "L3", "memory"}
    for part in (TINY, "Noise floor", "±", "torch.channels_last, 1x1x20,1,3: "):
        assert part in out
    assert err.count(" us (") == 2  # a line for each layer as it is done
    assert files["markdown"].read_text().startswith("# numbaconv beside its peers: float32, NCHW, prepared, threads: 1")
    assert files["png"].stat().st_size > 10_000

    assert main(["bench", "--from", str(files["json"]), "--plot", str(tmp_path / "again.svg")]) == 0
    assert TINY in capsys.readouterr().out
    assert TINY in (tmp_path / "again.svg").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for a group of processes")
def test_an_interruption_shows_and_writes_what_was_measured(tmp_path):
    """Ctrl-C goes to the whole group of processes, of which one answers."""
    outputs = "--json", tmp_path / "r.json", "--plot", tmp_path / "r.png"
    process = bench("mobilenetv2", "--peers", "", *QUICK, *outputs, start_new_session=True)
    line = process.stderr.readline()
    assert line.startswith("1x3x224x224,32,3x3,s2,p1: "), line + process.stderr.read()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Interrupted" in out
    assert "1x3x224x224,32,3x3,s2,p1" in out
    assert "interrupted" in err
    assert "Traceback" not in err
    document = record.read(tmp_path / "r.json")
    assert document.interrupted
    assert 1 <= len(document.records) < 30
    assert len(document.records[0].blocks[OURS]) == 3
    assert (tmp_path / "r.png").stat().st_size > 5000


def test_peers_that_are_missing_are_named_and_skipped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "missing", lambda name: "jax not installed" if name == "jax" else None)
    monkeypatch.setattr(command, "Worker", lambda name, threads: Answers(name))
    assert main(["bench", TINY, "--peers", "jax,scipy", "--json", str(tmp_path / "r.json"), *QUICK]) == 0
    assert "jax is skipped: jax not installed" in capsys.readouterr().out
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["skipped"] == {"jax": "jax not installed", "the roofs": "no roofs"}
    assert set(found["layers"][0]["blocks"]) == {"scipy", OURS, AGAIN}
    assert found["versions"]["scipy"] == "1.2.3"


class Answers(Pretended):
    def __init__(self, name):
        super().__init__(name, [], exact(case_of(TINY)))

    def ask(self, request):
        if isinstance(request, Version):
            return "1.2.3"
        return Failure("no roofs") if isinstance(request, MeasureRoofs) else super().ask(request)

    def close(self):
        pass


def test_the_modules_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(libraries.importlib.util, "find_spec", lambda module: None)
    assert libraries.missing("onnxruntime") == "onnxruntime and onnx not installed"


def test_without_rich_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["bench", TINY]) == 2
    assert 'pip install "numbaconv[bench]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "r.bmp"], "--plot: expected a file ending in .pdf, .png, .svg"),
        (["--plot", "no/such/folder/r.png"], "r.png"),
        (["--json", "no/such/folder/r.json"], "r.json"),
        (["--markdown", "."], "directory"),
        (["--peers", "torch,cupy"], "--peers: expected some of torch,"),
        (["--threads", "5000"], "--threads: expected"),
        (["--dtype", "float8"], "dtype: expected one of"),
        (["--algorithm", "fast"], "--algorithm: expected one of auto"),
        (["1x3x8x8,4,9x9"], "SHAPE 1x3x8x8,4,9x9: input"),
        (["1x3x8x8,4,3x3,g2"], "SHAPE 1x3x8x8,4,3x3,g2: groups"),
        (["0x3x8x8,4,3x3"], "something to compute"),
        (["alexnet"], "alexnet"),
        (["--from", "nowhere.json"], "nowhere.json"),
        (["--from", "nowhere.json", TINY], "--from"),
    ],
)
def test_what_makes_no_sense_fails_before_anything_is_measured(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "_measure_all", lambda *_: pytest.fail("it measured"))
    assert main(["bench", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--rounds", "0"], ["--block", "-1"], ["--block", "nan"], ["--threads", "two"]])
def test_numbers_are_checked(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["bench", *arguments])
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_without_a_gpu_it_says_so(capsys):
    import torch

    if nc.backends()["cuda"] == "available" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert main(["bench", TINY, "--backend", "cuda"]) == 2
    err = capsys.readouterr().err
    assert "cuda" in err.lower()
    assert "GPU" in err


def test_every_layer_is_measured_once_and_networks_know_how_often():
    options = command_line("resnet50", "1x64x56x56,64,3x3,p1", "vgg16")
    cases, networks = command._asked(options)
    words = [case.layer.word for case in cases]
    assert len(words) == len(set(words)) == len({*networks["resnet50"], *networks["vgg16"]})
    assert set(networks) == {"resnet50", "vgg16"}
    assert sum(networks["resnet50"].values()) == 53
    cases, networks = command._asked(command_line())
    assert len(cases) == 28
    assert networks == {}


def command_line(*arguments):
    import argparse

    from numbaconv.bench.arguments import add

    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    return parser.parse_args(["bench", *arguments])
