"""Pointwise convolution, channels first: a matrix product over the channels, straight on the data.

Lanes run along the positions, which lie next to each other in memory, so that nothing is packed but the weight and nothing
transposed: for each tile of NR vectors of positions, and each panel of MR output channels, the microkernel goes through the
input channels, a plane apart, and stores into the result itself. The last positions of a plane, which fill no tile, go through a
copy.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import types

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.cutting import L1_BYTES, LINE, cuts_for, even, find_cut, least, over_pieces, tile_cycles, tiles_of
from numbaconv.cpu.epilogue import Epilogue
from numbaconv.cpu.float16 import round_to
from numbaconv.cpu.frame import arguments
from numbaconv.cpu.intrinsics import address_of, aligned, apply, as_contiguous, copy_bytes, keep, shaped, typed_as
from numbaconv.cpu.jit import contiguous, inner, strided
from numbaconv.cpu.kernel import Kernel
from numbaconv.cpu.microkernel import along_positions
from numbaconv.cpu.panels import Packing, uneven_panels
from numbaconv.cpu.plan import record, record_type
from numbaconv.cpu.simd import Code, Value, call, has_vectors, lanes, vector_function
from numbaconv.cpu.target import Tile, cores, threads, tiles
from numbaconv.cpu.threads import Launcher
from numbaconv.spec import ConvSpec

__all__ = ["POINTWISE"]

L2_BYTES = 2**20  # of a cache: inputs and results beyond it are far away
STRETCH = 256  # positions that are finished together: from the L2 cache, with few calls
SERIAL = 100_000  # products below which waking a second thread costs more than it brings


@inner
def finish_rows(sums, residual, activation, p):
    """sums[o, i] = activation(sums[o, i] + residual[o, i])."""
    for o in range(sums.shape[0] if p.has_residual or activation != 0 else 0):
        part = as_contiguous(sums[o])
        if p.has_residual:
            if residual.strides[1] == residual.itemsize:
                add(part, as_contiguous(residual[o]))
            else:
                add(part, residual[o])
        if activation != 0:
            apply(activation, part)


@inner
def add(part, more):
    for i in range(part.shape[0]):
        part[i] += more[i]


@inner
def store_rows(output, sums, positions, p):
    """output[o, i] = sums[o, i]."""
    for o in range(output.shape[0]):
        part, target = as_contiguous(sums[o]), output[o]
        if p.same and target.strides[0] == target.itemsize:
            copy_bytes(address_of(target), address_of(part), positions * target.itemsize)
        else:
            for i in range(positions):
                target[i] = round_to(target, part[i])


@inner
def tile(p0, straight, operands, panels, copied, sums):
    """Compute the positions from p0 on for some panels of channels, of which `panels` names the sizes and microkernels.

    They are as many as `copied` and `sums`, which are there for the last ones, have columns. If they go straight to the result
    they are not finished.
    Meanwhile the next positions are fetched, where they are far away: a share of the inputs with each panel, and its results.
    """
    input, weights, result, residual, bias, activation, offsets, p = operands
    channels, positions = input.shape
    size, width = weights.itemsize, copied.shape[1]
    count = min(width, positions - p0)
    origin, plane = address_of(input[0, p0:]), input.strides[0]
    following = origin + width * size
    share = -(-channels // (panels[0, 0] + panels[1, 0])) if p.fetching and positions - p0 >= 2 * width else 0
    if count < width:
        for c in range(channels):
            copy_bytes(address_of(copied[c]), address_of(input[c, p0:]), count * size)
        origin, plane = address_of(copied), copied.strides[0]
    for c in range(channels):
        offsets[c] = c * plane
    panel, o, fetched = address_of(weights), 0, 0
    for number, rows, micro in panels:
        for _ in range(number):
            some = min(share, channels - fetched)
            if some > 0:
                call(p.fetching, following + fetched * plane, plane, some, 0, 0, 0, 0, 0)
                fetched += some
            here = result[o : o + rows, p0 : p0 + count]
            if straight and p.owning != 0 and positions - p0 >= 2 * width:
                call(p.owning, address_of(here) + width * size, here.strides[0], rows, 0, 0, 0, 0, 0)
            to, row = (address_of(here), here.strides[0]) if straight else (address_of(sums), sums.strides[0])
            call(micro, origin, offsets.ctypes.data, channels, panel, to, row, address_of(bias[o:]), 0)
            if not straight:
                more = residual[o : o + rows, p0 : p0 + count] if p.has_residual else residual
                finish_rows(sums[:rows, :count], more, activation, p)
                store_rows(here, sums, count, p)
            panel += rows * channels * size
            o += rows


@cache
def fetch_rows(vectors: int, dtype: np.dtype, writing: bool) -> Any:
    """Compile what begins to bring rows of so many vectors, which begin anywhere in a line, to the L1 cache.

    What is returned has an ``address``; its words are the address of the first row, the bytes from a row to the next, and how
    many rows there are.
    """

    def emit(code: Code, first: Value, row: Value, rows: Value) -> None:
        with code.loop(rows) as r:
            for line in range(-(-vectors * code.bytes // LINE) + 1):
                code.fetch(first + r * row + line * LINE, writing)

    return vector_function(emit, dtype, vectors, writing)


@inner
def task(number, frame):
    """Compute some tiles of positions for some panels of channels of one group of one image."""
    input, weight, output, bias, residual, activation, cuts, plan = arguments(frame)
    p = plan[0]
    groups = input.shape[1]
    number, channel_block = number // p.channel_blocks, number % p.channel_blocks
    number, tile_block = number // p.tile_blocks, number % p.tile_blocks
    n, group = number // groups, number % groups
    image = input[n, group]
    channels, positions = image.shape
    o0 = channel_block * p.channels
    o1 = min(output.shape[2], o0 + p.channels)
    weights, addend = weight[group, o0 * channels : o1 * channels], bias[group, o0:o1]
    result = output[n, group, o0:o1]
    more = residual[n, group, o0:o1] if p.has_residual else residual[0, 0]
    offsets = aligned(channels, np.int64)
    operands = image, weights, result, more, addend, activation, offsets, p
    copied, sums = aligned(channels * p.wide, weight), aligned(p.MR * p.wide, weight)
    copied_wide, sums_wide = shaped(copied, (channels, p.wide)), shaped(sums, (p.MR, p.wide))
    copied_narrow = shaped(copied, (channels, p.narrow))
    sums_narrow = shaped(sums, (p.MR * (p.wide // p.narrow), p.narrow))
    wide, narrow = find_cut(cuts, o1 - o0), find_cut(cuts, -(o1 - o0))
    p1 = min(positions, (tile_block + 1) * p.tiles * p.wide)
    unfinished, whole = tile_block * p.tiles * p.wide, p.same and result.strides[1] == weight.itemsize
    for p0 in range(unfinished, p1, p.wide):
        if positions - p0 <= p.narrow:
            straight = whole and positions - p0 == p.narrow
            tile(p0, straight, operands, narrow, copied_narrow, sums_narrow)
        else:
            straight = whole and positions - p0 >= p.wide
            tile(p0, straight, operands, wide, copied_wide, sums_wide)
        done = min(p1, p0 + p.wide) if straight else p0
        if whole and (done - unfinished >= STRETCH or p0 + p.wide >= p1):
            beside = more[:, unfinished:done] if p.has_residual else more
            finish_rows(typed_as(result[:, unfinished:done], sums), beside, activation, p)
            unfinished = done
    keep(offsets)
    keep(copied)
    keep(sums)


# ---------------------------------------------------------------- blocking


class Blocking(NamedTuple):
    """How a problem is cut into tasks, and what that should cost."""

    seconds: float
    MR: int  # at most
    NR: int
    tiles: int  # of positions, of a task
    channels: int  # of a task


def blocking(spec: ConvSpec) -> Blocking:
    """Return the blocking that should be fastest on the threads that there are."""
    return fastest(spec, threads())


@lru_cache(maxsize=1024)
def fastest(spec: ConvSpec, count: int) -> Blocking:
    """Return the blocking that should be fastest on so many threads."""
    if not math.prod(spec.output_shape):
        return Blocking(0, 1, 1, 1, 1)
    count = 1 if spec.multiply_adds <= SERIAL else count
    cuts = [cut for tile in tiles() if tile.MR > 1 for cut in blockings(spec, tile)]
    return least(cuts, lambda cuts: seconds(spec, cuts, count))


def blockings(spec: ConvSpec, tile: Tile) -> list[Blocking]:
    """Return the ways to cut a problem for a tile: by positions, by channels, or both."""
    outs, count = spec.weight_shape[1], -(-math.prod(spec.output_size) // (tile.NR * lanes(spec.dtypes.compute)))
    cuts = {(even(count, -(-count // a)), even(outs, -(-outs // b))) for a in (1, 2, 4, 8, 16) for b in (1, 2, 4)}
    return [Blocking(0, tile.MR, tile.NR, *cut) for cut in cuts]


def seconds(spec: ConvSpec, cut: Blocking, threads: int) -> Any:
    """Predict the time of one call, for all cuts at once.

    That of its tiles, and half a cycle for each line of inputs which a tile reads anew, where the L1 cache does not hold them.
    """
    outs, ins = spec.weight_shape[1:3]
    width = cut.NR * lanes(spec.dtypes.compute)
    positions = math.prod(spec.output_size)
    whole, rest = np.divmod(positions, width)

    def column(nr: Any) -> Any:
        """The cycles of tiles of so many vectors of positions, of all channels."""
        fetching = np.where(ins * (nr + 1) * LINE > L1_BYTES, 0.5 * ins * (nr + 1), 0)
        return over_pieces(cut.channels, cut.MR, lambda rows: tile_cycles(rows, nr, ins) + rows * nr + fetching)

    narrow = np.where(rest <= width // cut.NR, 1, cut.NR)
    total = whole * column(cut.NR) + (rest > 0) * (column(narrow) + ins * 20)
    total /= -(-positions // width)  # the mean tile
    count = -(-positions // width)
    blocks = spec.batch * spec.groups * -(-count // cut.tiles) * -(-outs // cut.channels)
    return -(-blocks // threads) * (cut.tiles * total * 0.28e-9 + ins * 2e-9)


# ---------------------------------------------------------------- the algorithm


def why_not(spec: ConvSpec) -> str | None:
    """Say so for what is not pointwise, or does not lie as this algorithm reads it."""
    dtypes = spec.dtypes
    if set(spec.kernel_size) != {1} or set(spec.stride) != {1} or any(map(any, spec.padding)):
        return "it takes 1 x 1 kernels of stride 1 without padding"
    if spec.channels_last:
        return "its lanes are positions, which are neighbours with channels first only"
    if not has_vectors(dtypes.compute) or dtypes.input != dtypes.compute:
        return f"it computes in the dtype of its input, {dtypes.input} -> {dtypes.compute} converts"
    return None


def prepare(spec: ConvSpec) -> Runner:
    """Compile for the spec's dtypes, and return what calls the kernel."""
    if not math.prod(spec.output_shape):
        return lambda ops: None
    cut, outs = blocking(spec), spec.weight_shape[1]
    _, compute, out, _ = spec.dtypes
    width = cut.NR * lanes(compute)
    last = outs - (-(-outs // cut.channels) - 1) * cut.channels
    wide, kept = cuts_for({cut.channels, last}, cut.MR, lambda rows: along_positions(Tile(rows, cut.NR), compute, spec.has_bias))
    narrow, more = cuts_for({cut.channels, last}, cut.MR, lambda rows: along_positions(Tile(rows, 1), compute, spec.has_bias))
    narrow[:, 0, 0] *= -1  # how find_cut tells them apart
    cuts, finish = np.concatenate([wide, narrow]), Epilogue(spec)
    count = -(-math.prod(spec.output_size) // width)
    fetching, owning = (fetch_rows(cut.NR, compute, writing) for writing in (False, True))
    far, far_out = (math.prod(shape) * compute.itemsize > L2_BYTES for shape in (spec.input_shape, spec.output_shape))
    plan = record(
        same=out == compute, fetching=fetching.address if far else 0, owning=owning.address if far_out else 0,
        has_residual=spec.has_residual, wide=width, narrow=lanes(compute), MR=cut.MR, tiles=cut.tiles,
        tile_blocks=-(-count // cut.tiles),
        channels=cut.channels, channel_blocks=-(-outs // cut.channels),
    )  # fmt: skip
    arrays = (strided(compute, 4), contiguous(compute, 2), strided(out, 4), contiguous(compute, 2), strided(compute, 4))
    signature = (*arrays, types.int64, contiguous(np.dtype(np.int64), 3), record_type(plan))
    tasks = spec.batch * spec.groups * -(-count // cut.tiles) * -(-outs // cut.channels)
    launcher = Launcher(task, signature, tasks, spec.multiply_adds <= SERIAL)
    planes = (*spec.input_shape[:3], math.prod(spec.input_size))
    results = (*spec.output_shape[:3], planes[3])
    none = np.empty((1,) * 4, compute)

    def collect(ops: Operands) -> tuple:
        bias, residual, _, activation = finish.arguments(ops)
        input, output = ops.input.reshape(planes), ops.output.reshape(results)  # copies where axes do not merge
        if input.strides[3] != input.itemsize:
            input = np.ascontiguousarray(input)
        residual = residual.reshape(results) if spec.has_residual else none
        return input, ops.weight, output, bias, residual, activation, cuts, plan

    return Kernel(launcher, collect, kept, more, fetching, owning)


@lru_cache(maxsize=1024)
def packing(spec: ConvSpec) -> Packing:
    """Return what packs weights as ``(groups, out_channels * in_channels)``: panels ``[in_channel, MR]``, a task's cut evenly."""
    outs, cut, starts = spec.weight_shape[1], blocking(spec), [0]
    for o0 in range(0, outs, cut.channels):
        for number, size in tiles_of(min(cut.channels, outs - o0), cut.MR):
            starts += range(starts[-1] + size, starts[-1] + number * size + 1, size)
    return uneven_panels(spec.weight_shape, starts, spec.dtypes.compute)


def cost(spec: ConvSpec) -> float:
    """Seconds: 4 us to call, and what :func:`seconds` predicts for the best blocking."""
    return 4e-6 + fastest(spec, cores()).seconds


POINTWISE = Algorithm(
    name="pointwise",
    backend="cpu",
    summary="a matrix product over the channels, straight on the data, lanes along positions",
    why_not=why_not,
    cost=cost,
    pack=lambda spec, weight, stream: packing(spec)(weight),
    prepare=prepare,
    summation="taps",
    packing_cost=lambda spec: 10e-6 + math.prod(spec.weight_shape) * 1e-9,
    packer=packing,
    packing=lambda spec: blocking(spec)[1:],
)
