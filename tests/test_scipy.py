"""SciPy's and NumPy's filters, with their modes and borders in this library's words.

========================  ====================  =================================================================
``scipy.signal``          here                  an output position's window
========================  ====================  =================================================================
``mode="valid"``          ``padding=0``         lies inside
``mode="same"``           ``"same_lower"``      begins ``k // 2`` before it; of ``correlate2d`` ``(k - 1) // 2``: ``"same"``
``mode="full"``           ``padding=k - 1``     touches the data
``boundary="fill"``       ``"zeros"``           (``fillvalue=0``)
``boundary="wrap"``       ``"circular"``
``boundary="symm"``       none                  repeats the edge; pad by ``numpy.pad(mode="symmetric")`` first
========================  ====================  =================================================================

``scipy.ndimage.correlate`` is ``"same_lower"`` as well. Its ``mirror`` is ``"reflect"`` here, ``nearest`` ``"replicate"``,
``wrap`` ``"circular"``, ``constant`` ``"zeros"``; its ``reflect``, the default, is SciPy's ``symm`` again.
"""

import itertools

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from family import CONV, NUMPY_MODES, crop
from helpers import random_array
from hypothesis import given, settings
from hypothesis import strategies as st

import numbaconv as nc

SIGNAL_PADDING = {"valid": lambda k: 0, "same": lambda k: "same_lower", "full": lambda k: tuple(n - 1 for n in k)}
NDIMAGE_MODES = {
    "mirror": "reflect", "nearest": "replicate", "wrap": "circular", "grid-wrap": "circular",
    "constant": "zeros", "grid-constant": "zeros",
}  # fmt: skip


def filtered(x, w, **options):
    """One channel, no batch."""
    return CONV[x.ndim](x[None], w[None, None], **options)[0]


def close(result, expected, w):
    """Sums of as many products of order one as the kernel has elements, in double precision on both sides."""
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-14 * max(10, w.size))


