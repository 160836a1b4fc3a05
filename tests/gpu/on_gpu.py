"""What the GPU tests share: arrays on the GPU in any memory order, the error that a precision allows, and a busy GPU."""

import warnings
from functools import cache
from importlib import import_module

import ml_dtypes
import numpy as np
import pytest
from helpers import WIDE, assert_conforms, operands, oracle, spec_of, sums_directly, why_not

import numbaconv as nc
from numbaconv.cuda import ALGORITHMS
from numbaconv.cuda.shadow import cast_shadow, lend
from numbaconv.dtypes import kind_of

NAMES = tuple(algorithm.name for algorithm in ALGORITHMS)
# What an operand, and a result, is off by at most when it is rounded to nearest, relative to it.
ROUNDED = {
    "ieee": 0.0,
    "tf32": 2.0**-11,
    "bf16": 2.0**-8,
    "tf32, cut": 2.0**-10,
}  # wgmma does not round to tf32, and whether TMA does is not known
STORED = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24}
TINIEST = {"float16": 2.0**-25}  # half of the distance of subnormal numbers
TENSOR_CORES = ("tensor_gemm", "warpgroup_gemm", "tma_gemm", "halo_gemm")
# dtype, precision, and the algorithms that such problems may go to
KINDS = {
    ("float32", "ieee"): ("direct", "tiled", "implicit_gemm", "depthwise", "winograd2", "winograd4", "auto"),
    ("float32", "tf32"): (*TENSOR_CORES, "auto"),
    ("float32", "bf16"): (*TENSOR_CORES, "auto"),
    ("float16", "ieee"): ("direct", "tiled", "implicit_gemm", "depthwise", *TENSOR_CORES),
    ("bfloat16", "ieee"): ("direct", "tiled", "implicit_gemm", "depthwise", *TENSOR_CORES),
    **{(dtype, "ieee"): ("direct", "tiled", "implicit_gemm", "depthwise") for dtype in ("float64", "complex64", "int8")},
}


def to_device(arrays):
    """Numba's device arrays, by name."""
    return {name: upload(a) for name, a in arrays.items()}


def upload(array):
    """A Numba array. numba-cuda 0.30 uploads bfloat16 under another name only."""
    from numba import cuda

    if array.dtype != ml_dtypes.bfloat16:
        return cuda.to_device(array)
    return cuda.to_device(array.view(np.uint16)).view(array.dtype)


def on_host(result):
    """A copy of a Numba array."""
    return result.copy_to_host()


def in_layout(case, layout):
    """The same problem in a layout, unless it names one itself."""
    if "layout" in case.options or layout == "NCHW":
        return case
    *batch, channels, height, width = case.input
    return case._replace(input=(*batch, height, width, channels), options={**case.options, "layout": layout})


def assert_within(result, exact, magnitude, terms, precision="ieee", directly=True):
    """Hold a result of float32 sums against the exact one, and the sums of the absolute values of what is summed.

    With operands rounded to u, and m terms summed with an error of at most eps = 2^-23 of their absolute values each (tensor
    cores truncate, so that errors add up), the sums are off by (2 u + u^2 + m eps) times the sum of absolute values; storing
    adds v times the result. Where products are not summed themselves, four times the image's largest bound holds.
    """
    u, v = ROUNDED[precision], STORED[result.dtype.name]
    summed = (2 * u + u**2 + terms * 2.0**-23) * magnitude
    if not directly and magnitude.size:
        summed = np.maximum(summed, 4 * terms * 2.0**-23 * magnitude.max())
    allowed = summed + v * (abs(exact) + summed) + TINIEST.get(result.dtype.name, 0)
    assert result.shape == exact.shape
    error = abs(result.astype(np.float64) - exact)
    assert (error <= allowed).all(), f"error {error.max():.3g}, {(~(error <= allowed)).mean():.1%} of elements beyond the bound"


def conforms(result, arrays, options, directly=True, taken=None):
    """Hold a result against the oracle in float64 or integers: where nothing is rounded, by the CPU's bounds."""
    precision = options.get("precision", "ieee")
    if precision == "tf32" and taken in ("warpgroup_gemm", "tma_gemm", "halo_gemm"):
        precision = "tf32, cut"
    if result.dtype.name not in ("float16", "bfloat16") and precision == "ieee":
        assert_conforms(result, arrays, options, sums_directly=directly)
        return
    wide = {name: a.astype(WIDE[kind_of(a.dtype)]) for name, a in arrays.items()}
    magnitude = oracle({name: abs(a) for name, a in wide.items()}, options)
    terms = int(np.prod(arrays["weight"].shape[1:])) + len(arrays)
    assert_within(result, oracle(wide, options), magnitude, terms, precision, directly)


