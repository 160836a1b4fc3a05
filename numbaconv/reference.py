"""The oracle: convolution in plain NumPy, one tap of the kernel at a time. Slow, short, and able to do everything.

It shares no code with the kernels; the tests hold both against it and itself against a five-loop definition.
"""

from __future__ import annotations

import itertools

import numpy as np

from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.spec import ConvSpec

__all__ = ["ALGORITHMS", "correlate", "pad", "why_unavailable"]

_NUMPY_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def why_unavailable() -> str | None:
    """NumPy is always there."""
    return None


def correlate(spec: ConvSpec, input: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the channel-summed cross-correlation of canonical arrays, in their own common dtype."""
    padded = pad(input, spec)
    result = np.zeros(spec.output_shape, np.result_type(input, weight))
    for kd, kh, kw in itertools.product(*map(range, spec.kernel_size)):
        rows = zip((kd, kh, kw), spec.dilation, spec.stride, spec.output_size, strict=True)
        d, h, w = (slice(k * dilation, k * dilation + (n - 1) * s + 1, s) for k, dilation, s, n in rows)
        result += np.einsum("ngcdhw,goc->ngodhw", padded[..., d, h, w], weight[..., kd, kh, kw], optimize=True)
    return result


def pad(input: np.ndarray, spec: ConvSpec) -> np.ndarray:
    """Pad canonical data as the spec says, by ``numpy.pad``."""
    widths = ((0, 0),) * 3 + spec.padding
    if spec.padding_mode == "zeros":
        return np.pad(input, widths)
    return np.pad(input, widths, mode=_NUMPY_MODES[spec.padding_mode])  # type: ignore[call-overload]


def _prepare(spec: ConvSpec) -> Runner:
    def run(ops: Operands) -> None:
        result: np.ndarray = correlate(spec, ops.input.astype(spec.dtypes.compute), ops.weight)
        if ops.bias is not None:
            result = result + ops.bias[None, :, :, None, None, None]
        if ops.residual is not None:
            result = result + ops.residual
        ops.output[...] = result.astype(spec.dtypes.out)

    return run


def _cost(spec: ConvSpec) -> float:
    """One einsum a tap: 20 us each, and 1 ns a product (of measured order, to be beaten by every kernel)."""
    taps = int(np.prod(spec.kernel_size))
    return 20e-6 * taps + 1e-9 * spec.multiply_adds


ALGORITHMS = (
    Algorithm(
        name="reference",
        backend="reference",
        summary="plain NumPy, one tap at a time",
        why_not=lambda spec: None,
        cost=_cost,
        pack=lambda spec, weight: weight.astype(spec.dtypes.compute),
        prepare=_prepare,
    ),
)
