"""Operators that are other convolutions: the transposed convolution and the gradients.

The adjoint of a convolution sends position ``i`` through tap ``k`` to ``o = i * stride + k * dilation - low``. Seen from there,
``o`` collects the taps with ``k * dilation = o + low (mod stride)``: each residue of ``o`` modulo the stride, a *phase*, is a
convolution of stride 1 with every so-many-eth tap, flipped. Nothing is dilated with zeros, and none of those multiplied.
(Dumoulin, Visin, "A guide to convolution arithmetic for deep learning", 2016, chapter 4, has the dilated form.)
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import NamedTuple, NoReturn

from numbaconv import activation, arrays, dtypes
from numbaconv import options as parse
from numbaconv.errors import bad_value, shown
from numbaconv.options import ConvOptions, Size
from numbaconv.problem import Part, Problem, Specs, result_of
from numbaconv.spec import ArraySpec, ConvSpec, DataFormat, check_addends, check_memory, normalise, split_data

__all__ = ["input_gradient", "probe", "transposed", "weight_gradient"]


class Phase(NamedTuple):
    """One residue of the positions of one axis: what it reads, with which taps, and where it goes."""

    output: slice
    input: slice
    taps: slice
    size: int
    kernel: int
    dilation: int
    padding: tuple[int, int]


def phases(n: int, out: int, k: int, stride: int, dilation: int, low: int) -> tuple[list[Phase], bool]:
    """Return the phases of one axis that have taps, and whether there are positions that none of them covers.

    Parameters
    ----------
    n, out, k
        Sizes of what is read, of what is written, and of the kernel.
    stride, dilation, low
        Of the convolution that this is the adjoint of.
    """
    common = math.gcd(stride, dilation)
    step, spread = stride // common, dilation // common  # between the taps of a phase; between the elements they read
    found = []
    for first_tap in range(min(k, step)):
        o = (first_tap * dilation - low) % stride
        if o >= out:
            continue
        count, taps = -(-(out - o) // stride), -(-(k - first_tap) // step)
        last = (o + low - first_tap * dilation) // stride  # what the first tap reads for the first position
        first, last = last - (taps - 1) * spread, last + count - 1
        if last < 0 or first >= n:
            continue
        inside = slice(max(0, first), min(n, last + 1))
        end = first_tap + (taps - 1) * step
        found.append(
            Phase(
                output=slice(o, None, stride),
                input=inside,
                taps=slice(end, first_tap - 1 if first_tap else None, -step),
                size=inside.stop - inside.start,
                kernel=taps,
                dilation=spread,
                padding=(max(0, -first), max(0, last - n + 1)),
            )
        )
    return found, len(found) < min(stride, out)


# ---------------------------------------------------------------- the operators


def transposed(ndim: int, specs: Specs, options: ConvOptions) -> Problem:
    """Return the problem of ``conv_transpose1d``, ``conv_transpose2d`` or ``conv_transpose3d``.

    It is the adjoint of the convolution that, with the same weight, takes the result to data of the input's shape.
    """
    shape = _transposed_shape(ndim, specs, options)
    forward_input = ArraySpec(shape, specs.weight.dtype)
    forward, data_format = normalise(ndim, forward_input, specs.weight, None, None, _plain(options))
    return _adjoint("conv_transpose, the adjoint", forward, data_format, specs, options)


def input_gradient(ndim: int, specs: Specs, options: ConvOptions) -> Problem:
    """Return the problem of the gradient with respect to the input; the operands are ``grad_output`` and the weight."""
    size = parse.shape("input_size", options.size)
    forward_input = ArraySpec(size, specs.weight.dtype)
    forward, data_format = normalise(ndim, forward_input, specs.weight, None, None, _plain(options), "input_size")
    _check_grad_output(specs.input, forward, data_format)
    title = "gradient with respect to the input"
    return replace(_adjoint(title, forward, data_format, specs, options, "grad_output"), conjugate="weight")


def weight_gradient(ndim: int, specs: Specs, options: ConvOptions) -> Problem:
    """Return the problem of the gradient with respect to the weight; the operands are the input and ``grad_output``.

    ``grad[o, c, k] = sum over n, i of grad_output[n, o, i] * input[n, c, i * stride + k * dilation - low]``

    So channels are the batch, the batch is the channels, ``grad_output`` is the kernel, and stride and dilation change places.
    """
    size = parse.shape("weight_size", options.size)
    weight = ArraySpec(size, specs.input.dtype)
    forward, data_format = normalise(ndim, specs.input, weight, None, None, _plain(options), weight_name="weight_size")
    _check_grad_output(specs.weight, forward, data_format)
    rows = zip(*_sizes(forward), strict=True)
    spans = [s * (out - 1) + d * (k - 1) + 1 - low for out, _, k, s, d, low in rows]  # how much of the input is read
    inside = tuple(max(0, min(n, span)) for n, span in zip(forward.input_size, spans, strict=True))
    lows = (low + min(0, span) for (low, _), span in zip(forward.padding, spans, strict=True))
    highs = (max(0, span) - n for n, span in zip(inside, spans, strict=True))
    spec = replace(
        forward,
        batch=forward.in_channels // forward.groups,
        in_channels=forward.batch * forward.groups,
        input_size=inside,
        kernel_size=forward.output_size,
        stride=forward.dilation,
        dilation=forward.stride,
        padding=tuple(zip(lows, highs, strict=True)),
        dtypes=_dtypes(specs, options),
        channels_last=False,
    )
    return Problem(
        title=f"gradient with respect to the weight of {forward}",
        parts=(Part(spec, input=(..., *map(slice, inside))),),
        view_input=lambda a: arrays.view_input(a, data_format, forward.groups).transpose(2, 1, 0, 3, 4, 5),
        view_weight=lambda a: arrays.view_data(a, data_format, forward.groups).transpose(1, 2, 0, 3, 4, 5),
        view_output=lambda a: arrays.view_weight(a, forward.groups).transpose(2, 0, 1, 3, 4, 5),
        shape=size,
        stored_shape=size,
        see_result=lambda a: a,
        conjugate="input",
    )


def _adjoint(
    name: str, forward: ConvSpec, data_format: DataFormat, specs: Specs, options: ConvOptions, argument: str = "input"
) -> Problem:
    """The adjoint of `forward`; `data_format` is that of its data, on both sides, and `argument` what the first is called."""
    lead, ndim = (1,) * (3 - data_format.ndim), data_format.ndim
    # What is read may be smaller than forward's result (output_padding past a stride), and every stride separates phases here.
    read = lead + split_data(specs.input, ndim, options.layout)[3]
    forward = replace(forward, stride=lead + parse.per_axis("stride", options.stride, ndim, least=1))
    crop = data_format.crop
    out = tuple(n + lo + hi for n, (lo, hi) in zip(forward.input_size, crop, strict=True))
    shape = data_format.shape(forward.batch, forward.in_channels, out)
    check_addends(specs.bias, specs.residual, forward.in_channels, shape)
    fused, resolved = activation.check(options.activation, _dtypes(specs, options, argument))
    base = replace(
        forward,
        in_channels=forward.out_channels,
        out_channels=forward.in_channels,
        input_size=read,
        stride=(1, 1, 1),
        padding=((0, 0),) * 3,
        padding_mode="zeros",
        dtypes=resolved,
        activation=fused,
        channels_last=specs.input.channels_last,
        has_bias=specs.bias is not None,
        has_residual=specs.residual is not None,
    )
    check_memory(shape, base.dtypes.out, argument, f"a result of shape {shape}")
    whole = replace(base, input_size=out, kernel_size=(1, 1, 1), dilation=(1, 1, 1))
    return Problem(
        title=f"{name} of {forward}",
        parts=_parts(forward, out, tuple(lo for lo, _ in crop), base),
        view_input=lambda a: arrays.view_data(a, data_format, base.groups),
        view_weight=lambda a: arrays.view_weight(a, base.groups).swapaxes(1, 2),
        view_output=lambda a: arrays.view_data(a, data_format, base.groups),
        **result_of(whole, data_format),
    )


def _parts(forward: ConvSpec, out: Size, cropped: Size, base: ConvSpec) -> tuple[Part, ...]:
    rows = zip(base.input_size, *_sizes(forward)[2:], out, cropped, strict=True)
    axes = [phases(n, whole, k, s, d, low - crop) for n, k, s, d, low, whole, crop in rows]
    parts = [
        Part(
            replace(
                base,
                input_size=tuple(p.size for p in phase),
                kernel_size=tuple(p.kernel for p in phase),
                dilation=tuple(p.dilation for p in phase),
                padding=tuple(p.padding for p in phase),
            ),
            input=(..., *(p.input for p in phase)),
            weight=(..., *(p.taps for p in phase)),
            output=(..., *(p.output for p in phase)),
        )
        for phase in itertools.product(*(found for found, _ in axes))
    ]
    return (_fill(base, out), *parts) if any(uncovered for _, uncovered in axes) else tuple(parts)


def _fill(base: ConvSpec, out: Size) -> Part:
    """A convolution of no channels over the whole result: what the positions that no tap reaches hold."""
    inside = tuple(map(min, base.input_size, out))
    padding = tuple((0, o - n) for o, n in zip(out, inside, strict=True))
    spec = replace(base, in_channels=0, input_size=inside, kernel_size=(1, 1, 1), dilation=(1, 1, 1), padding=padding)
    every, none, first = slice(None), slice(0, 0), slice(0, 1)
    return Part(spec, (every, every, none, *map(slice, inside)), (every, every, none, first, first, first))


def _sizes(forward: ConvSpec) -> tuple[Size, ...]:
    """Output, input and kernel size, stride, dilation and low padding, each for all axes."""
    low = tuple(lo for lo, _ in forward.padding)
    return forward.output_size, forward.input_size, forward.kernel_size, forward.stride, forward.dilation, low


def _transposed_shape(ndim: int, specs: Specs, options: ConvOptions) -> Size:
    """The result's shape: ``(n - 1) * stride - low - high + dilation * (k - 1) + output_padding + 1`` an axis."""
    data_format, batch, channels, size = split_data(specs.input, ndim, options.layout)
    groups = parse.integer("groups", options.groups, least=1)
    weight = specs.weight.shape
    if len(weight) != ndim + 2 or min(weight[2:]) < 1:
        _refuse_weight(ndim, weight)
    if weight[0] != channels:
        raise bad_value("weight", f"the input's {channels} channels first", f"shape {weight}")
    stride = parse.per_axis("stride", options.stride, ndim, least=1)
    dilation = parse.per_axis("dilation", options.dilation, ndim, least=1)
    if issubclass(type(options.padding), str):
        raise bad_value("padding", f"an int, {ndim} ints or {ndim} (low, high) pairs", shown(options.padding))
    padding = parse.padding(options.padding, ndim, size, weight[2:], stride, dilation)
    extra = parse.per_axis("output_padding", options.output_padding, ndim, least=0)
    if any(e >= max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True)):
        raise bad_value("output_padding", f"less than the larger of stride {stride} and dilation {dilation}", extra)
    rows = zip(size, weight[2:], stride, padding, dilation, extra, strict=True)
    out = tuple((n - 1) * s - lo - hi + d * (k - 1) + e + 1 for n, k, s, (lo, hi), d, e in rows)
    if min(size) < 1 or min(out) < 1:
        raise bad_value("input", "a size that gives a result of at least one element an axis", f"size {size}, result {out}")
    return data_format.shape(batch, weight[1] * groups, (0,) * (3 - ndim) + out)


