"""What algorithms really take: measured side by side, and kept for :func:`numbaconv.dispatch.select`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from numbaconv import dtypes, execute, tuning
from numbaconv.algorithm import Operands
from numbaconv.backend import BACKENDS
from numbaconv.dispatch import aligned, in_seconds, usable
from numbaconv.networks import Layer
from numbaconv.options import ConvOptions
from numbaconv.spec import ArraySpec, ConvSpec, normalise

__all__ = ["Comparison", "compare", "interleaved", "measure", "problem", "report", "tune"]

HOPELESS = 20  # times the least predicted cost: the reference is then not measured
CLOSE = 1.1  # times the fastest: as good


class Comparison(NamedTuple):
    """What the cost model would have taken for a problem, and what each algorithm was measured to take."""

    spec: ConvSpec
    predicted: str
    seconds: dict[str, float]

    @property
    def fastest(self) -> str:
        """The algorithm of least measured time."""
        return min(self.seconds, key=self.seconds.__getitem__)

    @property
    def ratio(self) -> float:
        """The time of the model's choice over that of the fastest."""
        return self.seconds[self.predicted] / self.seconds[self.fastest]


def problem(layer: Layer, layout: str = "NCHW", dtype: Any = np.float32, bias: bool = False, activation: Any = None) -> ConvSpec:
    """Return the problem of a layer.

    Parameters
    ----------
    layer : Layer
        Its shapes are channels first whatever the layout.
    layout : {"NCHW", "NHWC"}
        The order in memory, with one spatial axis or three likewise.
    dtype : dtype
        Of data, weight and bias.
    bias : bool
        Whether a bias is added.
    activation
        As of :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError
        As :func:`numbaconv.conv2d`.
    """
    checked = dtypes.check(dtype, "dtype")
    input = ArraySpec(layer.input, checked, layout == "NHWC")
    weight = ArraySpec(layer.weight, checked)
    addend = ArraySpec(layer.weight[:1], checked) if bias else None
    options = ConvOptions(**layer.options, activation=activation)
    return normalise(layer.ndim, input, weight, addend, None, options)[0]


def tune(specs: Sequence[ConvSpec], progress: Callable[[str], None]) -> Iterator[Comparison]:
    """Measure problems one after the other, keep the times of each once it is whole, and yield them.

    Raises
    ------
    OSError
        If they cannot be kept.
    """
    for number, spec in enumerate(specs, 1):
        progress(f"[{number}/{len(specs)}] {spec}")
        comparison = compare(spec)
        tuning.store(spec, comparison.seconds)
        forget_plans()
        yield comparison


def report(comparisons: Sequence[Comparison]) -> str:
    """Return a table of what the cost model would have taken and what is fastest, and how often they are close."""
    table = [("problem", "predicted", "fastest", "ratio")]
    for c in comparisons:
        chosen, fastest = (f"{name} {in_seconds(c.seconds[name])}" for name in (c.predicted, c.fastest))
        table.append((str(c.spec), chosen, fastest, f"{c.ratio:.2f}"))
    close = sum(c.ratio <= CLOSE for c in comparisons)
    summary = f"the model's choice was within 10 % of the fastest on {close} of {len(comparisons)} problems"
    return "\n".join([*aligned(table), summary])


def compare(spec: ConvSpec) -> Comparison:
    """Measure a problem, and say what the cost model would have taken."""
    predicted = min(usable(spec, BACKENDS["cpu"]), key=lambda algorithm: algorithm.cost(spec))
    return Comparison(spec, predicted.name, measure(spec))


def measure(spec: ConvSpec) -> dict[str, float]:
    """Return the median seconds that each algorithm of the host takes for a problem, its weight packed before.

    The reference is left out where it is predicted to be hopeless.
    """
    algorithms = usable(spec, BACKENDS["cpu"])
    limit = HOPELESS * min(a.cost(spec) for a in algorithms)
    algorithms = [a for a in algorithms if a.backend != "reference" or a.cost(spec) <= limit]
    weight = _numbers(spec.weight_shape, spec.dtypes.compute)
    operands = Operands(
        input=_data(spec.input_shape, spec.dtypes.input, spec.channels_last),
        weight=None,
        bias=_numbers(spec.weight_shape[:2], spec.dtypes.compute) if spec.has_bias else None,
        residual=_data(spec.output_shape, spec.dtypes.out, spec.channels_last) if spec.has_residual else None,
        output=_data(spec.output_shape, spec.dtypes.out, spec.channels_last),
    )

    def call(prepared: Any, packed: Any) -> Callable[[], None]:
        return lambda: prepared(operands._replace(weight=packed))

    calls = [call(a.prepare(spec), a.pack(spec, weight, None)) for a in algorithms]
    return dict(zip([a.name for a in algorithms], interleaved(*calls), strict=True))


def interleaved(*functions: Callable[[], Any], rounds: int = 7) -> list[float]:
    """Return the median seconds of each function, warm, taking turns so that a slow moment of the machine strikes all.

    What is short is called several times a turn, for a millisecond.
    """
    for function in functions:
        function()
    repeats = [1 + int(1e-3 / max(1e-7, _seconds(function, 1))) for function in functions]
    times = [[_seconds(f, n) for f, n in zip(functions, repeats, strict=True)] for _ in range(rounds)]
    return np.median(times, axis=0).tolist()


def forget_plans() -> None:
    """Let calls like earlier ones be planned anew."""
    execute.forget()


def _seconds(function: Callable[[], Any], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats


def _data(shape: tuple[int, ...], dtype: np.dtype, channels_last: bool) -> np.ndarray:
    """Canonical data in an order in memory."""
    if not channels_last:
        return _numbers(shape, dtype)
    batch, groups, channels, *space = shape
    return np.moveaxis(_numbers((batch, *space, groups, channels), dtype), (-2, -1), (1, 2))


def _numbers(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.random.default_rng(0).integers(-4, 5, shape, np.int8).astype(dtype)
