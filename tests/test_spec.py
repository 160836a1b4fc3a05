"""Normalisation, where a call's result does not show it: canonical form, and one spec for calls that mean the same."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from numbaconv.spec import ArraySpec, ConvOptions, normalise

F32 = np.dtype(np.float32)


def spec_of(ndim, input, weight, **options):
    return normalise(ndim, ArraySpec(input, F32), ArraySpec(weight, F32), None, None, ConvOptions(**options))[0]


@pytest.mark.parametrize(
    ("ndim", "input", "weight"),
    [(1, (2, 6, 9), (4, 3, 5)), (2, (2, 6, 8, 9), (4, 3, 3, 5)), (3, (2, 6, 7, 8, 9), (4, 3, 2, 3, 5))],
)
def test_every_problem_has_three_axes(ndim, input, weight):
    spec = spec_of(ndim, input, weight, groups=2, padding=1, stride=2)
    missing = 3 - ndim
    assert spec.input_shape == (2, 2, 3, *(1,) * missing, *input[2:])
    assert spec.weight_shape == (2, 2, 3, *(1,) * missing, *weight[2:])
    assert spec.stride == (1,) * missing + (2,) * ndim
    assert spec.padding == ((0, 0),) * missing + ((1, 1),) * ndim
    assert spec.output_shape[:3] == (2, 2, 2)
    assert spec.output_size[:missing] == (1,) * missing


def test_calls_that_mean_the_same_have_one_spec():
    """Equal and of equal hash, so they share a plan."""
    shapes = (2, 3, 8, 9), (4, 3, 3, 3)
    spec = spec_of(2, *shapes, padding=1)
    for padding in ["same", "same_lower", [1, 1], ((1, 1), (1, 1))]:
        other = spec_of(2, *shapes, padding=padding, dilation=(1, 1))
        assert other == spec
        assert hash(other) == hash(spec)
    assert spec_of(2, (3, 8, 9), shapes[1]) == spec_of(2, (1, 3, 8, 9), shapes[1])
    assert spec_of(2, *shapes, padding_mode="reflect") == spec_of(2, *shapes)
    one = (4, 3, 1, 1)
    assert spec_of(2, shapes[0], one, dilation=7) == spec_of(2, shapes[0], one)
    assert spec_of(2, *shapes, padding=-1) == spec_of(2, (2, 3, 6, 7), shapes[1])
    assert spec_of(2, *shapes, stride=(10**30, 100)) == spec_of(2, *shapes, stride=(10**9, 50))


@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(-1, 6), st.integers(-1, 6))
def test_output_size_counts_the_positions(n, k, s, d, low, high):
    padded = max(n, 2) + low + high
    extent = d * (k - 1) + 1
    positions = [p for p in range(padded) if p % s == 0 and p + extent <= padded]
    shapes = (1, 1, max(n, 2) + 1, 1), (1, 1, k, 1)
    options = {"stride": (s, 1), "dilation": (d, 1), "padding": ((low, high - 1), (0, 0))}
    if positions and max(n, 2) + 1 >= max(0, -low) + max(0, 1 - high):
        assert spec_of(2, *shapes, **options).output_size[1] == len(positions)
    else:
        with pytest.raises(ValueError, match=r"^(input|padding): "):
            spec_of(2, *shapes, **options)


def test_work_and_traffic():
    spec = spec_of(2, (2, 6, 8, 9), (4, 3, 3, 5), groups=2)
    assert spec.multiply_adds == 2 * 4 * 6 * 5 * 3 * 3 * 5
    assert spec.bytes_moved == 4 * (2 * 6 * 8 * 9 + 4 * 3 * 3 * 5 + 2 * 4 * 6 * 5)
