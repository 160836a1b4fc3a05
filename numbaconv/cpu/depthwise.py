"""Depthwise convolution, and of small groups: every channel is filtered on its own, so that loads count, and not products.

There is a kernel for each layout: ``depthwise_rows.py`` has lanes along rows, ``depthwise_pixels.py`` along channels; few
channels that come last are rows too. Both
compute some neighbouring rows at once, which share what they read, and read the input in place, through a table of addresses in
which padding is zeros that lie elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numba import types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu import depthwise_pixels, depthwise_rows
from numbaconv.cpu.blocks import MODES
from numbaconv.cpu.cutting import cuts_for, even
from numbaconv.cpu.depthwise_rows import Row, along_row
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.jit import contiguous, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.panels import Packing, repeated
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import has_vectors, lanes
from numbaconv.cpu.target import cores, threads
from numbaconv.cpu.threads import Launcher
from numbaconv.spec import ConvSpec

__all__ = ["DEPTHWISE"]

ROWS, FEW_ROWS = 4, 2  # of outputs at once, channels first; fewer for small kernels of stride 2, whose rows share little
LAST_ROWS = 8  # of a task, channels last
TAPS = 64  # of a kernel, at most
ROW_VECTORS = 3  # after which the channels of a row of pixels begin anew, at most
PLANES = 4096  # outputs of a task, at least, if they are small
SERIAL = 100_000  # products below which waking a second thread costs more than it brings


# ---------------------------------------------------------------- the algorithm


def why_not(spec: ConvSpec) -> str | None:
    """Say so for what is not depthwise, and for what the vector functions do not know."""
    dtypes, (_, outs, ins, *_) = spec.dtypes, spec.weight_shape
    if not has_vectors(dtypes.compute) or not dtypes.input == dtypes.compute == dtypes.out:
        return f"it computes in the dtype of its data, {dtypes.input} -> {dtypes.compute} -> {dtypes.out} converts"
    if spec.channels_last and (ins != outs or not outs or lanes(dtypes.compute) % outs):
        return f"channels last, a group has as many input as output channels, and a vector some whole groups, not {ins} -> {outs}"
    if not spec.channels_last and ins != 1:
        return f"channels first, a group has one input channel, not {ins}"
    if not spec.channels_last and spec.stride[2] > 2:
        return f"channels first, it takes strides of 1 and 2 along a row, not {spec.stride[2]}"
    if not spec.channels_last and spec.padding_mode != "zeros" and any(spec.padding[2]):
        return f"channels first, it pads rows with zeros, not {spec.padding_mode}"
    if math.prod(spec.kernel_size) * ins > TAPS:
        return f"its code would be too long for {math.prod(spec.kernel_size) * ins} weights an output, more than {TAPS}"
    return None


def rows_at_once(spec: ConvSpec) -> int:
    """How many rows of outputs a vector function computes."""
    if spec.channels_last:
        return depthwise_pixels.rows_at_once(spec)
    return FEW_ROWS if math.prod(spec.kernel_size) <= 9 and spec.stride[2] == 2 else ROWS


def rows_of_task(spec: ConvSpec) -> int:
    """How many rows of outputs a task has: several to a thread of one size, but not more than share what they read."""
    out_h = spec.output_size[1]
    if spec.multiply_adds <= SERIAL:
        return out_h
    if spec.channels_last:
        return even(out_h, min(LAST_ROWS, -(-out_h * spec.batch * spec.output_size[0] // threads())))
    if planes(spec) >= 4 * threads():
        return out_h
    return even(out_h, max(rows_at_once(spec), -(-out_h // (4 * threads()))))


def planes(spec: ConvSpec) -> int:
    """Of outputs, channels first."""
    return spec.batch * spec.out_channels * spec.output_size[0]


def planes_of_task(spec: ConvSpec) -> int:
    """How many planes a task has, channels first: so many that to start it does not count."""
    enough = -(-PLANES // math.prod(spec.output_size[1:]))
    return max(1, min(enough, planes(spec) // (4 * threads())))


@lru_cache(maxsize=1024)
def as_one_row(spec: ConvSpec) -> ConvSpec | None:
    """The problem of one channel whose rows are those of few adjacent channels, pixel by pixel: its taps are a pixel apart.

    None where the channels fill vectors, or take too many for their weights to repeat.
    """
    channels, pads = spec.out_channels, spec.padding
    few = spec.channels_last and spec.weight_shape[1:3] == (1, 1) and 0 < channels < lanes(spec.dtypes.compute)
    zeros = spec.padding_mode == "zeros" or not any(pads[2])
    if not few or not zeros or spec.stride[2] != 1 or vectors_of_row(spec) > ROW_VECTORS:
        return None
    (*sizes, wide), (*dilations, dilation) = spec.input_size, spec.dilation
    return replace(
        spec, channels_last=False, groups=1, in_channels=1, out_channels=1, input_size=(*sizes, wide * channels),
        dilation=(*dilations, dilation * channels), padding=(*pads[:2], (pads[2][0] * channels, pads[2][1] * channels)),
    )  # fmt: skip


def vectors_of_row(spec: ConvSpec) -> int:
    """After how many vectors of a row of pixels its first lane is the first channel again."""
    return math.lcm(spec.out_channels, lanes(spec.dtypes.compute)) // lanes(spec.dtypes.compute)


def prepare(spec: ConvSpec) -> Runner:
    """Compile for the spec's dtype, and return what calls the kernel."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    rows = as_one_row(spec) if spec.channels_last else spec
    return prepare_pixels(spec) if rows is None else prepare_rows(rows, spec)


