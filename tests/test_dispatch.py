"""``explain`` tells the truth, and what is asked for by name is what runs."""

import numpy as np
import pytest
from helpers import HOST_ALGORITHMS, REAL_ALGORITHMS, case, conv2d, find_algorithm, operands, random_array, run_python, why_not
from hypothesis import given, settings
from strategies import convolutions

import numbaconv as nc
from numbaconv import execute
from numbaconv.backend import BACKENDS

PROBLEMS = [
    case((1, 3, 8, 9), (4, 3, 3, 3)),
    case((1, 64, 28, 28), (64, 64, 3, 3), padding=1, bias=True),
    case((2, 8, 9, 6), (12, 1, 3, 3), layout="NHWC", groups=6, padding="same", stride=2),
    case((3, 8, 9), (4, 3, 3, 3), residual=True, dilation=2, padding=5, padding_mode="reflect"),
    case((0, 3, 8, 9), (4, 3, 3, 3)),
]
CHOICES = [{}, {"algorithm": "accurate"}, {"backend": "reference"}, *[{"backend": b, "algorithm": a} for b, a in REAL_ALGORITHMS]]


@pytest.fixture
def prepared_algorithms(monkeypatch):
    """The (backend, name) of each algorithm that computes from now on, in order."""
    ran = []
    for backend in BACKENDS.values():
        for algorithm in backend.algorithms:

            def watched(spec, prepare=algorithm.prepare, row=(backend.name, algorithm.name)):
                run = prepare(spec)
                return lambda operands: ran.append(row) or run(operands)

            monkeypatch.setitem(vars(algorithm), "prepare", watched)
    clear_plans()
    yield ran
    monkeypatch.undo()
    clear_plans()


def clear_plans():
    """Forget the plans of earlier calls, which hold what they prepared."""
    execute.forget()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("problem", PROBLEMS, ids=str)
def test_what_is_explained_is_what_runs(problem, choice, prepared_algorithms):
    arrays, options = operands(problem, np.float32), {**problem.options, **choice}
    reason = why_not(arrays, options) if choice.get("algorithm", "accurate") != "accurate" else None
    if reason is not None:
        for ask in (lambda: nc.explain("conv2d", **arrays, **options), lambda: conv2d(arrays, **options)):
            with pytest.raises(ValueError, match=r"^algorithm: ") as refused:
                ask()
            assert reason in str(refused.value)
        assert not prepared_algorithms
        return
    explanation = nc.explain("conv2d", **arrays, **options)
    assert not prepared_algorithms
    conv2d(arrays, **options)
    assert prepared_algorithms == [(explanation.backend, explanation.algorithm)]
    if choice.get("algorithm", "accurate") != "accurate":
        assert explanation.algorithm == choice["algorithm"]
    if "backend" in choice:
        assert explanation.backend == choice["backend"]


@given(convolutions())
@settings(max_examples=50)
def test_explanations_are_whole(problem):
    arrays = operands(problem, np.float32)
    check_explanation(nc.explain("conv2d", **arrays, **problem.options))


def check_explanation(explanation):
    """A row for every algorithm there is; one is taken, and each other has a sentence that says why not."""
    assert [(row.backend, row.algorithm) for row in explanation.rows] == [
        (backend.name, algorithm.name) for backend in BACKENDS.values() for algorithm in backend.algorithms
    ]
    taken = [row for row in explanation.rows if row.why_not is None]
    assert [(row.backend, row.algorithm) for row in taken] == [(explanation.backend, explanation.algorithm)]
    assert taken[0].cost > 0
    offered = [row.cost for row in explanation.rows if row.why_not == "predicted slower"]
    assert all(cost >= taken[0].cost for cost in offered)
    text = str(explanation)
    assert sum(line.startswith(">") for line in text.splitlines()[1:]) == 1
    for row in explanation.rows:
        assert row.summary
        assert row.algorithm in text
        assert row.why_not is None or row.why_not in text
    marked = next(line for line in text.splitlines()[1:] if line.startswith(">"))
    assert explanation.algorithm in marked
    assert taken[0].summary in marked


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_is_explained(choice):
    apart = {"weight": (64, 1, 3, 3), "groups": 64}
    takes = {"depthwise": apart, "depthwise_blocked": apart, "pointwise": {"weight": (4, 64, 1, 1)}}
    problem = takes.get(choice.get("algorithm"), {"weight": (4, 64, 3, 3)})
    explanation = nc.explain("conv2d", (1, 64, 8, 9), **problem, **choice)
    check_explanation(explanation)
    for row in explanation.rows:
        another = choice.get("algorithm") not in (None, "accurate", row.algorithm)
        if another and BACKENDS[row.backend].why_unavailable() is None:
            assert repr(choice["algorithm"]) in row.why_not


