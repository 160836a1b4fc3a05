"""Calls on device arrays that are recorded once and played with others."""

import numpy as np
import pytest
from helpers import assert_conforms, case, count_long_ways, operands, random_array
from numba import cuda

import numbaconv as nc
from numbaconv.cuda.recording import Tape
from numbaconv.cuda.shadow import imagined, lend, place_of, relocated

ONE = case((1, 3, 4, 5), (2, 3, 2, 2), bias=True, residual=True)


@pytest.fixture
def long_way(monkeypatch):
    """How often calls went the long way."""
    return count_long_ways(monkeypatch)


def device(arrays):
    return {name: cuda.to_device(a) for name, a in arrays.items()}


@pytest.mark.parametrize("algorithm", ["direct", "implicit_gemm", "tensor_gemm", "auto"])
def test_later_calls_compute_with_their_own_arrays(long_way, algorithm):
    precision = "tf32" if algorithm == "tensor_gemm" else "ieee"
    for _ in range(3):
        arrays = operands(ONE, "float32")
        result = nc.conv2d(**device(arrays), algorithm=algorithm, precision=precision).copy_to_host()
        if precision == "ieee":
            assert_conforms(result, arrays, {})
        else:
            np.testing.assert_allclose(result, nc.conv2d(**arrays, backend="reference"), atol=2e-2)
    assert long_way == ["conv"]


def test_prepared_operators_record(long_way):
    arrays = operands(ONE, "float32")
    op = nc.Conv2d(cuda.to_device(arrays["weight"]), cuda.to_device(arrays["bias"]))
    for shape in ((1, 3, 4, 5), (1, 3, 4, 5), (2, 3, 4, 4), (1, 3, 4, 5), (2, 3, 4, 4)):
        x = random_array(shape, "float32")
        assert_conforms(op(cuda.to_device(x)).copy_to_host(), {**arrays, "input": x, "residual": np.float32([0])}, {})
    assert len(long_way) == 2


def test_what_is_recorded_is_told_apart(long_way):
    x, w = random_array((1, 2, 4, 6), "float32"), random_array((3, 2, 2, 2), "float32")
    views = [x, x.copy(), x[..., ::-1], x[:, ::-1], np.broadcast_to(x[..., :1], x.shape), x.astype("float64")]
    for count, view in enumerate(views):
        assert_conforms(nc.conv2d(lend(view), lend(w)).copy_to_host(), {"input": view.copy(), "weight": w}, {})
        assert len(long_way) == max(1, count)
    one_further = np.zeros(x.size + 1, "float32")[1:].reshape(x.shape)
    one_further[...] = x
    assert_conforms(nc.conv2d(lend(one_further), lend(w)).copy_to_host(), {"input": x, "weight": w}, {})
    nc.conv2d(lend(x), lend(w), padding=1)
    assert len(long_way) >= len(views)


def test_devices_are_told_apart(long_way, monkeypatch):
    x, w = cuda.to_device(random_array((1, 2, 3, 4), "float32")), cuda.to_device(random_array((2, 2, 2, 2), "float32"))
    for number, count in ((0, 1), (0, 1), (1, 2), (1, 2), (0, 2)):
        monkeypatch.setattr("numbaconv.cuda.memory.device_of", lambda array, number=number: number)
        nc.conv2d(x, w)
        assert len(long_way) == count


