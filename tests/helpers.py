"""What the test modules share: a case and its arrays, the expected result with its error bound, and PyTorch's result."""

import os
import subprocess
import sys
from itertools import product
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest

import numbaconv as nc
from numbaconv import arrays as views
from numbaconv import execute, reference
from numbaconv.backend import BACKENDS
from numbaconv.dtypes import kind_of, resolve
from numbaconv.spec import ArraySpec, ConvOptions, ConvSpec, normalise

try:
    import torch
except ImportError:  # beside the oldest versions, see tests/oldest.txt
    torch = None
else:
    torch.set_num_threads(1)  # its problems here are small, and share the cores with ours
HOST_ALGORITHMS = [(b.name, a.name) for b in BACKENDS.values() if b.place == "host" for a in b.algorithms]
REAL_ALGORITHMS = [row for row in HOST_ALGORITHMS if not row[1].endswith("_4m")]  # which take complex numbers alone
CPU_ALGORITHMS = [algorithm for backend, algorithm in REAL_ALGORITHMS if backend == "cpu"]
WIDE = {"f": np.float64, "c": np.complex128, "i": np.int64, "u": np.int64, "b": np.int64}
TORCH_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "replicate", "circular": "circular"}


class Case(NamedTuple):
    """A call, without its data."""

    input: tuple
    weight: tuple
    options: dict
    bias: bool = False
    residual: bool = False

    def __str__(self):
        parts = ["x".join(map(str, self.input)), "x".join(map(str, self.weight))]
        parts += [f"{name}={value}" for name, value in self.options.items()]
        parts += [name for name in ("bias", "residual") if getattr(self, name)]
        return " ".join(parts).replace("(", "[").replace(")", "]")


def some_of(rows, *usual):
    """Parameters, or tuples of them, of which all but those of the given numbers are slow."""
    slow = pytest.mark.slow
    marked = (pytest.param(*row, marks=slow) if type(row) is tuple else pytest.param(row, marks=slow) for row in rows)
    return [row if i in usual else rare for i, (row, rare) in enumerate(zip(rows, marked, strict=True))]


def every_other(rows):
    """The same of every second row."""
    return some_of([*rows], *range(0, len(rows), 2))


def one_in(n, *axes):
    """All rows of a value of each axis, of which one in n runs usually, so that every value has its turn; the others are slow."""
    rows = [*product(*(enumerate(axis) for axis in axes))]
    turns = [i for i, row in enumerate(rows) if sum(number for number, _ in row) % n == 0]
    return some_of([tuple(value for _, value in row) for row in rows], *turns)


def case(input, weight, *, bias=False, residual=False, **options):
    """Write a case as a call."""
    return Case(input, weight, options, bias, residual)


def random_array(shape, dtype, seed=0):
    """Normal floats, and integers over the whole range of their dtype."""
    rng, dtype = np.random.default_rng([seed, *shape]), np.dtype(dtype)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min, info.max, shape, dtype, endpoint=True)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def operands(case, dtype, weight_dtype=None, seed=0):
    """Return the arrays of a case by their argument names."""
    weight_dtype = dtype if weight_dtype is None else weight_dtype
    found = {"input": random_array(case.input, dtype, seed), "weight": random_array(case.weight, weight_dtype, seed + 1)}
    if case.bias:
        found["bias"] = random_array(case.weight[:1], dtype, seed + 2)
    if case.residual:
        spec, data_format = _normalised(found, case.options)
        shape = data_format.shape(spec.batch, spec.out_channels, spec.output_size)
        found["residual"] = random_array(shape, dtype, seed + 3)
    return found


def _normalised(arrays, options):
    found = map(arrays.get, ("input", "weight", "bias", "residual"))
    specs = (None if a is None else ArraySpec(a.shape, a.dtype) for a in found)
    return normalise(2, *specs, _options(options))


def _options(options):
    return ConvOptions(**{name: value for name, value in options.items() if name in ConvOptions._fields})


def canonical_spec(x, w, stride, padding, dilation, mode):
    """The spec of a problem that is in canonical form already."""
    batch, groups, ins = x.shape[:3]
    dtypes = resolve(x.dtype, w.dtype)
    channels = (groups * ins, groups * w.shape[1])
    return ConvSpec(batch, groups, *channels, x.shape[3:], w.shape[3:], stride, padding, dilation, mode, dtypes, False)


def oracle(arrays, options):
    """The result by ``reference.correlate``, in the operands' own dtype, seen as the caller sees it."""
    spec, data_format = _normalised({name: arrays[name] for name in ("input", "weight")}, options)
    input = views.view_input(arrays["input"], data_format, spec.groups)
    y = reference.correlate(spec, input, views.view_weight(arrays["weight"], spec.groups))
    y = y.reshape(spec.batch, spec.out_channels, *spec.output_size[1:])
    if "bias" in arrays:
        y = y + arrays["bias"][:, None, None]
    if options.get("layout") == "NHWC":
        y = np.moveaxis(y, 1, -1)
    y = y if data_format.batched else y[0]
    return y + arrays["residual"] if "residual" in arrays else y


