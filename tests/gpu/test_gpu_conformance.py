"""Every CUDA algorithm on a GPU against float64 and integers: the grid of all backends, larger problems, random ones."""

import numpy as np
import pytest
from families import Torch
from grid import GRID, MANY, MODES, PADDED
from helpers import case, operands, pads_in_full, spec_of, why_not
from on_gpu import KINDS, NAMES, ORDERS, TENSOR_CORES, check, conforms, cut_of, in_layout, on_host, stored, to_device

import numbaconv as nc

pytestmark = pytest.mark.gpu

# The decorators stand so that neighbouring tests share their kernels, which every process compiles for itself.
COMPUTING = [(algorithm, *kind) for kind, algorithms in KINDS.items() for algorithm in algorithms]
LARGE = [
    case((2, 16, 56, 57), (32, 16, 3, 3), padding=1, bias=True, residual=True),
    case((2, 64, 14, 14), (70, 64, 1, 1), bias=True),
    case((1, 3, 112, 113), (24, 3, 7, 7), stride=2, padding=3),
    case((4, 256, 7, 7), (256, 256, 3, 3), padding=1),
    case((1, 3, 61, 67), (5, 3, 3, 5), stride=(2, 3), dilation=(3, 1), padding=((4, 1), (0, 3))),
    case((2, 24, 31, 33), (24, 1, 5, 5), groups=24, padding="same"),
    case((2, 24, 31, 33), (36, 6, 3, 3), groups=4, stride=2),
    *(case((1, 5, 20, 70), (9, 5, 3, 3), padding=2, padding_mode=mode) for mode in MODES[1:]),
    case((1, 1, 200, 300), (1, 1, 31, 31)),
    case((3, 9, 8, 300), (1, 9, 2, 2), bias=True),
    case((1, 40, 41, 12), (20, 12, 3, 3), layout="NHWC", bias=True),
    case((2, 19, 23, 64), (72, 64, 3, 3), layout="NHWC", padding=1, bias=True, residual=True),
    case((1, 17, 18, 33), (65, 33, 3, 3), layout="NHWC", stride=2),
    case((1, 520, 9, 10), (40, 520, 3, 3), padding=1),
    case((32, 3, 56, 57), (64, 3, 7, 7), stride=2, padding=3),  # several taps in a step
    case((24, 48, 28, 28), (64, 48, 1, 1), residual=True),  # pixels as vectors
    case((0, 3, 9, 9), (4, 3, 3, 3)),
    case((1, 0, 9, 9), (4, 0, 3, 3), bias=True),
]
LARGE_DEPTHWISE = [
    case((2, 24, 56, 56), (24, 1, 3, 3), groups=24, padding=1, bias=True, residual=True),
    case((1, 96, 28, 28), (96, 1, 7, 7), groups=96, padding=3),
    case((3, 40, 14, 14), (80, 1, 5, 5), groups=40, padding=2, stride=2),
    case((2, 70, 7, 7), (70, 1, 3, 3), groups=70, padding=1, bias=True),
    case((1, 6, 61, 67), (6, 1, 3, 5), groups=6, stride=(2, 3), dilation=(3, 1), padding=((4, -1), (0, 3))),
    case((1, 5, 20, 70), (5, 1, 9, 9), groups=5, padding=4, padding_mode="reflect"),
    case((2, 30, 48, 28), (28, 1, 3, 3), groups=28, layout="NHWC", padding=1, stride=2, bias=True),
    case((1, 56, 56, 32), (32, 1, 7, 7), groups=32, layout="NHWC", padding=3),
    case((1, 11, 9, 13), (26, 1, 3, 3), groups=13, layout="NHWC", padding="same", dilation=2),
]
WINOGRAD = [
    case((2, 31, 33, 24), (37, 24, 3, 3), layout="NHWC", padding=1, bias=True, residual=True),
    case((2, 32, 31, 33), (36, 8, 3, 3), groups=4, padding=((0, 2), (3, 1)), padding_mode="reflect"),
]


