"""What is chosen for a GPU, without one: algorithms by their costs, and how arrays are copied."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")

from numbaconv.cuda import ALGORITHMS

NETWORK_LAYERS = [(32, 112, 3, 1), (144, 56, 3, 2), (576, 14, 3, 2), (960, 7, 3, 1), (96, 56, 7, 1), (768, 7, 7, 1)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize(("channels", "size", "kernel", "stride"), NETWORK_LAYERS)
def test_depthwise_is_chosen_for_layers_of_networks(channels, size, kernel, stride, batch, last, monkeypatch):
    from numbaconv.cuda import implicit_gemm
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    monkeypatch.setattr(implicit_gemm, "capability", lambda: (9, 0))

    def chosen(weight_channels, groups):
        shapes = (batch, channels, size, size), (channels, weight_channels, kernel, kernel)
        options = ConvOptions(stride=stride, padding=kernel // 2, groups=groups)
        spec, _ = normalise(2, *(ArraySpec(shape, np.dtype("f4"), last) for shape in shapes), None, None, options)
        return min((a for a in ALGORITHMS if a.why_not(spec) is None), key=lambda a: a.cost(spec)).name

    assert chosen(1, channels) == "depthwise"
    assert chosen(2, channels // 2) != "depthwise"


LAST = (0, 2, 3, 1)


def padded(shape, dtype, channels):
    """An array whose last axis lies in memory with room for so many channels."""
    return np.empty((*shape[:-1], channels), dtype)[..., : shape[-1]]


@pytest.mark.parametrize(
    ("target", "source", "axes", "transposes", "many"),
    [
        (padded((8, 56, 56, 67), "float16", 72), np.empty((8, 67, 56, 56), "f4").transpose(LAST), 3, True, 2),
        (np.empty((8, 56, 56, 64), "f4"), np.empty((8, 64, 56, 56), "f4").transpose(LAST), 3, True, 2),
        (np.empty((8, 7, 7, 63), "f4"), np.empty((8, 63, 7, 7), "f4").transpose(LAST), 3, True, 1),
        (padded((8, 224, 224, 3), "f4", 4), np.empty((8, 3, 224, 224), "f4").transpose(LAST), 3, False, 1),
        (np.empty((8, 64, 56, 56), "f4").transpose(LAST), np.empty((8, 56, 56, 64), "f4"), 3, True, 2),
        (np.empty((8, 64, 56, 56), "f4").transpose(LAST), np.empty((8, 64, 56, 56), "f4").transpose(LAST), 1, False, 4),
        (np.empty((8, 56, 56, 64), "f2"), np.empty((8, 56, 56, 64), "f4"), 1, False, 4),
        (np.empty((8, 56, 56, 64), "f4"), np.empty((8, 57, 58, 64), "f4")[:, :56, 1:57], 3, False, 4),
        (padded((8, 56, 56, 6), "float16", 8), np.empty((8, 56, 56, 6), "f4"), 2, False, 1),
        (np.empty((1, 256, 1, 3, 3, 64), "f4"), np.empty((1, 256, 64, 1, 3, 3), "f4").transpose(0, 1, 3, 4, 5, 2), 3, True, 2),
        (np.empty((1, 64, 1, 3, 3, 256), "f4"), np.empty((1, 256, 64, 1, 3, 3), "f4").transpose(0, 2, 3, 4, 5, 1), 2, True, 2),
        (np.empty((1, 1, 3, 3, 64, 256), "f4"), np.empty((1, 256, 64, 1, 3, 3), "f4").transpose(0, 3, 4, 5, 2, 1), 3, True, 2),
        (np.empty((64, 3, 3), "f4"), np.broadcast_to(np.empty((64, 1, 1), "f4"), (64, 3, 3)), 2, False, 1),
        (np.empty((64, 64), "f4"), np.broadcast_to(np.empty(64, "f4"), (64, 64)), 2, False, 4),
        (np.empty((64, 64), "f4"), np.empty((64, 64), "f4")[::-1, ::-1], 1, False, 1),
        (np.empty((100, 2, 2), "f4"), np.empty((100, 2, 2), "f4").transpose(0, 2, 1), 3, False, 1),
    ],
)  # fmt: skip
def test_how_arrays_are_copied(target, source, axes, transposes, many):
    from numbaconv.cuda.copying import choose
    from numbaconv.cuda.shadow import beginning, relocated

    how = choose(*(relocated(array, beginning(region)) for region, array in enumerate((target, source))))
    assert (len(how.axes), how.transposes, how.many) == (axes, transposes, many)
    assert choose(relocated(target, beginning(0) + target.itemsize), relocated(source, beginning(1))).many == 1


LAST_VIEW = (0, 4, 5, 1, 2, 3)  # from (batch, D, H, W, groups, channels)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (np.empty((2, 1, 64, 1, 14, 16), "f4"), ("pixels", 4)),
        (np.empty((2, 1, 64, 1, 14, 14), "f2"), ("pixels", 4)),
        (np.empty((2, 1, 64, 1, 7, 7), "f4"), ("pixels", 1)),
        (np.empty((2, 1, 14, 14, 1, 64), "f4").transpose(LAST_VIEW), ("channels", 4)),
        (np.empty((2, 1, 7, 7, 1, 64), "f2").transpose(LAST_VIEW), ("channels", 8)),
        (np.empty((2, 1, 7, 7, 1, 68), "f2").transpose(LAST_VIEW), ("channels", 4)),
        (np.empty((2, 1, 7, 7, 1, 63), "f4").transpose(LAST_VIEW), ("channels", 1)),
        (np.empty((2, 1, 7, 7, 1, 64), "c8").transpose(LAST_VIEW), ("channels", 1)),
        (np.empty((2, 1, 7, 7, 1, 1), "f4").transpose(LAST_VIEW), ("pixels", 1)),
        (np.empty((2, 1, 64, 1, 14, 32), "f4")[..., ::2], ("pixels", 1)),
        (np.empty((2, 1, 64, 1, 16, 18), "f4")[..., :16], ("pixels", 1)),  # lines apart
    ],
)
def test_what_is_stored_together(output, expected):
    from numbaconv.algorithm import Operands
    from numbaconv.cuda.shadow import beginning, relocated
    from numbaconv.cuda.storing import form_of

    # Not within an assertion, whose report would read the arrays.
    at, beside, off = (relocated(output, beginning(i) + i // 2 * output.itemsize) for i in range(3))
    aligned = {form_of(Operands(None, None, None, residual, at)) for residual in (None, beside)}
    shifted = {form_of(Operands(None, None, None, *views)) for views in ((None, off), (off, at))}
    assert aligned == {(*expected, False)}
    assert shifted == {(expected[0], 1, False)}, "vectors of the result and of the residual lie on multiples of their size"


def test_truth_values_are_stored_one_by_one():
    from numbaconv.algorithm import Operands
    from numbaconv.cuda.storing import form_of

    assert form_of(Operands(None, None, None, None, np.empty((1, 1, 16, 1, 8, 8), bool))) == ("pixels", 1, True)


@pytest.mark.parametrize(
    ("shape", "weight_shape", "options", "expected"),
    [
        ((2, 64, 56, 56), (64, 64, 1, 1), {}, (4, False)),
        ((2, 64, 7, 7), (64, 64, 1, 1), {}, (1, False)),
        ((2, 64, 56, 56), (64, 64, 1, 1), {"stride": 2}, (1, False)),
        ((2, 64, 54, 56), (64, 64, 1, 1), {"padding": ((1, 1), (0, 0))}, (1, False)),
        ((2, 64, 56, 56), (64, 32, 1, 1), {"groups": 2, "dtype": "f8"}, (2, False)),
        ((2, 56, 56, 64), (64, 64, 1, 1), {"last": True}, (1, False)),
        ((2, 64, 56, 56), (64, 64, 1, 1), {"copied": False}, (1, False)),
        ((2, 3, 57, 56), (64, 3, 7, 7), {"padding": 3}, (1, True)),
        ((2, 56, 56, 3), (64, 3, 7, 7), {"padding": 3, "last": True, "copied": False}, (1, True)),
        ((2, 3, 57, 56), (64, 3, 7, 7), {"padding": 3, "padding_mode": "reflect"}, (1, False)),
        ((2, 16, 57, 56), (64, 16, 3, 3), {}, (1, False)),
        ((2, 257, 9, 9), (64, 257, 2, 1), {}, (1, False)),  # longer than a list may be
        ((2, 3, 57, 56), (64, 3, 1, 29), {}, (1, False)),  # and more coordinates
        ((2, 3, 57, 56), (64, 3, 1, 27), {}, (1, True)),
    ],
)
def test_how_pixels_are_read(shape, weight_shape, options, expected):
    from numbaconv.cuda.reading import reading_of
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    options = dict(options)
    last, copied = options.pop("last", False), options.pop("copied", True)
    dtype = np.dtype(options.pop("dtype", "f4"))
    batch, channels, height, width = shape if not last else (shape[0], shape[3], *shape[1:3])
    shapes = (batch, channels, height, width), weight_shape
    spec, _ = normalise(2, *(ArraySpec(one, dtype, last) for one in shapes), None, None, ConvOptions(**options))
    groups = spec.groups
    if last:
        held = np.empty((batch, 1, height, width, groups, channels // groups), dtype).transpose(0, 4, 5, 1, 2, 3)
    else:
        held = np.empty((batch, groups, channels // groups, 1, height, width), dtype)
    assert reading_of(spec, held, copied) == expected
    far = np.lib.stride_tricks.as_strided(held, strides=(*held.strides[:2], 2**30 + 2 * dtype.itemsize, *held.strides[3:]))
    listed = reading_of(spec, far, copied).listed  # pytest would show arguments, and there is no such memory
    assert not listed


@pytest.mark.parametrize(
    ("capability", "last", "outs", "wide"),
    [((9, 0), False, 64, 8), ((9, 0), False, 128, 16), ((9, 0), True, 64, 16), ((8, 0), False, 64, 16)],
)
def test_tiles_of_many_pixels_are_for_those_who_have_the_registers(capability, last, outs, wide, monkeypatch):
    from numbaconv.cuda import implicit_gemm
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    shapes = (32, 64, 56, 56), (outs, 64, 1, 1)
    spec, _ = normalise(2, *(ArraySpec(shape, np.dtype("f4"), last) for shape in shapes), None, None, ConvOptions())
    for current in ((9, 0), capability):  # several GPUs in one process
        monkeypatch.setattr(implicit_gemm, "capability", lambda current=current: current)
        tile = implicit_gemm.cut(spec).tile
    assert tile.wide == wide


@pytest.mark.parametrize(
    ("shape", "weight_shape", "clustered"),
    [
        ((64, 28, 28, 128), (128, 128, 3, 3), True),  # whose blocks read the L2 cache for longer than they multiply
        ((64, 14, 14, 256), (256, 256, 3, 3), True),
        ((64, 7, 7, 512), (512, 512, 3, 3), True),
        ((1, 14, 14, 256), (256, 256, 3, 3), False),
        ((64, 56, 56, 64), (256, 64, 1, 1), False),  # memory takes longer
    ],
)
def test_blocks_share_what_they_read_where_that_takes_longest(shape, weight_shape, clustered):
    from numbaconv.cuda import tma_gemm
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    options = ConvOptions(layout="NHWC", padding=weight_shape[-1] // 2)
    spec, _ = normalise(2, *(ArraySpec(one, np.dtype("f2")) for one in (shape, weight_shape)), None, None, options)
    tile, _ = tma_gemm.cut(spec)
    assert (tile.down * tile.across > 1) == clustered
    assert tma_gemm.blocks(spec, tile) % (tile.down * tile.across) == 0


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("empty", ["batch", "outs", "channels", "lines"])
def test_every_algorithm_says_what_it_thinks_of_problems_without_elements(empty, dtype, monkeypatch):
    from numba import cuda

    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

    monkeypatch.setattr(cuda, "get_current_device", lambda: SimpleNamespace(compute_capability=(9, 0)))
    batch, outs, channels, lines = (0 if name == empty else 8 for name in ("batch", "outs", "channels", "lines"))
    shapes = (batch, channels, lines, 9), (outs, channels, 3, 3)
    spec, _ = normalise(2, *(ArraySpec(shape, np.dtype(dtype)) for shape in shapes), None, None, ConvOptions(padding=2))
    costs = {one.name: one.cost(spec) for one in ALGORITHMS if one.why_not(spec) is None}
    assert "direct" in costs
    assert all(seconds >= 0 for seconds in costs.values())
