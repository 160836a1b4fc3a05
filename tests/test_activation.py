"""``activation=``: PyTorch's named ones and the caller's own, fused on every algorithm, before which a residual is added."""

import math

import numba
import numpy as np
import pytest
import torch
from family import CONV, PREPARED, TRANSPOSE, transposed
from helpers import REAL_ALGORITHMS, one_in, random_array
from numba import njit

import numbaconv as nc
from numbaconv.activation import SCALARS
from numbaconv.backend import BACKENDS
from numbaconv.options import ConvOptions
from numbaconv.spec import ArraySpec, normalise

F = torch.nn.functional
NAMED = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh,
    "silu": F.silu, "gelu": F.gelu, "hardswish": F.hardswish,
}  # fmt: skip
ALGORITHMS = REAL_ALGORITHMS  # the others take no activation
every_algorithm = pytest.mark.parametrize(("backend", "algorithm"), ALGORITHMS, ids=["-".join(row) for row in ALGORITHMS])
VALUES = np.concatenate([
    np.linspace(-12, 12, 481), [0.0, -0.0, 3, -3, 6, 1e-30, -1e-30, 90, -90, 1000, -1000, np.inf, -np.inf, np.nan],
])  # fmt: skip


def applied(values, activation, **options):
    """An activation of these values: a convolution by one."""
    values = np.asarray(values)
    return nc.conv1d(values[None, None], np.ones((1, 1, 1), values.dtype), activation=activation, **options)[0, 0]


def refuses(x, w, backend, algorithm, **options):
    """Whether an algorithm does not take a problem, in which case it says so."""
    ndim = w.ndim - 2
    spec, _ = normalise(ndim, *[ArraySpec(a.shape, a.dtype) for a in (x, w)], None, None, ConvOptions(**options))
    if next(a for a in BACKENDS[backend].algorithms if a.name == algorithm).why_not(spec) is None:
        return False
    with pytest.raises(ValueError, match=f"^algorithm: expected .+, got '{algorithm}'"):
        CONV[ndim](x, w, **options, backend=backend, algorithm=algorithm)
    return True


def refuses_values(values, backend, algorithm):
    """Whether :func:`applied` is beyond an algorithm, in which case it says so."""
    return refuses(values[None, None], np.ones((1, 1, 1), values.dtype), backend, algorithm)


# ---------------------------------------------------------------- named ones


def test_every_name_is_tested():
    assert set(NAMED) == set(SCALARS)


@pytest.mark.parametrize(("name", "dtype", "where"), one_in(len(NAMED), NAMED, [np.float64, np.float32, np.float16], ALGORITHMS))
def test_named_activations_are_pytorchs(name, dtype, where):
    """To a few units in the last place of the result (gelu, which subtracts: of its argument); float16 is computed in float32
    and then rounded; a factor below the normal numbers may be lost. NaN and infinities are PyTorch's too.
    """
    values, (backend, algorithm) = VALUES.astype(dtype), where
    if refuses_values(values, backend, algorithm):
        return
    result = applied(values, name, backend=backend, algorithm=algorithm)
    assert result.dtype == dtype
    exact = NAMED[name](torch.from_numpy(values.astype(np.float64))).numpy()
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(result[~finite], exact[~finite])
    values, result, exact = (a[finite].astype(np.float64) for a in (values, result, exact))
    summed = np.finfo(np.promote_types(dtype, np.float32))
    allowed = 8 * summed.eps * abs(values if name == "gelu" else exact) + float(summed.tiny) * (1 + abs(values))
    if dtype == np.float16:
        allowed += np.spacing(abs(exact).astype(dtype)).astype(np.float64) / 2
    assert (abs(result - exact) <= allowed).all()


INTEGERS = [np.int8, np.uint8, np.int64, np.bool_]


@pytest.mark.parametrize(("dtype", "name", "where"), one_in(2 * len(INTEGERS), INTEGERS, ["relu", "relu6"], ALGORITHMS))
def test_relu_and_relu6_on_integers(dtype, name, where):
    backend, algorithm = where
    x, w = random_array((1, 2, 40), dtype), random_array((2, 2, 3), dtype, 1)
    if refuses(x, w, backend, algorithm):
        return
    plain = nc.conv1d(x, w, backend="reference")
    result = nc.conv1d(x, w, activation=name, backend=backend, algorithm=algorithm)
    assert result.dtype == plain.dtype
    np.testing.assert_array_equal(result, np.maximum(plain, 0) if name == "relu" else np.clip(plain, 0, 6))


@pytest.mark.parametrize("name", NAMED)
def test_nan_stays_nan(name):
    for dtype in (np.float32, np.float64, np.float16):
        assert np.isnan(applied(np.array([np.nan, 1, np.nan], dtype), name)).tolist() == [True, False, True]


