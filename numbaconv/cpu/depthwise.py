"""Depthwise convolution, and of small groups: every channel is filtered on its own, so that reading each input once counts.

With channels first, lanes run along a row of outputs: a vector function goes along some neighbouring rows at once, keeps their
sums and the rows' weights in registers and uses every vector it loads for all rows that read it. With channels last, lanes run
along the channels, and the vector function computes some neighbouring outputs of a row. Both read the input in place, through a
table of addresses of rows, where rows of padding are one row of zeros; beside a row, lanes are masked (channels first) or taps
left out (channels last).
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.blocks import MODES, source
from numbaconv.cpu.cutting import cuts_for, even, find_cut
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, apply, as_contiguous, keep
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import Code, Value, call, has_vectors, lanes, vector_function
from numbaconv.cpu.threads import Launcher
from numbaconv.spec import ConvSpec

__all__ = ["DEPTHWISE"]

ROWS, LARGE_ROWS = 4, 6  # of outputs at once, channels first, for kernels of up to 9 taps and for larger ones
PIXELS = 8  # of a row of outputs at once, channels last
LAST_ROWS = 8  # of a task, channels last
TAPS = 64  # of a kernel, at most
SERIAL = 100_000  # products below which waking a second thread costs more than it brings


# ---------------------------------------------------------------- vector functions


class Row(NamedTuple):
    """What code for rows of outputs, channels first, is made for."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, int]  # left and right of a row
    rows: int  # of outputs at once
    vectors: int  # of outputs at once along a row
    masked: bool  # whether inputs and outputs at any place of a row may lie outside of it


@cache
def along_row(shape: Row, dtype: np.dtype) -> Any:
    """Compile what computes some rows of outputs of one channel, channels first.

    Its words are the address of a table of the addresses of input rows, the elements of an input row, the addresses of the
    weights ``(kd, kh, kw)``, of the outputs and of what is added to them, the bytes from an output row to the next, and the
    elements of one. The table is for ``[kd, slot]``, see :func:`slots_of`.
    """
    depth, high, wide = shape.kernel
    slots = slots_of(shape.rows, high, shape.stride[0], shape.dilation[0])
    uses = [
        [(r, i) for r in range(shape.rows) for i in range(high) if r * shape.stride[0] + i * shape.dilation[0] == slot]
        for slot in slots
    ]
    size = dtype.itemsize

    def emit(
        code: Code, table: Value, width: Value, weights: Value, output: Value, bias: Value, row: Value, count: Value
    ) -> None:
        factors = [code.broadcast(weights + t * size) for t in range(math.prod(shape.kernel))]
        addend = code.broadcast(bias)
        lines = [code.word(table + s * 8) for s in range(depth * len(slots))]

        def compute(p: Value, edges: str) -> None:
            """Compute the outputs from p on; the named ends of the row are near."""
            totals: list = [[None] * shape.vectors for _ in range(shape.rows)]
            for s, line in enumerate(lines):
                kd, slot = divmod(s, len(slots))
                columns = [_columns(code, shape, line, p, v, width, edges) for v in range(shape.vectors)]
                for r, i in uses[slot]:
                    for j in range(wide):
                        factor = factors[(kd * high + i) * wide + j]
                        for v in range(shape.vectors):
                            old = totals[r][v]
                            product = columns[v][j]
                            totals[r][v] = product * factor if old is None else code.multiply_add(product, factor, old)
            for r, line in enumerate(totals):
                for v, total in enumerate(line):
                    at = p + v * code.lanes
                    mask = code.mask(count - at) if edges == "both" else None
                    code.store(total + addend, output + row * r + at * size, mask)

        step = shape.vectors * code.lanes
        if shape.masked:
            with code.loop(count, step) as p:
                compute(p, "both")
            return
        compute(code.constant(0), "left")
        with code.loop(count - 2 * step, step) as p:  # what is left is more than one step, which the last one overlaps
            compute(p + step, "")
        compute(count - step, "right")

    return vector_function(emit, dtype, shape)


