"""Gradients of convolutions: PyTorch's ``torch.nn.grad``, complete. Each is another convolution, sent through dispatch.

The gradient with respect to a bias is a sum: ``grad_output.sum(axis=(0, 2, 3))`` in two dimensions, over all but the channels.
Gradients of complex operands conjugate, as PyTorch's autograd does.
"""

from __future__ import annotations

from typing import Any

from numbaconv.execute import Call, convolve
from numbaconv.options import ConvOptions, items

__all__ = ["conv1d_input", "conv1d_weight", "conv2d_input", "conv2d_weight", "conv3d_input", "conv3d_weight"]


def conv2d_input(
    input_size: Any, weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    *, algorithm: str = "auto",
) -> Any:  # fmt: skip
    """Gradient of ``conv2d`` with respect to its input.

    Parameters
    ----------
    input_size : sequence of ints, ``(N, C_in, H, W)`` or ``(C_in, H, W)``
        The shape of the input.
    weight : array_like, ``(C_out, C_in / groups, kh, kw)``
        The weight.
    grad_output : array_like, ``(N, C_out, H', W')`` or ``(C_out, H', W')``
        The gradient with respect to the result.
    stride, padding, dilation, groups
        Those of :func:`numbaconv.conv2d`, words and pairs too.
    algorithm
        That of the convolution which computes the gradient, as of :func:`numbaconv.conv2d`.

    Returns
    -------
    array of shape `input_size`
        Where `grad_output` lives, of its memory order; dtypes as of :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`numbaconv.conv2d`; also if the shapes do not belong together.
    """
    return _input(2, input_size, weight, grad_output, stride, padding, dilation, groups, algorithm=algorithm)


def conv2d_weight(
    input: Any, weight_size: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    *, algorithm: str = "auto",
) -> Any:  # fmt: skip
    """Gradient of ``conv2d`` with respect to its weight.

    Parameters
    ----------
    input : array_like, ``(N, C_in, H, W)`` or ``(C_in, H, W)``
        The input.
    weight_size : sequence of ints, ``(C_out, C_in / groups, kh, kw)``
        The shape of the weight.
    grad_output : array_like, ``(N, C_out, H', W')`` or ``(C_out, H', W')``
        The gradient with respect to the result.
    stride, padding, dilation, groups
        Those of :func:`numbaconv.conv2d`, words and pairs too.
    algorithm
        That of the convolution which computes the gradient, as of :func:`numbaconv.conv2d`.

    Returns
    -------
    array of shape `weight_size`
        Where `input` lives, in C order; dtypes as of :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`numbaconv.conv2d`; also if the shapes do not belong together.
    """
    return _weight(2, input, weight_size, grad_output, stride, padding, dilation, groups, algorithm=algorithm)


def conv1d_input(
    input_size: Any, weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    *, algorithm: str = "auto",
) -> Any:  # fmt: skip
    """Gradient of ``conv1d`` with respect to its input; see :func:`conv2d_input`."""
    return _input(1, input_size, weight, grad_output, stride, padding, dilation, groups, algorithm=algorithm)


def conv1d_weight(
    input: Any, weight_size: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    *, algorithm: str = "auto",
) -> Any:  # fmt: skip
    """Gradient of ``conv1d`` with respect to its weight; see :func:`conv2d_weight`."""
    return _weight(1, input, weight_size, grad_output, stride, padding, dilation, groups, algorithm=algorithm)


def conv3d_input(
    input_size: Any, weight: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    *, algorithm: str = "auto",
) -> Any:  # fmt: skip
    """Gradient of ``conv3d`` with respect to its input; see :func:`conv2d_input`."""
    return _input(3, input_size, weight, grad_output, stride, padding, dilation, groups, algorithm=algorithm)


def conv3d_weight(
    input: Any, weight_size: Any, grad_output: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    *, algorithm: str = "auto",
) -> Any:  # fmt: skip
    """Gradient of ``conv3d`` with respect to its weight; see :func:`conv2d_weight`."""
    return _weight(3, input, weight_size, grad_output, stride, padding, dilation, groups, algorithm=algorithm)


def _input(ndim: int, input_size: Any, weight: Any, grad_output: Any, *geometry: Any, algorithm: str) -> Any:
    options = ConvOptions(*geometry)._replace(size=_hashable(input_size), algorithm=algorithm)
    return convolve("input_gradient", ndim, Call(grad_output, weight), options)


def _weight(ndim: int, input: Any, weight_size: Any, grad_output: Any, *geometry: Any, algorithm: str) -> Any:
    options = ConvOptions(*geometry)._replace(size=_hashable(weight_size), algorithm=algorithm)
    return convolve("weight_gradient", ndim, Call(input, grad_output), options)


def _hashable(size: Any) -> Any:
    """A torch.Size or list as a plain tuple; what is no sequence is for the checks to refuse."""
    found = items(size)
    return size if found is None else found
