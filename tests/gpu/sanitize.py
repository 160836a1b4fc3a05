"""Tiny problems through every CUDA algorithm and dtype, for compute-sanitizer, which is slow; needs numba-cuda and NumPy only.

compute-sanitizer --tool memcheck python tests/gpu/sanitize.py    (also racecheck, synccheck, initcheck)

Prints what ran; exits with status 1 after a wrong result. Sizes are such that tiles are cut at every edge.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numbaconv as nc
from numbaconv import execute
from numbaconv.cuda import ALGORITHMS, tma_gemm, why_unavailable
from numbaconv.dtypes import BFLOAT16

try:
    from ml_dtypes import bfloat16
except ImportError:
    bfloat16 = None

KINDS = [
    (np.float32, "ieee"), (np.float64, "ieee"), (np.complex64, "ieee"), (np.int8, "ieee"), (np.float16, "ieee"),
    (bfloat16, "ieee"), (np.float32, "tf32"), (np.float32, "bf16"),
]  # fmt: skip
# input, weight, options; all of them with bias and residual
PROBLEMS = [
    ((1, 9, 7, 11), (5, 9, 3, 3), {"padding": 1}),
    ((2, 17, 4, 6), (33, 17, 1, 1), {}),  # pixels by 16 bytes
    ((1, 8, 9, 16), (24, 16, 3, 3), {"layout": "NHWC", "padding": 1}),
    ((1, 6, 8, 9), (4, 3, 3, 2), {"groups": 2, "stride": (2, 1), "padding": ((1, 2), (0, 3)), "padding_mode": "reflect"}),
    ((1, 5, 9, 10), (5, 1, 3, 3), {"groups": 5, "padding": 1}),
    ((1, 8, 7, 20), (20, 1, 5, 5), {"groups": 20, "layout": "NHWC", "stride": 2, "padding": 2}),
    ((1, 200, 3, 4), (7, 200, 3, 3), {"padding": 1}),  # in parts
]
DIGITS = {"float32": 24, "float64": 53, "complex64": 24, "float16": 11, BFLOAT16: 8}
ROUNDED = {"ieee": 60, "tf32": 11, "bf16": 8}


def draw(rng, shape, dtype):
    if dtype == np.int8:
        return rng.integers(-128, 128, shape, np.int8)
    values = rng.standard_normal(shape)
    return (values + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)


def upload(array):
    """A Numba array. numba-cuda 0.30 uploads bfloat16 under another name only."""
    from numba import cuda

    if array.dtype.name != BFLOAT16:
        return cuda.to_device(array)
    return cuda.to_device(array.view(np.uint16)).view(array.dtype)


def wide(array):
    return array.astype({"c": np.complex128, "i": np.int64}.get(array.dtype.kind, np.float64))


def is_right(result, exact, magnitude, terms, precision):
    """Whether a result is within what rounding can do to it; the image's largest bound holds everywhere, as Winograd needs."""
    if result.dtype.kind == "i":
        return np.array_equal(result, exact)
    digits = DIGITS[result.dtype.name]
    summed = terms * 2.0 ** (2 - max(23, digits))
    allowed = (2.0 ** (2 - ROUNDED[precision]) + summed) * magnitude.max() + 2.0**-digits * abs(exact)
    return bool((abs(result - exact) <= allowed).all())


def run(algorithm, dtype, precision, problem, rng):
    """Compute a problem twice, the second time from a recording; None if the algorithm does not take it."""
    shape, weight_shape, options = problem
    shapes = {"input": shape, "weight": weight_shape, "bias": weight_shape[:1]}
    arrays = {name: draw(rng, one, dtype) for name, one in shapes.items()}
    exact = nc.conv2d(**{n: wide(a) for n, a in arrays.items()}, **options, backend="reference")
    residual = draw(rng, exact.shape, dtype)
    exact = exact + wide(residual)
    magnitude = nc.conv2d(**{n: abs(wide(a)) for n, a in arrays.items()}, **options, backend="reference") + abs(wide(residual))
    given = {n: upload(a) for n, a in {**arrays, "residual": residual}.items()}
    options = {**options, "algorithm": algorithm, "precision": precision}
    try:
        results = [nc.conv2d(**given, **options).copy_to_host() for _ in range(2)]
    except ValueError as refused:
        if not str(refused).startswith("algorithm: "):
            raise
        return None
    terms = int(np.prod(weight_shape[1:])) + 2
    return all(is_right(result, exact, magnitude, terms, precision) for result in results)


def run_all(algorithm, dtype, precision, rng):
    """Compute all problems, and print how that went."""
    found = [run(algorithm, dtype, precision, problem, rng) for problem in PROBLEMS]
    words = "".join({None: "-", True: ".", False: "W"}[one] for one in found)
    print(f"{algorithm:14} {np.dtype(dtype).name:10} {precision:5} {words}", flush=True)
    return found


def in_clusters(rng):
    """What ``tma_gemm`` does with larger problems than these: blocks in clusters."""
    usual = tma_gemm.cut
    tma_gemm.cut = lambda spec: tma_gemm.Cut(tma_gemm.CLUSTERED[-1], 1)
    execute.forget()
    try:
        return run_all("tma_gemm", np.float16, "ieee", rng)
    finally:
        tma_gemm.cut = usual
        execute.forget()


def main():
    reason = why_unavailable()
    if reason is not None:
        sys.exit(reason)
    rng, found = np.random.default_rng(0), []
    for algorithm in ALGORITHMS:
        for dtype, precision in KINDS:
            if dtype is not None:
                found += run_all(algorithm.name, dtype, precision, rng)
    found += in_clusters(rng)
    wrong, ran = found.count(False), len(found) - found.count(None)
    print(f"{ran} problems ran, {wrong} wrong (. right, W wrong, - not taken)")
    return 1 if wrong or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