def _columns(code: Code, shape: Row, line: Value, p: Value, v: int, width: Value, edges: str) -> list:
    """Return for every tap of a row the vector of inputs that the v-th vector of outputs from p on reads there."""
    (low, high), stride, dilation, wide = shape.padding, shape.stride[1], shape.dilation[1], shape.kernel[2]
    first = (p + v * code.lanes) * stride - low
    # The last load of a row's last vectors that lies inside it, counted from `first`; others start an output earlier at most.
    last = stride * ((shape.vectors - v) * code.lanes - 1) - code.lanes + 1 + (wide - 1) * dilation - high
    furthest = {"right": last, "": last + stride}

    def load(offset: int) -> Value:
        outside = (
            edges == "both"
            or (edges == "left" and v * code.lanes * stride + offset < low)
            or offset > furthest.get(edges, offset)
        )
        at = first + offset
        return code.load(line + at * code.dtype.itemsize, code.window(at, width) if outside else None)

    if stride == 1:
        return [load(j * dilation) for j in range(wide)]
    pairs: dict[int, tuple[Value, Value]] = {}
    result = []
    for j in range(wide):
        at, odd = divmod(j * dilation, 2)
        if at not in pairs:
            pairs[at] = load(2 * at), load(2 * at + code.lanes)
        result.append(code.shuffle(*pairs[at], range(odd, 2 * code.lanes, 2)))
    return result


def row_shape(spec: ConvSpec, rows: int) -> Row:
    """Return what the code for a problem is made for."""
    vector, pads, wide = lanes(spec.dtypes.compute), spec.padding[2], spec.output_size[2]
    taps = math.prod(spec.kernel_size)
    ends = max(pads) + spec.kernel_extent[2] * (spec.stride[2] - 1)
    # With two vectors, a weight that no register keeps is loaded for both.
    vectors = 2 if taps > 9 and wide >= 2 * vector + ends else 1
    masked = wide < vectors * vector + ends or max(pads) > vectors * vector
    return Row(spec.kernel_size, spec.stride[1:], spec.dilation[1:], pads, rows, vectors, masked)


def slots_of(rows: int, high: int, stride: int, dilation: int) -> list[int]:
    """The input rows, counted from the first, that some rows of outputs read."""
    return sorted({r * stride + i * dilation for r in range(rows) for i in range(high)})


def slot_table(most: int, high: int, stride: int, dilation: int) -> np.ndarray:
    """Return :func:`slots_of` for every number of rows, each line filled with -1."""
    lines = [slots_of(rows, high, stride, dilation) for rows in range(most + 1)]
    return np.array([line + [-1] * (len(lines[-1]) - len(line)) for line in lines], np.int64)


class Pixels(NamedTuple):
    """What code for pixels, channels last, is made for."""

    kernel: tuple[int, int]  # rows, those of the depth among them, and columns
    stride: int
    dilation: int
    group: int  # channels, of the input and of the output


@cache
def along_channels(shape: Pixels, pixels: int, dtype: np.dtype) -> Any:
    """Compile what computes some neighbouring outputs of one vector of channels, channels last.

    Its words are the address of a table of the addresses of input rows, the offset in bytes of the first input in them, the
    bytes from a pixel of the input to the next, the addresses of the weights ``(rows, columns, group, lanes)``, of the outputs
    and of what is added to them, the bytes from an output to the next, and how many channels there are.
    """
    high, wide = shape.kernel
    reads = slots_of(pixels, wide, shape.stride, shape.dilation)

    def emit(
        code: Code, table: Value, offset: Value, step: Value, weights: Value, output: Value, bias: Value, out_step: Value,
        count: Value,
    ) -> None:  # fmt: skip
        def compute(mask: Value | None) -> None:
            totals: list = [None] * pixels
            for i in range(high):
                line = code.word(table + i * 8) + offset
                columns = {at: _of_group(code, shape.group, code.load(line + step * at, mask)) for at in reads}
                for j in range(wide):
                    for member in range(shape.group):
                        factor = code.load(weights + ((i * wide + j) * shape.group + member) * code.bytes)
                        for r in range(pixels):
                            column, old = columns[r * shape.stride + j * shape.dilation][member], totals[r]
                            totals[r] = column * factor if old is None else code.multiply_add(column, factor, old)
            addend = code.load(bias, mask)
            for r, total in enumerate(totals):
                code.store(total + addend, output + out_step * r, mask)

        with code.either(count, code.constant(code.lanes)) as (full, part):
            with full:
                compute(None)
            with part:
                compute(code.mask(count))

    return vector_function(emit, dtype, shape, pixels)


