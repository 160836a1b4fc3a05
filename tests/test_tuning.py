"""``numbaconv tune`` measures, keeps and forgets; what it kept decides, and whatever is wrong with it never stops a call."""

import json
import os
import stat
import sys
from dataclasses import fields, replace

import numba
import numpy as np
import pytest
from helpers import operands, run_python
from test_dispatch import PROBLEMS, clear_plans

import numbaconv as nc
from numbaconv import measure, tuning
from numbaconv.__main__ import main
from numbaconv.backend import BACKENDS
from numbaconv.cpu import cache as kernel_cache
from numbaconv.cpu.rows import ROWS
from numbaconv.dispatch import select, usable
from numbaconv.dtypes import resolve
from numbaconv.networks import USUAL, layers

TINY = "1x4x6x6,4,3x3,p1"
CPU = BACKENDS["cpu"]


def spec_of(text=TINY, **options):
    [layer] = layers(text)
    return measure.problem(layer, **options)


SPEC = spec_of("1x64x28x28,64,3x3,p1")
CALL = {"input": (1, 64, 28, 28), "weight": (64, 64, 3, 3), "padding": 1}


def by_cost(spec):
    return min(usable(spec, CPU), key=lambda algorithm: algorithm.cost(spec)).name


BY_COST, OTHER = by_cost(SPEC), "rows"
assert BY_COST != OTHER


def pretended(spec):
    """Measurements by which rows is the fastest."""
    return {**{algorithm.name: 2.0 for algorithm in usable(spec, CPU)}, "rows": 1.0}