def launcher_for(spec: ConvSpec, task: Callable, cuts: np.ndarray, count: int) -> tuple[Launcher, np.ndarray]:
    """Return what runs a task, and its plan."""
    dtype, rows = spec.dtypes.compute, rows_of_task(spec)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2],
        dilation_d=spec.dilation[0], dilation_h=spec.dilation[1], dilation_w=spec.dilation[2],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0],
        kernel_d=spec.kernel_size[0], kernel_h=spec.kernel_size[1], kernel_w=spec.kernel_size[2], mode=MODES[spec.padding_mode],
        rows=rows, row_blocks=-(-spec.output_size[1] // rows), planes=planes_of_task(spec), rows_at_once=rows_at_once(spec),
        plain=not (spec.has_residual or spec.activation), has_residual=spec.has_residual,
    )  # fmt: skip
    weight = contiguous(dtype, 4 if spec.channels_last else 3)
    arrays = (strided(dtype, 6), weight, strided(dtype, 6), contiguous(dtype, 2), strided(dtype, 6))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), cuts.ndim), record_type(plan))
    return Launcher(task, signature, count, spec.multiply_adds <= SERIAL), plan


def prepare_pixels(spec: ConvSpec) -> Runner:
    """The kernel with channels last."""
    dtype, finish = spec.dtypes.compute, Epilogue(spec)
    cuts, kept = depthwise_pixels.pixel_cuts(spec)
    count = spec.batch * spec.output_size[0] * -(-spec.output_size[1] // rows_of_task(spec))
    launcher, plan = launcher_for(spec, depthwise_pixels.task, cuts, count)

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        input, output = adjacent(ops.input, 1), ops.output
        if not is_adjacent(output, 1):
            output = np.empty(channels_last(output.shape), dtype).transpose(BACK)
        if spec.weight_shape[2] > 1:  # all groups as one row of channels
            one = (spec.batch, spec.out_channels, 1)
            input, output = input.reshape(*one, *spec.input_size), output.reshape(*one, *spec.output_size)
            bias, residual = bias.reshape(-1, 1), residual.reshape(*one, *spec.output_size) if spec.has_residual else residual
        return input, ops.weight, output, bias, residual, activation, cuts, plan

    return Kernel(launcher, collect, kept)


def prepare_rows(spec: ConvSpec, whole: ConvSpec) -> Runner:
    """The kernel with lanes along rows, of one channel each or of several."""
    dtype, finish, out_h = spec.dtypes.compute, Epilogue(whole), spec.output_size[1]
    rows, several = rows_of_task(spec), vectors_of_row(whole) if spec is not whole else 0
    counts = {rows, out_h - (-(-out_h // rows) - 1) * rows}
    cuts, kept = cuts_for(counts, rows_at_once(spec), lambda rows: along_row(row_shape(spec, rows, several), dtype))
    launcher, plan = launcher_for(spec, depthwise_rows.task, cuts, -(-planes(spec) // planes_of_task(spec)) * -(-out_h // rows))

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        if not several:
            output = ops.output if is_adjacent(ops.output, 5) else np.empty(ops.output.shape, dtype)
            return adjacent(ops.input, 5), ops.weight, output, bias, residual, activation, cuts, plan
        bias = np.resize(bias.ravel(), (1, several * lanes(dtype)))
        residual = one_row(residual) if whole.has_residual else residual
        return one_row(ops.input), ops.weight, one_row(ops.output), bias, residual, activation, cuts, plan

    def restore(computed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return computed.reshape(channels_last(shape)).transpose(BACK) if several else computed.reshape(shape)

    return Kernel(launcher, collect, kept, restore=restore)


def row_shape(spec: ConvSpec, rows: int, several: int = 0) -> Row:
    """Return what the code for blocks of so many rows, channels first or several in a row, is made for."""
    vector, pads, wide = lanes(spec.dtypes.compute), spec.padding[2], spec.output_size[2]
    ends = max(pads) + spec.kernel_extent[2] * (spec.stride[2] - 1)
    # With two vectors, a weight that no register keeps is loaded for both.
    vectors = several or (2 if math.prod(spec.kernel_size) > 9 and wide >= 2 * vector + ends else 1)
    narrow = wide < vectors * vector + ends or max(pads) > vectors * vector
    return Row(spec.kernel_size, spec.stride[1:], spec.dilation[1:], pads, rows, vectors, narrow, several > 0)


def one_row(array: np.ndarray) -> np.ndarray:
    """An array with channels last as ``(N, 1, 1, D, H, W * channels)``; a copy where its pixels do not lie side by side."""
    n, groups, _, d, h, w = array.shape
    rows = array.transpose(LAST).reshape(n, 1, 1, d, h, w * groups)
    return adjacent(rows, 5)


LAST, BACK = (0, 3, 4, 5, 1, 2), (0, 4, 5, 1, 2, 3)  # to channels last, and from there


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A canonical shape with the channels last."""
    return tuple(shape[axis] for axis in LAST)


def is_adjacent(array: np.ndarray, axis: int) -> bool:
    """Whether the channels (axis 1), or the elements of a row (axis 5), are neighbours, and rows run forwards."""
    size, strides = array.itemsize, array.strides
    if axis == 5:
        return strides[5] == size
    groups, group = array.shape[1:3]
    together = (group == 1 or strides[2] == size) and (groups == 1 or strides[1] == size * group)
    return together and strides[5] >= size * groups * group


def adjacent(array: np.ndarray, axis: int) -> np.ndarray:
    """The array, or a copy if it is not :func:`is_adjacent`."""
    if is_adjacent(array, axis):
        return array
    return np.ascontiguousarray(array) if axis == 5 else np.ascontiguousarray(array.transpose(LAST)).transpose(BACK)


@lru_cache(maxsize=1024)
def packing(spec: ConvSpec) -> Packing | None:
    """Return what packs weights where the channels come last."""
    if as_one_row(spec):
        return repeated(
            spec.out_channels, spec.kernel_size, vectors_of_row(spec) * lanes(spec.dtypes.compute), spec.dtypes.compute
        )
    return depthwise_pixels.packing(spec) if spec.channels_last else None


def pack(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    """Return ``(groups, out_channels / groups, taps)``, or with channels last ``(vectors, taps, group, lanes)``.

    Few channels last: ``(1, 1, taps * vectors * lanes)``, where the channels repeat along the lanes.
    """
    if as_one_row(spec):
        return packing(spec)(weight)  # type: ignore[misc]
    if spec.channels_last:
        return depthwise_pixels.pack(spec, weight)
    return weight.astype(spec.dtypes.compute, order="C", copy=False).reshape(*weight.shape[:2], math.prod(weight.shape[2:]))


def cost(spec: ConvSpec) -> float:
    """Seconds: 4 us to call, and over the threads some cycles for each vector of outputs.

    Channels first that is a cycle or so a tap, two at stride 2, where inputs are shuffled, and twice as much in rows that are
    masked throughout.
    """
    spec = as_one_row(spec) or spec
    out_d, out_h, out_w = spec.output_size
    together = cores() if spec.multiply_adds > SERIAL else 1
    if spec.channels_last:
        cycles = spec.batch * out_d * out_h * out_w * depthwise_pixels.cycles(spec)
    else:
        step = math.prod(spec.kernel_size) * (1.15 if spec.stride[2] == 1 else 1.8) + 4
        if row_shape(spec, 1).narrow:
            step = 2 * step
        cycles = planes(spec) * (150 + out_h * -(-out_w // lanes(spec.dtypes.compute)) * step)
    return 4e-6 + cycles * 0.28e-9 / together


DEPTHWISE = Algorithm(
    name="depthwise",
    backend="cpu",
    summary="filters every channel in place, several rows or pixels at once",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: pack(spec, weight),
    prepare=prepare,
    summation="taps",
    packer=packing,
    packing_cost=lambda spec: 5e-6 + math.prod(spec.weight_shape) * 1e-9,
)
