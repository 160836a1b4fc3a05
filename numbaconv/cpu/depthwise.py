"""Depthwise convolution: every channel is filtered on its own, so that what counts is to read each input once and in place.

With channels first, lanes run along a row of outputs: a vector function goes along some neighbouring rows at once, keeps their sums
and the rows' weights in registers and uses every vector it loads for all rows that read it. With channels last, lanes run along the
channels, and the vector function computes some neighbouring outputs of a row. Both read rows through a table of addresses, where
rows of padding are one row of zeros; beside a row, lanes are masked (channels first) or taps left out (channels last).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numba
import numpy as np
from numba import int64, prange, types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.blocks import MODES, source
from numbaconv.cpu.cutting import cuts_for, even, find_cut
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.intrinsics import address_of, apply, as_contiguous, keep
from numbaconv.cpu.jit import contiguous, inner, kernel, strided
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import Code, Value, call, has_vectors, lanes, vector_function
from numbaconv.cpu.threads import launcher
from numbaconv.spec import ConvSpec

__all__ = ["DEPTHWISE"]

ROWS = 4  # of outputs at once, channels first
PIXELS = 8  # of a row of outputs at once, channels last
TAPS = 64  # of a kernel, at most
SERIAL = 100_000  # products below which waking a second thread costs more than it brings


# ---------------------------------------------------------------- vector functions


@cache
def along_row(kernel: tuple[int, int, int], stride: tuple[int, int], dilation: tuple[int, int], rows: int, dtype: np.dtype) -> Any:
    """Compile what computes some rows of outputs of one channel, channels first.

    Its words are the address of a table of the addresses of input rows, how many elements of padding precede these, the elements of
    an input row, the addresses of the weights ``(kd, kh, kw)``, of the outputs and of what is added to them, the bytes from an
    output row to the next, and the elements of one. The table is for ``[kd, i]``, all i at which ``r * stride + kh * dilation`` falls.
    """
    depth, high, wide = kernel
    slots = slots_of(rows, high, stride[0], dilation[0])
    size = dtype.itemsize

    def emit(
        code: Code, table: Value, low: Value, width: Value, weights: Value, output: Value, bias: Value, row: Value, count: Value
    ) -> None:
        factors = [code.broadcast(weights + t * size) for t in range(math.prod(kernel))]
        addend = code.broadcast(bias)
        lines = [code.word(table + s * 8) for s in range(depth * len(slots))]

        def sums(first: Value, masked: bool) -> list:
            totals: list = [None] * rows
            for s, line in enumerate(lines):
                kd, at = divmod(s, len(slots))
                uses = [(r, (slots[at] - r * stride[0]) // dilation[0]) for r in range(rows)]
                uses = [
                    (r, i) for r, i in uses if 0 <= i < high and r * stride[0] + i * dilation[0] == slots[at]
                ]
                columns = _columns(code, line, first, width, wide, stride[1], dilation[1], masked)
                for j, column in enumerate(columns):
                    for r, i in uses:
                        factor = factors[(kd * high + i) * wide + j]
                        old = totals[r]
                        totals[r] = column * factor if old is None else code.multiply_add(column, factor, old)
            return [total + addend for total in totals]

        reach = code.constant((code.lanes - 1) * stride[1] + (wide - 1) * dilation[1] + stride[1])
        with code.loop(count, code.lanes) as p:
            first, left = p * stride[1] - low, count - p
            inside = code.smaller(code.smaller(first, width - first - reach), left - code.lanes)
            with code.either(inside, code.constant(0)) as (full, part):
                with full:
                    for r, total in enumerate(sums(first, False)):
                        code.store(total, output + row * r + p * size)
                with part:
                    mask = code.mask(left)
                    for r, total in enumerate(sums(first, True)):
                        code.store(total, output + row * r + p * size, mask)

    return vector_function(emit, dtype)


def _columns(code: Code, line: Value, first: Value, width: Value, wide: int, stride: int, dilation: int, masked: bool) -> list:
    """Return for every tap of a row the vector of inputs that a vector of outputs reads there."""
    size = code.dtype.itemsize

    def load(at: Value) -> Value:
        return code.load(line + at * size, code.window(at, width) if masked else None)

    if stride == 1:
        return [load(first + j * dilation) for j in range(wide)]
    pairs: dict[int, tuple[Value, Value]] = {}
    result = []
    for j in range(wide):
        at, odd = divmod(j * dilation, 2)
        if at not in pairs:
            pairs[at] = load(first + 2 * at), load(first + 2 * at + code.lanes)
        result.append(code.shuffle(*pairs[at], range(odd, 2 * code.lanes, 2)))
    return result


def slots_of(rows: int, high: int, stride: int, dilation: int) -> list[int]:
    """The input rows, counted from the first, that some rows of outputs read."""
    return sorted({r * stride + i * dilation for r in range(rows) for i in range(high)})


@cache
def along_channels(kernel: tuple[int, int], stride: int, dilation: int, pixels: int, dtype: np.dtype) -> Any:
    """Compile what computes some neighbouring outputs of one vector of channels, channels last.

    `kernel` is (rows, columns). Its words are the address of a table of the addresses of input rows, the offset in bytes of the first
    input in them, the bytes from a pixel of the input to the next, the addresses of the weights ``(rows, columns, lanes)``, of the
    outputs and of what is added to them, the bytes from an output to the next, and how many channels there are.
    """
    high, wide = kernel
    reads = slots_of(pixels, wide, stride, dilation)

    def emit(
        code: Code, table: Value, offset: Value, step: Value, weights: Value, output: Value, bias: Value, out_step: Value, count: Value
    ) -> None:
        def compute(mask: Value | None) -> None:
            totals: list = [None] * pixels
            for i in range(high):
                line = code.word(table + i * 8) + offset
                columns = {at: code.load(line + step * at, mask) for at in reads}
                for j in range(wide):
                    factor = code.load(weights + (i * wide + j) * code.bytes)
                    for r in range(pixels):
                        column, old = columns[r * stride + j * dilation], totals[r]
                        totals[r] = column * factor if old is None else code.multiply_add(column, factor, old)
            addend = code.load(bias, mask)
            for r, total in enumerate(totals):
                code.store(total + addend, output + out_step * r, mask)

        with code.either(count, code.constant(code.lanes)) as (full, part):
            with full:
                compute(None)
            with part:
                compute(code.mask(count))

    return vector_function(emit, dtype)


@cache
def beside_edge(kernel: tuple[int, int], dtype: np.dtype) -> Any:
    """Compile what computes one output of one vector of channels from some of its columns, channels last.

    Its words are as those of :func:`along_channels` (the step is between the columns of taps), and how many columns in place of the
    bytes between outputs.
    """
    high, wide = kernel

    def emit(
        code: Code, table: Value, offset: Value, step: Value, weights: Value, output: Value, bias: Value, columns: Value, count: Value
    ) -> None:
        mask = code.mask(count)
        totals = [code.variable(code.zero) for _ in range(high)]
        lines = [code.word(table + i * 8) + offset for i in range(high)]
        with code.loop(columns) as j:
            for i, total in enumerate(totals):
                factor = code.load(weights + (j + i * wide) * code.bytes)
                total.value = code.multiply_add(code.load(lines[i] + step * j, mask), factor, total.value)
        total = code.load(bias, mask)
        for more in totals:
            total = total + more.value
        code.store(total, output, mask)

    return vector_function(emit, dtype)


# ---------------------------------------------------------------- channels first


@inner
def fill_table(table, image, h, d, rows, zeros, p):
    """table[kd, i] = the address of the input row that output row h reads at slot i, for `rows` rows of outputs."""
    size_d, size_h = image.shape[:2]
    k = 0
    for kd in range(p.kernel_d):
        z = source(d * p.stride_d + kd * p.dilation_d - p.low_d, size_d, p.mode)
        last = -1
        for i in range((rows - 1) * p.stride_h + (p.kernel_h - 1) * p.dilation_h + 1):
            used = False
            for r in range(rows):
                at = i - r * p.stride_h
                used = used or (at >= 0 and at % p.dilation_h == 0 and at // p.dilation_h < p.kernel_h)
            if used:
                y = source(h * p.stride_h - p.low_h + i, size_h, p.mode)
                table[k] = zeros if z < 0 or y < 0 else address_of(image[z, y])
                k += 1


@inner
def planes_task(number, input, weight, output, bias, residual, activation, cuts, plan):
    """Compute a block of rows of one channel of one image, channels first."""
    p = plan[0]
    groups, outs, out_d, out_h, out_w = output.shape[1:]
    number, row_block = number // p.row_blocks, number % p.row_blocks
    number, d = number // out_d, number % out_d
    number, o = number // outs, number % outs
    n, group = number // groups, number % groups
    h0 = row_block * p.rows
    h1 = min(out_h, h0 + p.rows)
    image, result = input[n, group, 0], output[n, group, o, d]
    zeros = np.zeros(image.shape[2], input.dtype)
    table = np.empty(p.slots, np.int64)
    h = h0
    for number, rows, micro in find_cut(cuts, h1 - h0):
        for _ in range(number):
            fill_table(table, image, h, d, rows, address_of(zeros), p)
            call(
                micro, table.ctypes.data, p.low_w, image.shape[2], address_of(weight[group, o]), address_of(result[h]),
                address_of(bias[group, o:]), result.strides[0], out_w,
            )  # fmt: skip
            if not p.plain:
                for r in range(rows):
                    line = as_contiguous(result[h + r])
                    if p.has_residual:
                        more = residual[n, group, o, d, h + r]
                        for i in range(out_w):
                            line[i] += more[i]
                    if activation != 0:
                        apply(activation, line)
            h += rows
    keep(zeros)
    keep(table)


@inner(inline="always")
def planes_tasks(output, plan):
    """How many tasks there are."""
    return output.shape[0] * output.shape[1] * output.shape[2] * output.shape[3] * plan[0].row_blocks


@kernel(parallel=True)
def planes_in_parallel(input, weight, output, bias, residual, activation, cuts, plan):
    """All tasks, over the threads."""
    for number in prange(planes_tasks(output, plan)):
        planes_task(int64(number), input, weight, output, bias, residual, activation, cuts, plan)


@kernel
def planes_in_series(input, weight, output, bias, residual, activation, cuts, plan):
    """All tasks, in the calling thread."""
    for number in range(planes_tasks(output, plan)):
        planes_task(number, input, weight, output, bias, residual, activation, cuts, plan)


# ---------------------------------------------------------------- channels last


@inner
def pixels_task(number, input, weight, output, bias, residual, activation, cuts, plan):
    """Compute a row of outputs of one image, channels last."""
    p = plan[0]
    out_d, out_h, out_w = output.shape[3:]
    channels, size = output.shape[1], input.itemsize
    number, h = number // out_h, number % out_h
    n, d = number // out_d, number % out_d
    image = input[n, 0, 0]
    table = np.empty(p.slots, np.int64)
    zeros = np.zeros(0, input.dtype)
    top = h * p.stride_h - p.low_h
    if top < 0 or top + (p.kernel_h - 1) * p.dilation_h >= image.shape[1] or p.low_d > 0 or p.high_d > 0:
        zeros = np.zeros(image.shape[2] * (image.strides[2] // size), input.dtype)
    fill_table(table, image, h, d, 1, address_of(zeros), p)
    result = output[n, :, 0, d, h]
    step, out_step, row = image.strides[2], result.strides[1], p.kernel_w * p.lanes * size
    cut = find_cut(cuts, p.right - p.left)
    for c in range(0, channels, p.lanes):
        left = channels - c
        weights, addend = address_of(weight[c // p.lanes]), address_of(bias[c:])
        x, to = (p.left * p.stride_w - p.low_w) * step + c * size, address_of(result[c, p.left:])
        for number, pixels, micro in cut:
            for _ in range(number):
                call(micro, table.ctypes.data, x, step, weights, to, addend, out_step, left)
                x += pixels * p.stride_w * step
                to += pixels * out_step
        for w in range(out_w):
            if p.left <= w < p.right:
                continue
            first = w * p.stride_w - p.low_w
            j0 = max(0, -(first // p.dilation_w))
            j1 = max(j0, min(p.kernel_w, (image.shape[2] - 1 - first) // p.dilation_w + 1))
            call(
                p.call_edge, table.ctypes.data, (first + j0 * p.dilation_w) * step + c * size, p.dilation_w * step,
                weights + j0 * p.lanes * size, address_of(result[c, w:]), addend, j1 - j0, left,
            )  # fmt: skip
    if not p.plain:
        more = residual[n, :, 0, d, h] if p.has_residual else residual[0, 0, :, 0, 0]
        for w in range(out_w):
            pixel = as_contiguous(result[:, w])
            if p.has_residual:
                for c in range(channels):
                    pixel[c] += more[c, w]
            if activation != 0:
                apply(activation, pixel)
    keep(zeros)
    keep(table)


@inner(inline="always")
def pixels_tasks(output):
    """How many tasks there are."""
    return output.shape[0] * output.shape[3] * output.shape[4]


@kernel(parallel=True)
def pixels_in_parallel(input, weight, output, bias, residual, activation, cuts, plan):
    """All tasks, over the threads."""
    for number in prange(pixels_tasks(output)):
        pixels_task(int64(number), input, weight, output, bias, residual, activation, cuts, plan)


@kernel
def pixels_in_series(input, weight, output, bias, residual, activation, cuts, plan):
    """All tasks, in the calling thread."""
    for number in range(pixels_tasks(output)):
        pixels_task(number, input, weight, output, bias, residual, activation, cuts, plan)


# ---------------------------------------------------------------- the algorithm


def why_not(spec: ConvSpec) -> str | None:
    """Say so for what is not depthwise, and for what the vector functions do not know."""
    dtypes = spec.dtypes
    if spec.weight_shape[2] != 1 or spec.groups == 1:
        return f"its groups have {spec.weight_shape[2]} input channels, not one of several"
    if not has_vectors(dtypes.compute) or not dtypes.input == dtypes.compute == dtypes.out:
        return f"it computes in the dtype of its data, {dtypes.input} -> {dtypes.compute} -> {dtypes.out} converts"
    if spec.padding_mode != "zeros":
        return f"it pads with zeros, not {spec.padding_mode}"
    if math.prod(spec.kernel_size) > TAPS:
        return f"its code would be too long for a kernel of {math.prod(spec.kernel_size)} elements, more than {TAPS}"
    if spec.channels_last and spec.weight_shape[1] != 1:
        return "channels last, it takes one output channel a group"
    if not spec.channels_last and spec.stride[2] > 2:
        return f"channels first, it takes strides of 1 and 2 along a row, not {spec.stride[2]}"
    return None


def interior(spec: ConvSpec) -> tuple[int, int]:
    """The first and the last but one output of a row whose taps all lie inside it."""
    (low, _), k, d, s = spec.padding[2], spec.kernel_size[2], spec.dilation[2], spec.stride[2]
    left = min(spec.output_size[2], -(-low // s))
    last = (spec.input_size[2] - 1 + low - (k - 1) * d) // s
    return left, max(left, min(spec.output_size[2], last + 1))


def rows_of_task(spec: ConvSpec) -> int:
    """How many rows of outputs a task has, channels first: all, or what gives every thread some tasks of one size."""
    threads = numba.config.NUMBA_NUM_THREADS
    planes = spec.batch * spec.out_channels * spec.output_size[0]
    if planes >= 4 * threads or spec.multiply_adds <= SERIAL:
        return spec.output_size[1]
    return even(spec.output_size[1], max(ROWS, -(-spec.output_size[1] // (4 * threads))))


def prepare(spec: ConvSpec) -> Runner:
    """Compile for the spec's dtype, and return what calls the kernel."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    dtype, kernel, last = spec.dtypes.compute, spec.kernel_size, spec.channels_last
    out_h, rows, (left, right) = spec.output_size[1], rows_of_task(spec), interior(spec)
    if last:
        taps = kernel[0] * kernel[1], kernel[2]
        compile = lambda n: along_channels(taps, spec.stride[2], spec.dilation[2], n, dtype)
        counts, most, slots = {right - left}, PIXELS, taps[0]
    else:
        compile = lambda n: along_row(kernel, spec.stride[1:], spec.dilation[1:], n, dtype)
        counts, most = {rows, out_h - (-(-out_h // rows) - 1) * rows}, ROWS
        slots = kernel[0] * len(slots_of(ROWS, kernel[1], spec.stride[1], spec.dilation[1]))
    cuts, kept = cuts_for(counts, most, compile)
    edge = beside_edge(taps, dtype) if last else None
    finish = Epilogue(spec)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2],
        dilation_d=spec.dilation[0], dilation_h=spec.dilation[1], dilation_w=spec.dilation[2],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0], high_d=spec.padding[0][1],
        kernel_d=kernel[0], kernel_h=kernel[1], kernel_w=kernel[2], mode=MODES["zeros"],
        rows=rows, row_blocks=-(-out_h // rows), slots=slots, left=left, right=right, lanes=lanes(dtype),
        call_edge=edge.address if edge else 0,
        plain=not (spec.has_residual or spec.activation), has_residual=spec.has_residual,
    )  # fmt: skip
    arrays = (strided(dtype, 6), contiguous(dtype, 3), strided(dtype, 6), contiguous(dtype, 2), strided(dtype, 6))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), 3), record_type(plan))
    kernels = (pixels_in_series, pixels_in_parallel) if last else (planes_in_series, planes_in_parallel)
    launch = launcher(*kernels, spec.multiply_adds <= SERIAL, signature)
    axis = 1 if last else 5

    def run(ops: Operands, kept: tuple = (kept, edge)) -> None:
        bias, residual, _, activation = finish.arguments(ops)
        input, output = adjacent(ops.input, axis), ops.output
        if output.strides[axis] != output.itemsize:
            output = np.empty(output.shape, dtype) if axis == 5 else np.empty(channels_last(output.shape), dtype).transpose(BACK)
        launch(input, ops.weight, output, bias, residual, activation, cuts, plan)
        if output is not ops.output:
            ops.output[...] = output

    return run


