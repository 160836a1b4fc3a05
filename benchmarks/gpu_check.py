"""Whether every CUDA algorithm is right: on random problems, beside float64 on the host, by bounds that are derived."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from numbaconv.bench.cuda import said

GRID = [
    ((2, 16, 56, 57), (32, 16, 3, 3), {"padding": 1}),
    ((2, 64, 14, 14), (70, 64, 1, 1), {}),
    ((1, 3, 112, 113), (24, 3, 7, 7), {"stride": 2, "padding": 3}),
    ((4, 256, 7, 7), (256, 256, 3, 3), {"padding": 1}),
    ((1, 3, 61, 67), (5, 3, 3, 5), {"stride": (2, 3), "dilation": (3, 1), "padding": ((4, 1), (0, 3))}),
    ((2, 24, 31, 33), (24, 1, 5, 5), {"groups": 24, "padding": "same"}),
    ((2, 28, 30, 48), (48, 1, 3, 3), {"groups": 48, "padding": 1, "stride": 2, "layout": "NHWC"}),
    ((2, 24, 56, 56), (24, 1, 7, 7), {"groups": 24, "padding": 3}),
    ((2, 24, 31, 33), (36, 6, 3, 3), {"groups": 4, "stride": 2}),
    ((1, 5, 20, 70), (9, 5, 3, 3), {"padding": 2, "padding_mode": "reflect"}),
    ((2, 37, 19, 23), (53, 37, 3, 3), {"padding": 1}),
    ((2, 41, 12, 40), (20, 40, 3, 3), {"layout": "NHWC"}),
]
ROUNDING = {"tf32": 2.0**-11, "f16": 2.0**-11, "bf16": 2.0**-8}  # relative, of what has so few digits


def rms_bound(precision: str, algorithm: Any, terms: int) -> float:
    """Return the rms error that random data allow, relative to the results' rms, for sums of m products.

    Summed one by one with u = 2^-24, the partial sum of k products has the size sqrt(k) and is off by another u of that at most:
    u sqrt(1 + 2 + ... + m) < u m in all, relative to sqrt(m), is u sqrt(m); and u more for storing. Winograd's algorithm is
    allowed four times as much. Operands rounded to v make a product wrong by at most sqrt(2) v in the mean square, and so are
    the sums; ``wgmma`` cuts to tf32, which is twice as much. Tensor cores truncate, always towards zero: 2 u for each of m / 8
    additions. 16-bit results are rounded to v.
    """
    u, v = 2.0**-24, ROUNDING.get(precision, 0.0)
    bound = u * (1 + math.sqrt(terms)) * (1 if algorithm.sums_directly else 4)
    if algorithm.name in ("tensor_gemm", "warpgroup_gemm", "tma_gemm", "halo_gemm"):
        cut = 1 if algorithm.name == "tensor_gemm" else 2
        bound += 2 * u * terms / 8 + (cut * math.sqrt(2) * v if precision == "tf32" else 0)
    return bound + (v if precision in ("f16", "bf16") else 0)


def rms(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def to_torch(array: np.ndarray, precision: str) -> Any:
    import torch

    return torch.from_numpy(array).to("cuda", dtype_of(precision))


def dtype_of(precision: str) -> Any:
    import torch

    return {"f16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)


def asked_for(precision: str) -> str:
    """What numbaconv calls it: 16-bit arrays are multiplied as they are."""
    return "tf32" if precision == "tf32" else "ieee"


def check(precision: str, deadline: float) -> list[str]:
    """Compare every algorithm on random problems with float64 on the host; return what is wrong."""
    import numbaconv as nc
    from numbaconv.cuda import ALGORITHMS

    rng, wrong = np.random.default_rng(0), []
    for shape, weight_shape, options in GRID:
        x, w = (to_torch(rng.standard_normal(s), precision) for s in (shape, weight_shape))
        exact = nc.conv2d(*(a.double().cpu().numpy() for a in (x, w)), **options, backend="reference")
        for algorithm in ALGORITHMS:
            name = f"{precision:4} {algorithm.name:13} {shape} {weight_shape} {options}"
            if time.monotonic() > deadline:
                print("  no time for more checks")
                return wrong
            try:
                y = nc.conv2d(x, w, **options, algorithm=algorithm.name, precision=asked_for(precision))
                error = rms(y.double().cpu().numpy() - exact) / rms(exact)
            except Exception as failure:
                if not str(failure).startswith("algorithm: "):
                    wrong.append(f"{name}: {said(failure)}")
                    print(f"  {wrong[-1]}", flush=True)
                continue
            bound = rms_bound(precision, algorithm, math.prod(weight_shape[1:]))
            line = f"{name}: rms error {error:.1e}, at most {bound:.1e}"
            if not error <= bound:
                wrong.append(line)
                line += "  WRONG"
            print(f"  {line}", flush=True)
    return wrong
