"""What is chosen for a GPU, without one: algorithms by their costs, and how arrays are copied."""

import numpy as np
import pytest

pytest.importorskip("numba.cuda", reason="numba-cuda is not installed")

from numbaconv.cuda import ALGORITHMS

NETWORK_LAYERS = [(32, 112, 3, 1), (144, 56, 3, 2), (576, 14, 3, 2), (960, 7, 3, 1), (96, 56, 7, 1), (768, 7, 7, 1)]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize(("channels", "size", "kernel", "stride"), NETWORK_LAYERS)
def test_depthwise_is_chosen_for_layers_of_networks(channels, size, kernel, stride, batch, last):
    from numbaconv.options import ConvOptions
    from numbaconv.spec import ArraySpec, normalise

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
