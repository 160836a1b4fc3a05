"""Every dtype with every kind of call: what comes out, exactly for integers, to the last bit for 16-bit floats."""

import ml_dtypes
import numpy as np
import pytest
from family import correlate, spread, transposed, weight_gradient
from helpers import one_in, random_array, run_python
from strategies import MEMORY

import numbaconv as nc

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
RESULTS = {
    "bool": "int64",
    "int8": "int32", "int16": "int64", "int32": "int64", "int64": "int64",
    "uint8": "int32", "uint16": "uint64", "uint32": "uint64", "uint64": "uint64",
    "float16": "float16", "bfloat16": "bfloat16", "float32": "float32", "float64": "float64",
    "complex64": "complex64", "complex128": "complex128",
}  # fmt: skip
DTYPES = {name: BFLOAT16 if name == "bfloat16" else np.dtype(name) for name in RESULTS}
DIGITS = {"float16": 10, "bfloat16": 7}  # bits of the significand after the point
SMALLEST = {"float16": -14, "bfloat16": -126}  # exponent of normal numbers


def wide(array):
    """The same values in the dtype to compute exactly in; integers wrap at 64 bits, as all narrower ones then do."""
    kind = "f" if array.dtype == BFLOAT16 else array.dtype.kind
    return array.astype({"f": np.float64, "c": np.complex128}.get(kind, np.uint64 if array.dtype == np.uint64 else np.int64))


def make(shape, dtype, seed):
    if dtype == BFLOAT16:
        return random_array(shape, np.float32, seed).astype(dtype)
    return random_array(shape, dtype, seed)


def ulp(values, name):
    """The distance between neighbours in a 16-bit format."""
    exponents = np.maximum(np.frexp(abs(values))[1] - 1, SMALLEST[name])
    return 2.0 ** (exponents - DIGITS[name])


def assert_right(result, exact, magnitude, terms):
    """Integers: exactly, wrapped. 16-bit floats: the float32 sum, rounded once. Others: the bound of a sum in their precision."""
    assert result.shape == exact.shape
    name = result.dtype.name
    if result.dtype.kind in "iu" and name != "bfloat16":
        np.testing.assert_array_equal(result, exact.astype(result.dtype))
        return
    error = abs(wide(result) - exact)
    if name in DIGITS:
        allowed = ulp(exact, name) / 2 + terms * np.finfo(np.float32).eps * magnitude
        assert (error <= allowed).all(), f"{(error / ulp(exact, name)).max()} units in the last place"
        return
    allowed = terms * np.finfo(result.dtype).eps * magnitude * (4 if result.dtype.kind == "c" else 1)
    assert (error <= allowed).all(), f"error {error.max():.3g}"


def correlated(x, w, b=None, **options):
    y = correlate(x, w, **options)
    return y if b is None else y + b.reshape(-1, *(1,) * (w.ndim - 2))


def channels_last(x, w, b, **options):
    y = nc.conv2d(np.moveaxis(x, 1, -1), w, b, layout="NHWC", **options)
    return np.moveaxis(y, -1, 1)


def grad_input(g, w, size, **options):
    """`size` is the spatial size of the input."""
    return nc.grad.conv2d_input((len(g), w.shape[1] * options.get("groups", 1), *size), w, g, **options)


