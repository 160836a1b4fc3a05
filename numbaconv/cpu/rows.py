"""Direct convolution: sums the products block by block; takes every problem.

A task is a block of output positions (consecutive in D', H', W' order) for a block of output channels of one image and
group. It goes through the taps ``(c, kd, kh, kw)`` in bundles: for each it gathers the inputs that the positions read into
a contiguous row, padded, and adds the rows, times their weights, to the rows of sums of all its channels. One gathered
bundle serves all channels, one pass over a row of sums serves a bundle. The simple case to read first: one image, one
group, one block, stride 1, no padding.
"""

from __future__ import annotations

import math

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.blocks import MODES, inside, source
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.float16 import load, round_to
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, apply, as_contiguous, element, keep, shaped, unowned, zeroed
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.target import cores
from numbaconv.cpu.threads import Launcher
from numbaconv.spec import ConvSpec

__all__ = ["ROWS"]

TAPS = 8  # rows in a bundle: enough that loading and storing the sums is a fifth of the work
SUMS = 8192  # sums of a task: 32 KiB in float32, an L1 cache
SHORT, LONG = 128, 1024  # output positions of a task, at least and at most
FEW = 16  # sums in a line, at most, that are added up one by one
SERIAL = 20_000  # products below which waking a second thread costs more than it brings