@pytest.mark.parametrize("problem", GRID, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(("algorithm", "dtype", "precision"), COMPUTING)
def test_grid(problem, algorithm, dtype, precision, layout):
    check(algorithm, dtype, precision, in_layout(problem, layout))


@pytest.mark.parametrize("problem", GRID, ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("algorithm", KINDS["bfloat16", "ieee"])
def test_bfloat16_tensors(problem, algorithm, layout):
    torch = Torch()
    check(
        algorithm, "bfloat16", "ieee", in_layout(problem, layout), lambda a: {n: torch.put(x) for n, x in a.items()}, torch.back
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("algorithm", "dtype", "precision"),
    [*((a, "float32", "ieee") for a in KINDS["float32", "ieee"]), *((a, "float16", "ieee") for a in TENSOR_CORES)],
)
@pytest.mark.parametrize("problem", PADDED, ids=str)
def test_padding_modes(problem, algorithm, dtype, precision, mode):
    check(algorithm, dtype, precision, problem._replace(options={**problem.options, "padding_mode": mode}))


@pytest.mark.parametrize("algorithm", ["direct", "tiled", "implicit_gemm", "auto"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "complex128"])
def test_every_other_dtype(dtype, algorithm):
    check(algorithm, dtype, "ieee", MANY)


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8", "float16", "bfloat16"])
def test_what_is_left_out_of_the_grid_is_refused(dtype, algorithm):
    if algorithm not in KINDS[dtype, "ieee"]:
        assert not check(algorithm, dtype, "ieee", case((1, 16, 9, 9), (16, 16, 3, 3)))


@pytest.mark.parametrize("problem", LARGE, ids=str)
@pytest.mark.parametrize(("algorithm", "dtype", "precision"), COMPUTING)
def test_several_tiles(problem, algorithm, dtype, precision):
    check(algorithm, dtype, precision, problem)


@pytest.mark.parametrize("problem", LARGE_DEPTHWISE, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8", "float16", "bfloat16"])
def test_several_depthwise_tiles(problem, dtype):
    assert check("depthwise", dtype, "ieee", problem)


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
@pytest.mark.parametrize("problem", WINOGRAD, ids=str)
def test_several_winograd_tiles(problem, algorithm):
    assert check(algorithm, "float32", "ieee", problem)


@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
def test_winograd_in_several_parts(algorithm):
    """Some of many images against float64: each is a problem of its own."""
    from numbaconv.cuda import winograd

    arrays = operands(case((40, 64, 112, 112), (64, 64, 3, 3)), "float32")
    spec = spec_of(arrays, {"padding": 1})
    assert len(list(winograd.parts(winograd.shape(spec, int(algorithm[-1]))))) > 1
    result = on_host(nc.conv2d(**to_device(arrays), padding=1, algorithm=algorithm))
    some = [0, 17, 39]
    conforms(result[some], {**arrays, "input": arrays["input"][some]}, {"padding": 1}, directly=False)


SPLIT = [
    ("implicit_gemm", "float32", "ieee", case((1, 512, 7, 7), (512, 512, 3, 3), padding=1, bias=True, residual=True)),
    ("implicit_gemm", "float32", "ieee", case((1, 7, 7, 512), (64, 512, 3, 3), padding=1, layout="NHWC", bias=True)),
    ("implicit_gemm", "complex64", "ieee", case((1, 200, 6, 5), (40, 200, 3, 3), padding=1)),
    ("implicit_gemm", "float64", "ieee", case((1, 400, 6, 5), (40, 200, 3, 3), padding=1, groups=2)),
    ("tensor_gemm", "float16", "ieee", case((1, 512, 7, 7), (512, 512, 3, 3), padding=1, bias=True)),
    ("tensor_gemm", "bfloat16", "ieee", case((1, 7, 7, 1024), (64, 1024, 1, 1), layout="NHWC", residual=True)),
    ("tensor_gemm", "float32", "tf32", case((1, 512, 7, 7), (100, 512, 3, 3), padding=1)),
    ("warpgroup_gemm", "float16", "ieee", case((1, 512, 7, 7), (512, 512, 3, 3), padding=1, bias=True)),
    ("warpgroup_gemm", "float32", "tf32", case((1, 512, 7, 7), (100, 512, 3, 3), padding=1)),
    ("tma_gemm", "float16", "ieee", case((1, 512, 7, 7), (512, 512, 3, 3), padding=1, bias=True)),
    ("tma_gemm", "float32", "tf32", case((1, 512, 7, 7), (100, 512, 3, 3), padding=1)),
]


@pytest.mark.parametrize(("algorithm", "dtype", "precision", "problem"), SPLIT, ids=str)
def test_products_in_parts(algorithm, dtype, precision, problem):
    options = {**problem.options, "algorithm": algorithm, "precision": precision}
    assert cut_of(operands(problem, dtype), options).splits > 1
    assert check(algorithm, dtype, precision, problem)


# ---------------------------------------------------------------- memory orders


@pytest.mark.parametrize("order", [*ORDERS, "unaligned"])
@pytest.mark.parametrize(("algorithm", "dtype", "precision"), COMPUTING)
def test_memory_orders(algorithm, dtype, precision, order):
    channels, groups = (1, 24) if algorithm == "depthwise" else (24, 1)
    problem = case((2, 24, 17, 19), (24, channels, 3, 3), groups=groups, padding=1, bias=True, residual=True)
    check(algorithm, dtype, precision, problem, lambda arrays: {name: stored(a, order) for name, a in arrays.items()})


@pytest.mark.parametrize("algorithm", NAMES)
def test_an_out_of_any_strides_is_written_and_nothing_beside_it(gpu, algorithm):
    dtype = "float16" if algorithm in TENSOR_CORES else "float32"
    channels, groups = (1, 16) if algorithm == "depthwise" else (16, 1)
    problem = case((2, 16, 12, 13), (16, channels, 3, 3), groups=groups, padding=1)
    arrays, options = operands(problem, dtype), {**problem.options, "algorithm": algorithm}
    from numbaconv.cuda.shadow import cast_shadow, lend

    memory = gpu.to_device(np.full((2, 16, 12, 26), 9, dtype))
    out = lend(cast_shadow(memory, "out")[..., ::-2])
    assert nc.conv2d(**to_device(arrays), **options, out=out) is out
    written = on_host(memory)
    conforms(written[..., ::-2], arrays, options, directly=not algorithm.startswith("winograd"))
    assert (written[..., ::2] == 9).all()


def test_broadcast_operands():
    arrays = operands(case((2, 8, 9, 10), (8, 8, 3, 3), bias=True), "float32")
    given = to_device(arrays)
    from numbaconv.cuda.shadow import cast_shadow, lend

    for name, index in (("input", np.s_[:1]), ("weight", np.s_[:, :1]), ("bias", np.s_[:1])):
        arrays[name] = np.broadcast_to(arrays[name][index], arrays[name].shape)
        given[name] = lend(np.broadcast_to(cast_shadow(given[name], name)[index], arrays[name].shape))
        conforms(on_host(nc.conv2d(**given)), {n: a.copy() for n, a in arrays.items()}, {}, directly=False)


# ---------------------------------------------------------------- random problems


def random_problem(rng):
    """A case, its dtype, and the memory orders of its arrays. Where the padded input is smaller than the kernel, it grows."""

    def one_or_two(low, high):
        return int(rng.integers(low, high)) if rng.random() < 0.5 else tuple(rng.integers(low, high, 2).tolist())

    groups = int(rng.choice([1, 1, 2, 5, 16]))
    ins, outs = (int(rng.choice([1, 1, 2, 3, 8, 16, 21, 40])) for _ in range(2))
    kernel = (3, 3) if rng.random() < 0.4 else tuple(rng.integers(1, 6, 2).tolist())
    stride, dilation = (1, 1) if rng.random() < 0.4 else (one_or_two(1, 4), one_or_two(1, 4))
    pairs = tuple(map(tuple, rng.integers(-1, 6, (2, 2)).tolist()))
    padding = [one_or_two(-1, 6), pairs, "valid", "same", "same_lower"][rng.integers(5)]
    size = rng.integers(3, 40, 2).tolist()
    pads = pads_in_full(padding, size, kernel, stride, dilation)
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, np.broadcast_to(dilation, 2).tolist(), strict=True)]
    size = [max(n, e - sum(p)) for n, e, p in zip(size, extent, (pads[:2], pads[2:]), strict=True)]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    options["padding_mode"] = str(rng.choice(MODES, p=[0.7, 0.1, 0.1, 0.1]))
    batch = [(), (1,), (1,), (2,), (3,)][rng.integers(5)]
    one = case((*batch, ins * groups, *size), (outs * groups, ins, *kernel), bias=rng.random() < 0.5, residual=rng.random() < 0.5)
    one = in_layout(one._replace(options=options), str(rng.choice(["NCHW", "NHWC"])))
    kind = list(KINDS)[rng.choice(len(KINDS), p=[0.3, 0.15, 0.1, 0.15, 0.15, 0.05, 0.05, 0.05])]
    return one, kind, rng.choice([*ORDERS, "unaligned"], 4)


@pytest.mark.parametrize("seed", range(200))
def test_random_problems(seed):
    problem, (dtype, precision), orders = random_problem(np.random.default_rng(seed))
    print(f"seed {seed}: {problem} {dtype} {precision}, {', '.join(orders)}")

    def put(arrays):
        return {name: stored(a, order) for (name, a), order in zip(arrays.items(), orders, strict=False)}

    computed = [check(a, dtype, precision, problem, put) for a in KINDS[dtype, precision]]
    assert any(computed)


@pytest.mark.parametrize("algorithm", NAMES)
@pytest.mark.parametrize("which", ["input", "weight"])
def test_nan_reaches_only_what_depends_on_it(which, algorithm):
    dtype = "float16" if algorithm in TENSOR_CORES else "float32"
    channels, groups = (1, 16) if algorithm == "depthwise" else (16, 1)
    problem = case((1, 16, 12, 12), (16, channels, 3, 3), groups=groups)
    arrays = operands(problem, dtype)
    arrays[which][0, 0, 0, 0] = np.nan
    result = on_host(nc.conv2d(**to_device(arrays), groups=groups, algorithm=algorithm))
    assert why_not(arrays, {"groups": groups, "algorithm": algorithm, "backend": "cuda"}) is None
    reached = 1 if not algorithm.startswith("winograd") else 4
    beyond = result[:, 1:] if which == "weight" else result[:, :, reached:, reached:]
    assert np.isnan(result[0, 0, 0, 0])
    assert not np.isnan(beyond).any()