def test_out_is_written_where_it_is(long_way):
    arrays = operands(case((1, 2, 3, 4), (2, 2, 1, 1)), "float32")
    given, expected = device(arrays), nc.conv2d(**arrays, backend="reference")
    for _ in range(3):
        out = cuda.device_array((1, 2, 3, 4), "float32")
        assert nc.conv2d(**given, out=out) is out
        np.testing.assert_allclose(out.copy_to_host(), expected, rtol=1e-5)
    assert long_way == ["conv"]
    nc.conv2d(**given, out=given["input"])
    assert len(long_way) == 2, "an out that overlaps the input was played"
    np.testing.assert_allclose(given["input"].copy_to_host(), expected, rtol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_an_out_that_shares_one_element_with_an_operand_takes_the_long_way(long_way, reverse):
    """Elements are as large as what addresses are told apart by."""
    x, w = random_array((1, 2, 2, 4), "complex128"), random_array((2, 2, 1, 1), "complex128")
    expected = nc.conv2d(x, w, backend="reference")
    memory, weight = np.zeros(64, "complex128"), lend(w)
    for begin, long_ways in ((8, 1), (9, 1), (39, 1), (40, 0), (8, 0), (9, 1), (39, 1)):
        memory[24:40] = x.ravel()
        out = memory[begin : begin + 16].reshape(x.shape)[..., :: -1 if reverse else 1]
        before = len(long_way)
        nc.conv2d(lend(memory[24:40].reshape(x.shape)), weight, out=lend(out))
        np.testing.assert_allclose(out, expected, rtol=1e-12)
        assert len(long_way) - before == long_ways


def test_the_backend_of_the_block_computes_what_was_recorded_without_it(monkeypatch):
    x, w = (cuda.to_device(random_array(shape, "float32")) for shape in ((1, 2, 3, 4), (2, 2, 1, 1)))
    op = nc.Conv2d(w)
    expected = op(x).copy_to_host()
    nc.conv2d(x, w)
    played, usual = [], Tape.play
    monkeypatch.setattr(Tape, "play", lambda *args: played.append(1) or usual(*args))
    with nc.use_backend("reference"):
        for call in (lambda: op(x), lambda: nc.conv2d(x, w)):
            np.testing.assert_allclose(call().copy_to_host(), expected, rtol=1e-5)
    assert not played
    op(x), nc.conv2d(x, w)
    assert len(played) == 2


def test_other_operators_record(long_way):
    for _ in range(2):
        x, w = random_array((1, 2, 3, 4), "complex64"), random_array((2, 3, 2, 3), "complex64")
        y = nc.conv_transpose2d(cuda.to_device(x), cuda.to_device(w), stride=2).copy_to_host()
        np.testing.assert_allclose(y, nc.conv_transpose2d(x, w, stride=2, backend="reference"), rtol=1e-4, atol=1e-4)
        g = random_array((1, 3, 2, 2), "complex64")
        d = nc.grad.conv2d_weight(cuda.to_device(x), (3, 2, 2, 3), cuda.to_device(g)).copy_to_host()
        with nc.use_backend("reference"):
            np.testing.assert_allclose(d, nc.grad.conv2d_weight(x, (3, 2, 2, 3), g), rtol=1e-4, atol=1e-4)
    assert len(long_way) == 2


def test_channels_last_results_keep_their_order(long_way):
    for _ in range(2):
        x = random_array((1, 4, 5, 2), "float32").transpose(0, 3, 1, 2)
        w = random_array((3, 2, 2, 2), "float32")
        y = nc.conv2d(lend(x), lend(w)).copy_to_host()
        assert y.transpose(0, 2, 3, 1).flags.c_contiguous
        assert_conforms(y, {"input": x.copy(), "weight": w}, {})
    assert len(long_way) == 1


def test_errors_come_the_long_way():
    x = cuda.to_device(random_array((1, 2, 3, 4), "float32"))
    for weight, kind in ((np.ones((2, 3, 1, 1), "f4"), ValueError), (np.ones((2, 2, 1, 1), "longdouble"), TypeError)):
        for _ in range(2):
            with pytest.raises(kind, match=r"^(weight|input): "):
                nc.conv2d(x, cuda.to_device(weight))


def test_imagined_arrays_are_nowhere_and_come_back():
    real = np.arange(24.0).reshape(2, 3, 4)
    for region in (0, 1, 7):
        there = imagined(real, region)
        view = there[:, ::-1, 1:]
        assert place_of(real) is None
        assert place_of(view).region == region
        assert there.ctypes.data % 16 == real.ctypes.data % 16
        np.testing.assert_array_equal(relocated(view, real.ctypes.data + place_of(view).offset), real[:, ::-1, 1:])


def test_scratch_arrays_lie_apart():
    tape = Tape()
    places = [place_of(tape.scratch(shape, np.dtype("f4"))) for shape in ((3, 5), (64,), (1,))]
    assert [p.offset for p in places] == [0, 256, 512]
    assert tape.size == 768