def test_shapes_say_the_same_as_arrays():
    arrays = operands(PROBLEMS[1], np.float64)
    shapes = {name: a.shape for name, a in arrays.items()}
    assert str(nc.explain("conv2d", **arrays, padding=1)) == str(nc.explain("conv2d", **shapes, padding=1, dtype=np.float64))
    mixed = nc.explain("conv2d", arrays["input"], shapes["weight"], shapes["bias"], 1, 1, dtype="float64")
    assert str(mixed) == str(nc.explain("conv2d", **arrays, padding=1))


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"padding": 1}, ["2x6x8x9 -> 2x4x8x9", "kernel 3x3", "padding 1x1", "float32", "channels first"]),
        ({"stride": (1, 2), "dilation": 2}, ["-> 2x4x4x3", "stride 1x2", "dilation 2x2"]),
        ({"padding": ((0, 1), (2, 0)), "padding_mode": "reflect"}, ["padding (0, 1)x(2, 0) reflect"]),
        ({"weight": (4, 3, 3, 3), "groups": 2, "out_dtype": "float64"}, ["groups 2", "float32 -> float64"]),
        ({"input": (2, 8, 9, 6), "layout": "NHWC"}, ["2x6x8x9 -> 2x4x6x7", "channels last"]),
    ],
)
def test_the_problem_in_words(arguments, parts):
    explanation = nc.explain("conv2d", **{"input": (2, 6, 8, 9), "weight": (4, 6, 3, 3), **arguments})
    for part in parts:
        assert part in explanation.problem
    assert str(explanation).startswith(explanation.problem)


def test_memory_order_is_seen_through_views():
    x = random_array((1, 8, 9, 3), np.float32).transpose(0, 3, 1, 2)
    assert "channels last" in nc.explain("conv2d", x, (4, 3, 3, 3)).problem
    assert "channels first" in nc.explain("conv2d", x.copy(), (4, 3, 3, 3)).problem


def test_costs_grow_with_the_problem():
    small, large = (nc.explain("conv2d", (1, 16, n, n), (16, 16, 3, 3)) for n in (16, 128))
    for a, b in zip(small.rows, large.rows, strict=True):
        if a.cost is not None and b.cost is not None:
            assert a.cost < b.cost


def test_use_backend_and_environment_are_followed():
    with nc.use_backend("reference"):
        assert nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3)).backend == "reference"
    code = "import numbaconv as nc; print(nc.explain('conv2d', (1, 3, 8, 9), (4, 3, 3, 3)).backend)"
    assert run_python(code, env={"NUMBACONV_BACKEND": "reference"}).stdout == "reference\n"


def test_accurate_takes_only_what_sums_the_products():
    explanation = nc.explain("conv2d", (1, 64, 28, 28), (64, 64, 3, 3), algorithm="accurate")
    assert find_algorithm(explanation.backend, explanation.algorithm).sums_directly


@pytest.mark.parametrize(
    ("error", "argument", "call"),
    [
        (ValueError, "operator", lambda: nc.explain("conv9d", (1, 3, 8, 9), (4, 3, 3, 3))),
        (TypeError, "operator", lambda: nc.explain(3, (1, 3, 8, 9))),
        (TypeError, "operator", lambda: nc.explain(None, (1, 3, 8, 9))),
        (ValueError, "input", lambda: nc.explain("conv2d", (8,), (4, 3, 3, 3))),
        (ValueError, "input", lambda: nc.explain("conv2d", (1, 3, -8, 9), (4, 3, 3, 3))),
        (ValueError, "input", lambda: nc.explain("conv2d", (1, 3, 8.0, 9), (4, 3, 3, 3))),
        (ValueError, "input", lambda: nc.explain("conv2d", (1, 3, "8", 9), (4, 3, 3, 3))),
        (ValueError, "weight", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 2, 3, 3))),
        (ValueError, "bias", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), (5,))),
        (ValueError, "stride", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), stride=0)),
        (ValueError, "algorithm", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), algorithm="best")),
        (ValueError, "backend", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), backend="best")),
        (ValueError, "precision", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), precision="tf32")),
        (TypeError, "dtype", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), dtype="longdouble")),
        (TypeError, "dtype", lambda: nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), dtype="x")),
        (TypeError, "input", lambda: nc.explain("conv2d", None, (4, 3, 3, 3))),
        (TypeError, "weight", lambda: nc.explain("conv2d", (1, 3, 8, 9), None)),
        (TypeError, "input", lambda: nc.explain(nc.Conv2d(np.ones((4, 3, 3, 3))), "abc")),
        (ValueError, "input|weight", lambda: nc.explain(nc.Conv2d(np.ones((4, 3, 3, 3))), (1, 2, 8, 9))),
    ],
)
def test_errors_are_those_of_the_call(error, argument, call):
    with pytest.raises(error, match=rf"^({argument}): expected .+, got "):
        call()


def test_missing_and_unknown_arguments():
    with pytest.raises(TypeError, match="weight"):
        nc.explain("conv2d", (1, 3, 8, 9))
    with pytest.raises(TypeError, match="pading"):
        nc.explain("conv2d", (1, 3, 8, 9), (4, 3, 3, 3), pading=1)


@pytest.mark.parametrize(("backend", "algorithm"), HOST_ALGORITHMS, ids=["-".join(row) for row in HOST_ALGORITHMS])
def test_every_row_is_complete(backend, algorithm):
    row = find_algorithm(backend, algorithm)
    assert row.backend == backend
    assert row.summary
    assert row.name not in ("auto", "accurate")


def test_huge_shapes_can_be_explained():
    """Nothing is allocated; what would not fit this machine is refused by name."""
    assert nc.explain("conv2d", (1, 3, 4000, 4000), (64, 3, 3, 3)).algorithm
    with pytest.raises(ValueError, match=r"^input: expected a result that fits"):
        nc.explain("conv2d", (2**20, 3, 2**20, 2**20), (64, 3, 3, 3))