@inner
def gather_line(row, line, first, step, mode):
    """row[i] = line[first + i * step], padded."""
    size = line.shape[0]
    if step == 1:  # no division
        low, high = inside(first, row.shape[0], size)
    else:
        low = min(row.shape[0], max(0, -(first // step)))
        high = max(low, min(row.shape[0], (size - 1 - first) // step + 1))
    for i in range(low):
        w = source(first + i * step, size, mode)
        row[i] = 0
        if w >= 0:
            row[i] = load(line[w])
    middle = row[low:high]
    if step == 1 and line.strides[0] == line.itemsize:
        adjacent = as_contiguous(line[first + low : first + high])
        for i in range(middle.shape[0]):
            middle[i] = load(adjacent[i])
    else:
        for i in range(middle.shape[0]):
            middle[i] = load(line[first + (low + i) * step])
    for i in range(high, row.shape[0]):
        w = source(first + i * step, size, mode)
        row[i] = 0
        if w >= 0:
            row[i] = load(line[w])


@inner
def next_line(d, h, out_h):
    """Return where the next line of output positions begins."""
    return (d, h + 1, 0) if h + 1 < out_h else (d + 1, 0, 0)


@inner
def gather(row, channel, d, h, w, kd, kh, kw, out_h, out_w, g):
    """row[i] = what the i-th output position from (d, h, w) on reads of one input channel through one tap."""
    size_d, size_h, size_w = channel.shape
    i = 0
    while i < row.shape[0]:
        count = min(out_w - w, row.shape[0] - i)
        z = source(d * g.stride_d + kd * g.dilation_d - g.low_d, size_d, g.mode)
        y = source(h * g.stride_h + kh * g.dilation_h - g.low_h, size_h, g.mode)
        piece = row[i : i + count]
        if z < 0 or y < 0:
            piece[:] = 0
        else:
            gather_line(piece, channel[z, y], w * g.stride_w + kw * g.dilation_w - g.low_w, g.stride_w, g.mode)
        i += count
        d, h, w = next_line(d, h, out_h)


@inner
def add_bundle(sums, rows, weight, t):
    """sums[o, i] += sum over the bundle of weight[o, t + k] * rows[k, i]."""
    r0, r1, r2, r3, r4, r5, r6, r7 = rows[0], rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
    for o in range(sums.shape[0]):
        w = weight[o, t : t + 8]
        w0, w1, w2, w3, w4, w5, w6, w7 = w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]
        s = sums[o]
        for i in range(s.shape[0]):
            a = s[i] + w0 * r0[i]
            a += w1 * r1[i]
            a += w2 * r2[i]
            a += w3 * r3[i]
            a += w4 * r4[i]
            a += w5 * r5[i]
            a += w6 * r6[i]
            a += w7 * r7[i]
            s[i] = a


@inner
def add_row(sums, row, weight, t):
    """sums[o, i] += weight[o, t] * row[i]."""
    for o in range(sums.shape[0]):
        s, w = sums[o], weight[o, t]
        for i in range(s.shape[0]):
            s[i] += w * row[i]


@inner
def sum_bundles(sums, image, weight, d, h, w, out_h, out_w, g):
    """sums[o, i] += sum over the taps of weight[o, t] * what the i-th position from (d, h, w) on reads, bundle by bundle."""
    gathered = aligned(TAPS * sums.shape[1], weight)
    rows = unowned(shaped(gathered, (TAPS, sums.shape[1])))
    t = 0
    for c in range(image.shape[0]):
        for kd in range(g.kernel_d):
            for kh in range(g.kernel_h):
                for kw in range(g.kernel_w):
                    gather(rows[t % TAPS], image[c], d, h, w, kd, kh, kw, out_h, out_w, g)
                    t += 1
                    if t % TAPS == 0:
                        add_bundle(sums, rows, weight, t - TAPS)
    for k in range(t % TAPS):
        add_row(sums, rows[k], weight, t - t % TAPS + k)
    keep(gathered)


@inner
def sum_each(sums, image, weight, d, h, w, out_h, out_w, g):
    """The same for all taps, one sum after the other: the definition, for where to gather a line takes longer than to use it."""
    ins, size_d, size_h, size_w = image.shape
    plane, depth, row, column = image.strides
    for i in range(sums.shape[1]):
        z0, y0, x0 = d * g.stride_d - g.low_d, h * g.stride_h - g.low_h, w * g.stride_w - g.low_w
        for o in range(sums.shape[0]):
            a, factor = sums[o, i], address_of(weight) + o * weight.strides[0]
            for c in range(ins):
                for kd in range(g.kernel_d):
                    z = source(z0 + kd * g.dilation_d, size_d, g.mode)
                    for kh in range(g.kernel_h):
                        y = source(y0 + kh * g.dilation_h, size_h, g.mode)
                        line = address_of(image) + c * plane + z * depth + y * row
                        for kw in range(g.kernel_w):
                            x = source(x0 + kw * g.dilation_w, size_w, g.mode)
                            value = sums.dtype.type(0)
                            if z >= 0 and y >= 0 and x >= 0:
                                value = sums.dtype.type(load(element(line + x * column, image)))
                            a += element(factor, weight) * value
                            factor += weight.itemsize
            sums[o, i] = a
        w += 1
        if w == out_w:
            d, h, w = next_line(d, h, out_h)


@inner
def finish_row(sums, bias, residual, has_residual, activation):
    """sums[i] = activation(sums[i] + bias + residual[i])."""
    for i in range(sums.shape[0]):
        sums[i] += bias
    if has_residual:
        for i in range(sums.shape[0]):
            sums[i] += residual[i]
    if activation != 0:
        apply(activation, sums)


@inner
def store(output, residual, has_residual, sums, bias, activation, d0, h0, w0):
    """output[o, p] = activation(sums[o, i] + bias[o] + residual[o, p]) for the i-th position p from (d0, h0, w0) on."""
    outs, out_d, out_h, out_w = output.shape
    for o in range(outs):
        i, d, h, w = 0, d0, h0, w0
        while i < sums.shape[1]:
            part = sums[o, i : i + min(out_w - w, sums.shape[1] - i)]
            finish_row(part, bias[o], residual[o, d, h, w:], has_residual, activation)
            target = output[o, d, h, w:]
            for j in range(part.shape[0]):
                target[j] = round_to(target, part[j])
            i += part.shape[0]
            d, h, w = next_line(d, h, out_h)


@inner
def task(number, frame):
    """Compute one block of positions for one block of channels of one group of one image."""
    input, weight, output, bias, residual, has_residual, activation, plan = arguments(frame)
    g = plan[0]
    groups, outs = weight.shape[:2]
    out_d, out_h, out_w = output.shape[3:]
    positions = out_d * out_h * out_w
    blocks = -(-positions // g.block)

    number, p0 = number // blocks, number % blocks * g.block
    number, block = number // g.channel_blocks, number % g.channel_blocks
    n, group = number // groups, number % groups
    o0, o1 = outs * block // g.channel_blocks, outs * (block + 1) // g.channel_blocks

    d, h, w = p0 // out_w // out_h, p0 // out_w % out_h, p0 % out_w
    count = min(g.block, positions - p0)
    summed = zeroed(aligned((o1 - o0) * count, weight))
    sums = unowned(shaped(summed, (o1 - o0, count)))
    weight = weight[group, o0:o1]
    if (o1 - o0) * min(count, out_w) <= FEW:
        sum_each(sums, input[n, group], weight, d, h, w, out_h, out_w, g)
    else:
        sum_bundles(sums, input[n, group], weight, d, h, w, out_h, out_w, g)
    store(output[n, group, o0:o1], residual[n, group, o0:o1], has_residual, sums, bias[group, o0:o1], activation, d, h, w)
    keep(summed)


def blocks(spec: ConvSpec) -> tuple[int, int]:
    """Return how many output positions a task has, and into how many blocks the channels are cut."""
    outs = max(1, spec.weight_shape[1])
    block = max(1, min(math.prod(spec.output_size), LONG, max(SHORT, SUMS // outs)))
    return block, -(-outs // (SUMS // block))


def prepare(spec: ConvSpec) -> Runner:
    """Compile the kernel for the spec's dtypes and return what calls it."""
    block, channel_blocks = blocks(spec)
    input, compute, out, _ = spec.dtypes
    finish = Epilogue(spec)
    plan = record(
        stride_d=spec.stride[0], stride_h=spec.stride[1], stride_w=spec.stride[2],
        dilation_d=spec.dilation[0], dilation_h=spec.dilation[1], dilation_w=spec.dilation[2],
        low_d=spec.padding[0][0], low_h=spec.padding[1][0], low_w=spec.padding[2][0],
        kernel_d=spec.kernel_size[0], kernel_h=spec.kernel_size[1], kernel_w=spec.kernel_size[2],
        mode=MODES[spec.padding_mode], block=block, channel_blocks=channel_blocks,
    )  # fmt: skip
    arrays = (strided(input, 6), contiguous(compute, 3), strided(out, 6))
    count = spec.batch * spec.groups * channel_blocks * -(-math.prod(spec.output_size) // block) if spec.out_channels else 0
    launcher = Launcher(task, (*arrays, *finish.types, record_type(plan)), count, spec.multiply_adds <= SERIAL)

    def collect(ops: Operands) -> tuple:
        return ops.input, ops.weight, ops.output, *finish.arguments(ops), plan

    return Kernel(launcher, collect)


def pack(spec: ConvSpec, weight: np.ndarray) -> np.ndarray:
    """Return it as ``(groups, out_channels / groups, taps)`` in C order and the compute dtype: the weight itself if it is so."""
    groups, outs = weight.shape[:2]
    return weight.astype(spec.dtypes.compute, order="C", copy=False).reshape(groups, outs, math.prod(weight.shape[2:]))


def cost(spec: ConvSpec) -> float:
    """Seconds: 3 us to call, and over the threads 0.6 ns an element gathered (2 with a stride), 0.045 ns a product, 8 ns a row.

    The constants are of measured order on one AVX-512 core; they rank this kernel against others, no more.
    """
    scale = spec.dtypes.compute.itemsize / 4
    together = cores() if spec.multiply_adds > SERIAL else 1
    gathered = spec.multiply_adds / max(1, min(spec.weight_shape[1], SUMS // blocks(spec)[0]))
    gathering = gathered * (0.6e-9 if spec.stride[2] == 1 else 2e-9)
    adding = 0.045e-9 * scale * spec.multiply_adds + 8e-9 * spec.multiply_adds / max(1, spec.output_size[2])
    return 3e-6 + (scale * gathering + adding) / together


ROWS = Algorithm(
    name="rows",
    backend="cpu",
    summary="gathers bundles of taps into rows and adds them to rows of sums; any problem",
    why_not=lambda spec: None,
    cost=cost,
    pack=lambda spec, weight, stream: pack(spec, weight),
    prepare=prepare,
    packing_cost=lambda spec: 1e-6 + math.prod(spec.weight_shape) * 1e-9,
)
