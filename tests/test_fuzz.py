"""Any argument of any call may be nonsense: it ends in the right result, or in an error that names the argument.

Never in a crash, nor in an error of another kind; ``out`` is untouched after every error, and the operands always.
"""

import inspect
import re
import warnings

import numpy as np
import odd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import numbaconv as nc

ARRAYS = ("input", "weight", "bias", "residual", "grad_output", "X", "K")
SPACE, KERNEL = (5, 6, 7), (2, 3, 2)
WORDY = ("layout", "padding_mode", "algorithm", "precision", "operator")
PLACES = st.sampled_from(["cpu"] + ["reference"] * 4) | st.integers(0, len(odd.WORDS) - 1)


def _random(shape):
    return np.random.default_rng(len(shape)).integers(-4, 5, shape).astype(np.float32)


def _convolution(ndim):
    n, k = SPACE[-ndim:], KERNEL[-ndim:]
    y = tuple(a - b + 1 for a, b in zip(n, k, strict=True))
    return {
        "input": _random((2, 4, *n)), "weight": _random((6, 4, *k)), "bias": _random((6,)), "residual": _random((2, 6, *y)),
        "out": np.full((2, 6, *y), 7, np.float32),
    }  # fmt: skip


def _transposed(ndim):
    n, k = SPACE[-ndim:], KERNEL[-ndim:]
    y = tuple(a + b - 1 for a, b in zip(n, k, strict=True))
    return {
        "input": _random((2, 4, *n)), "weight": _random((4, 6, *k)), "bias": _random((6,)), "residual": _random((2, 6, *y)),
        "out": np.full((2, 6, *y), 7, np.float32),
    }  # fmt: skip


def _gradients(ndim):
    good = _convolution(ndim)
    return {
        "input": good["input"], "weight": good["weight"], "grad_output": good["residual"],
        "input_size": good["input"].shape, "weight_size": good["weight"].shape,
    }  # fmt: skip


def _explained(operator, backend=None, **arguments):
    nc.explain(operator, *(arguments.pop(name) for name in ("input", "weight")), backend=backend, **arguments)


def _prepared(kind):
    def call(backend=None, **arguments):
        late = {name: arguments.pop(name) for name in ("input", "residual", "out", "stream") if name in arguments}
        op = kind(backend=backend, **arguments)
        return op(**late)

    return call


def _operators():
    """Return for each call its function, its arguments that are fine, and the names of all."""
    found = {}
    for ndim in (1, 2, 3):
        for name, good in ((f"conv{ndim}d", _convolution(ndim)), (f"conv_transpose{ndim}d", _transposed(ndim))):
            function = getattr(nc, name)
            prepared = getattr(
                nc, "".join(part.title() for part in name.split("_")).replace("1D", "1d").replace("2D", "2d").replace("3D", "3d")
            )
            names = list(inspect.signature(function).parameters)
            found[name] = (function, good, names)
            found[prepared.__name__] = (_prepared(prepared), good, names)
            told = {"operator": name, "dtype": np.float32} | {n: good[n] for n in ("input", "weight", "bias")}
            found[f"explain {name}"] = (_explained, told, ["operator", "dtype", *names])
        for part in ("input", "weight"):
            function = getattr(nc.grad, f"conv{ndim}d_{part}")
            names = list(inspect.signature(function).parameters)
            found[f"grad.conv{ndim}d_{part}"] = (function, {n: a for n, a in _gradients(ndim).items() if n in names}, names)
    x, k = _random((3, 5, 6)), _random((4, 3, 2, 3))
    corr = {"corr2d": (x[0], k[0, 0]), "corr2d_multi_in": (x, k[0]), "corr2d_multi_in_out": (x, k)}
    corr["corr2d_multi_in_out_1x1"] = (x, k[..., :1, :1])
    for name, pair in corr.items():
        found[name] = (getattr(nc, name), dict(zip("XK", pair, strict=True)), ["X", "K"])
    return found


OPERATORS = _operators()


@st.composite
def calls(draw):
    """A call that is right but for one to three of its arguments, in words: where it is computed, and what is odd about it."""
    name = draw(st.sampled_from(sorted(OPERATORS)))
    _, good, names = OPERATORS[name]
    without = draw(st.sets(st.sampled_from(["bias", "residual", "out"])))
    changed = draw(st.lists(st.sampled_from([n for n in names if n != "backend"]), min_size=1, max_size=3, unique=True))
    return name, without, {n: draw(st.sampled_from(sorted(_choices(n, good)))) for n in changed}, draw(PLACES)