def check(algorithm, dtype, precision, case, put=to_device, back=on_host):
    """An algorithm computes a case rightly, or refuses for the reason that its row gives. Returns whether it computed."""
    arrays = operands(case, dtype)
    options = {**case.options, "algorithm": algorithm, "precision": precision, "backend": "cuda"}
    given = put(arrays)
    if algorithm != "auto" and (reason := why_not(arrays, options)) is not None:
        with pytest.raises(ValueError, match=r"^algorithm: ") as refused:
            nc.conv2d(**given, **options)
        assert reason in str(refused.value)
        return False
    taken = nc.explain("conv2d", **given, **options).algorithm
    conforms(back(nc.conv2d(**given, **options)), arrays, options, sums_directly("cuda", taken), taken)
    return True


def near(result, function, arrays):
    """Hold ``function(**arrays)`` on the GPU against itself in high precision, as :func:`helpers.assert_conforms` does."""
    wide = {name: a.astype(WIDE[kind_of(a.dtype)]) for name, a in arrays.items()}
    with nc.use_backend("reference"):
        exact, magnitude = function(**wide), function(**{name: abs(a) for name, a in wide.items()})
        terms = abs(function(**{name: np.ones_like(abs(a)) for name, a in wide.items()})).max(initial=1)
    assert result.shape == exact.shape
    if result.dtype.kind in "iu":
        np.testing.assert_array_equal(result, exact.astype(result.dtype))
        return
    eps = float(ml_dtypes.finfo(result.dtype).eps) * (4 if result.dtype.kind == "c" else 1)
    allowed = min(terms, 8 * terms**0.5) * eps * magnitude
    assert (abs(result - exact) <= np.maximum(allowed, 4 * allowed.max(initial=0))).all()


def cut_of(arrays, options):
    """How a GEMM cuts a call: into tiles and parts."""
    return import_module(f"numbaconv.cuda.{options['algorithm']}").cut(spec_of(arrays, options))


# ---------------------------------------------------------------- memory orders

# From an array: one to upload, and where in its memory the array is then.
ORDERS = {
    "in C order": (lambda a: a, lambda s: s),
    "reversed": (lambda a: a[..., ::-1].copy(), lambda s: s[..., ::-1]),
    "upside down": (lambda a: a[::-1].copy(), lambda s: s[::-1]),
    "every second element": (lambda a: np.repeat(a, 2, axis=-1), lambda s: s[..., ::2]),
    "every third, backwards": (lambda a: np.repeat(a, 3, axis=-1)[..., ::-1].copy(), lambda s: s[..., ::-3]),
    "channels last": (lambda a: np.moveaxis(a, 1 % a.ndim, -1).copy(), lambda s: np.moveaxis(s, -1, 1 % s.ndim)),
    "in Fortran order": (lambda a: np.ascontiguousarray(a.T), lambda s: s.T),
}


def stored(array, order):
    """A Numba device array that equals an array, in a memory order or, by the name "unaligned", one element further."""
    if array.size == 0:
        return upload(array)
    if order == "unaligned":
        shadow = cast_shadow(upload(np.concatenate([array.ravel()[:1], array.ravel()])), "input")
        return lend(shadow[1:].reshape(array.shape))
    to_upload, place = ORDERS[order]
    return lend(place(cast_shadow(upload(to_upload(array)), "input")))


# ---------------------------------------------------------------- a busy GPU


def keep_busy(stream, milliseconds=300):
    """Have a stream do nothing for about so long; return the event at the end of it."""
    from numba import cuda

    numbas = cuda.external_stream(stream) if stream else cuda.default_stream()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a block is not much
        _sleep()[1, 1, numbas](milliseconds)
    event = cuda.event(timing=False)
    event.record(numbas)
    return event


@cache
def _sleep():
    from numba import cuda, uint32

    @cuda.jit("void(int64)")
    def sleep(milliseconds):
        for _ in range(milliseconds):
            cuda.nanosleep(uint32(1_000_000))

    return sleep
