"""Hypothesis strategies: random convolutions, and random ways to lay arrays out in memory."""

import numpy as np
from grid import MODES
from helpers import Case, pads_in_full
from hypothesis import strategies as st

MEMORY = {
    "in C order": lambda a: a,
    "in Fortran order": np.asfortranarray,
    "reversed": lambda a: a[..., ::-1].copy()[..., ::-1],
    "every second element": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "channels last": lambda a: np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "unaligned": lambda a: unaligned(a),
}


def unaligned(array):
    """Return a copy at an odd address."""
    raw = np.zeros(array.nbytes + 1, np.uint8)
    raw[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return raw[1:].view(array.dtype).reshape(array.shape)


def memory_orders():
    """Functions that return an equal array, laid out differently."""
    return st.sampled_from(sorted(MEMORY)).map(MEMORY.get)


def per_axis(values):
    """An int for both axes, or one each."""
    return values | st.tuples(values, values)


def paddings():
    """Every form of padding; ints both positive and negative."""
    number = st.integers(-1, 5)
    pair = st.tuples(number, number)
    return number | pair | st.tuples(pair, pair) | st.sampled_from(["valid", "same", "same_lower"])


@st.composite
def convolutions(draw):
    """A :class:`helpers.Case` that is allowed: where the padded input would be smaller than the kernel, it grows."""
    groups, ins, outs = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride, dilation, padding = draw(per_axis(st.integers(1, 4))), draw(per_axis(st.integers(1, 3))), draw(paddings())
    size = draw(st.tuples(st.integers(3, 12), st.integers(3, 12)))
    pads = pads_in_full(padding, size, kernel, stride, dilation)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, np.broadcast_to(dilation, 2).tolist(), strict=True)]
    size = [max(n, e - sum(p)) for n, e, p in zip(size, extent, (pads[:2], pads[2:]), strict=True)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["padding_mode"] = draw(st.sampled_from(MODES))
    options["layout"] = draw(st.sampled_from([None, "NCHW", "NHWC"]))
    shape = (*size, ins * groups) if options["layout"] == "NHWC" else (ins * groups, *size)
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    return Case((*batch, *shape), (outs * groups, ins, *kernel), options, draw(st.booleans()), draw(st.booleans()))