def assert_conforms(result, arrays, options, *, sums_directly=True):
    """Hold a result against the oracle, run on float64, complex128 or int64 copies.

    Integers are exact (int64 sums, wrapped, are every integer dtype's sums, wrapped). For floats, summing m terms in any order
    has an error of at most gamma_m = m u / (1 - m u) times the sum of their absolute values, u = eps / 2 (Higham, "Accuracy and
    Stability", section 3.1), and with rounding errors independent of one another of at most 8 sqrt(m) u times it, but for one
    in 10^13 (Higham and Mary 2019, lambda = 8). The smaller of the two holds for each element by itself. Twice it leaves room
    for the oracle, which may have no more digits; a complex product is four real ones. Algorithms that do not sum the
    products themselves spread errors within a tile: for them the image's largest bound holds everywhere.
    """
    wide = {name: a.astype(WIDE[kind_of(a.dtype)]) for name, a in arrays.items()}
    expected = oracle(wide, options)
    assert result.shape == expected.shape
    if result.dtype.kind in "iu":
        np.testing.assert_array_equal(result, expected.astype(result.dtype))
        return
    magnitude = oracle({name: abs(a) for name, a in wide.items()}, options)
    tolerance = allowed_error(magnitude, int(np.prod(arrays["weight"].shape[1:])) + len(arrays), result.dtype, sums_directly)
    error = abs(result - expected)
    assert (error <= tolerance).all(), f"error {error.max():.3g}, {(error > tolerance).mean():.1%} of elements beyond the bound"


def allowed_error(magnitude, m, dtype, sums_directly=True):
    """The bound of :func:`assert_conforms` for sums of m terms, from the sums of their absolute values."""
    tolerance = min(m, 8 * m**0.5) * float(ml_dtypes.finfo(dtype).eps) * magnitude * (4 if dtype.kind == "c" else 1)
    return tolerance if sums_directly or not tolerance.size else 4 * tolerance.max()


def torch_conv2d(arrays, options):
    """PyTorch's result as a NumPy array, or None where it is not installed and for what it has no words for."""
    if torch is None:
        return None
    options = dict(options)
    mode, last = options.pop("padding_mode", "zeros"), options.pop("layout", "NCHW") == "NHWC"
    x, w = torch.from_numpy(arrays["input"].copy()), torch.from_numpy(arrays["weight"].copy())
    bias = torch.from_numpy(arrays["bias"]) if "bias" in arrays else None
    batched = x.ndim == 4
    x = x if batched else x[None]
    x = x.movedim(-1, 1) if last else x
    low_h, high_h, low_w, high_w = pads_in_full(options.pop("padding", 0), x.shape[2:], w.shape[2:], **options)
    if mode in ("reflect", "circular"):
        most = {"reflect": -1, "circular": 0}[mode]
        if max(low_h, high_h) > x.shape[2] + most or max(low_w, high_w) > x.shape[3] + most:
            return None
    if 0 in x.shape or (mode != "zeros" and min(low_h, high_h, low_w, high_w) < 0):
        return None
    x = torch.nn.functional.pad(x, (low_w, high_w, low_h, high_h), mode=TORCH_MODES[mode])
    y = torch.nn.functional.conv2d(x, w, bias, **options)
    y = y.movedim(1, -1) if last else y
    y = (y if batched else y[0]).numpy()
    return y + arrays["residual"] if "residual" in arrays else y


def pads_in_full(padding, size, kernel, stride=1, dilation=1, groups=1):
    """(low, high) of the rows, (low, high) of the columns, in one tuple."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if isinstance(padding, str):
        stride, dilation = np.broadcast_to(stride, 2).tolist(), np.broadcast_to(dilation, 2).tolist()
        found = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            outputs = (n + s - 1) // s
            total = max(0, (outputs - 1) * s + (k - 1) * d + 1 - n)
            small, large = total // 2, (total + 1) // 2
            found += [large, small] if padding == "same_lower" else [small, large]
        return tuple(found)
    pads = np.array(padding)
    return tuple(np.broadcast_to(pads[:, None] if pads.ndim == 1 else pads, (2, 2)).ravel().tolist())


def find_algorithm(backend, algorithm):
    """Return a row of a backend's table."""
    return next(a for a in BACKENDS[backend].algorithms if a.name == algorithm)


def sums_directly(backend, algorithm):
    """Whether an algorithm adds up the products themselves."""
    return find_algorithm(backend, algorithm).sums_directly


def spec_of(arrays, options):
    """The spec of a call as the dispatch layer sees it, the order of the input's axes in memory among it."""
    seen = {name: views.HOST.view(a, name) for name, a in arrays.items()}
    first = views.describe(seen["input"], 2, options.get("layout"))
    found = map(seen.get, ("weight", "bias", "residual"))
    specs = (first, *(None if a is None else ArraySpec(a.shape, a.dtype) for a in found))
    return normalise(2, *specs, _options(options))[0]


def why_not(arrays, options):
    """Why the algorithm that the options name cannot take a problem, in its own words, or None."""
    return find_algorithm(options["backend"], options["algorithm"]).why_not(spec_of(arrays, options))


def conv2d(arrays, **options):
    """Call ``numbaconv.conv2d`` with arrays by name."""
    return nc.conv2d(**arrays, **options)


def count_long_ways(monkeypatch):
    """Forget all calls; return a list of the operators of those that go the long way to the CUDA backend from now on."""
    calls, usual = [], execute._compute

    def counted(*args):
        calls.extend([args[0]] * (args[4].name == "cuda"))
        return usual(*args)

    execute.forget()
    monkeypatch.setattr(execute, "_compute", counted)
    return calls


def run_python(code, *arguments, env=None, timeout=120, check=True):
    """Run Python code in a process of its own; return what came of it."""
    here = os.path.dirname(os.path.abspath(__file__))
    path = os.pathsep.join(filter(None, [os.path.dirname(os.path.dirname(nc.__file__)), here, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "PYTHONFAULTHANDLER": "1", **(env or {})},
        capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