LAST, BACK = (0, 3, 4, 5, 1, 2), (0, 4, 5, 1, 2, 3)  # to channels last, and from there


def channels_last(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A canonical shape with the channels last."""
    return tuple(shape[axis] for axis in LAST)


def adjacent(array: np.ndarray, axis: int) -> np.ndarray:
    """The array, or a copy if its elements along an axis are not neighbours, or its rows run backwards."""
    if array.strides[axis] == array.itemsize and array.strides[5] >= array.itemsize:
        return array
    return np.ascontiguousarray(array) if axis == 5 else np.ascontiguousarray(array.transpose(LAST)).transpose(BACK)


def pack(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    """Return ``(groups, out_channels / groups, taps)``, or channels last vectors ``(vectors, taps, lanes)``, in the compute dtype."""
    groups, outs = weight.shape[:2]
    taps = weight.astype(spec.dtypes.compute).reshape(groups, outs, -1)
    if not spec.channels_last:
        return np.ascontiguousarray(taps)
    vector = lanes(spec.dtypes.compute)
    vectors = np.zeros((-(-groups // vector) * vector, taps.shape[2]), spec.dtypes.compute)
    vectors[:groups] = taps[:, 0]
    return np.ascontiguousarray(vectors.reshape(-1, vector, taps.shape[2]).swapaxes(1, 2))


def cost(spec: ConvSpec) -> float:
    """Seconds: 4 us to call, and over the threads a cycle a product of vectors, and what it takes to start a row or a tile."""
    _, out_h, out_w = spec.output_size
    taps, vector = math.prod(spec.kernel_size), lanes(spec.dtypes.compute)
    threads = numba.config.NUMBA_NUM_THREADS if spec.multiply_adds > SERIAL else 1
    if spec.channels_last:
        left, right = interior(spec)
        cycles = (right - left) * (1.5 * taps + 4) + (out_w - right + left) * (30 + 2 * taps)
        total = spec.batch * spec.output_size[0] * out_h * (100 + cycles * -(-spec.groups // vector))
    else:
        row = 40 + -(-out_w // vector) * (taps * (1.2 if spec.stride[2] == 1 else 2) + 6)
        total = spec.batch * spec.out_channels * spec.output_size[0] * out_h * row
    return 4e-6 + total * 0.28e-9 / threads


DEPTHWISE = Algorithm(
    name="depthwise",
    backend="cpu",
    summary="filters every channel in place, several rows or pixels at once",
    why_not=why_not,
    cost=cost,
    pack=pack,
    prepare=prepare,
)
