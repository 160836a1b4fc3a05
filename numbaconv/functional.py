"""The operators, as functions with PyTorch's names, argument order and meaning."""

from __future__ import annotations

from typing import Any

from numbaconv.execute import convolve

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    residual: Any = None,
    activation: Any = None,
    out: Any = None,
    out_dtype: Any = None,
    algorithm: str = "auto",
    precision: str = "ieee",
    backend: str | None = None,
    stream: Any = None,
) -> Any:
    """Cross-correlate images with kernels, summed over the input channels, one kernel per output channel.

    ``y[n, o, i, j] = bias[o] + sum over c, p, q of weight[o, c, p, q] * input[n, c, i * stride + p * dilation - padding, ...]``

    Parameters
    ----------
    input : array_like, ``(N, C_in, H, W)`` or ``(C_in, H, W)``
        The data; ``(N, H, W, C_in)`` or ``(H, W, C_in)`` with ``layout="NHWC"``. Any strides; never changed.
    weight : array_like, ``(C_out, C_in / groups, kh, kw)``
        The kernels, whatever the layout of the data. They are not flipped.
    bias : array_like, ``(C_out,)``, optional
        Added to each output channel.
    stride : int or 2 ints, default 1
        Step between output positions, in input elements.
    padding : int, 2 ints, 2 ``(low, high)`` pairs, ``"valid"``, ``"same"`` or ``"same_lower"``, default 0
        Elements added before and after each spatial axis; negative ones crop. ``"same"`` gives ``ceil(n / stride)`` outputs with
        the smallest padding, the odd element high (``"same_lower"``: low), for any stride, as ONNX, TensorFlow and JAX.
    dilation : int or 2 ints, default 1
        Distance between the taps of the kernel, in input elements.
    groups : int, default 1
        Into how many groups of channels, convolved apart, the problem falls; ``groups=C_in`` is depthwise.
    padding_mode : {"zeros", "reflect", "replicate", "circular"}
        What padding holds: ``numpy.pad``'s ``"constant"``, ``"reflect"``, ``"edge"`` and ``"wrap"``.
    layout : {"NCHW", "NHWC"}, optional
        The order of the axes of `input` and result, NCHW by default.
    residual : array_like of the result's shape, optional
        Added to the result, before the activation.
    activation : str or function compiled with ``@njit``, optional
        "relu", "relu6", "leaky_relu" (0.01), "sigmoid", "tanh", "silu", "gelu" (erf) or "hardswish", or any scalar
        function of the caller's, of what the products are summed in; applied before the result leaves the cache.
    out : array of the result's shape, optional
        Where to put the result; it is what is returned. Its dtype may be wider or narrower than the result's, not of a lesser
        kind. If it overlaps an operand the result is computed apart first.
    out_dtype : dtype, optional
        The result's dtype. A wider one is also what the products are summed in.
    algorithm : str, default "auto"
        ``"auto"``, ``"accurate"`` (only algorithms that sum the products themselves), or a name that :func:`explain` lists.
    precision : {"ieee", "tf32", "bf16"}
        What float32 operands may be rounded to before they are multiplied; on CUDA only, elsewhere nothing ("ieee").
    backend : {"cpu", "cuda", "reference"}, optional
        Where to compute; by default where the data lives (see also :func:`use_backend`).
    stream : optional
        CUDA only: the stream to compute on.

    Returns
    -------
    array, ``(N, C_out, H', W')``, or as the layout says; without N where `input` has none
        ``H' = (H + low + high - dilation * (kh - 1) - 1) // stride + 1``. It lives where `input` lives, is of its family and in
        the same memory order. Its dtype is that of ``numpy.result_type`` of the operands, save that 8-bit integers give
        int32 and other integers and bools what ``numpy.sum`` gives.

    Raises
    ------
    ValueError
        For a shape or value that makes no sense; the message names the argument, what was expected and what came.
    TypeError
        For a dtype or kind of array that is not supported.
    BackendUnavailableError
        If the backend cannot run here.

    See Also
    --------
    Conv2d : The same with the weight prepared once.
    explain : Which algorithm a call takes, and why.

    References
    ----------
    Zhang, Lipton, Li, Smola, "Dive into Deep Learning", chapter 7; PyTorch's ``torch.nn.functional.conv2d``.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> x = np.arange(9.0).reshape(1, 1, 3, 3)
    >>> nc.conv2d(x, np.array([[[[0.0, 1], [2, 3]]]]))
    array([[[[19., 25.],
             [37., 43.]]]])
    """
    options = (stride, padding, dilation, groups, padding_mode, layout, activation, out_dtype, algorithm, precision)
    return convolve("conv", 2, (input, weight, bias, residual, out), options, backend, stream)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    residual: Any = None,
    activation: Any = None,
    out: Any = None,
    out_dtype: Any = None,
    algorithm: str = "auto",
    precision: str = "ieee",
    backend: str | None = None,
    stream: Any = None,
) -> Any:
    """Cross-correlate signals with kernels, summed over the input channels: :func:`conv2d` with one spatial axis.

    Parameters
    ----------
    input : array_like, ``(N, C_in, W)`` or ``(C_in, W)``
        The data; ``(N, W, C_in)`` or ``(W, C_in)`` with ``layout="NWC"``.
    weight : array_like, ``(C_out, C_in / groups, kw)``
        The kernels.
    bias, stride, padding, dilation, groups, padding_mode
        As of :func:`conv2d`; a padding of two sides is ``((low, high),)``.
    layout, residual, activation, out, out_dtype, algorithm, precision, backend, stream
        As of :func:`conv2d`. Layouts are "NCW" and "NWC".

    Returns
    -------
    array, ``(N, C_out, W')``, or as the layout says
        As of :func:`conv2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`conv2d`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.conv1d([[1.0, 2, 3, 4]], [[[1.0, -1]]])
    array([[-1., -1., -1.]])
    """
    options = (stride, padding, dilation, groups, padding_mode, layout, activation, out_dtype, algorithm, precision)
    return convolve("conv", 1, (input, weight, bias, residual, out), options, backend, stream)


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    layout: str | None = None,
    residual: Any = None,
    activation: Any = None,
    out: Any = None,
    out_dtype: Any = None,
    algorithm: str = "auto",
    precision: str = "ieee",
    backend: str | None = None,
    stream: Any = None,
) -> Any:
    """Cross-correlate volumes with kernels, summed over the input channels: :func:`conv2d` with three spatial axes.

    Parameters
    ----------
    input : array_like, ``(N, C_in, D, H, W)`` or ``(C_in, D, H, W)``
        The data; ``(N, D, H, W, C_in)`` or ``(D, H, W, C_in)`` with ``layout="NDHWC"``.
    weight : array_like, ``(C_out, C_in / groups, kd, kh, kw)``
        The kernels.
    bias, stride, padding, dilation, groups, padding_mode
        As of :func:`conv2d`.
    layout, residual, activation, out, out_dtype, algorithm, precision, backend, stream
        As of :func:`conv2d`. Layouts are "NCDHW" and "NDHWC".

    Returns
    -------
    array, ``(N, C_out, D', H', W')``, or as the layout says
        As of :func:`conv2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`conv2d`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.conv3d(np.ones((1, 2, 2, 2)), np.ones((1, 1, 2, 2, 2)))
    array([[[[8.]]]])
    """
    options = (stride, padding, dilation, groups, padding_mode, layout, activation, out_dtype, algorithm, precision)
    return convolve("conv", 3, (input, weight, bias, residual, out), options, backend, stream)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    residual: Any = None,
    activation: Any = None,
    out: Any = None,
    out_dtype: Any = None,
    algorithm: str = "auto",
    precision: str = "ieee",
    backend: str | None = None,
    stream: Any = None,
) -> Any:
    """Transposed convolution: the adjoint of :func:`conv2d`, which spreads each input element through the kernel.

    ``y[n, o, i * stride + p * dilation - padding, ...] += x[n, c, i, j] * weight[c, o, p, q]``

    Parameters
    ----------
    input : array_like, ``(N, C_in, H, W)`` or ``(C_in, H, W)``
        The data; channels last with ``layout="NHWC"``.
    weight : array_like, ``(C_in, C_out / groups, kh, kw)``
        The kernels, input channels first.
    bias : array_like, ``(C_out,)``, optional
        Added to each output channel.
    stride : int or 2 ints, default 1
        Distance, in output elements, between what neighbouring input elements spread to.
    padding : int, 2 ints or 2 ``(low, high)`` pairs, default 0
        How much of the full result's sides to leave out; negative ones add zeros.
    output_padding : int or 2 ints, default 0
        Rows and columns that the result has more on the high side; less than the larger of stride and dilation.
    groups : int, default 1
        Into how many groups of channels the problem falls.
    dilation : int or 2 ints, default 1
        Distance between the taps of the kernel, in output elements.
    layout, residual, activation, out, out_dtype, algorithm, precision, backend, stream
        As of :func:`conv2d`.

    Returns
    -------
    array, ``(N, C_out, H', W')``, or as the layout says; without N where `input` has none
        ``H' = (H - 1) * stride - low - high + dilation * (kh - 1) + output_padding + 1``. dtypes and memory order as of
        :func:`conv2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`conv2d`.

    Notes
    -----
    Computed as one convolution of stride 1 for each phase of the result (Dumoulin, Visin, "A guide to convolution arithmetic for
    deep learning", 2016): no zeros are put between the input's elements, and none multiplied.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.conv_transpose2d(np.array([[[1.0, 2]]]), np.ones((1, 1, 1, 2)), stride=2)
    array([[[1., 1., 2., 2.]]])
    """
    options = (stride, padding, dilation, groups, "zeros", layout, activation, out_dtype, algorithm, precision, output_padding)
    return convolve("conv_transpose", 2, (input, weight, bias, residual, out), options, backend, stream)


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    residual: Any = None,
    activation: Any = None,
    out: Any = None,
    out_dtype: Any = None,
    algorithm: str = "auto",
    precision: str = "ieee",
    backend: str | None = None,
    stream: Any = None,
) -> Any:
    """Transposed convolution with one spatial axis; see :func:`conv_transpose2d`.

    Parameters
    ----------
    input : array_like, ``(N, C_in, W)`` or ``(C_in, W)``
        The data; channels last with ``layout="NWC"``.
    weight : array_like, ``(C_in, C_out / groups, kw)``
        The kernels, input channels first.
    bias, stride, padding, output_padding, groups, dilation
        As of :func:`conv_transpose2d`.
    layout, residual, activation, out, out_dtype, algorithm, precision, backend, stream
        As of :func:`conv2d`.

    Returns
    -------
    array, ``(N, C_out, W')``, or as the layout says
        As of :func:`conv_transpose2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`conv2d`.
    """
    options = (stride, padding, dilation, groups, "zeros", layout, activation, out_dtype, algorithm, precision, output_padding)
    return convolve("conv_transpose", 1, (input, weight, bias, residual, out), options, backend, stream)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    *,
    layout: str | None = None,
    residual: Any = None,
    activation: Any = None,
    out: Any = None,
    out_dtype: Any = None,
    algorithm: str = "auto",
    precision: str = "ieee",
    backend: str | None = None,
    stream: Any = None,
) -> Any:
    """Transposed convolution with three spatial axes; see :func:`conv_transpose2d`.

    Parameters
    ----------
    input : array_like, ``(N, C_in, D, H, W)`` or ``(C_in, D, H, W)``
        The data; channels last with ``layout="NDHWC"``.
    weight : array_like, ``(C_in, C_out / groups, kd, kh, kw)``
        The kernels, input channels first.
    bias, stride, padding, output_padding, groups, dilation
        As of :func:`conv_transpose2d`.
    layout, residual, activation, out, out_dtype, algorithm, precision, backend, stream
        As of :func:`conv2d`.

    Returns
    -------
    array, ``(N, C_out, D', H', W')``, or as the layout says
        As of :func:`conv_transpose2d`.

    Raises
    ------
    ValueError, TypeError, BackendUnavailableError
        As :func:`conv2d`.
    """
    options = (stride, padding, dilation, groups, "zeros", layout, activation, out_dtype, algorithm, precision, output_padding)
    return convolve("conv_transpose", 3, (input, weight, bias, residual, out), options, backend, stream)
