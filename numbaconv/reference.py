"""The oracle: convolution in plain NumPy, one tap of the kernel at a time. Slow, short, and able to do everything.

It shares no code with the kernels; the tests hold both against it and itself against a five-loop definition.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from numbaconv.activation import apply
from numbaconv.algorithm import Algorithm, Operands, Runner
from numbaconv.spec import ConvSpec, Triple

__all__ = ["ALGORITHMS", "correlate", "padded", "why_unavailable"]


def why_unavailable() -> str | None:
    """NumPy is always there."""
    return None


def correlate(spec: ConvSpec, input: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the channel-summed cross-correlation of canonical arrays, in their own common dtype."""
    result = np.zeros(spec.output_shape, np.result_type(input, weight))
    for kd, kh, kw in itertools.product(*map(range, spec.kernel_size)):
        read = padded(spec, input, (kd, kh, kw))
        result += np.einsum("ngcdhw,goc->ngodhw", read, weight[..., kd, kh, kw], optimize=True)
    return result


def padded(spec: ConvSpec, input: np.ndarray, tap: Triple) -> np.ndarray:
    """Return what the outputs read through one tap, padding included: ``(batch, groups, channels / groups, D', H', W')``."""
    for axis, k in enumerate(tap):
        n, (low, _) = spec.input_size[axis], spec.padding[axis]
        position = np.arange(spec.output_size[axis]) * spec.stride[axis] + k * spec.dilation[axis] - low
        inside = (position >= 0) & (position < n)
        if spec.padding_mode == "zeros":
            values = input.take(position[inside], axis + 3)
            input = np.zeros((*values.shape[: axis + 3], len(position), *values.shape[axis + 4 :]), values.dtype)
            input[(slice(None),) * (axis + 3) + (inside,)] = values
        else:
            input = input.take(_SOURCES[spec.padding_mode](position, n), axis + 3)
    return input


def _reflect(position: np.ndarray, n: int) -> np.ndarray:
    period = max(1, 2 * (n - 1))
    return (n - 1) - np.abs(position % period - (n - 1))


# Where a position outside an axis of n elements reads.
_SOURCES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "reflect": _reflect,
    "replicate": lambda position, n: np.clip(position, 0, n - 1),
    "circular": lambda position, n: position % n,
}


def _prepare(spec: ConvSpec) -> Runner:
    def run(ops: Operands) -> None:
        result: np.ndarray = correlate(spec, ops.input.astype(spec.dtypes.compute), ops.weight)
        if ops.bias is not None:
            result = result + ops.bias[None, :, :, None, None, None]
        if ops.residual is not None:
            result = result + ops.residual
        result = apply(spec.activation, result)
        ops.output[...] = result.astype(spec.dtypes.out)

    return run


def _cost(spec: ConvSpec) -> float:
    """One einsum a tap: 20 us each, and 1 ns a product: a guess that every kernel beats."""
    taps = int(np.prod(spec.kernel_size))
    return 20e-6 * taps + 1e-9 * spec.multiply_adds


ALGORITHMS = (
    Algorithm(
        name="reference",
        backend="reference",
        summary="plain NumPy, one tap at a time",
        why_not=lambda spec: None,
        cost=_cost,
        pack=lambda spec, weight, stream: weight.astype(spec.dtypes.compute),
        prepare=_prepare,
    ),
)
