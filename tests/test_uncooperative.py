"""Bad input: objects that fail when they are looked at, that never end, or that only a kernel would find wrong."""

import weakref

import ml_dtypes
import numba
import numpy as np
import pytest
from bad_calls import RESULT, Uncooperative, both_forms, check, functional

import numbaconv as nc


class FailingError(Exception):
    """An error that nobody expects."""


def failing(*methods, base=object):
    """An object, or a value of `base`, whose methods raise."""

    def fail(self, *args, **kwargs):
        raise FailingError

    return type("Failing", (base,), {f"__{name}__": fail for name in methods})


@both_forms
@pytest.mark.parametrize("method", ["array", "getattr", "getattribute", "len", "repr"])
def test_arrays_that_fail_when_they_are_looked_at(call, method):
    for name in ("input", "weight", "bias", "residual"):
        check(TypeError, name, call, **{name: failing(method)()})
    check(TypeError, "out", call, "Failing", out=failing(method)())


@both_forms
def test_an_array_that_is_gone(call):
    check(TypeError, "input", call, input=weakref.proxy(Uncooperative()))


def test_a_cuda_interface_that_is_none():
    check(TypeError, "input", functional, input=type("Cuda", (), {"__cuda_array_interface__": 3})())
    check(TypeError, "input", functional, input=type("NoModule", (), {"__module__": None})())


@both_forms
@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups", "activation", "out_dtype", "backend", "algorithm"])
@pytest.mark.parametrize("method", ["getattribute", "index", "repr"])
def test_options_that_fail_when_they_are_looked_at(call, name, method):
    check(TypeError, name, call, **{name: failing(method)()})


@both_forms
def test_strings_and_sequences_of_other_classes_are_what_they_hold(call):
    text, pair = failing("eq", "hash", "str", base=str), failing("iter", "len", "eq", base=tuple)
    for options in (
        {"padding": text("valid")},
        {"backend": text("reference")},
        {"algorithm": text("auto")},
        {"stride": pair((1, 1))},
    ):
        out = np.zeros(RESULT, np.float32)
        assert call(out=out, **options) is out
        assert (out == 36).all()


@both_forms
@pytest.mark.parametrize("name", ["stride", "padding", "dilation", "groups"])
def test_numbers_of_thousands_of_digits_and_lists_in_lists(call, name):
    cycle = []
    cycle.append(cycle)
    check(ValueError, name, call, "a value of type int", **{name: 10**5000})
    for value in (cycle, [cycle, cycle], [1.5] * 10**5):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: expected .+, got ") as raised:
            call(**{name: value})
        assert len(str(raised.value)) < 1000


def test_messages_are_short():
    with pytest.raises(ValueError, match=r"^algorithm: ") as raised:
        functional(algorithm="x" * 10**6)
    assert len(str(raised.value)) < 1000


def test_a_function_that_fails_in_the_reference():
    out = np.full(RESULT, 7, np.float32)
    for function in (lambda x: undefined, lambda x: (x, x)):  # noqa: F821
        with pytest.raises(TypeError, match=r"^activation: expected a function of one float32 scalar"):
            functional(activation=numba.njit(function), backend="reference", out=out)
    assert (out == 7).all()


def test_a_prepared_transposed_operator_names_a_weight_of_no_axes():
    with pytest.raises(ValueError, match=r"^weight: expected shape \(in_channels"):
        nc.ConvTranspose2d(1.0)


def test_operands_are_named_as_the_function_names_them():
    half, brain = np.ones((3, 3), np.float16), np.ones((2, 2), ml_dtypes.bfloat16)
    with pytest.raises(TypeError, match=r"^X: expected operands whose common dtype"):
        nc.corr2d(half, brain)
    with pytest.raises(TypeError, match=r"^grad_output: expected operands whose common dtype"):
        nc.grad.conv1d_input((1, 1, 3), brain[:1, None], half[None, :1, :2])
    huge = np.lib.stride_tricks.as_strided(np.ones(1), (3, 2**50), (0, 0))
    with pytest.raises(ValueError, match=r"^X: expected a result that fits"):
        nc.corr2d(huge, half[:2, :2])