def test_relu_of_negative_zero_and_infinities():
    np.testing.assert_array_equal(applied([-np.inf, -0.0, 0.0, np.inf], "relu"), [0, 0, 0, np.inf])
    np.testing.assert_array_equal(applied([-np.inf, -0.0, 0.0, np.inf], "relu6"), [0, 0, 0, 6])
    np.testing.assert_array_equal(applied([-np.inf, np.inf], "sigmoid"), [0, 1])
    np.testing.assert_array_equal(applied([-np.inf, np.inf], "tanh"), [-1, 1])


# ---------------------------------------------------------------- the caller's own

SCALE = 2.5


@njit
def branches(x):
    if x < -1:
        return -1.0
    if x > 1:
        return math.sqrt(x)
    total = 0.0
    for k in range(3):
        total += x**k
    return total


@njit
def whole(x):
    """Returns an integer."""
    return 1 if x > 0 else -1


@njit
def scaled(x):
    """Reads a global constant, and calls another compiled function."""
    return SCALE * helper(x)


@njit
def helper(x):
    return x + 1


def slope(a):
    @njit
    def activation(x):
        return a * x if x < 0 else x

    return activation


OWN = {
    "branches": (branches, lambda x: np.where(x < -1, -1, np.where(x > 1, np.sqrt(abs(x)), 1 + x + x * x))),
    "an integer result": (whole, lambda x: np.where(x > 0, 1.0, -1.0)),
    "a global and a call": (scaled, lambda x: 2.5 * (x + 1)),
    "a closure": (slope(0.25), lambda x: np.where(x < 0, 0.25 * x, x)),
    "fastmath": (njit(fastmath=True)(lambda x: x * x), lambda x: x * x),
    "with a signature": (njit("float64(float64)")(lambda x: x / 2), lambda x: x / 2),
}


@every_algorithm
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OWN)
def test_compiled_functions(name, dtype, backend, algorithm):
    activation, by_numpy = OWN[name]
    values = np.linspace(-3, 3, 61).astype(dtype)
    if refuses_values(values, backend, algorithm):
        return
    result = applied(values, activation, backend=backend, algorithm=algorithm)
    assert result.dtype == dtype
    np.testing.assert_allclose(
        result, by_numpy(values.astype(np.float64)), rtol=8 * np.finfo(dtype).eps, atol=np.finfo(dtype).eps
    )


@every_algorithm
def test_compiled_functions_on_complex_numbers(backend, algorithm):
    values = random_array((50,), np.complex128)
    if refuses_values(values, backend, algorithm):
        return
    conjugate = njit(lambda x: np.conj(x) * 1j)
    result = applied(values, conjugate, backend=backend, algorithm=algorithm)
    np.testing.assert_allclose(result, values.conj() * 1j, rtol=1e-14)
    magnitude = applied(values, njit(lambda x: abs(x)), backend=backend, algorithm=algorithm)
    assert magnitude.dtype == np.complex128
    np.testing.assert_allclose(magnitude, abs(values), rtol=1e-14)


@every_algorithm
def test_compiled_functions_on_integers(backend, algorithm):
    values = np.arange(-20, 20, dtype=np.int64)
    if refuses_values(values, backend, algorithm):
        return
    result = applied(values, njit(lambda x: x % 7 - 3), backend=backend, algorithm=algorithm)
    assert result.dtype == np.int64
    np.testing.assert_array_equal(result, values % 7 - 3)


def test_compiled_functions_on_sixteen_bits_see_float32():
    """2 ** 16 * 2 ** -8: the first is beyond float16, not beyond what it is summed in."""
    values = np.array([1, 2, 1000], np.float16)
    np.testing.assert_array_equal(applied(values, njit(lambda x: x * 65536 / 256)), np.float16([256, 512, np.inf]))
    np.testing.assert_array_equal(applied(values[:2], njit(lambda x: x * 65536 / 256)), np.float16([256, 512]))


def test_functions_of_one_name_are_not_mixed_up():
    x = np.array([-8.0, 8])
    functions = [slope(a) for a in (0.5, 0.25, 0.125)]
    assert len({f.py_func.__name__ for f in functions}) == 1
    for _ in range(2):
        for a, f in zip((0.5, 0.25, 0.125), functions, strict=True):
            np.testing.assert_array_equal(applied(x, f), [-8 * a, 8])
    w = np.ones((1, 1, 1))
    operators = [nc.Conv1d(w, activation=f) for f in functions]
    for a, op in zip((0.5, 0.25, 0.125), operators, strict=True):
        np.testing.assert_array_equal(op(x[None]), [[-8 * a, 8]])


