"""Split-K under Numba's simulator: parts of the products of a tile, added by a last launch."""

import numpy as np
import pytest
from helpers import assert_conforms, case, one_in, operands, oracle, some_of
from numba import cuda
from test_tensor_cores import check

import numbaconv as nc
from numbaconv import execute
from numbaconv.cuda import implicit_gemm, splitting, tensor_gemm, tma_gemm, warpgroup_gemm
from numbaconv.cuda.splitting import Cut


@pytest.fixture(autouse=True)
def added(monkeypatch):
    """Into how many parts products were cut, call by call; nothing that other tests planned is left."""
    calls, usual = [], splitting._partial_sums
    monkeypatch.setattr(
        splitting, "_partial_sums", lambda spec, splits, stream: calls.append(splits) or usual(spec, splits, stream)
    )
    execute.forget()
    yield calls
    execute.forget()


PROBLEMS = [
    case((2, 11, 4, 3), (3, 11, 2, 2), bias=True, residual=True, padding=1, activation="relu"),
    case((1, 4, 3, 8), (6, 4, 2, 2), layout="NHWC", bias=True, groups=2),
    case((1, 3, 3, 3), (2, 3, 3, 3), padding=1),
]


@pytest.mark.parametrize(("splits", "case"), one_in(3, [2, 3, 7], PROBLEMS), ids=str)
def test_implicit_gemm(monkeypatch, added, splits, case):
    monkeypatch.setattr(implicit_gemm, "cut", lambda spec: Cut(implicit_gemm.TILES[0], splits))
    arrays, options = operands(case, np.float32), dict(case.options)
    given = {name: cuda.to_device(a) for name, a in arrays.items()}
    result = nc.conv2d(**given, algorithm="implicit_gemm", **options).copy_to_host()
    assert set(added) == {splits}
    if options.pop("activation", None):
        np.testing.assert_allclose(result, np.maximum(oracle(arrays, options), 0), rtol=1e-4, atol=1e-4)
    else:
        assert_conforms(result, arrays, options)


@pytest.mark.parametrize(
    ("algorithm", "tile"), some_of([(tensor_gemm, (1, 1, 1, 2)), (warpgroup_gemm, (1, 16, 4)), (tma_gemm, (1, 16, 4))], 0)
)
def test_tensor_cores(monkeypatch, added, algorithm, tile):
    monkeypatch.setattr(algorithm, "cut", lambda spec: Cut(algorithm.Tile(*tile), 3))
    problem = case((1, 40, 2, 3), (2, 40, 2, 2), bias=True, padding=1)
    check(algorithm.__name__.rpartition(".")[2], "float16", "ieee", problem)
    assert set(added) == {3}
