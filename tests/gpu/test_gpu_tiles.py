"""Every tile of the algorithms that have several, and blocks that take one tile after the other."""

import pytest
from helpers import case
from on_gpu import TENSOR_CORES, check

from benchmarks.gpu import Variant, in_tiles

pytestmark = pytest.mark.gpu

SHAPES = {"NCHW": (3, 40, 23, 25), "NHWC": (3, 23, 25, 40)}
VARIANTS = [*in_tiles()]
CLUSTERS = [one for one in VARIANTS if one.algorithm == "tma_gemm" and one.tile.down * one.tile.across > 1]


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_tile(variant, layout):
    problem = case(SHAPES[layout], (264, 40, 3, 3), layout=layout, padding=1, bias=True, residual=True)
    with variant.only():
        assert check(variant.algorithm, "float16" if variant.algorithm in TENSOR_CORES else "float32", "ieee", problem)


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("variant", [Variant("tma_gemm"), *CLUSTERS], ids=str)
def test_blocks_that_take_several_tiles(variant, size):
    """There are 528 blocks at most; this is three times as many tiles of 192 pixels."""
    problem = case((132, 8, 48, 48), (8, 8, size, size), padding=size // 2)
    with variant.only():
        assert check("tma_gemm", "float16", "ieee", problem)
