"""One to three dimensions: definitions in plain NumPy and in PyTorch, error bounds, and random calls.

``correlate``, ``spread`` and ``weight_gradient`` go through the taps of the kernel one at a time, in the operands' own dtype:
integers wrap there as they should here.
"""

from typing import NamedTuple

import numpy as np
import torch
from helpers import HOST_ALGORITHMS, random_array, sums_directly
from hypothesis import strategies as st
from strategies import MODES

import numbaconv as nc

torch.set_num_threads(1)  # problems here are small
CONV = {1: nc.conv1d, 2: nc.conv2d, 3: nc.conv3d}
PREPARED = {1: nc.Conv1d, 2: nc.Conv2d, 3: nc.Conv3d}
TRANSPOSE = {1: nc.conv_transpose1d, 2: nc.conv_transpose2d, 3: nc.conv_transpose3d}
PREPARED_TRANSPOSE = {1: nc.ConvTranspose1d, 2: nc.ConvTranspose2d, 3: nc.ConvTranspose3d}
GRAD_INPUT = {1: nc.grad.conv1d_input, 2: nc.grad.conv2d_input, 3: nc.grad.conv3d_input}
GRAD_WEIGHT = {1: nc.grad.conv1d_weight, 2: nc.grad.conv2d_weight, 3: nc.grad.conv3d_weight}
TORCH_CONV = {1: torch.nn.functional.conv1d, 2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}
TORCH_TRANSPOSE = {
    1: torch.nn.functional.conv_transpose1d, 2: torch.nn.functional.conv_transpose2d, 3: torch.nn.functional.conv_transpose3d,
}  # fmt: skip
LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}
NUMPY_MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


class Call(NamedTuple):
    """A call, without its data."""

    ndim: int
    input: tuple
    weight: tuple
    options: dict
    bias: int = 0  # its length
    residual: tuple | None = None  # its shape


# ---------------------------------------------------------------- geometry


def each(value, ndim):
    """One int an axis."""
    return np.broadcast_to(value, ndim).tolist()


