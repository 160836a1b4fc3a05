"""Elementary functions of float32 numbers as vector code: errors, special values, and what LLVM makes of activations."""

import platform
import re

import numba
import numpy as np
import pytest
from numba import njit
from scipy import special

from numbaconv.activation import SCALARS
from numbaconv.cpu import elementary
from numbaconv.cpu.epilogue import epilogue

EXACT = {"exp": np.exp, "tanh": np.tanh, "erf": special.erf}
NUMBERS = np.concatenate([
    np.linspace(-110, 95, 300_001), np.linspace(-5, 5, 300_001), np.geomspace(1e-38, 1, 10_001), -np.geomspace(1e-38, 1, 10_001),
]).astype(np.float32)  # fmt: skip


def over(name, numbers):
    one = getattr(elementary, name)

    @njit(error_model="numpy")
    def loop(numbers, results):
        for i in range(numbers.size):
            results[i] = one(numbers[i])

    results = np.empty_like(numbers)
    loop(numbers, results)
    return results


@pytest.mark.parametrize(("name", "most"), [("exp", 1), ("tanh", 2.5)])
def test_errors_in_units_of_the_last_place(name, most):
    with np.errstate(over="ignore"):
        exact = EXACT[name](NUMBERS.astype(np.float64))
    finite = exact < np.finfo(np.float32).max
    unit = np.spacing(abs(exact[finite]).astype(np.float32))
    assert (abs(over(name, NUMBERS)[finite] - exact[finite]) <= most * unit).all()


def test_the_error_function():
    """Its error is counted beside 1, to which activations add it."""
    assert abs(over("erf", NUMBERS) - special.erf(NUMBERS.astype(np.float64))).max() <= 3 * 2.0**-23
    small = NUMBERS[abs(NUMBERS) < 0.1]
    np.testing.assert_allclose(over("erf", small), special.erf(small.astype(np.float64)), rtol=4 * 2.0**-23)


@pytest.mark.parametrize("name", EXACT)
def test_special_values(name):
    numbers = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 3e38, -3e38, 1e-45], np.float32)
    with np.errstate(over="ignore"):
        exact = EXACT[name](numbers.astype(np.float64)).astype(np.float32)
    results = over(name, numbers)
    np.testing.assert_array_equal(results[:-1], exact[:-1])
    np.testing.assert_array_equal(np.signbit(results[1:]), np.signbit(exact[1:]))
    assert abs(results[-1] - exact[-1]) <= 2 * np.spacing(exact[-1])


@pytest.mark.skipif(platform.machine() != "x86_64", reason="looks for instructions of x86-64")
@pytest.mark.parametrize("name", SCALARS)
def test_activations_are_vector_code_of_float32(name, tmp_path, monkeypatch):
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))  # what comes from the cache has no assembly
    assembly = epilogue.__wrapped__(name, np.dtype(np.float32)).inspect_asm()
    assert re.search(r"\bv?(mul|max|min|cmp)\w*p[sd]\b", assembly)
    assert not re.search(r"\bv?cvts[sd]2s[sd]|\bv?cvtps2pd", assembly), "float64"
    assert not re.search(r"(expf?|tanhf?|erff?|log\w*)\b\s*@?", " ".join(re.findall(r"\bcall\w*\s+(.*)", assembly)))
