"""Calls captured into CUDA graphs, by torch and by CuPy, and replayed with other contents."""

import numpy as np
import pytest
from families import CuPy, Torch
from helpers import case, operands, random_array, sums_directly
from on_gpu import conforms, cut_of

import numbaconv as nc

pytestmark = pytest.mark.gpu

SPLIT = case((1, 512, 7, 7), (512, 512, 3, 3), padding=1)
PROBLEMS = {
    "direct": ("direct", "float32", case((2, 16, 30, 31), (24, 16, 3, 3), padding=1)),
    "tiled": ("tiled", "float32", case((2, 16, 30, 31), (24, 16, 3, 3), padding=1)),
    "depthwise": ("depthwise", "float32", case((2, 24, 56, 56), (24, 1, 3, 3), groups=24, padding=1)),
    "split-K": ("implicit_gemm", "float32", SPLIT),
    "tensor cores, split-K": ("tensor_gemm", "float16", SPLIT),
    "warpgroups, split-K": ("warpgroup_gemm", "float16", SPLIT),
    "TMA, split-K": ("tma_gemm", "float16", SPLIT),
    "winograd2": ("winograd2", "float32", case((4, 256, 7, 7), (256, 256, 3, 3), padding=1)),
    "winograd4": ("winograd4", "float32", case((2, 64, 28, 28), (64, 64, 3, 3), padding=1)),
}


class TorchGraph:
    """A capture, on a stream of torch's own."""

    def __init__(self):
        self.library, self.torch = Torch(), Torch().torch

    def capture(self, call):
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            result = call()
        return graph.replay, result

    def synchronize(self):
        self.torch.cuda.synchronize()


class CuPyGraph:
    """A capture on a stream, on which it was called before."""

    def __init__(self):
        self.library = CuPy()
        self.stream = self.library.stream()

    def capture(self, call):
        with self.stream:
            call()
            self.stream.synchronize()
            self.stream.begin_capture()
            result = call()
            graph = self.stream.end_capture()
        return lambda: graph.launch(self.stream), result

    def synchronize(self):
        self.library.cupy.cuda.runtime.deviceSynchronize()


@pytest.fixture(params=[TorchGraph, CuPyGraph], ids=["torch", "cupy"])
def graphs(request):
    return request.param()


@pytest.mark.parametrize("way", ["prepared, out", "functional, out", "functional"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_replays_compute_with_what_is_in_the_arrays(graphs, name, way):
    algorithm, dtype, problem = PROBLEMS[name]
    library, options = graphs.library, {**problem.options, "algorithm": algorithm}
    arrays = operands(problem, dtype)
    if "split-K" in name:
        assert cut_of(arrays, options).splits > 1
    given = {n: library.put(a) for n, a in arrays.items()}
    op = nc.Conv2d(given["weight"], **options)
    shape = nc.conv2d(**arrays, **problem.options, backend="reference").shape
    out = library.empty(shape, dtype)
    call = {
        "prepared, out": lambda: op(given["input"], out=out),
        "functional, out": lambda: nc.conv2d(**given, **options, out=out),
        "functional": lambda: nc.conv2d(**given, **options),
    }[way]
    call(), call()
    graphs.synchronize()
    replay, result = graphs.capture(call)
    assert (result is out) == ("out" in way)
    for seed in (1, 2):
        changed = {"input": random_array(problem.input, dtype, seed)}
        if way != "prepared, out":
            changed["weight"] = random_array(problem.weight, dtype, seed + 1)
        for n, a in changed.items():
            library.fill(given[n], a)
        library.fill(result, np.full(shape, np.nan, dtype))
        graphs.synchronize()
        replay()
        graphs.synchronize()
        conforms(library.back(result), {**arrays, **changed}, options, sums_directly("cuda", algorithm))


@pytest.mark.parametrize("name", ["split-K", "winograd4"])
def test_nothing_is_allocated_after_the_first_calls(name, gpu):
    torch = Torch().torch
    algorithm, dtype, problem = PROBLEMS[name]
    given = {n: torch.from_numpy(a).cuda() for n, a in operands(problem, dtype).items()}
    options = {**problem.options, "algorithm": algorithm}
    op, out = nc.Conv2d(given["weight"], **options), nc.conv2d(**given, **options)
    graph = torch.cuda.CUDAGraph()
    for _ in range(2):
        op(given["input"], out=out)
    with torch.cuda.graph(graph):
        op(given["input"], out=out)
    graph.replay()
    torch.cuda.synchronize()

    def state():
        return torch.cuda.memory_stats()["allocation.all.allocated"], gpu.current_context().get_memory_info().free

    before = state()
    for _ in range(20):
        op(given["input"], out=out)
        graph.replay()
    torch.cuda.synchronize()
    assert state() == before


def test_two_graphs_of_torch_do_not_share_scratch_memory():
    """Each of them may be replayed at any time, also beside the other."""
    torch = Torch().torch
    _, dtype, problem = PROBLEMS["split-K"]
    captured = []
    for seed in range(2):
        arrays = operands(problem, dtype, seed=10 * seed)
        given = {n: torch.from_numpy(a).cuda() for n, a in arrays.items()}
        op = nc.Conv2d(given["weight"], **problem.options, algorithm="implicit_gemm")
        out = op(given["input"])
        op(given["input"], out=out)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            op(given["input"], out=out)
        captured.append((graph, out, out.clone(), torch.cuda.Stream(), given, op))
        torch.cuda.synchronize()
    for _ in range(20):
        for graph, _, _, stream, *_ in captured:
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    for _, out, expected, *_ in captured:
        assert torch.equal(out, expected)