def test_a_function_is_the_one_that_was_passed():
    """Not what its name means later."""

    @njit
    def activation(x):
        return x + 1

    op, first = nc.Conv1d(np.ones((1, 1, 1)), activation=activation), activation

    @njit
    def activation(x):
        return x + 2

    np.testing.assert_array_equal(op(np.zeros((1, 3))), [[1, 1, 1]])
    np.testing.assert_array_equal(applied(np.zeros(3), activation), [2, 2, 2])
    np.testing.assert_array_equal(applied(np.zeros(3), first), [1, 1, 1])


def test_functions_that_no_one_else_keeps():
    """Each dies after its call; a later one at its address is another."""
    for k in range(6):
        np.testing.assert_array_equal(applied(np.zeros(3), njit(lambda x, k=k: x + k)), [k] * 3)


# ---------------------------------------------------------------- with everything else


@every_algorithm
@pytest.mark.parametrize("activation", ["relu", "gelu", slope(0.25)], ids=["relu", "gelu", "own"])
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_after_bias_and_residual(ndim, activation, backend, algorithm):
    size = (40,) if ndim == 1 else (9, 8) if ndim == 2 else (5, 4, 6)
    x = random_array((2, 16, *size), np.float64)
    for outs, taps, groups, stride in [(6, 3, 2, 2), (6, 3, 2, 1), (16, 3, 16, 2), (6, 1, 2, 1)]:  # the first that it takes
        w, b = random_array((outs, 16 // groups, *(taps,) * ndim), np.float64, 1), random_array((outs,), np.float64, 2)
        if ndim == 3 and algorithm.startswith("winograd"):
            w = w[:, :, :2]
        options = {"stride": stride, "padding": "same", "groups": groups}
        if not refuses(x, w, backend, algorithm, **options):
            break
    options |= {"backend": backend, "algorithm": algorithm}
    plain = CONV[ndim](x, w, b, **options)
    residual = random_array(plain.shape, np.float64, 7)
    by_numpy = {"relu": lambda y: np.maximum(y, 0), "gelu": lambda y: F.gelu(torch.from_numpy(y)).numpy()}
    exact = by_numpy.get(activation, lambda y: np.where(y < 0, 0.25 * y, y))(plain + residual)
    result = CONV[ndim](x, w, b, **options, residual=residual, activation=activation)
    np.testing.assert_allclose(result, exact, rtol=1e-12, atol=1e-13)
    frame = np.full((*plain.shape[:-1], 2 * plain.shape[-1]), 9.0)
    out = frame[..., ::2]
    assert CONV[ndim](x, w, b, **options, residual=residual, activation=activation, out=out) is out
    np.testing.assert_array_equal(out, result)
    assert (frame[..., 1::2] == 9).all()
    over = residual.copy()
    assert CONV[ndim](x, w, b, **options, residual=over, activation=activation, out=over) is over
    np.testing.assert_array_equal(over, result)
    op = PREPARED[ndim](w, b, **options, activation=activation)
    np.testing.assert_array_equal(op(x, residual=residual), result)


@every_algorithm
def test_the_block_of_a_resnet(backend, algorithm):
    """y = relu(conv(relu(conv(x))) + x), in place."""
    x = random_array((2, 8, 10, 9), np.float32)
    w1, w2, b = (
        random_array((8, 8, 3, 3), np.float32, 1),
        random_array((8, 8, 3, 3), np.float32, 2),
        random_array((8,), np.float32, 3),
    )
    if refuses(x, w1, backend, algorithm, padding=1):
        return
    to_torch = [torch.from_numpy(a.astype(np.float64)) for a in (x, w1, w2, b)]
    exact = F.relu(
        F.conv2d(F.relu(F.conv2d(to_torch[0], to_torch[1], to_torch[3], padding=1)), to_torch[2], padding=1) + to_torch[0]
    )
    where = {"padding": 1, "backend": backend, "algorithm": algorithm}
    hidden = nc.conv2d(x, w1, b, activation="relu", **where)
    assert nc.conv2d(hidden, w2, residual=x, activation="relu", out=x, **where) is x
    np.testing.assert_allclose(x, exact.numpy(), rtol=1e-4, atol=2e-3)  # sums of 72 products of values of about 10


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_where_no_tap_of_a_transposed_convolution_reaches(ndim, backend):
    x, w, b = (random_array(shape, np.float64, i) for i, shape in enumerate([(1, 2, *(3,) * ndim), (2, 2, *(2,) * ndim), (2,)]))
    plain = transposed(x, w, b, 5)
    residual = random_array(plain.shape, np.float64, 4)
    result = TRANSPOSE[ndim](x, w, b, 5, residual=residual, activation="sigmoid", backend=backend)
    np.testing.assert_allclose(result, 1 / (1 + np.exp(-plain - residual)), rtol=1e-12)
    result = TRANSPOSE[ndim](x, w, None, 5, activation="sigmoid", backend=backend)
    assert (result == 0.5).mean() > 0.3
    result = TRANSPOSE[ndim](x, w, b, 5, activation=helper, backend=backend)
    np.testing.assert_allclose(result, plain + 1, rtol=1e-12, atol=1e-12)


def test_explanations_and_representations_name_it():
    x, w = (1, 2, 8), (2, 2, 3)
    assert "gelu fused" in nc.explain("conv1d", x, w, activation="gelu").problem
    assert "branches fused" in nc.explain("conv1d", x, w, activation=branches).problem
    assert "activation=" in repr(nc.Conv1d(np.ones(w), activation="gelu"))
    assert "activation=" in repr(nc.Conv1d(np.ones(w), activation=branches))


# ---------------------------------------------------------------- errors


class Callable:
    def __call__(self, x):
        return x


def does_not_compile():
    return njit(lambda x: x.no_such_attribute)


WRONG = [
    (TypeError, "a lambda", np.float64, lambda: lambda x: x),
    (TypeError, "a NumPy function", np.float64, lambda: np.tanh),
    (TypeError, "a callable object", np.float64, Callable),
    (TypeError, "a number", np.float64, lambda: 3),
    (TypeError, "True", np.float64, lambda: True),
    (TypeError, "a list", np.float64, lambda: ["relu"]),
    (TypeError, "a type", np.float64, lambda: float),
    (TypeError, "a ufunc of Numba's", np.float64, lambda: numba.vectorize(["float64(float64)"])(lambda x: x)),
    (ValueError, "an unknown name", np.float64, lambda: "softmax"),
    (ValueError, "an empty name", np.float64, lambda: ""),
    (ValueError, "a name in capitals", np.float64, lambda: "ReLU"),
    (TypeError, "an attribute that is not there", np.float64, does_not_compile),
    (TypeError, "two arguments", np.float64, lambda: njit(lambda x, y: x)),
    (TypeError, "no argument", np.float64, lambda: njit(lambda: 1.0)),
    (TypeError, "a tuple", np.float64, lambda: njit(lambda x: (x, x))),
    (TypeError, "nothing returned", np.float64, lambda: njit(lambda x: None)),
    (TypeError, "a complex result of a real one", np.float64, lambda: njit(lambda x: x * 1j)),
    (TypeError, "comparison of complex", np.complex128, lambda: njit(lambda x: x if x > 0 else -x)),
    *[(TypeError, f"{name} on complex", np.complex128, lambda name=name: name) for name in NAMED],
    *[(TypeError, f"{name} on integers", np.int64, lambda name=name: name) for name in NAMED if name not in ("relu", "relu6")],
]


@pytest.mark.parametrize(("error", "what", "dtype", "activation"), WRONG, ids=[row[1] for row in WRONG])
def test_what_cannot_be_applied_is_refused(error, what, dtype, activation):
    x, w = np.ones((1, 2, 6), dtype), np.ones((2, 2, 3), dtype)
    activation = activation()
    for function, size in ((nc.conv1d, 4), (nc.conv_transpose1d, 8)):
        out = np.full((1, 2, size), 7, dtype)
        with pytest.raises(error, match=r"^activation: expected .+, got "):
            function(x, w, activation=activation, out=out)
        assert (out == 7).all()
    with pytest.raises(error, match=r"^activation: expected .+, got "):
        nc.Conv1d(w, activation=activation)(x)


def test_a_failed_activation_does_not_spoil_the_next_call():
    x, w = np.ones((1, 2, 6)), np.ones((2, 2, 3))
    failing = does_not_compile()
    for _ in range(2):
        with pytest.raises(TypeError, match=r"^activation: "):
            nc.conv1d(x, w, activation=failing)
        np.testing.assert_array_equal(nc.conv1d(x, w, activation="relu"), np.full((1, 2, 4), 6))


@pytest.mark.parametrize("name", ["gelu", "sigmoid", "leaky_relu"])
def test_integers_with_a_float_result_take_every_activation(name):
    x, w = random_array((1, 2, 40), np.int8), random_array((2, 2, 3), np.int8, 1)
    result = nc.conv1d(x, w, activation=name, out_dtype=np.float32)
    assert result.dtype == np.float32
    exact = NAMED[name](torch.from_numpy(nc.conv1d(x, w).astype(np.float64))).numpy()
    np.testing.assert_allclose(result, exact, rtol=1e-6, atol=1e-30)
    transposed = nc.conv_transpose1d(x, w, activation=name, out_dtype=np.float32)
    np.testing.assert_allclose(
        transposed, NAMED[name](torch.from_numpy(nc.conv_transpose1d(x, w).astype(np.float64))).numpy(), rtol=1e-6, atol=1e-30
    )