def _of_group(code: Code, group: int, vector: Value) -> list:
    """Return for every channel of a group the vector that has this channel of its own group in all lanes."""
    if group == 1:
        return [vector]
    return [code.shuffle(vector, vector, [lane // group * group + i for lane in range(code.lanes)]) for i in range(group)]


@cache
def beside_edge(shape: Pixels, dtype: np.dtype) -> Any:
    """Compile what computes one output of one vector of channels from some of its columns, channels last.

    Its words are as those of :func:`along_channels` (the step is between the columns of taps), and how many columns in place
    of the bytes between outputs.
    """
    high, wide = shape.kernel

    def emit(
        code: Code, table: Value, offset: Value, step: Value, weights: Value, output: Value, bias: Value, columns: Value,
        count: Value,
    ) -> None:  # fmt: skip
        mask = code.mask(count)
        sums = [code.variable(code.zero) for _ in range(high)]
        lines = [code.word(table + i * 8) + offset for i in range(high)]
        with code.loop(columns) as j:
            for i, total in enumerate(sums):
                for member, column in enumerate(_of_group(code, shape.group, code.load(lines[i] + step * j, mask))):
                    factor = code.load(weights + ((j + i * wide) * shape.group + member) * code.bytes)
                    total.value = code.multiply_add(column, factor, total.value)
        whole = code.load(bias, mask)
        for total in sums:
            whole = whole + total.value
        code.store(whole, output, mask)

    return vector_function(emit, dtype, shape)


# ---------------------------------------------------------------- channels first


@inner
def fill_table(table, image, h, d, slots, zeros, p):
    """table[kd, i] = the address of the input row at slots[i], counted from the first that output row h reads."""
    size_d, size_h = image.shape[:2]
    k = 0
    for kd in range(p.kernel_d):
        z = source(d * p.stride_d + kd * p.dilation_d - p.low_d, size_d, p.mode)
        for i in slots:
            y = source(h * p.stride_h - p.low_h + i, size_h, p.mode) if i >= 0 else -1
            if i >= 0:
                table[k] = zeros if z < 0 or y < 0 else address_of(image[z, y])
                k += 1


@inner
def planes_task(number, frame):
    """Compute a block of rows of one channel of one image, channels first."""
    input, weight, output, bias, residual, activation, cuts, slots, plan = arguments(frame)
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
    table = np.empty(p.kernel_d * slots.shape[1], np.int64)
    h = h0
    for number, rows, micro in find_cut(cuts, h1 - h0):
        for _ in range(number):
            fill_table(table, image, h, d, slots[rows], address_of(zeros), p)
            call(
                micro, table.ctypes.data, image.shape[2], address_of(weight[group, o]), address_of(result[h]),
                address_of(bias[group, o:]), result.strides[0], out_w, 0,
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


# ---------------------------------------------------------------- channels last


@inner
def pixels_task(number, frame):
    """Compute a block of rows of one image, channels last."""
    input, weight, output, bias, residual, activation, cuts, slots, plan = arguments(frame)
    p = plan[0]
    out_d, out_h, out_w = output.shape[3:]
    channels, size = output.shape[1], input.itemsize
    number, row_block = number // p.row_blocks, number % p.row_blocks
    n, d = number // out_d, number % out_d
    h0 = row_block * p.rows
    h1 = min(out_h, h0 + p.rows)
    image, result = input[n, 0, 0], output[n, :, 0, d]
    step, out_step = image.strides[2], result.strides[2]
    zeros = np.zeros(image.shape[2] * (step // size), input.dtype)
    tables = np.empty((h1 - h0, p.kernel_d * slots.shape[1]), np.int64)
    for h in range(h0, h1):
        fill_table(tables[h - h0], image, h, d, slots[1], address_of(zeros), p)
    cut, tap = find_cut(cuts, p.right - p.left), p.group * p.lanes * size
    for h in range(h0, h1):
        table = tables[h - h0].ctypes.data
        x, to = (p.left * p.stride_w - p.low_w) * step, address_of(result[0, h, p.left :])
        for number, pixels, micro in cut:
            for _ in range(number):
                for c in range(0, channels, p.lanes):
                    call(
                        micro, table, x + c * size, step, address_of(weight[c // p.lanes]), to + c * size, address_of(bias[c:]),
                        out_step, channels - c,
                    )  # fmt: skip
                x += pixels * p.stride_w * step
                to += pixels * out_step
        for w in range(out_w):
            if p.left <= w < p.right:
                continue
            first = w * p.stride_w - p.low_w
            j0 = max(0, -(first // p.dilation_w))
            j1 = max(j0, min(p.kernel_w, (image.shape[2] - 1 - first) // p.dilation_w + 1))
            for c in range(0, channels, p.lanes):
                call(
                    p.call_edge, table, (first + j0 * p.dilation_w) * step + c * size, p.dilation_w * step,
                    address_of(weight[c // p.lanes]) + j0 * tap, address_of(result[c, h, w:]), address_of(bias[c:]),
                    j1 - j0, channels - c,
                )  # fmt: skip
    if not p.plain:
        for h in range(h0, h1):
            for w in range(out_w):
                pixel = as_contiguous(result[:, h, w])
                if p.has_residual:
                    more = residual[n, :, 0, d, h, w]
                    for c in range(channels):
                        pixel[c] += more[c]
                if activation != 0:
                    apply(activation, pixel)
    keep(zeros)
    keep(tables)


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
    if spec.padding_mode != "zeros":
        return f"it pads with zeros, not {spec.padding_mode}"
    if math.prod(spec.kernel_size) * ins > TAPS:
        return f"its code would be too long for {math.prod(spec.kernel_size) * ins} weights an output, more than {TAPS}"
    return None


def interior(spec: ConvSpec) -> tuple[int, int]:
    """The first and the last but one output of a row whose taps all lie inside it."""
    (low, _), k, d, s = spec.padding[2], spec.kernel_size[2], spec.dilation[2], spec.stride[2]
    left = min(spec.output_size[2], -(-low // s))
    last = (spec.input_size[2] - 1 + low - (k - 1) * d) // s
    return left, max(left, min(spec.output_size[2], last + 1))


def rows_at_once(spec: ConvSpec) -> int:
    """How many rows of outputs a vector function computes, channels first."""
    return ROWS if math.prod(spec.kernel_size) <= 9 else LARGE_ROWS


def rows_of_task(spec: ConvSpec) -> int:
    """How many rows of outputs a task has: several to a thread of one size, but not more than share what they read."""
    threads, out_h = numba.config.NUMBA_NUM_THREADS, spec.output_size[1]
    if spec.multiply_adds <= SERIAL:
        return out_h
    if spec.channels_last:
        return even(out_h, min(LAST_ROWS, -(-out_h * spec.batch * spec.output_size[0] // threads)))
    planes = spec.batch * spec.out_channels * spec.output_size[0]
    if planes >= 4 * threads:
        return out_h
    return even(out_h, max(rows_at_once(spec), -(-out_h // (4 * threads))))


def prepare(spec: ConvSpec) -> Runner:
    """Compile for the spec's dtype, and return what calls the kernel."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    dtype, kernel, last = spec.dtypes.compute, spec.kernel_size, spec.channels_last
    out_h, rows, (left, right) = spec.output_size[1], rows_of_task(spec), interior(spec)
    if last:
        shape = Pixels((kernel[0] * kernel[1], kernel[2]), spec.stride[2], spec.dilation[2], spec.weight_shape[2])
        cuts, kept = cuts_for({right - left}, PIXELS, lambda pixels: along_channels(shape, pixels, dtype))
    else:
        counts = {rows, out_h - (-(-out_h // rows) - 1) * rows}
        cuts, kept = cuts_for(counts, rows_at_once(spec), lambda rows: along_row(row_shape(spec, rows), dtype))
    slots = slot_table(1 if last else rows_at_once(spec), kernel[1], spec.stride[1], spec.dilation[1])
    edge = beside_edge(shape, dtype) if last else None
    finish = Epilogue(spec)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2],
        dilation_d=spec.dilation[0], dilation_h=spec.dilation[1], dilation_w=spec.dilation[2],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0], high_d=spec.padding[0][1],
        kernel_d=kernel[0], kernel_h=kernel[1], kernel_w=kernel[2], mode=MODES["zeros"],
        rows=rows, row_blocks=-(-out_h // rows), left=left, right=right, lanes=lanes(dtype), group=spec.weight_shape[2],
        call_edge=edge.address if edge else 0,
        plain=not (spec.has_residual or spec.activation), has_residual=spec.has_residual,
    )  # fmt: skip
    arrays = (strided(dtype, 6), contiguous(dtype, 4 if last else 3), strided(dtype, 6), contiguous(dtype, 2), strided(dtype, 6))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), 3), contiguous(np.dtype(np.int64), 2), record_type(plan))
    count = spec.batch * spec.output_size[0] * -(-out_h // rows) * (1 if last else spec.out_channels)
    launcher = Launcher(pixels_task if last else planes_task, signature, count, spec.multiply_adds <= SERIAL)
    axis = 1 if last else 5

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        input, output = adjacent(ops.input, axis), ops.output
        if not is_adjacent(output, axis):
            output = np.empty(output.shape, dtype) if axis == 5 else np.empty(channels_last(output.shape), dtype).transpose(BACK)
        if last and spec.weight_shape[2] > 1:  # all groups as one row of channels
            one = (spec.batch, spec.out_channels, 1)
            input, output = input.reshape(*one, *spec.input_size), output.reshape(*one, *spec.output_size)
            bias, residual = bias.reshape(-1, 1), residual.reshape(*one, *spec.output_size) if spec.has_residual else residual
        return input, ops.weight, output, bias, residual, activation, cuts, slots, plan

    return Kernel(launcher, collect, kept, edge)


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


def pack(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    """Return ``(groups, out_channels / groups, taps)``, or with channels last ``(vectors, taps, group, lanes)``."""
    groups, outs, ins = weight.shape[:3]
    taps = weight.astype(spec.dtypes.compute).reshape(groups, outs, ins, -1)
    if not spec.channels_last:
        return np.ascontiguousarray(taps[:, :, 0])
    vector = lanes(spec.dtypes.compute)
    vectors = np.zeros((-(-groups * outs // vector) * vector, ins, taps.shape[3]), spec.dtypes.compute)
    vectors[: groups * outs] = taps.reshape(groups * outs, ins, -1)
    return np.ascontiguousarray(vectors.reshape(-1, vector, ins, taps.shape[3]).transpose(0, 3, 2, 1))


def cost(spec: ConvSpec) -> float:
    """Seconds: 4 us to call, and over the threads a cycle a product of vectors, and what it takes to start a row or a tile."""
    _, out_h, out_w = spec.output_size
    taps, vector = math.prod(spec.weight_shape[2:]), lanes(spec.dtypes.compute)
    threads = numba.config.NUMBA_NUM_THREADS if spec.multiply_adds > SERIAL else 1
    if spec.channels_last:
        left, right = interior(spec)
        cycles = (right - left) * (1.5 * taps + 4) + (out_w - right + left) * (30 + 2 * taps)
        total = spec.batch * spec.output_size[0] * out_h * (100 + cycles * -(-spec.out_channels // vector))
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
    packing_cost=lambda spec: 5e-6 + math.prod(spec.weight_shape) * 1e-9,
)