def _refuse_weight(ndim: int, shape: Size) -> NoReturn:
    raise bad_value("weight", f"shape (in_channels, out_channels / groups, {ndim} kernel sizes)", f"shape {shape}")


def probe(ndim: int, weight: ArraySpec, options: ConvOptions) -> ArraySpec:
    """Return data that a transposed operator's weight and options make sense for (see :func:`numbaconv.spec.probe`)."""
    shape = weight.shape
    if len(shape) != ndim + 2:
        _refuse_weight(ndim, shape)
    kernel = shape[2:]
    stride = parse.per_axis("stride", options.stride, ndim, least=1)
    dilation = parse.per_axis("dilation", options.dilation, ndim, least=1)
    padding = (
        () if issubclass(type(options.padding), str) else parse.padding(options.padding, ndim, kernel, kernel, stride, dilation)
    )
    rows = zip(padding, kernel, stride, dilation, strict=False)
    size = tuple(1 - min(0, -max(0, lo + hi - d * (k - 1)) // s) for (lo, hi), k, s, d in rows) or (1,) * ndim
    item = (*size, shape[0]) if parse.channels_last(options.layout, ndim) else (shape[0], *size)
    return ArraySpec((1, *item), weight.dtype)


def _plain(options: ConvOptions) -> ConvOptions:
    """The options of the forward convolution: its dtypes are another matter, and nothing is fused to it."""
    return options._replace(out_dtype=None, activation=None)


def _dtypes(specs: Specs, options: ConvOptions, argument: str = "input") -> dtypes.Dtypes:
    addends = tuple(a.dtype for a in (specs.bias, specs.residual) if a is not None)
    out = None if options.out_dtype is None else dtypes.check(options.out_dtype, "out_dtype")
    return dtypes.resolve(specs.input.dtype, specs.weight.dtype, addends, out, argument)


def _check_grad_output(grad_output: ArraySpec, forward: ConvSpec, data_format: DataFormat) -> None:
    shape = data_format.shape(forward.batch, forward.out_channels, forward.output_size)
    if grad_output.shape != shape:
        raise bad_value("grad_output", f"the shape {shape} of the forward result", f"shape {grad_output.shape}")