def pads_in_full(padding, size, kernel, stride=1, dilation=1):
    """One (low, high) pair an axis."""
    ndim = len(size)
    if padding == "valid":
        return [(0, 0)] * ndim
    if isinstance(padding, str):
        pairs = []
        for n, k, s, d in zip(size, kernel, each(stride, ndim), each(dilation, ndim), strict=True):
            total = max(0, ((n + s - 1) // s - 1) * s + (k - 1) * d + 1 - n)
            small, large = total // 2, (total + 1) // 2
            pairs.append((large, small) if padding == "same_lower" else (small, large))
        return pairs
    pads = np.array(padding)
    return [tuple(pair) for pair in np.broadcast_to(pads[:, None] if pads.ndim == 1 else pads, (ndim, 2)).tolist()]


def crop(x, pads):
    """Take negative padding off the last axes."""
    return x[(..., *(slice(max(0, -lo), n - max(0, -hi)) for n, (lo, hi) in zip(x.shape[-len(pads) :], pads, strict=True)))]


def pad(x, pads, mode="zeros"):
    """``numpy.pad`` of the last axes; negative pads crop, first of all."""
    widths = [(0, 0)] * (x.ndim - len(pads)) + [(max(0, lo), max(0, hi)) for lo, hi in pads]
    return np.pad(crop(x, pads), widths, NUMPY_MODES[mode])


# ---------------------------------------------------------------- definitions, in NumPy


def _reads(tap, dilation, stride, out):
    """The padded elements that the output positions read through a tap."""
    rows = zip(tap, dilation, stride, out, strict=True)
    return (..., *(slice(k * d, k * d + (n - 1) * s + 1, s) for k, d, s, n in rows))


def grouped(array, axis, groups):
    """Split an axis of channels by group."""
    shape = array.shape
    return array.reshape(*shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])


def output_size(size, kernel, stride=1, padding=0, dilation=1):
    """How many positions a convolution has, one number an axis."""
    ndim = len(size)
    pads = pads_in_full(padding, size, kernel, stride, dilation)
    rows = zip(size, kernel, each(stride, ndim), each(dilation, ndim), pads, strict=True)
    return [(n + lo + hi - d * (k - 1) - 1) // s + 1 for n, k, s, d, (lo, hi) in rows]


def correlate(x, w, stride=1, padding=0, dilation=1, groups=1, mode="zeros"):
    """``y[n, o, i] = sum over c, k of w[o, c, k] * x[n, c, i * stride + k * dilation - low]``."""
    ndim, kernel = w.ndim - 2, w.shape[2:]
    x = pad(x, pads_in_full(padding, x.shape[2:], kernel, stride, dilation), mode)
    stride, dilation = each(stride, ndim), each(dilation, ndim)
    out = output_size(x.shape[2:], kernel, stride, 0, dilation)
    y = np.zeros((len(x), groups, w.shape[0] // groups, *out), np.result_type(x, w))
    xs, ws = grouped(x, 1, groups), grouped(w, 0, groups)
    for tap in np.ndindex(*kernel):
        y += np.einsum("ngc...,goc->ngo...", xs[_reads(tap, dilation, stride, out)], ws[(..., *tap)])
    return y.reshape(len(x), len(w), *out)


def spread(g, w, size, stride=1, padding=0, dilation=1, groups=1):
    """The adjoint: ``x[n, c, i * stride + k * dilation - low] += w[o, c, k] * g[n, o, i]``, for an x of this spatial size."""
    ndim, kernel, out = w.ndim - 2, w.shape[2:], g.shape[2:]
    pads = pads_in_full(padding, size, kernel, stride, dilation)
    stride, dilation = each(stride, ndim), each(dilation, ndim)
    lows = [lo for lo, _ in pads]
    start = [max(0, lo) for lo in lows]  # of the result in an array that has room for all that is spread
    rows = zip(size, lows, start, out, kernel, stride, dilation, strict=True)
    whole = [max(at + n, (o - 1) * s + d * (k - 1) + 1 + at - lo) for n, lo, at, o, k, s, d in rows]
    gs, ws = grouped(g, 1, groups), grouped(w, 0, groups)
    x = np.zeros((len(g), groups, w.shape[1], *whole), np.result_type(g, w))
    moved = (..., *(slice(at - lo, None) for at, lo in zip(start, lows, strict=True)))
    for tap in np.ndindex(*kernel):
        x[moved][_reads(tap, dilation, stride, out)] += np.einsum("ngo...,goc->ngc...", gs, ws[(..., *tap)])
    inside = (..., *(slice(at, at + n) for at, n in zip(start, size, strict=True)))
    return x.reshape(len(g), groups * w.shape[1], *whole)[inside]


def weight_gradient(x, kernel, g, stride=1, padding=0, dilation=1, groups=1):
    """``w[o, c, k] = sum over n, i of g[n, o, i] * x[n, c, i * stride + k * dilation - low]``."""
    ndim, out = len(kernel), g.shape[2:]
    x = pad(x, pads_in_full(padding, x.shape[2:], kernel, stride, dilation))
    xs, gs = grouped(x, 1, groups), grouped(g, 1, groups)
    w = np.zeros((groups, gs.shape[2], xs.shape[2], *kernel), np.result_type(x, g))
    for tap in np.ndindex(*kernel):
        read = xs[_reads(tap, each(dilation, ndim), each(stride, ndim), out)]
        w[(..., *tap)] = np.einsum("ngoxyz"[: 3 + ndim] + ",ngcxyz"[: 4 + ndim] + "->goc", gs, read)
    return w.reshape(g.shape[1], *w.shape[2:])


def transposed(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """The transposed convolution of whole batches, channels first."""
    ndim = w.ndim - 2
    pads = pads_in_full(padding, x.shape[2:], w.shape[2:])
    rows = zip(x.shape[2:], w.shape[2:], *(each(v, ndim) for v in (stride, dilation, output_padding)), pads, strict=True)
    size = [(n - 1) * s + d * (k - 1) + 1 + e - lo - hi for n, k, s, d, e, (lo, hi) in rows]
    y = spread(x, w, size, stride, [(lo, 0) for lo, _ in pads], dilation, groups)
    return y if bias is None else y + bias.reshape(-1, *(1,) * ndim)


# ---------------------------------------------------------------- definitions, by PyTorch


def torch_forward(x, w, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """A convolution of PyTorch tensors, with every form of padding; autograd sees all of it."""
    pads = pads_in_full(padding, x.shape[-(w.ndim - 2) :], w.shape[2:], stride, dilation)
    x = torch.nn.functional.pad(x, [p for pair in reversed(pads) for p in pair])
    return TORCH_CONV[w.ndim - 2](x, w, bias, stride, 0, dilation, groups)


def torch_transposed(x, w, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """A transposed convolution of PyTorch tensors: its full result, cropped, or extended by zeros; then the bias."""
    ndim = w.ndim - 2
    pads = zip(pads_in_full(padding, (1,) * ndim, w.shape[2:]), each(output_padding, ndim), strict=True)
    pads = [(-lo, e - hi) for (lo, hi), e in pads]
    y = TORCH_TRANSPOSE[ndim](x, w, None, stride, 0, 0, groups, dilation)
    for part in (max, min):  # a crop may take from what is added
        y = torch.nn.functional.pad(y, [part(p, 0) for pair in reversed(pads) for p in pair])
    return y if bias is None else y + bias.reshape(-1, *(1,) * ndim)


def expected(operator, call, arrays):
    """The result by PyTorch, in the arrays' dtype, as the caller sees it."""
    options, ndim = dict(call.options), call.ndim
    mode, last = options.pop("padding_mode", "zeros"), options.pop("layout", None) == LAYOUTS[ndim][1]
    x = np.moveaxis(arrays["input"], -1, -1 - ndim) if last else arrays["input"]
    if mode != "zeros":
        geometry = x.shape[-ndim:], call.weight[2:], options.get("stride", 1), options.get("dilation", 1)
        x = pad(x, pads_in_full(options.pop("padding", 0), *geometry), mode)
    x, w, bias = (None if a is None else torch.from_numpy(np.array(a)) for a in (x, arrays["weight"], arrays.get("bias")))
    y = operator(x, w, bias, **options).numpy()
    y = np.moveaxis(y, -1 - ndim, -1) if last else y
    return y + arrays["residual"] if "residual" in arrays else y


def tolerance(operator, call, arrays, dtype):
    """How far the result in `dtype` may be from `expected` in double precision, element by element.

    Summing m terms in any order has an error of at most m u / (1 - m u) times the sum of their absolute values, u = eps / 2
    (Higham, "Accuracy and Stability", section 3.1); twice that leaves room for PyTorch's error in the same precision. A complex
    product is four real ones.
    """
    wide = {name: abs(a).astype(np.float64) for name, a in arrays.items()}
    channels = call.weight[0] // call.options.get("groups", 1) if operator is torch_transposed else call.weight[1]
    terms = channels * int(np.prod(call.weight[2:])) + len(arrays)
    return terms * np.finfo(dtype).eps * expected(operator, call, wide) * (4 if np.dtype(dtype).kind == "c" else 1)


def assert_close(result, exact, allowed):
    """Element by element within an absolute error."""
    assert result.shape == exact.shape
    error = abs(result - exact)
    assert (error <= allowed).all(), f"error {error.max():.3g}, {(error > allowed).mean():.1%} of elements beyond the bound"


def by_every_algorithm(function, *, reference=False, **arguments):
    """The results of ``"auto"`` and of each algorithm of the CPU that takes the problem, or of the reference.

    Each comes with what makes of the error allowed to a direct sum the error allowed to this one: other algorithms spread
    errors within a tile, so that the largest counts.
    """
    rows = [row for row in HOST_ALGORITHMS if (row[0] == "reference") == reference]
    yield function(**arguments), _itself if all(sums_directly(*row) for row in HOST_ALGORITHMS) else _largest
    for backend, algorithm in rows:
        try:
            result = function(**arguments, backend=backend, algorithm=algorithm)
        except ValueError as error:
            if not str(error).startswith("algorithm: expected one that can take this problem"):
                raise
            continue
        yield result, _itself if sums_directly(backend, algorithm) else _largest


def _itself(allowed):
    return allowed


def _largest(allowed):
    return 4 * allowed.max() if allowed.size else allowed


def make(call, dtype, seed=0):
    """The arrays of a call by their argument names."""
    shapes = {"input": call.input, "weight": call.weight}
    if call.bias:
        shapes["bias"] = (call.bias,)
    if call.residual is not None:
        shapes["residual"] = call.residual
    return {name: random_array(shape, dtype, seed + i) for i, (name, shape) in enumerate(shapes.items())}


# ---------------------------------------------------------------- random calls


def sizes(ndim, low, high):
    """One int an axis; smaller ones the more axes there are."""
    return st.tuples(*[st.integers(low, max(low + 1, high - 2 * (ndim - 1)))] * ndim)


def per_axis(ndim, low, high):
    """An int for all axes, or one each."""
    return st.integers(low, high) | st.tuples(*[st.integers(low, high)] * ndim)


def paddings(ndim, low=-1, high=5, words=True):
    """Every form of padding."""
    number = st.integers(low, high)
    pair = st.tuples(number, number)
    forms = number | st.tuples(*[number] * ndim) | st.tuples(*[pair] * ndim)
    return forms | st.sampled_from(["valid", "same", "same_lower"]) if words else forms


@st.composite
def convolutions(draw, ndim, plain=False):
    """A call of ``conv`` that is allowed: where the padded input would be smaller than the kernel, it grows.

    `plain` ones have nothing that the gradients do not know.
    """
    groups, ins, outs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    kernel = draw(sizes(ndim, 1, 7))
    stride, dilation = draw(per_axis(ndim, 1, 4)), draw(per_axis(ndim, 1, 3))
    padding, size = draw(paddings(ndim)), draw(sizes(ndim, 3, 12))
    pads = pads_in_full(padding, size, kernel, stride, dilation)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, each(dilation, ndim), strict=True)]
    size = [max(n, e - lo - hi) for n, e, (lo, hi) in zip(size, extent, pads, strict=True)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    weight = (outs * groups, ins, *kernel)
    if plain:
        return Call(ndim, (*batch, ins * groups, *size), weight, options)
    options["padding_mode"] = draw(st.sampled_from(MODES))
    options["layout"] = draw(st.sampled_from([None, *LAYOUTS[ndim]]))
    out = output_size(size, kernel, stride, padding, dilation)
    return _finished(draw, ndim, batch, ins * groups, size, outs * groups, out, weight, options)


@st.composite
def transposed_convolutions(draw, ndim):
    """A call of ``conv_transpose`` that is allowed: where the result would be empty, the input grows."""
    groups, ins, outs = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    kernel, size = draw(sizes(ndim, 1, 7)), draw(sizes(ndim, 1, 7))
    stride, dilation = draw(per_axis(ndim, 1, 5)), draw(per_axis(ndim, 1, 3))
    padding = draw(paddings(ndim, words=False))
    most = [max(s, d) - 1 for s, d in zip(each(stride, ndim), each(dilation, ndim), strict=True)]
    extra = draw(st.integers(0, min(most)) | st.tuples(*(st.integers(0, m) for m in most)))
    pads = pads_in_full(padding, size, kernel)
    rows = list(zip(kernel, each(stride, ndim), each(dilation, ndim), each(extra, ndim), pads, strict=True))
    size = [max(n, 1 - (d * (k - 1) + e - lo - hi) // s) for n, (k, s, d, e, (lo, hi)) in zip(size, rows, strict=True)]
    out = [(n - 1) * s + d * (k - 1) + 1 + e - lo - hi for n, (k, s, d, e, (lo, hi)) in zip(size, rows, strict=True)]
    options = {"stride": stride, "padding": padding, "output_padding": extra, "groups": groups, "dilation": dilation}
    options["layout"] = draw(st.sampled_from([None, *LAYOUTS[ndim]]))
    batch = draw(st.sampled_from([(), (0,), (1,), (2,), (3,)]))
    weight = (ins * groups, outs, *kernel)
    return _finished(draw, ndim, batch, ins * groups, size, outs * groups, out, weight, options)


def _finished(draw, ndim, batch, channels, size, out_channels, out, weight, options):
    last = options["layout"] == LAYOUTS[ndim][1]
    shape, result = ((*batch, *s, c) if last else (*batch, c, *s) for s, c in ((size, channels), (out, out_channels)))
    return Call(ndim, shape, weight, options, draw(st.sampled_from([0, out_channels])), draw(st.sampled_from([None, result])))