def grad_weight(x, g, kernel, **options):
    return nc.grad.conv2d_weight(x, (g.shape[1], x.shape[1] // options.get("groups", 1), *kernel), g, **options)


# What is called; the same by its definition; shapes; options; how many terms a sum has.
CALLS = {
    "conv2d": (nc.conv2d, correlated, [(2, 3, 5, 6), (4, 3, 3, 2)], {}, 18),
    "options": (
        nc.conv2d, correlated, [(2, 4, 7, 8), (6, 2, 2, 3), (6,)],
        {"stride": (2, 1), "dilation": (1, 2), "groups": 2, "padding": ((1, 0), (-1, 3))}, 13,
    ),
    "reflect, NHWC": (channels_last, lambda *a, padding_mode, **k: correlated(*a, mode=padding_mode, **k),
                      [(1, 3, 4, 5), (4, 3, 3, 3), (4,)], {"padding": 5, "padding_mode": "reflect"}, 28),
    "conv1d": (nc.conv1d, correlated, [(2, 3, 9), (4, 3, 4), (4,)], {"padding": "same", "stride": 2}, 13),
    "conv3d": (nc.conv3d, correlated, [(1, 2, 4, 3, 5), (3, 2, 2, 2, 2)], {"padding": 1}, 16),
    "conv_transpose2d": (
        nc.conv_transpose2d, transposed, [(2, 4, 3, 4), (4, 2, 3, 2), (4,)],
        {"stride": 2, "padding": (1, 0), "output_padding": 1, "groups": 2}, 13,
    ),
    "conv_transpose1d": (nc.conv_transpose1d, transposed, [(1, 2, 5), (2, 3, 2), (3,)], {"stride": 3, "padding": ((0, 2),)}, 5),
    "grad input": (
        grad_input, lambda g, w, size, **k: spread(g, np.conj(w), size, **k), [(2, 4, 3, 4), (4, 2, 2, 3)],
        {"size": (7, 8), "stride": 2, "padding": 1, "dilation": (3, 1), "groups": 2}, 12,
    ),
    "grad weight": (
        grad_weight, lambda x, g, kernel, **k: weight_gradient(np.conj(x), kernel, g, **k), [(2, 4, 7, 8), (2, 4, 3, 4)],
        {"kernel": (2, 3), "stride": 2, "padding": 1, "dilation": (3, 1), "groups": 2}, 24,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("dtype", "name"), one_in(5, RESULTS, CALLS))
def test_every_dtype_with_every_kind_of_call(dtype, name):
    function, definition, shapes, options, terms = CALLS[name]
    arrays = [make(shape, DTYPES[dtype], seed) for seed, shape in enumerate(shapes)]
    result = function(*arrays, **options)
    assert result.dtype == DTYPES[RESULTS[dtype]]
    exact = definition(*map(wide, arrays), **options)
    magnitude = definition(*(abs(wide(a)).astype(np.float64) for a in arrays), **options)
    assert_right(result, exact, magnitude, terms)


SMALL = [(2, 3, 5, 6), (4, 3, 3, 2), (4,)]


@pytest.mark.parametrize(
    ("dtype", "out"),
    [
        ("float16", "float32"), ("bfloat16", "float32"), ("complex64", "complex128"), ("float32", "float16"),
        ("int8", "int8"),
    ],
)  # fmt: skip
def test_out_dtype_with_convolutions_and_transposed_ones(dtype, out):
    """Wider: nothing is rounded, or wraps, on the way. Narrower: rounded, or wrapped, once, at the end."""
    for function, definition in ((nc.conv2d, correlated), (nc.conv_transpose2d, transposed)):
        shapes = SMALL if function is nc.conv2d else [(2, 4, 5, 6), (4, 4, 3, 2), (4,)]
        arrays = [make(shape, DTYPES[dtype], seed) for seed, shape in enumerate(shapes)]
        result = function(*arrays, out_dtype=out)
        assert result.dtype == out
        exact = definition(*map(wide, arrays))
        assert_right(result, exact, definition(*(abs(wide(a)).astype(np.float64) for a in arrays)), 25)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_are_summed_in_float32(dtype):
    """In 16 bits these sums would overflow, stop growing, or lose the small terms."""
    dtype = DTYPES[dtype]
    largest = float(ml_dtypes.finfo(dtype).max)
    one = np.ones((1, 3, 1), dtype)
    if dtype == np.float16:
        assert nc.conv1d(np.array([[[largest], [largest], [-largest]]], dtype), one).item() == largest
        assert nc.conv1d(np.array([[[largest], [largest], [0]]], dtype), one).item() == np.inf
    assert nc.conv1d(np.ones((1, 1, 4096), dtype), np.ones((1, 1, 4096), dtype)).item() == 4096
    tiny = np.array([[[1], [2.0**-12], [-1]]], dtype)
    assert nc.conv1d(tiny, one).item() == 2.0**-12
    assert nc.conv_transpose1d(tiny, one.reshape(3, 1, 1)).item() == 2.0**-12
    residual = np.array([[[-1]]], dtype)
    assert nc.conv1d(tiny[:, :2], one[:, :2], np.array([2.0**-13], dtype), residual=residual).item() == 2.0**-12 + 2.0**-13


def test_wider_results_of_sixteen_bits_keep_what_float32_has():
    x = np.array([[[1], [2.0**-12]]], np.float16)
    one = np.ones((1, 2, 1), np.float16)
    assert nc.conv1d(x, one).item() == 1
    assert nc.conv1d(x, one, out_dtype=np.float32).item() == 1 + 2.0**-12
    assert nc.conv1d(x, one, out=np.empty((1, 1, 1), np.float32)).item() == 1 + 2.0**-12
    assert nc.conv_transpose1d(x, one.reshape(2, 1, 1), out_dtype=np.float32).item() == 1 + 2.0**-12


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_residual_is_not_rounded_before_it_is_added(backend):
    """A narrower ``out_dtype`` is rounded once, at the end: what the residual has beyond it counts."""
    x, one = np.full((1, 1, 1), -1.0), np.ones((1, 1, 1))
    residual = np.full((1, 1, 1), 1 + 2.0**-40)
    assert nc.conv1d(x, one, residual=residual, out_dtype=np.float32, backend=backend).item() == 2.0**-40


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_residual_does_not_wrap_before_the_activation(backend):
    x, one = np.full((1, 1, 1), -100, np.int8), np.ones((1, 1, 1), np.int8)
    residual = np.full((1, 1, 1), 300, np.int32)
    result = nc.conv1d(x, one, residual=residual, out_dtype=np.int8, activation="relu", backend=backend)
    assert result.item() == np.int64(200).astype(np.int8)


@pytest.mark.parametrize("order", sorted(MEMORY))
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sixteen_bits_in_any_memory(dtype, order):
    x, w, b = (make(shape, DTYPES[dtype], seed) for seed, shape in enumerate(SMALL))
    plain = nc.conv2d(x, w, b, algorithm="direct")
    moved = nc.conv2d(MEMORY[order](x), MEMORY[order](w), b, algorithm="direct")
    np.testing.assert_array_equal(moved.view(np.uint16), plain.view(np.uint16))
    out = MEMORY[order](np.zeros_like(plain))
    if out.flags.writeable:
        assert nc.conv2d(x, w, b, out=out, algorithm="direct") is out
        np.testing.assert_array_equal(out.astype(np.float32), plain.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_special_values_of_sixteen_bits(dtype):
    values = np.array([np.inf, -np.inf, np.nan, 0, 2.0**-20], np.float32)
    result = nc.conv1d(values.astype(DTYPES[dtype])[None, None], np.ones((1, 1, 1), DTYPES[dtype]))
    np.testing.assert_array_equal(result[0, 0].astype(np.float32), values.astype(DTYPES[dtype]).astype(np.float32))


@pytest.mark.parametrize("dtype", RESULTS)
def test_prepared_forms_take_every_dtype(dtype):
    x, w, b = (make(shape, DTYPES[dtype], seed) for seed, shape in enumerate(SMALL))
    np.testing.assert_array_equal(nc.Conv2d(w, b)(x), nc.conv2d(x, w, b))
    t = np.moveaxis(w, 0, 1).copy()
    np.testing.assert_array_equal(nc.ConvTranspose2d(t, b, 2)(x), nc.conv_transpose2d(x, t, b, 2))


# ---------------------------------------------------------------- which dtype comes out

PAIRS = [
    ("float16", "float32", "float32"), ("bfloat16", "float32", "float32"), ("float16", "float64", "float64"),
    ("bfloat16", "float64", "float64"), ("float16", "int8", "float16"), ("float16", "bool", "float16"),
    ("float16", "int16", "float32"), ("float16", "int32", "float64"), ("bfloat16", "int8", "bfloat16"),
    ("bfloat16", "bool", "bfloat16"), ("float16", "complex64", "complex64"), ("bfloat16", "complex64", "complex64"),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second", "result"), PAIRS)
def test_mixed_operands_with_sixteen_bits(first, second, result):
    """The reference spares a compilation of each; the dtypes are resolved before there is a backend."""
    for a, b in ((first, second), (second, first)):
        x, w = np.ones((1, 2, 3), DTYPES[a]), np.ones((2, 2, 2), DTYPES[b])
        for y in (
            nc.conv1d(x, w, backend="reference"),
            nc.conv_transpose1d(x, w, backend="reference"),
            nc.Conv1d(w, backend="reference")(x),
        ):
            assert y.dtype == DTYPES[result]
            assert y.max() == 4


def test_mixed_sixteen_bits_are_computed_by_the_kernels():
    x, w = make((1, 2, 6), DTYPES["float16"], 0), make((2, 2, 3), DTYPES["int8"], 1)
    exact = correlate(wide(x), wide(w).astype(np.float64))
    assert_right(nc.conv1d(x, w), exact, correlate(abs(wide(x)), abs(wide(w)).astype(np.float64)), 6)
    x, w = make((1, 2, 6), DTYPES["float32"], 0), make((2, 2, 3), BFLOAT16, 1)
    exact = correlate(wide(x), wide(w))
    assert_right(nc.conv1d(x, w), exact, correlate(abs(wide(x)), abs(wide(w))), 6)


@pytest.mark.parametrize("operand", ["input", "weight", "bias", "residual", "out", "out_dtype"])
@pytest.mark.parametrize("function", [nc.conv2d, nc.conv_transpose2d])
def test_float16_with_bfloat16_is_refused(function, operand):
    call = {"input": np.ones((1, 2, 3, 3), np.float16), "weight": np.ones((2, 2, 1, 1), np.float16)}
    other = {"bias": (2,), "residual": (1, 2, 3, 3), "out": (1, 2, 3, 3)}
    if operand == "out_dtype" or operand == "out":
        # A bfloat16 result holds a float16 one as any other float does: rounded. That is no mixture of operands.
        options = {"out_dtype": BFLOAT16} if operand == "out_dtype" else {"out": np.zeros((1, 2, 3, 3), BFLOAT16)}
        result = function(**call, **options, backend="reference")
        assert (result.dtype, result.max()) == (BFLOAT16, 2)
        return
    call[operand] = np.ones(call[operand].shape if operand in call else other[operand], BFLOAT16)
    with pytest.raises(TypeError, match=r"^(input|weight|bias|residual): expected .*, got .*float16"):
        function(**call)


REFUSED = [np.longdouble, np.clongdouble, object, "U1", "S1", "datetime64[s]", "timedelta64[s]", "V2",
           ml_dtypes.float8_e4m3fn, ml_dtypes.int4]  # fmt: skip


@pytest.mark.parametrize("dtype", REFUSED, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("argument", ["input", "weight", "bias", "residual", "out_dtype", "out"])
def test_other_dtypes_are_refused(argument, dtype):
    call = {"input": np.ones((1, 2, 3)), "weight": np.ones((2, 2, 1))}
    shapes = {"input": (1, 2, 3), "weight": (2, 2, 1), "bias": (2,), "residual": (1, 2, 3), "out": (1, 2, 3)}
    call[argument] = dtype if argument == "out_dtype" else np.zeros(shapes[argument], np.uint8).astype(dtype)
    for function in (nc.conv1d, nc.conv_transpose1d):
        with pytest.raises(TypeError, match=f"^{argument}: expected .*bfloat16.*, got "):
            function(**call)


@pytest.mark.parametrize(
    ("result", "out"), [("float16", "int32"), ("bfloat16", "bool"), ("complex64", "float64"), ("bfloat16", "uint64")]
)
def test_a_result_does_not_lose_its_kind(result, out):
    call = {"input": np.ones((1, 2, 3), DTYPES[result]), "weight": np.ones((2, 2, 1), DTYPES[result])}
    for function in (nc.conv1d, nc.conv_transpose1d):
        with pytest.raises(TypeError, match=r"^out_dtype: expected .+, got "):
            function(**call, out_dtype=out)
        held = np.full((1, 2, 3), 1, out)
        with pytest.raises(TypeError, match=r"^out: expected .+, got "):
            function(**call, out=held)
        assert (held == 1).all()


# ---------------------------------------------------------------- ml_dtypes is optional


def test_ml_dtypes_is_not_imported():
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        assert name.partition(".")[0] != "ml_dtypes", "imported"
sys.meta_path.insert(0, Blocked())
import numpy as np, numbaconv as nc
y = nc.conv1d(np.ones((1, 2, 3), np.float16), np.ones((2, 2, 2), np.float16))
assert y.dtype == np.float16 and (y == 4).all()
assert "ml_dtypes" not in sys.modules
"""
    run_python(code)


def test_bfloat16_when_ml_dtypes_is_imported_afterwards():
    code = """
import sys
import numpy as np, numbaconv as nc
assert "ml_dtypes" not in sys.modules
import ml_dtypes
x, w = np.ones((1, 2, 3), ml_dtypes.bfloat16), np.ones((2, 2, 2), ml_dtypes.bfloat16)
y = nc.conv1d(x, w)
assert y.dtype == ml_dtypes.bfloat16 and (y == 4).all()
assert nc.conv1d(x, w, out_dtype="float32").dtype == np.float32
assert nc.conv1d(x.astype(np.float32), w.astype(np.float32), out_dtype="bfloat16").dtype == ml_dtypes.bfloat16
"""
    run_python(code)
