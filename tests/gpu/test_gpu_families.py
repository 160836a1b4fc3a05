"""Numba's arrays, CuPy's and torch's: the same kind comes back, nothing is copied, and what is no array of numbers is named."""

import ml_dtypes
import numpy as np
import pytest
from helpers import assert_conforms, case, operands, random_array
from on_gpu import conforms

import numbaconv as nc
from numbaconv.cuda import MEMORY

pytestmark = pytest.mark.gpu

ONE = case((2, 16, 30, 31), (24, 16, 3, 3), padding=1, bias=True)


@pytest.fixture
def stay_on_the_gpu(monkeypatch):
    for name in ("to_host", "from_host"):
        monkeypatch.setattr(type(MEMORY), name, None)


@pytest.mark.parametrize("algorithm", ["direct", "tiled", "implicit_gemm", "winograd4", "auto"])
def test_the_same_kind_comes_back_and_nothing_is_copied(family, algorithm, monkeypatch, stay_on_the_gpu):
    arrays = operands(ONE, "float32")
    given = {name: family.put(a) for name, a in arrays.items()}
    op = nc.Conv2d(given["weight"], given["bias"], padding=1, algorithm=algorithm)
    out = family.empty((2, 24, 30, 31), "float32")
    address = family.address(out)

    def functional(out=None):
        return nc.conv2d(**given, padding=1, algorithm=algorithm, out=out)

    def prepared(out=None):
        return op(given["input"], out=out)

    for call in (functional, prepared):
        call(), call(out)  # recorded from here on
        call(), call(out)  # in scratch memory that is there from here on
        with monkeypatch.context() as patch:
            count = family.count_allocations(patch)
            before = count()
            result = call()
            assert count() == before + 1, "the result, and nothing else"
            assert isinstance(result, family.kind)
            assert call(out) is out
            assert count() == before + 1
        assert family.address(out) == address
        for y in (result, out):
            assert_conforms(family.back(y), arrays, ONE.options, sums_directly=algorithm not in ("winograd4", "auto"))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8", "float16", "bfloat16"])
def test_dtypes(family, dtype):
    if dtype == "bfloat16" and type(family).__name__ == "CuPy":
        pytest.skip("whether CuPy knows bfloat16 depends on its version")
    arrays = operands(ONE, dtype)
    result = nc.conv2d(**{name: family.put(a) for name, a in arrays.items()}, padding=1)
    assert isinstance(result, family.kind)
    conforms(family.back(result), arrays, ONE.options, directly=False)


@pytest.mark.parametrize("index", [np.s_[:, :, ::2, 1:], np.s_[:, 1::2], np.s_[1:, :, :, 3:20:4]], ids=str)
def test_views_are_read_in_place(family, index, stay_on_the_gpu):
    x = random_array((3, 16, 20, 24), "float32")
    w = random_array((8, x[index].shape[1], 3, 3), "float32")
    result = nc.conv2d(family.put(x)[index], family.put(w))
    assert_conforms(family.back(result), {"input": x[index].copy(), "weight": w}, {}, sums_directly=False)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_channels_last_tensors(dtype, stay_on_the_gpu):
    from families import Torch

    torch = Torch()
    arrays = operands(ONE, dtype)
    last = torch.torch.channels_last
    given = {name: torch.put(a) for name, a in arrays.items()}
    for name in ("input", "weight"):
        given[name] = given[name].contiguous(memory_format=last)
    result = nc.conv2d(**given, padding=1)
    assert result.is_contiguous(memory_format=last)
    conforms(torch.back(result.contiguous()), arrays, ONE.options, directly=False)
    out = torch.torch.empty_like(result)
    assert nc.Conv2d(given["weight"], given["bias"], padding=1)(given["input"], out=out) is out
    conforms(torch.back(out.contiguous()), arrays, ONE.options, directly=False)


def test_negative_strides_of_cupy():
    from families import CuPy

    cupy = CuPy()
    arrays = operands(ONE, "float32")
    flipped = {name: cupy.put(a)[..., ::-1] for name, a in arrays.items()}
    result = cupy.back(nc.conv2d(**flipped, padding=1))
    assert_conforms(result, {n: a[..., ::-1].copy() for n, a in arrays.items()}, ONE.options, sums_directly=False)


@pytest.mark.parametrize("name", ["input", "weight", "bias"])
def test_tensors_that_require_grad_are_named(name):
    from families import Torch

    torch = Torch()
    given = {n: torch.put(a) for n, a in operands(ONE, "float32").items()}
    nc.conv2d(**given)
    given[name].requires_grad_()
    for _ in range(2):
        with pytest.raises(TypeError, match=rf"^{name}: .*grad"):
            nc.conv2d(**given)


def test_arrays_of_several_places_are_named(family):
    arrays = operands(ONE, "float32")
    for name in ("weight", "bias"):
        given = {n: a if n == name else family.put(a) for n, a in arrays.items()}
        with pytest.raises(TypeError, match=f"^{name}: "):
            nc.conv2d(**given)


def test_numpy_in_numpy_out():
    arrays = operands(ONE, "float32")
    result = nc.conv2d(**arrays, padding=1, backend="cuda")
    assert type(result) is np.ndarray
    assert_conforms(result, arrays, ONE.options, sums_directly=False)
    last = np.ascontiguousarray(arrays["input"].transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)[:, :, ::-1]
    result = nc.conv2d(last, arrays["weight"], backend="cuda")
    assert result.transpose(0, 2, 3, 1).flags.c_contiguous
    assert_conforms(result, {"input": last.copy(), "weight": arrays["weight"]}, {}, sums_directly=False)
    half = {name: a.astype(ml_dtypes.bfloat16) for name, a in arrays.items()}
    conforms(nc.conv2d(**half, padding=1, backend="cuda"), half, ONE.options)


def test_pinned_host_arrays(gpu):
    arrays = operands(ONE, "float32")
    pinned = {name: gpu.pinned_array(a.shape, a.dtype) for name, a in arrays.items()}
    for name, a in arrays.items():
        pinned[name][...] = a
    result = nc.conv2d(**pinned, padding=1, backend="cuda")
    assert isinstance(result, np.ndarray)
    assert_conforms(result, arrays, ONE.options, sums_directly=False)


def test_pinned_tensors():
    from families import Torch

    torch = Torch().torch
    arrays = operands(ONE, "float32")
    pinned = {name: torch.from_numpy(a).pin_memory() for name, a in arrays.items()}
    result = nc.conv2d(**pinned, padding=1, backend="cuda")
    assert isinstance(result, np.ndarray)
    assert_conforms(result, arrays, ONE.options, sums_directly=False)


def test_several_devices(gpu):
    if len(gpu.gpus) < 2:
        pytest.skip("there is one GPU here")
    arrays = operands(ONE, "float32")
    on_each = []
    for device in gpu.gpus[:2]:
        with device:
            on_each.append({name: gpu.to_device(a) for name, a in arrays.items()})
    for given in (*on_each, *on_each):  # the second time from a recording
        assert_conforms(nc.conv2d(**given, padding=1).copy_to_host(), arrays, ONE.options, sums_directly=False)
    with pytest.raises(ValueError, match=r"^weight: .*GPU 1"):
        nc.conv2d(on_each[0]["input"], on_each[1]["weight"])