@st.composite
def signals(draw, ndim, larger=0):
    """An array, and a kernel that is larger by at most so much an axis."""
    size = draw(st.tuples(*[st.integers(1, 12 // ndim + 1)] * ndim))
    kernel = tuple(draw(st.integers(1, n + larger)) for n in size)
    seed = draw(st.integers(0, 100))
    return random_array(size, np.float64, seed), random_array(kernel, np.float64, seed + 1)


# ---------------------------------------------------------------- scipy.signal


@pytest.mark.parametrize("mode", SIGNAL_PADDING)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=30)
def test_signal_correlate(ndim, mode, data):
    x, w = data.draw(signals(ndim))
    expected = scipy.signal.correlate(x, w, mode, method="direct")
    close(filtered(x, w, padding=SIGNAL_PADDING[mode](w.shape)), expected, w)


@pytest.mark.parametrize("mode", SIGNAL_PADDING)
def test_signal_convolve_flips_the_kernel(mode):
    x, w = random_array((9, 8), np.float64), random_array((3, 4), np.float64)
    expected = scipy.signal.convolve(x, w, mode, method="direct")
    padding = {"same": ((1, 1), (2, 1))}.get(mode) or SIGNAL_PADDING[mode](w.shape)
    close(filtered(x, w[::-1, ::-1], padding=padding), expected, w)


def test_signal_correlate_conjugates_its_second_argument():
    x, w = random_array((3, 9), np.complex128), random_array((2, 4), np.complex128)
    for mode, padding in SIGNAL_PADDING.items():
        expected = scipy.signal.correlate(x, w, mode, method="direct")
        close(filtered(x, w.conj(), padding=padding(w.shape)), expected, w)


@pytest.mark.parametrize(("boundary", "ours"), [("fill", "zeros"), ("wrap", "circular")])
@pytest.mark.parametrize("mode", SIGNAL_PADDING)
@given(data=st.data())
@settings(max_examples=40)
def test_signal_correlate2d(mode, boundary, ours, data):
    x, w = data.draw(signals(2))
    expected = scipy.signal.correlate2d(x, w, mode, boundary)
    padding = "same" if mode == "same" else SIGNAL_PADDING[mode](w.shape)
    close(filtered(x, w, padding=padding, padding_mode=ours), expected, w)


@pytest.mark.parametrize("mode", ["same", "full"])
def test_signal_correlate2d_with_a_symmetric_boundary(mode):
    x, w = random_array((9, 8), np.float64), random_array((3, 4), np.float64)
    expected = scipy.signal.correlate2d(x, w, mode, "symm")
    widths = [((k - 1) // 2, k // 2) if mode == "same" else (k - 1, k - 1) for k in w.shape]
    close(filtered(np.pad(x, widths, "symmetric"), w), expected, w)


def test_numpy_correlate_and_convolve():
    for n, k in itertools.product(range(1, 9), range(1, 9)):
        if k <= n:
            x, w = random_array((n,), np.float64), random_array((k,), np.float64, 1)
            for mode, padding in SIGNAL_PADDING.items():
                close(filtered(x, w, padding=padding(w.shape)), np.correlate(x, w, mode), w)
            close(filtered(x, w[::-1], padding=k - 1), np.convolve(x, w), w)


def test_a_bank_of_filters_is_one_call():
    """Every signal with every filter: channels of the result."""
    x, w = random_array((5, 40), np.float64), random_array((7, 6), np.float64)
    result = nc.conv1d(x[:, None], w[:, None], padding="same_lower")
    for i, j in np.ndindex(5, 7):
        close(result[i, j], scipy.signal.correlate(x[i], w[j], "same", method="direct"), w[j])


# ---------------------------------------------------------------- scipy.ndimage


@pytest.mark.parametrize("mode", NDIMAGE_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=30)
def test_ndimage_correlate(ndim, mode, data):
    """Kernels larger than the data too, so that borders reflect and wrap more than once."""
    x, w = data.draw(signals(ndim, larger=4))
    expected = scipy.ndimage.correlate(x, w, mode=mode)
    low = tuple((k // 2, (k - 1) // 2) for k in w.shape)
    close(filtered(x, w, padding=low, padding_mode=NDIMAGE_MODES[mode]), expected, w)
    close(filtered(x, w, padding="same_lower", padding_mode=NDIMAGE_MODES[mode]), expected, w)


@pytest.mark.parametrize("origin", [(-1, 0), (1, -2), (0, 1)])
@pytest.mark.parametrize("mode", ["mirror", "nearest", "wrap", "constant"])
def test_ndimage_origins_are_pairs_of_padding(mode, origin):
    """The window begins ``k // 2 + origin`` before the position."""
    x, w = random_array((9, 8), np.float64), random_array((3, 5), np.float64)
    expected = scipy.ndimage.correlate(x, w, mode=mode, origin=origin)
    pads = tuple((k // 2 + o, k - 1 - k // 2 - o) for k, o in zip(w.shape, origin, strict=True))
    close(filtered(x, w, padding=pads, padding_mode=NDIMAGE_MODES[mode]), expected, w)


def test_ndimage_reflect_is_symmetric_padding():
    x, w = random_array((9, 8), np.float64), random_array((3, 5), np.float64)
    expected = scipy.ndimage.correlate(x, w)
    close(filtered(np.pad(x, [(1, 1), (2, 2)], "symmetric"), w), expected, w)
    with pytest.raises(AssertionError):
        close(filtered(x, w, padding="same", padding_mode="reflect"), expected, w)


def test_ndimage_filters_of_every_plane_of_a_stack():
    """A channel each: groups."""
    x, w = random_array((4, 9, 8), np.float64), random_array((3, 3), np.float64)
    stacked = np.broadcast_to(w, (4, 1, 3, 3))
    result = nc.conv2d(x, stacked, padding=1, padding_mode="replicate", groups=4)
    for plane, filtered_plane in zip(x, result, strict=True):
        close(filtered_plane, scipy.ndimage.correlate(plane, w, mode="nearest"), w)


# ---------------------------------------------------------------- numpy.pad


@pytest.mark.parametrize("mode", NUMPY_MODES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
@given(data=st.data())
@settings(max_examples=60)
def test_padding_modes_are_those_of_numpy_pad(ndim, mode, data):
    """Exactly, by a kernel of one: reflections beyond the size, many wraps, and sides that are cropped first."""
    size = data.draw(st.tuples(*[st.integers(1, 6)] * ndim))
    most = 40 // ndim**2
    pads = [tuple(data.draw(st.tuples(*[st.integers(-((n - 1) // 2), most)] * 2))) for n in size]
    x = random_array(size, np.float64)
    result = filtered(x, np.ones((1,) * ndim), padding=pads, padding_mode=mode)
    expected = np.pad(crop(x, pads), [(max(0, lo), max(0, hi)) for lo, hi in pads], NUMPY_MODES[mode])
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("mode", NUMPY_MODES)
def test_far_padding(mode):
    x = random_array((1, 5), np.float64)
    result = filtered(x, np.ones((1, 1)), padding=((3, 0), (1003, 2001)), padding_mode=mode)
    np.testing.assert_array_equal(result, np.pad(x, ((3, 0), (1003, 2001)), NUMPY_MODES[mode]))
