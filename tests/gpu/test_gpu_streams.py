"""In which order things happen on a GPU: streams of all libraries, threads, and the same bits every time."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from families import CuPy, Numba, Torch
from helpers import assert_conforms, case, operands, random_array
from on_gpu import keep_busy, on_host, to_device

import numbaconv as nc

pytestmark = pytest.mark.gpu

ONE = case((2, 16, 30, 31), (24, 16, 3, 3), padding=1)
OPTIONS = {"padding": 1, "algorithm": "implicit_gemm"}
DEFAULT = 0


def draw(seed=0):
    return random_array((2, 16, 30, 31), "float32", seed), random_array((24, 16, 3, 3), "float32", seed + 1)


def assert_right(result, x, w):
    assert_conforms(result, {"input": x, "weight": w}, {"padding": 1})


@pytest.mark.parametrize("kind", ["numba", "pointer", "default", "cupy", "torch"])
def test_every_kind_of_stream(gpu, kind):
    x, w = draw()
    made = {"default": gpu.default_stream, "cupy": lambda: CuPy().stream(), "torch": lambda: Torch().stream()}.get(
        kind, gpu.stream
    )()
    stream = int(made) if kind == "pointer" else made
    given = to_device({"input": x, "weight": w})
    for _ in range(3):
        result = nc.conv2d(**given, **OPTIONS, stream=stream)
        assert_right(on_host(result), x, w)
    with pytest.raises(TypeError, match=r"^stream: "):
        nc.conv2d(**given, **OPTIONS, stream="fast")


@pytest.fixture(params=[CuPy, Torch], ids=["cupy", "torch"])
def current(request):
    """A library that has a current stream."""
    return request.param()


def test_a_call_runs_on_the_current_stream_and_not_on_the_default_one(current):
    (x, w), side = draw(), current.stream()
    given = current.put(x), current.put(w)
    op = nc.Conv2d(given[1], **OPTIONS)
    with current.on(side):
        2 * op(given[0]), 2 * nc.conv2d(*given, **OPTIONS)  # compiled, packed and recorded from here on
    side.synchronize()
    for call in (lambda: op(given[0]), lambda: nc.conv2d(*given, **OPTIONS)):
        busy = keep_busy(DEFAULT)
        with current.on(side):
            doubled = 2 * call()  # used on that stream, with no synchronisation
        side.synchronize()
        assert not busy.query(), "the call waited for the default stream, or the pause was too short to tell"
        assert_right(current.back(doubled) / 2, x, w)


def test_a_call_waits_for_what_comes_before_it_on_the_current_stream(current):
    (x, w), (later, _), side = draw(), draw(7), current.stream()
    given, fresh = (current.put(x), current.put(w)), current.put(later)
    op, out = nc.Conv2d(given[1], **OPTIONS), current.empty((2, 24, 30, 31), "float32")
    with current.on(side):
        op(given[0], out=out)
    side.synchronize()
    with current.on(side):
        busy = keep_busy(current.pointer(side))
        given[0][...] = fresh
        op(given[0], out=out)
        assert not busy.query(), "the call waited for its result"
    side.synchronize()
    assert_right(current.back(out), later, w)


def test_a_prepared_operator_reads_its_weight_when_it_is_there(current):
    """The weight is computed on a stream that does not wait for the default one."""
    (x, w), (_, later), side = draw(), draw(7), current.stream()
    given, weight, fresh = current.put(x), current.put(w), current.put(later)
    nc.Conv2d(weight, **OPTIONS)(given)  # compiles all kernels
    with current.on(side):
        nc.Conv2d(weight, **OPTIONS)(given)
        keep_busy(current.pointer(side))
        weight[...] = fresh
        result = nc.Conv2d(weight, **OPTIONS)(given)
    side.synchronize()
    assert_right(current.back(result), x, later)


def test_a_cupy_array_from_another_stream_is_waited_for():
    cupy = CuPy()
    (x, w), (later, _) = draw(), draw(7)
    producer, consumer = cupy.stream(), cupy.stream()
    given, weight, fresh = cupy.put(x), cupy.put(w), cupy.put(later)
    nc.conv2d(given, weight, **OPTIONS, stream=consumer)
    consumer.synchronize()
    with producer:  # which the array names in its interface
        busy = keep_busy(producer.ptr)
        given[...] = fresh
        result = nc.conv2d(given, weight, **OPTIONS, stream=consumer)
        assert not busy.query(), "the call waited for the producer on the host"
    consumer.synchronize()
    assert_right(cupy.back(result), later, w)


def test_a_numba_array_from_another_stream_is_waited_for(gpu):
    (x, w), (later, _) = draw(), draw(7)
    producer, consumer = gpu.stream(), gpu.stream()
    given, weight = gpu.to_device(x, stream=producer), gpu.to_device(w)
    fresh = gpu.to_device(later)
    nc.conv2d(given, weight, **OPTIONS, stream=consumer)
    gpu.synchronize()
    busy = keep_busy(int(producer))
    given.copy_to_device(fresh, stream=producer)
    result = nc.conv2d(given, weight, **OPTIONS, stream=consumer)
    assert not busy.query()
    consumer.synchronize()
    assert_right(on_host(result), later, w)


# ---------------------------------------------------------------- the same bits

REPEATED = [
    ("direct", "float32", case((2, 16, 30, 31), (24, 16, 3, 3), padding=1)),
    ("tiled", "float32", case((2, 16, 30, 31), (24, 16, 3, 3), padding=1)),
    ("implicit_gemm", "float32", case((2, 16, 30, 31), (24, 16, 3, 3), padding=1)),
    ("implicit_gemm", "float32", case((1, 512, 7, 7), (512, 512, 3, 3), padding=1)),  # in parts
    ("tensor_gemm", "float16", case((1, 512, 7, 7), (512, 512, 3, 3), padding=1)),
    ("depthwise", "float32", case((2, 24, 56, 56), (24, 1, 3, 3), groups=24, padding=1)),
    ("winograd2", "float32", case((4, 256, 7, 7), (256, 256, 3, 3), padding=1)),
    ("winograd4", "float32", case((2, 64, 56, 56), (64, 64, 3, 3), padding=1)),
]


@pytest.mark.parametrize(("algorithm", "dtype", "problem"), REPEATED, ids=str)
def test_twenty_runs_give_the_same_bits(algorithm, dtype, problem):
    given = to_device(operands(problem, dtype))
    first, *others = [on_host(nc.conv2d(**given, **problem.options, algorithm=algorithm)) for _ in range(20)]
    for other in others:
        np.testing.assert_array_equal(other.view(np.uint8), first.view(np.uint8))


# ---------------------------------------------------------------- threads

THREADS = 8


def in_threads(work):
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, range(THREADS)))


@pytest.mark.parametrize("library", [Numba, CuPy, Torch], ids=["numba", "cupy", "torch"])
@pytest.mark.parametrize("shared", [False, True], ids=["a stream each", "one stream"])
@pytest.mark.parametrize("algorithm", ["implicit_gemm", "winograd4"])
def test_threads_compute_with_their_own_arrays(library, shared, algorithm):
    """Functional calls, which pack their weight into scratch memory of the stream."""
    library = library()
    streams = [library.stream()] * THREADS if shared else [library.stream() for _ in range(THREADS)]
    data = [draw(10 * thread) for thread in range(THREADS)]
    given = [(library.put(x), library.put(w)) for x, w in data]
    expected = [library.back(nc.conv2d(*arrays, padding=1, algorithm=algorithm)) for arrays in given]

    def work(thread):
        with library.on(streams[thread]):
            results = [nc.conv2d(*given[thread], padding=1, algorithm=algorithm, stream=streams[thread]) for _ in range(30)]
        streams[thread].synchronize()
        return [library.back(y) for y in results]

    for thread, results in enumerate(in_threads(work)):
        wrong = sum(not np.array_equal(y, expected[thread]) for y in results)
        assert not wrong, f"thread {thread}: {wrong} of {len(results)}"


def test_threads_share_a_prepared_operator(gpu):
    (x, w), streams = draw(), [gpu.stream() for _ in range(THREADS)]
    op = nc.Conv2d(gpu.to_device(w), **OPTIONS)
    inputs = [gpu.to_device(x + thread) for thread in range(THREADS)]
    expected = [on_host(op(i)) for i in inputs]

    def work(thread):
        results = [op(inputs[thread], stream=streams[thread]) for _ in range(30)]
        streams[thread].synchronize()
        return [on_host(y) for y in results]

    for thread, results in enumerate(in_threads(work)):
        for y in results:
            np.testing.assert_array_equal(y, expected[thread])


def test_threads_begin_at_once():
    """The first call of a kind in every thread, from NumPy arrays."""
    x, w = random_array((1, 8, 29, 31), "float32"), random_array((8, 8, 3, 3), "float32")
    results = in_threads(lambda _: nc.conv2d(x, w, backend="cuda"))
    for y in results:
        assert_conforms(y, {"input": x, "weight": w}, {}, sums_directly=False)
