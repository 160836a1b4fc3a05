"""Calls that are right but for what a test changes, and the check that a wrong one ends as promised."""

import numpy as np
import pytest

import numbaconv as nc

X, W = np.ones((2, 4, 8, 9), np.float32), np.ones((6, 4, 3, 3), np.float32)
RESULT = (2, 6, 6, 7)


class Uncooperative:
    """An object that NumPy wraps as it is."""

    def __repr__(self):
        return "Uncooperative()"


def check(error, argument, call, *parts, **arguments):
    """`call` raises `error`; the message names `argument` and has the parts. ``out`` stays as it was."""
    out = np.full(RESULT, 7, np.float32)
    if "out" not in arguments:
        arguments["out"] = out
    with pytest.raises(error, match=rf"^{argument}: expected .+, got .+") as raised:
        call(**arguments)
    assert type(raised.value) is error
    for part in parts:
        assert part in str(raised.value)
    assert (out == 7).all()


def functional(**arguments):
    """The call in its functional form."""
    return nc.conv2d(**{"input": X, "weight": W, **arguments})


def prepared(**arguments):
    """The same call in its prepared form."""
    arguments = {"input": X, "weight": W, **arguments}
    late = {name: arguments.pop(name) for name in ("input", "residual", "out", "stream") if name in arguments}
    return nc.Conv2d(**arguments)(**late)


both_forms = pytest.mark.parametrize("call", [functional, prepared])