def _choices(name, good):
    """What an argument may become: makers of values, by words or numbers."""
    usual = good.get(name)
    if name in (*ARRAYS, "out"):
        found = odd.arrays_like(np.ones((2, 3), np.float32) if usual is None else usual)
        return found | {f"the {n}": n for n in ARRAYS if n in good} if name == "out" else found
    if name in ("input_size", "weight_size"):
        values = [*odd.NUMBERS, list(usual), np.array(usual), (0, *usual[1:]), (*usual[:-1], -1), (*usual[:-1], 2**62)]
    elif name in WORDY:
        values = odd.WORDS
    else:
        values = {"activation": odd.ACTIVATIONS, "dtype": odd.DTYPES, "out_dtype": odd.DTYPES}.get(name, odd.NUMBERS)
    return {number: lambda value=value: value for number, value in enumerate(values)}


def _made(name, without, changed):
    """The arguments of a call."""
    good = OPERATORS[name][1]
    found = {n: a.copy() if _is_array(a) else a for n, a in good.items() if n not in without}
    for n, word in changed.items():
        make = _choices(n, good)[word]
        found[n] = found.get(make) if isinstance(make, str) else make()
    return found


@pytest.mark.timeout(1000)
@settings(suppress_health_check=list(HealthCheck))  # the first example of each kind compiles
@given(calls())
def test_the_right_result_or_an_error_that_names_an_argument(call):
    check(*call)


def check(name, without, changed, backend):
    function, _, names = OPERATORS[name]
    if isinstance(backend, int):
        backend = odd.WORDS[backend]
    arguments = _made(name, without, changed)
    if arguments.get("out", 1) is None:
        del arguments["out"]
    kept = {n: _bytes_of(a) for n, a in arguments.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, of what it is asked to convert
        result, error = _outcome(function, arguments, backend, names)
        overlaps = error is None and "out" in arguments and _overlaps(arguments)
        for n, before in kept.items():
            if (n != "out" or error is not None) and not overlaps and before is not None:
                assert _bytes_of(arguments[n]) == before, f"{n} was written to"
        if error is not None:
            assert isinstance(error, (ValueError, TypeError, MemoryError, nc.BackendUnavailableError)), repr(error)
            if isinstance(error, nc.BackendUnavailableError):
                assert backend == "cuda"
            elif not isinstance(error, MemoryError):
                named = re.match(r"(\w+): ", str(error))
                assert named, f"no argument is named: {error!r}"
                assert named[1] in (*names, "backend"), str(error)[:300]
            assert len(str(error)) < 2000
        elif result is not None and type(arguments.get("activation")) in (str, type(None)):
            assert result is arguments.get("out", result)
            again = {n: a for n, a in _made(name, without, changed).items() if n != "out"}
            expected, other = _outcome(function, again, "reference", names)
            if other is None:  # there may be no such algorithm
                _assert_same(result, expected, "out" in arguments)


def _outcome(function, arguments, backend, names):
    """What a call returns or raises."""
    try:
        if "backend" in names:
            return function(**arguments, backend=backend), None
        with nc.use_backend(backend):
            return function(**arguments), None
    except Exception as error:
        return None, error


def _overlaps(arguments):
    return _is_array(arguments["out"]) and any(
        n != "out" and _is_array(a) and np.may_share_memory(a.view(np.ndarray), arguments["out"].view(np.ndarray))
        for n, a in arguments.items()
    )


def _is_array(value):
    return issubclass(type(value), np.ndarray)  # isinstance asks the object, which may fail


def _bytes_of(value):
    """What an array holds, if that is little; None of anything else."""
    if not _is_array(value) or value.dtype.hasobject or value.size > 10**6:
        return None
    return np.ndarray.tobytes(value.view(np.ndarray))


def _assert_same(result, expected, given):
    """The same numbers, and the same kind of array unless it was given."""
    if not given:
        assert (type(result), result.dtype) == (np.ndarray, expected.dtype)
    result = np.asarray(result)
    assert result.shape == expected.shape
    if result.dtype.kind in "iub":
        np.testing.assert_array_equal(result, expected.astype(result.dtype))
        return
    wide = np.complex128 if result.dtype.kind == "c" else np.float64
    finite = np.isfinite(expected.astype(wide))
    tolerance = 0.05 if min(result.itemsize, expected.itemsize) == 2 else 1e-3
    np.testing.assert_allclose(result.astype(wide)[finite], expected.astype(wide)[finite], tolerance, 100 * tolerance)
