"""Complex convolutions by real ones: the 4m method, by which BLIS induces complex products (Van Zee and Smith, 2017).

The real and the imaginary parts of an array are real arrays, whose elements lie two apart, and real kernels read and write them
so:

    re(y) = re(x) * re(w) - im(x) * im(w)
    im(y) = re(x) * im(w) + im(x) * re(w)

The first product of a sum has the bias and the residual, and is the residual of the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.cpu.direct import DIRECT
from numbaconv.cpu.winograd import WINOGRAD4
from numbaconv.dtypes import Dtypes
from numbaconv.spec import ConvSpec

__all__ = ["DIRECT_4M", "WINOGRAD4_4M"]

PARTS: tuple[Callable[[Any], Any], ...] = attrgetter("real"), attrgetter("imag")


@lru_cache(maxsize=1024)
def products(spec: ConvSpec) -> tuple[ConvSpec, ConvSpec]:
    """Return the real problems of a complex one: the first product of a sum, and the one that is added to it."""
    dtypes = Dtypes(*(np.dtype(f"f{dtype.itemsize // 2}") for dtype in spec.dtypes))
    first = replace(spec, dtypes=dtypes)
    return first, replace(first, has_bias=False, has_residual=True)


def why_not(spec: ConvSpec, base: Algorithm) -> str | None:
    """Say so for real operands, for what sees or stores whole complex numbers, and for what is beyond the real algorithm."""
    input, compute, out, weight = spec.dtypes
    if not input.kind == weight.kind == "c":
        return f"it takes complex numbers times complex numbers, not {input} times {weight}"
    if not input == weight == compute == out:
        return f"it computes in the dtype of its operands, {input} times {weight} -> {out} converts"
    if spec.activation is not None:
        return "an activation sees whole complex numbers"
    return base.why_not(products(spec)[0])


def pack(spec: ConvSpec, weight: np.ndarray, base: Algorithm) -> tuple[Any, Any, Any]:
    """Return the real part, the imaginary one and that with the other sign, as the real algorithm reads them."""
    first, _ = products(spec)
    return base.pack(first, weight.real, None), base.pack(first, weight.imag, None), base.pack(first, -weight.imag, None)


def prepare(spec: ConvSpec, base: Algorithm) -> Runner:
    """Compile for the real dtypes, and return what computes the four products."""
    first, second = map(base.prepare, products(spec))
    compute = spec.dtypes.compute

    def run(ops: Operands) -> None:
        re, im, negative = ops.weight
        given = [None if a is None else a.astype(compute, copy=False) for a in (ops.bias, ops.residual)]
        begun = np.empty_like(ops.output.real)  # its axes in the output's order
        for part, (of_real, of_imaginary) in zip(PARTS, ((re, negative), (im, re)), strict=True):
            bias, residual = (None if a is None else part(a) for a in given)
            first(Operands(ops.input.real, of_real, bias, residual, begun))
            second(Operands(ops.input.imag, of_imaginary, None, begun, part(ops.output)))

    return run


def cost(spec: ConvSpec, base: Algorithm) -> float:
    """Seconds: four of the real one's, and 20 us for each to see its arrays."""
    first, second = products(spec)
    return 2 * base.cost(first) + 2 * base.cost(second) + 80e-6


def induced(base: Algorithm) -> Algorithm:
    """Return the algorithm for complex numbers by one for real numbers."""
    return Algorithm(
        name=f"{base.name}_4m",
        backend="cpu",
        summary=f"complex numbers by four real products of {base.name}",
        why_not=lambda spec: why_not(spec, base),
        cost=lambda spec: cost(spec, base),
        pack=lambda spec, weight, stream: pack(spec, weight, base),
        prepare=lambda spec: prepare(spec, base),
        packing_cost=lambda spec: 3 * base.packing_cost(products(spec)[0]),
        sums_directly=base.sums_directly,
        packing=lambda spec: base.packing(products(spec)[0]),
    )


DIRECT_4M, WINOGRAD4_4M = induced(DIRECT), induced(WINOGRAD4)
