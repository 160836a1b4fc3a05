"""The asv suite: every benchmark runs, its tables are those of the package, and its quick set stays quick."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import every_benchmark
import pytest

from benchmarks import layers
from numbaconv import measure, networks

ROOT = Path(__file__).resolve().parents[1]
FULL = {"NUMBACONV_BENCH": "full"}


def python(*arguments, **environment):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), **environment}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=240)


def test_every_benchmark_runs():
    result = python(str(ROOT / "tests" / "every_benchmark.py"))
    assert result.returncode == 0, result.stderr
    values = dict(line.split(": ", 1) for line in result.stdout.splitlines() if not line.startswith("Peers"))
    assert set(values) == {
        f"{c.__name__}.{name}" for c in every_benchmark.classes() for name in every_benchmark.methods(c) if c.__name__ != "Peers"
    }
    assert "Peers.track_times_peer" in result.stdout or "Peers skipped" in result.stdout
    assert 0 < float(values["Errors.track_rms_error"]) < 1e-5
    assert float(values["Peak.track_fma_peak"]) > 1
    assert 0 < float(values["Share.track_share_of_fma_peak"]) < 1000
    assert float(values["Dtypes.track_times_float32"]) > 0


def test_the_quick_set_is_quick():
    """About two seconds each, compilation and the import of peers among them."""
    assert sum(len(every_benchmark.params(c) or [()]) * len(every_benchmark.methods(c)) for c in every_benchmark.classes()) < 120


def test_everything_is_everything():
    """All forward problems, in both layouts, on one thread and on all."""
    code = "import every_benchmark as e; c = {c.__name__: c for c in e.classes()}['Forward']; print(len(set(e.params(c))))"
    assert python("-c", code, **FULL).stdout == f"{len(layers.FORWARD) * 2 * 2}\n"


def test_layers_import_nothing():
    """They serve every commit of the package."""
    tree = ast.parse((ROOT / "benchmarks" / "layers.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def as_package(problem):
    """A row of benchmarks/layers.py as the package's problem."""
    input, weight, options = problem
    return measure.problem(networks.Layer(input, weight, options))


@pytest.mark.parametrize("network", networks.NETWORKS)
def test_the_two_tables_agree(network):
    theirs = {measure.problem(layer): layer.count for layer in networks.layers(network)}
    if network == "selection":
        ours = {as_package(problem): 1 for problem in layers.LAYERS.values()}
    else:
        ours = {as_package(layers.NETWORKS[f"{network} {word}"]): n for word, n in layers.COUNTS[network].items()}
    assert ours == theirs


def test_no_network_is_missing():
    assert {*layers.COUNTS, "selection"} == set(networks.NETWORKS)


@pytest.mark.parametrize("table", ["LAYERS", "SMALL", "ARTICLE", "FILTERS", "AUDIO", "VOLUMES", "BATCHES", "NETWORKS"])
def test_problems_are_problems(table):
    problems = getattr(layers, table)
    specs = {name: as_package(problem) for name, problem in problems.items()}
    assert all(spec.multiply_adds > 0 for spec in specs.values())
    assert all(re.fullmatch(r"[\w.-]+( [\dxspg,]+)?", name) for name in specs)


def test_flops_are_those_of_the_definition():
    from benchmarks.common import flops

    for problem in layers.FORWARD.values():
        assert flops(problem) == 2 * as_package(problem).multiply_adds


def test_what_is_compared_with_compiled_calls_computes_the_same():
    import numpy as np

    from benchmarks.bench_compiled import PROBLEMS, WAYS, arguments
    from benchmarks.common import in_float64

    for layer in ("corr2d.multi_in_out", "small.3x3"):
        given = arguments(layer)
        expected = in_float64(PROBLEMS[layer], *given[:2])
        for run in WAYS.values():
            np.testing.assert_allclose(run(2, *given), expected, rtol=1e-4, atol=1e-4)


def test_the_float64_definition_is_the_reference():
    import numpy as np

    import numbaconv as nc
    from benchmarks.common import in_float64, numbers

    problem = (2, 4, 9, 8), (6, 2, 3, 2), {"stride": (2, 1), "padding": (1, 0), "groups": 2}
    x, weight = numbers(problem[0]), numbers(problem[1])
    expected = nc.conv2d(x.astype(np.float64), weight.astype(np.float64), **problem[2], backend="reference")
    np.testing.assert_allclose(in_float64(problem, x, weight), expected, rtol=1e-12, atol=1e-12)
