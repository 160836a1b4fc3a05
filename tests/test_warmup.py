"""``numbaconv warmup``: what it calls, that a second run and a later process compile nothing, and how it ends."""

import os
import pty
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import run_python

from numbaconv import warmup
from numbaconv.__main__ import main

SMALL = ["1x1x6x6,1,3x3", "--layout", "NCHW"]
AFTERWARDS = """
import numpy as np
from numbaconv import Conv2d, conv2d, warmup
x, w = np.ones((1, 1, 6, 6), np.float32), np.ones((1, 1, 3, 3), np.float32)
assert warmup.compiled_by(lambda: (conv2d(x, w), Conv2d(w)(x))) == 0
"""


def command(*arguments, cache, **more):
    return subprocess.Popen(
        [sys.executable, "-m", "numbaconv", "warmup", *arguments],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, stdout=subprocess.PIPE, text=True, **more,
    )  # fmt: skip


def test_what_it_calls():
    asked = warmup.calls(["1x4x8x8,8,3x3,p1", "1x4x8x8,8,3x3,p1*2", "1x2x9,3,5"], ["float32", "float64"])
    assert len(asked) == len(set(map(str, asked))) == 2 * 2 * 2 * 2  # the same layer is called once
    assert str(asked[0]) == "1x4x8x8,8,3x3,p1, float32, channels first, functional"
    assert {(call.layer.ndim, call.dtype.name) for call in asked} == {(n, d) for n in (1, 2) for d in ("float32", "float64")}


def test_the_usual_calls_have_every_kind():
    asked = warmup.calls([], ["float32"])
    assert {(call.layer.ndim, call.channels_last, call.is_prepared) for call in asked} >= {
        (n, last, ready) for n in (1, 2) for last in (False, True) for ready in (False, True)
    }
    assert any(call.layer.options["groups"] > 1 for call in asked)


def test_the_list_compiles_nothing(capsys):
    assert main(["warmup", "resnet50", "--list", "--layout", "NHWC"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(set(map(str, warmup.calls(["resnet50"], ["float32"], ["NHWC"])))) / 2
    assert "1x64x56x56,64,3x3,p1, float32, channels last, prepared" in lines


def test_a_second_run_and_a_later_process_compile_nothing(tmp_path):
    first = command(*SMALL, cache=tmp_path, stderr=subprocess.PIPE)
    out, err = first.communicate(timeout=240)
    assert first.returncode == 0, err
    assert err.startswith("[1/2] 1x1x6x6,1,3x3, float32, channels first, functional: compiled ")
    assert "2 calls, " in out
    assert "functions compiled; kept in" in out
    second = command(*SMALL, cache=tmp_path, stderr=subprocess.PIPE)
    assert "2 calls, nothing had to be compiled" in second.communicate(timeout=240)[0]
    run_python(AFTERWARDS, env={"NUMBA_CACHE_DIR": tmp_path})


def test_a_bar_on_a_terminal():
    pytest.importorskip("rich")
    ours, theirs = pty.openpty()
    process = command(*SMALL, cache=os.environ.get("NUMBA_CACHE_DIR", ""), stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            read = os.read(ours, 10**4)
        except OSError:  # the other end is closed
            break
        if not read:
            break
        shown += read
    os.close(ours)
    process.communicate(timeout=240)
    assert process.returncode == 0
    assert b"/2" in shown
    assert b"[1/2]" not in shown


def test_an_interrupt_ends_it_with_status_130(tmp_path):
    taken = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest may ignore it, and so its children
    process = command(cache=tmp_path, stderr=subprocess.PIPE)
    signal.signal(signal.SIGINT, taken)
    process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == "numbaconv: interrupted"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1x64x56,3x3"], "SHAPE: expected"),
        (["--dtype", "text"], "dtype: expected"),
        (["--dtype", "float32,"], "dtype: expected"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, capsys):
    assert main(["warmup", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_another_layout():
    with pytest.raises(SystemExit) as raised:
        main(["warmup", "--layout", "NCW"])
    assert raised.value.code == 2


def test_compilations_are_counted():
    from numba import njit

    function = njit(lambda x: x + 1)
    assert warmup.compiled_by(lambda: function(np.float32(1))) == 1
    assert warmup.compiled_by(lambda: function(np.float32(1))) == 0
