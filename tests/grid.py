"""The problems that every algorithm is held against, on every backend, and those for the kernels of tensor cores."""

import pytest
from helpers import case, some_of

MODES = ("zeros", "reflect", "replicate", "circular")
GRID = [
    # kernel sizes
    case((2, 3, 8, 9), (4, 3, 3, 3)),
    case((2, 5, 8, 9), (4, 5, 1, 1), bias=True),
    case((1, 2, 11, 7), (3, 2, 5, 1)),
    case((1, 2, 6, 13), (3, 2, 1, 7)),
    case((1, 4, 5, 6), (2, 4, 2, 2)),
    case((1, 3, 16, 17), (5, 3, 7, 7), padding=3, bias=True),
    case((1, 2, 5, 6), (3, 2, 5, 6)),  # one output position
    # strides
    case((2, 3, 11, 12), (4, 3, 3, 3), stride=2),
    case((1, 3, 13, 12), (4, 3, 3, 2), stride=(3, 2), padding=1),
    case((1, 3, 12, 14), (4, 3, 2, 2), stride=(4, 5)),  # larger than the kernel
    case((1, 3, 9, 9), (4, 3, 1, 1), stride=2),
    case((1, 1, 5, 5), (1, 1, 3, 3), stride=10**30),
    # padding
    case((1, 3, 8, 9), (4, 3, 3, 3), padding=(1, 2)),
    case((1, 3, 8, 9), (4, 3, 3, 3), padding=((0, 2), (3, 1))),
    case((1, 3, 8, 9), (4, 3, 3, 3), padding=-2),
    case((1, 3, 8, 9), (4, 3, 3, 3), padding=((-1, 2), (4, -3))),
    case((1, 3, 4, 5), (4, 3, 1, 2), padding=((-4, 3), (0, 0))),  # nothing but padding is left
    case((1, 3, 8, 9), (4, 3, 3, 4), padding="same"),
    case((1, 3, 8, 9), (4, 3, 4, 2), padding="same_lower", stride=(1, 2)),
    case((1, 3, 10, 9), (4, 3, 3, 6), padding="same", stride=(4, 3), dilation=(2, 1)),
    case((1, 3, 8, 9), (4, 3, 3, 3), padding="valid"),
    case((1, 2, 3, 2), (4, 2, 3, 3), padding=9),
    case((1, 1, 5, 5), (2, 1, 3, 3), padding=((2**20, 0), (0, 2)), stride=(2**19, 1)),
    # dilation
    case((1, 3, 12, 13), (4, 3, 3, 3), dilation=2),
    case((1, 3, 12, 13), (4, 3, 3, 3), dilation=(3, 4), padding=(2, 5), stride=(1, 2)),
    case((1, 3, 4, 4), (4, 3, 1, 1), dilation=10**30),
    # groups
    case((2, 6, 8, 9), (4, 3, 3, 3), groups=2, bias=True),
    case((2, 7, 8, 9), (7, 1, 3, 3), groups=7, padding=1, bias=True),
    case((1, 5, 8, 9), (15, 1, 3, 3), groups=5, stride=2, padding=1),
    case((1, 6, 7, 8), (9, 2, 2, 3), groups=3, dilation=2, padding="same", residual=True),
    # sizes that no block divides, and more than a block of each
    case((1, 37, 10, 11), (53, 37, 3, 3), padding=1),
    case((1, 53, 7, 9), (37, 53, 1, 1), bias=True, residual=True),
    case((1, 3, 12, 12), (131, 3, 3, 3), padding=1, bias=True),
    case((1, 2, 3, 1500), (3, 2, 3, 3), padding=1, bias=True),
    case((1, 1, 1, 5000), (1, 1, 1, 9), stride=2),
    case((2, 3, 47, 53), (5, 3, 3, 3), padding=1, residual=True),
    case((1, 2, 40, 300), (70, 2, 1, 3)),
    # thin ones
    case((1, 3, 1, 20), (4, 3, 1, 3), padding=(0, 1)),
    case((1, 3, 20, 1), (4, 3, 3, 1), stride=(2, 1)),
    case((1, 1, 1, 1), (1, 1, 1, 1)),
    case((1, 1, 1, 1), (2, 1, 3, 3), padding=1),
    # batches, layouts, addends
    case((0, 3, 8, 9), (4, 3, 3, 3), bias=True, residual=True),
    case((3, 3, 8, 9), (4, 3, 3, 3), bias=True, residual=True),
    case((3, 8, 9), (4, 3, 3, 3), residual=True),
    case((2, 8, 9, 3), (4, 3, 3, 3), layout="NHWC", bias=True, residual=True),
    case((8, 9, 6), (4, 3, 3, 2), layout="NHWC", groups=2, padding=((1, 0), (-1, 3))),
    case((2, 8, 9, 6), (12, 1, 3, 3), layout="NHWC", groups=6, padding="same", stride=2),
    case((2, 0, 8, 9), (4, 0, 3, 3), bias=True),
    case((2, 3, 8, 9), (0, 3, 3, 3)),
    case((1, 3, 0, 5), (4, 3, 3, 3), padding=2, bias=True),
]  # fmt: skip
PADDED = [
    case((2, 3, 8, 9), (4, 3, 3, 3), padding=1),
    case((1, 2, 8, 9), (4, 2, 3, 5), padding=((3, 0), (2, 5)), stride=(2, 3), dilation=(2, 1)),
    case((1, 2, 3, 4), (3, 2, 3, 3), padding=((11, 7), (17, 30))),  # beyond the size, many times over
    case((1, 2, 1, 2), (3, 2, 3, 3), padding=5),
    case((1, 4, 6, 7), (4, 1, 3, 3), padding=((-2, 5), (6, -3)), groups=4),
    case((2, 6, 7, 3), (4, 3, 4, 4), padding="same", layout="NHWC", stride=2),
    case((1, 2, 3, 1200), (2, 2, 2, 9), padding=((0, 1), (1500, 4)), stride=(1, 2)),
]
MANY = case((2, 6, 9, 10), (4, 3, 3, 3), groups=2, padding=((1, 2), (0, 1)), stride=(1, 2), bias=True, residual=True)
TENSOR_GRID = [
    case((1, 2, 3, 4), (3, 2, 2, 2)),
    case((1, 9, 3, 4), (2, 9, 2, 2), bias=True, padding=1),  # parts of several taps in a step, and a part that is not full
    case((2, 6, 5, 4), (4, 3, 3, 2), groups=2, stride=2, padding=((1, 0), (2, 1)), residual=True, activation="relu"),
    case((1, 3, 4, 16), (18, 16, 1, 2), layout="NHWC", bias=True),  # in place; more channels than a block has
    case((1, 3, 7, 8), (2, 8, 2, 3), layout="NHWC", dilation=(1, 2), padding=2, padding_mode="reflect"),
    case((1, 40, 2, 3), (2, 40, 1, 1)),  # more steps than are under way
]
WARPGROUP_GRID = [
    *TENSOR_GRID[:5],
    case((1, 40, 2, 3), (17, 40, 3, 3), padding=1),  # more steps than are under way, and columns than a block has
    case((3, 8, 5, 6), (2, 8, 1, 1), bias=True),  # more pixels than a block has
]
TMA_GRID = [
    TENSOR_GRID[0],
    case((1, 9, 3, 4), (2, 9, 2, 2), bias=True, padding=((2, 1), (1, 3))),
    case((2, 6, 7, 9), (4, 6, 3, 2), stride=(3, 2), padding=((1, 0), (2, 1)), residual=True, activation="relu"),
    case((3, 5, 6, 8), (18, 8, 2, 3), layout="NHWC", dilation=(3, 2), padding=(1, 2)),  # in place; more channels than a block has
    case((1, 66, 3, 4), (3, 66, 2, 2), padding=1),  # two steps a tap, the second not full; more than are under way
    case((2, 3, 1, 40), (2, 3, 1, 3), padding=(0, 2), bias=True),
    case((1, 4, 17, 21), (2, 4, 2, 2), stride=(2, 2), dilation=(2, 3), padding=((1, 2), (3, 1))),  # tiles that begin anywhere
    case((3, 8, 9, 9), (20, 8, 1, 1)),  # more tiles than blocks, in the simulator's small grid
]
HALO_GRID = [
    case((1, 2, 3, 4), (3, 2, 2, 2)),
    case(
        (2, 9, 3, 4), (17, 9, 2, 2), bias=True, padding=1
    ),  # several images in a tile, and more output channels than a block has
    case((2, 6, 5, 4), (4, 3, 3, 2), groups=2, padding=((1, 0), (2, 1)), residual=True, activation="relu"),
    case((1, 9, 10, 8), (2, 8, 3, 2), layout="NHWC", dilation=(2, 3), padding=(1, 2)),  # in place, several tiles, far shifts
    case((1, 66, 3, 4), (3, 66, 2, 2), padding=1, bias=True),  # two chunks of channels
    case((1, 3, 6, 7), (2, 3, 3, 3), padding=2, padding_mode="circular"),
    case((1, 8, 30, 40), (5, 8, 1, 3), padding=((-2, 1), (0, 3))),  # more tiles than blocks, in the simulator's small grid
]


def some(problems, *usual):
    """Parametrize ``case`` by all problems; those that are not usually run are slow."""
    return pytest.mark.parametrize("case", some_of(problems, *usual), ids=str)
