"""What one call computes: one or several convolutions of views of its arrays.

A plain convolution is one part. Operators that are other convolutions (:mod:`numbaconv.adjoint`) have several, each of
other views.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from numbaconv import arrays
from numbaconv.arrays import View
from numbaconv.spec import ArraySpec, ConvOptions, ConvSpec, DataFormat, Size, normalise

__all__ = ["Part", "Problem", "Specs", "convolution"]

WHOLE: Any = Ellipsis


class Specs(NamedTuple):
    """What planning needs to know of the operands."""

    input: ArraySpec
    weight: ArraySpec
    bias: ArraySpec | None = None
    residual: ArraySpec | None = None


class Part(NamedTuple):
    """One convolution, and the indices that take its views out of the canonical arrays of the call."""

    spec: ConvSpec
    input: Any = WHOLE
    weight: Any = WHOLE
    output: Any = WHOLE


@dataclass(frozen=True)
class Problem:
    """The parts of a call, in the order in which they run, and how its arrays are seen in canonical form.

    Attributes
    ----------
    title
        The operator in words.
    parts
        Together they write every element of the result; later ones may overwrite what earlier ones wrote.
    view_input, view_weight, view_output
        Canonical views of the first operand, the second, and of result and residual.
    shape
        The result's, as the caller sees it.
    stored_shape, see_result
        The shape to allocate, with the axes in the order of memory, and the caller's view of such an array.
    conjugate
        Which operands are to be conjugated first: "input", "weight" or neither.
    """

    title: str
    parts: tuple[Part, ...]
    view_input: View
    view_weight: View
    view_output: View
    shape: Size
    stored_shape: Size
    see_result: View
    conjugate: str | None = None

    @property
    def out_dtype(self) -> np.dtype:
        """The result's dtype."""
        return self.parts[0].spec.dtypes.out

    @property
    def groups(self) -> int:
        """Into how many groups a bias falls."""
        return self.parts[0].spec.groups

    @property
    def multiply_adds(self) -> int:
        """The products that all parts sum together, those with padding included."""
        return sum(part.spec.multiply_adds for part in self.parts)


def convolution(ndim: int, specs: Specs, options: ConvOptions, names: tuple[str, str] = ("input", "weight")) -> Problem:
    """Return the problem of ``conv1d``, ``conv2d`` or ``conv3d``, or of a function whose operands have other names."""
    spec, data_format = normalise(ndim, *specs, options, *names)
    return Problem(
        title=str(spec),
        parts=(Part(spec),),
        view_input=lambda a: arrays.view_input(a, data_format, spec.groups),
        view_weight=lambda a: arrays.view_weight(a, spec.groups),
        view_output=lambda a: arrays.view_data(a, data_format, spec.groups),
        **result_of(spec, data_format),
    )


def result_of(spec: ConvSpec, data_format: DataFormat) -> dict[str, Any]:
    """Return the fields of a problem whose result is data (a batch of images, say)."""
    return {
        "shape": data_format.shape(spec.batch, spec.out_channels, spec.output_size),
        "stored_shape": arrays.stored_shape(spec, data_format),
        "see_result": lambda a: arrays.result_view(a, spec, data_format),
    }