def forget():
    tuning.reload()
    tuning.machine.cache_clear()
    clear_plans()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder that is not there yet."""
    monkeypatch.setenv(tuning.ENVIRONMENT, str(tmp_path / "cache"))
    forget()
    yield tmp_path / "cache"
    monkeypatch.undo()
    forget()


def store(seconds, spec=SPEC):
    tuning.store(spec, seconds)
    clear_plans()


def chosen(spec=SPEC):
    clear_plans()
    return select(spec, CPU).algorithm.name


def test_the_suite_does_not_see_what_the_user_measured(monkeypatch):
    monkeypatch.undo()
    assert "numbaconv-tests-" in str(tuning.folder())
    assert not tuning.table()


# ---------------------------------------------------------------- what is kept


def test_what_is_stored_is_found_again(cache):
    another = spec_of(layout="NHWC")
    store({"direct": 1.5e-3, "rows": 2.0})
    store({"rows": 0.25}, another)
    forget()
    assert tuning.measured(SPEC) == {"direct": 1.5e-3, "rows": 2.0}
    assert tuning.measured(another) == {"rows": 0.25}
    assert tuning.measured(spec_of()) == {}
    [path] = cache.iterdir()
    assert path.suffix == ".json"
    if os.name == "posix":
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    store({"rows": 3.0})
    assert tuning.measured(SPEC) == {"rows": 3.0}
    tuning.clear()
    assert not tuning.measured(SPEC)
    assert not list(cache.iterdir())


def test_all_that_matters_is_in_the_key():
    other = {
        "batch": 2, "groups": 2, "in_channels": 8, "out_channels": 8, "input_size": (1, 6, 7), "kernel_size": (1, 1, 3),
        "stride": (1, 2, 1), "padding": ((0, 0), (1, 1), (1, 2)), "dilation": (1, 1, 2), "padding_mode": "reflect",
        "dtypes": resolve(np.dtype("f4"), np.dtype("f8")), "channels_last": True, "has_bias": True, "has_residual": True,
        "activation": "relu", "precision": "tf32",
    }  # fmt: skip
    assert {f.name for f in fields(SPEC)} - set(other) == {"algorithm"}
    problems = [spec_of(), *[replace(spec_of(), **{name: value}) for name, value in other.items()]]
    wide = replace(SPEC, dtypes=SPEC.dtypes._replace(compute=np.dtype("f8")))
    keys = [tuning.problem_key(p) for p in [*problems, SPEC, wide]]
    assert len(set(keys)) == len(keys)
    assert tuning.problem_key(replace(SPEC, algorithm="accurate")) == tuning.problem_key(SPEC)


def test_functions_of_the_callers_are_one():
    def relu(x):
        return x

    def another(x):
        return x

    own = [tuning.problem_key(replace(SPEC, activation=numba.njit(f))) for f in (relu, another)]
    assert own[0] == own[1]
    assert own[0] != tuning.problem_key(replace(SPEC, activation="relu"))


STALE = {
    "another version": lambda patch: patch.setattr(kernel_cache, "source_stamp", lambda: "another"),
    "another number of threads": lambda patch: patch.setattr(numba.config, "NUMBA_NUM_THREADS", 97),
    "another CPU": lambda patch: patch.setattr(
        tuning.cpu_target.target_context.codegen().__class__, "magic_tuple", lambda s: "abc"
    ),
}


@pytest.mark.parametrize("change", STALE)
def test_what_was_measured_otherwise_is_not_used(change, monkeypatch):
    store({OTHER: 1e-9})
    with monkeypatch.context() as patch:
        STALE[change](patch)
        forget()
        assert not tuning.table()
        assert chosen() == by_cost(SPEC)
        store({"direct": 1.0})
        assert tuning.measured(SPEC) == {"direct": 1.0}
    forget()
    assert tuning.measured(SPEC) == {OTHER: 1e-9}


def rewritten(**changes):
    return lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def as_folder(path):
    path.unlink()
    path.mkdir()


DAMAGE = {
    "empty": lambda path: path.write_text(""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 9),
    "nested": lambda path: path.write_text("[" * 100_000),
    "a list": lambda path: path.write_text("[]"),
    "another machine's": rewritten(machine={"cpu": "abacus"}),
    "no table": rewritten(seconds=3),
    "no rows": rewritten(seconds={tuning.problem_key(SPEC): 3}),
    "words": rewritten(seconds={tuning.problem_key(SPEC): {OTHER: "fast"}}),
    "not a number": rewritten(seconds={tuning.problem_key(SPEC): {OTHER: float("nan")}}),
    "negative": rewritten(seconds={tuning.problem_key(SPEC): {OTHER: -1.0}}),
    "a folder in its place": as_folder,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_ignored_with_one_warning(cache, damage):
    store({OTHER: 1e-9})
    [path] = cache.iterdir()
    DAMAGE[damage](path)
    forget()
    with pytest.warns(RuntimeWarning, match="ignored") as warned:
        found = chosen(), chosen(spec_of())
    assert found == (BY_COST, by_cost(spec_of()))
    assert len(warned) == 1
    if damage != "a folder in its place":
        store({OTHER: 1e-9})
        assert chosen() == OTHER, "it is not repaired"


@pytest.mark.skipif(os.name != "posix", reason="files have owners on POSIX")
def test_what_belongs_to_another_user_is_not_used(cache, monkeypatch):
    store({OTHER: 1e-9})
    before = [p.read_bytes() for p in cache.iterdir()]
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    forget()
    with pytest.warns(RuntimeWarning, match="another user") as warned:
        found = chosen(), chosen()
    assert found == (BY_COST, BY_COST)
    assert len(warned) == 1
    with pytest.raises(PermissionError):
        tuning.store(SPEC, {OTHER: 1.0})
    assert [p.read_bytes() for p in cache.iterdir()] == before


def test_a_folder_that_cannot_be_made(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(tuning.ENVIRONMENT, str(tmp_path / "file" / "cache"))
    forget()
    assert chosen() == BY_COST
    assert main(["tune", TINY]) == 2
    assert "numbaconv: error:" in capsys.readouterr().err
    assert chosen() == BY_COST


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_file_is_whole_or_what_it_was(cache, monkeypatch, function, error):
    def refuse(*args):
        raise error

    store({OTHER: 1e-9})
    before = {p: p.read_bytes() for p in cache.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        with pytest.raises(type(error)):
            tuning.store(SPEC, {"direct": 1.0})
    assert {p: p.read_bytes() for p in cache.iterdir()} == before


def test_nothing_is_computed_where_nothing_was_measured(monkeypatch):
    monkeypatch.setattr(tuning, "machine", None)
    monkeypatch.setattr(tuning, "problem_key", None)
    tuning.reload()
    assert not tuning.measured(SPEC)


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/numbaconv"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/numbaconv"),
        ("linux", {}, "/home/me/.cache/numbaconv"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/numbaconv"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/numbaconv"),
        ("win32", {}, "/home/me/AppData/Local/numbaconv"),
        ("win32", {"NUMBACONV_CACHE_DIR": "/y"}, "/y"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the paths are POSIX paths")
def test_the_folder_is_the_platforms(monkeypatch, platform, environment, expected):
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", tuning.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert str(tuning.folder()) == expected


# ---------------------------------------------------------------- what it decides


@pytest.mark.parametrize("algorithm", ["auto", "accurate"])
def test_the_least_measured_time_is_chosen(algorithm):
    spec = replace(SPEC, algorithm=algorithm)
    assert chosen(spec) == by_cost(spec)
    store({"direct": 2.0, "rows": 1.0, "reference": 3.0})
    assert chosen(spec) == "rows"
    store({"direct": 2.0, "rows": 3.0, "reference": 1.0})
    assert chosen(spec) == "reference"
    store({"rows": 1e6})  # is not held against a prediction
    assert chosen(spec) == "rows"
    store({"of another time": 1.0})
    assert chosen(spec) == by_cost(spec)


def test_what_is_asked_for_by_name_or_elsewhere_is_taken():
    store({"direct": 2.0, "rows": 1.0})
    assert chosen(replace(SPEC, algorithm="direct")) == "direct"
    assert select(SPEC, BACKENDS["reference"]).algorithm.name == "reference"
    explanation = nc.explain("conv2d", **CALL, algorithm="direct")
    assert all(row.measured is None for row in explanation.rows)
    assert "measured" not in str(explanation)


def test_accurate_takes_only_what_sums_the_products(monkeypatch):
    monkeypatch.setitem(vars(ROWS), "sums_directly", False)
    store({"direct": 2.0, "rows": 1.0})
    assert chosen() == "rows"
    assert chosen(replace(SPEC, algorithm="accurate")) == "direct"


def test_calls_take_it_and_explain_says_so():
    assert "measured" not in str(nc.explain("conv2d", **CALL))
    store({"direct": 2.0, "rows": 0.001})
    explanation = nc.explain(nc.Conv2d(np.ones(CALL["weight"], np.float32), padding=1), CALL["input"])
    assert explanation.algorithm == "rows"
    rows = {(row.backend, row.algorithm): row for row in explanation.rows}
    assert rows["cpu", "rows"].measured == 0.001
    assert rows["cpu", "rows"].why_not is None
    assert rows["cpu", "direct"].measured == 2.0
    assert rows["cpu", "direct"].why_not == "measured slower"
    assert rows["cpu", "direct"].cost < rows["cpu", "rows"].cost
    assert rows["reference", "reference"].why_not == "not measured"
    assert all(row.measured is None for (backend, _), row in rows.items() if backend != "cpu")
    lines = str(explanation).splitlines()
    assert lines[1].split()[:4] == ["backend", "algorithm", "predicted", "measured"]
    [taken] = [line for line in lines if line.startswith(">")]
    assert "1 ms" in taken
    assert f"taken, measured fastest: {ROWS.summary}" in taken
    functional = nc.explain("conv2d", **CALL)
    assert functional.algorithm == "rows"
    assert next(row for row in functional.rows if row.algorithm == "rows").measured == 0.001 + ROWS.packing_cost(SPEC)


def test_what_runs_is_what_was_measured_fastest(monkeypatch):
    ran = []
    prepare = ROWS.prepare
    monkeypatch.setitem(vars(ROWS), "prepare", lambda spec: ran.append(spec) or prepare(spec))
    arrays = operands(PROBLEMS[1], np.float32)
    before = nc.conv2d(**arrays, padding=1)
    assert not ran
    tuning.store(spec_of("1x64x28x28,64,3x3,p1", bias=True), {"direct": 2.0, "rows": 1.0})
    measure.forget_plans()  # as tune does
    np.testing.assert_allclose(nc.conv2d(**arrays, padding=1), before, rtol=1e-3, atol=1e-3)
    assert ran


# ---------------------------------------------------------------- what is measured


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (TINY, {}),
        ("1x4x6x6,6,3x2,s2x1,p1,g2", {"layout": "NHWC", "bias": True, "activation": "relu"}),
        ("2x3x9,4,3,d2", {"dtype": "float16"}),
        ("2x3x4x5x6,4,1x2x3", {"dtype": "int8", "bias": True}),
        (TINY, {"dtype": "complex64", "layout": "NHWC"}),
    ],
)
@pytest.mark.parametrize("residual", [False, True])
def test_all_that_can_are_measured(text, options, residual):
    spec = replace(spec_of(text, **options), has_residual=residual)
    seconds = measure.measure(spec)
    able = [a for a in (*CPU.algorithms, *BACKENDS["reference"].algorithms) if a.why_not(spec) is None]
    assert {a.name for a in CPU.algorithms if a in able} <= set(seconds) <= {a.name for a in able}
    assert all(1e-7 < s < 10 for s in seconds.values())


def test_the_reference_is_measured_unless_it_is_hopeless(monkeypatch):
    [reference] = BACKENDS["reference"].algorithms
    best = min(a.cost(SPEC) for a in CPU.algorithms if a.why_not(SPEC) is None)
    for factor, expected in [(19, True), (21, False)]:
        monkeypatch.setitem(vars(reference), "cost", lambda spec, cost=factor * best: cost)
        assert ("reference" in measure.measure(SPEC)) == expected


def test_functions_take_turns_and_the_median_counts(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[0])

    def function(name, seconds):
        def call():
            order.append(name)
            clock[0] += next(seconds)

        return call

    slow = iter([90.0, 1.0, 1.0, 2.0, 3.0, 4.0, 80.0])  # a first call, one for the number of repeats, five rounds
    fast = iter([50.0, *[0.5] * 6])
    assert measure.interleaved(function("a", slow), function("b", fast), rounds=5) == [3.0, 0.5]
    assert "".join(order) == "ab" * 7


def test_the_report_counts_what_the_model_got_right():
    seconds = [{"a": 1.0, "b": 1.09}, {"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 1.0}]
    text = measure.report([measure.Comparison(SPEC, "b", s) for s in seconds])
    assert text.splitlines()[-1] == "the model's choice was within 10 % of the fastest on 2 of 3 problems"
    assert [line.split()[-1] for line in text.splitlines()[1:-1]] == ["1.09", "2.00", "1.00"]


# ---------------------------------------------------------------- the command


def test_tuning_is_for_later_processes(cache):
    command = "import sys; from numbaconv.__main__ import main; sys.exit(main(sys.argv[1:]))"
    done = run_python(command, "tune", TINY, "--layout", "NHWC", env={"NUMBACONV_BACKEND": "reference"})
    assert "[1/1] 1x4x6x6 -> 1x4x6x6, kernel 3x3" in done.stderr
    assert done.stdout.splitlines()[-1].endswith("of 1 problems")
    assert list(cache.iterdir())
    explained = ("explain", "conv2d", "1x6x6x4", "4x4x3x3", "--padding", "1")
    assert "taken, measured fastest" in run_python(command, *explained, "--layout", "NHWC").stdout
    listed = run_python(command, "tune", "--list").stdout.splitlines()
    assert listed[0] == f"1 problems measured on this machine, in {cache}"
    assert listed[1].startswith(f"{tuning.problem_key(spec_of(layout='NHWC'))}: ")
    assert "rows" in listed[1]
    run_python(command, "tune", "--clear")
    assert "measured" not in run_python(command, *explained, "--layout", "NHWC").stdout


def test_tuning_in_the_same_process_is_seen_at_once(monkeypatch):
    assert nc.explain("conv2d", **CALL).algorithm == BY_COST
    monkeypatch.setattr(measure, "measure", pretended)
    assert main(["tune", "1x64x28x28,64,3x3,p1"]) == 0
    assert nc.explain("conv2d", **CALL).algorithm == "rows"


def test_an_interruption_keeps_what_is_whole(monkeypatch, capsys):
    def interrupted(spec):
        if spec.stride != (1, 1, 1):
            raise KeyboardInterrupt
        return pretended(spec)

    monkeypatch.setattr(measure, "measure", interrupted)
    assert main(["tune", TINY, TINY, "1x4x6x6,4,3x3,s2", "1x64x28x28,64,3x3,p1"]) == 130
    seen = capsys.readouterr()
    assert "[2/3]" in seen.err
    assert "[3/3]" not in seen.err
    assert "of 1 problems" in seen.out
    assert tuning.table() == {tuning.problem_key(spec_of()): pretended(spec_of())}


def test_without_a_shape_the_usual_networks_are_measured(monkeypatch, capsys):
    monkeypatch.setattr(measure, "measure", pretended)
    monkeypatch.setattr(tuning, "store", lambda spec, seconds: None)
    assert main(["tune"]) == 0
    assert f"of {sum(len(layers(name)) for name in USUAL)} problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["alexnet"], "SHAPE: expected one such as 1x64x56x56,64,3x3,s1,p1,g1,d1, or one of resnet50"),
        (["1x64x56x56"], "SHAPE: "),
        (["1x64x56x56,64"], "SHAPE: "),
        (["1x64x56x56,64,3"], "SHAPE: "),
        (["1x64,64,3x3"], "SHAPE: "),
        (["1x64x56x56,64,3x3,"], "SHAPE: "),
        (["1x64x56x56,64,3x3,q1"], "SHAPE: "),
        (["1x64x56x56,64,3x3,p-1"], "SHAPE: "),
        (["1x64x56x56,64,3x3,g0"], "SHAPE: "),
        (["1x64x56x56,64,3x3,s1,s2"], "SHAPE: "),
        (["1x64x56x56,64,3x3,p1*0"], "SHAPE: "),
        (["1x64x56x56,64,3x3*2,p1"], "SHAPE: "),
        (["1x64x56x56,64,3x3,p1*"], "SHAPE: "),
        (["1x64x56x56,64,3x3,s1x1x1"], "stride: expected"),
        (["1x64x56x56,64,3x3,s0"], "stride: expected"),
        (["1x64x56x56,64,3x3,g7"], "groups: expected a divisor"),
        (["1x64x2x2,64,3x3"], "input: expected"),
        ([TINY, "--activation", "none"], "activation: expected"),
        ([TINY, "--dtype", "float31"], "dtype: expected"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message, cache, capsys):
    assert main(["tune", TINY, *arguments]) == 2
    seen = capsys.readouterr()
    assert message in seen.err
    assert not seen.out
    assert not cache.exists()


def test_shapes_say_all():
    [layer] = layers("2x6x8x9,4,3x2,p1x0,g2,s2,d1x3")
    assert layer.input == (2, 6, 8, 9)
    assert layer.weight == (4, 3, 3, 2)
    assert layer.options == {"padding": (1, 0), "groups": 2, "stride": (2,), "dilation": (1, 3)}
    expected = nc.explain("conv2d", layer.input, layer.weight, stride=2, padding=(1, 0), dilation=(1, 3), groups=2)
    assert str(measure.problem(layer)) == expected.problem
