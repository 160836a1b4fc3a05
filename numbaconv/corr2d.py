"""The definitions, under the names of "Dive into Deep Learning", chapter 7: for learning, and for testing.

They are as fast as :func:`numbaconv.conv2d`, which computes them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from numbaconv import dtypes
from numbaconv.arrays import seen
from numbaconv.errors import bad_value
from numbaconv.execute import convolve, indexed, memory_of
from numbaconv.options import ConvOptions, Size

__all__ = ["AXES", "check", "corr2d", "corr2d_multi_in", "corr2d_multi_in_out", "corr2d_multi_in_out_1x1"]

_OPTIONS = tuple(ConvOptions())
AXES = {  # of X and K
    "corr2d": (("H", "W"), ("kh", "kw")),
    "corr2d_multi_in": (("C", "H", "W"), ("C", "kh", "kw")),
    "corr2d_multi_in_out": (("C", "H", "W"), ("O", "C", "kh", "kw")),
    "corr2d_multi_in_out_1x1": (("C", "H", "W"), ("O", "C", "1", "1")),
}


def corr2d(X: Any, K: Any) -> Any:  # noqa: N803
    """Two-dimensional cross-correlation: ``Y[i, j] = (X[i : i + kh, j : j + kw] * K).sum()``.

    Parameters
    ----------
    X : array_like, ``(H, W)``
        The data.
    K : array_like, ``(kh, kw)``
        The kernel; it is not flipped.

    Returns
    -------
    array, ``(H - kh + 1, W - kw + 1)``
        Where `X` lives; dtypes as :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError
        If a shape is not as above, or the kernel larger than the data.
    TypeError
        If a dtype is not supported.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.corr2d(np.arange(9).reshape(3, 3), [[0, 1], [2, 3]])
    array([[19, 25],
           [37, 43]])
    """
    check("corr2d", X, K)
    return indexed(_convolve(indexed(X, "X", None), indexed(K, "K", (None, None))), "X", 0)


def corr2d_multi_in(X: Any, K: Any) -> Any:  # noqa: N803
    """Correlate each channel with its own kernel, and sum over the channels: ``sum(corr2d(x, k) for x, k in zip(X, K))``.

    Parameters
    ----------
    X : array_like, ``(C, H, W)``
        The data.
    K : array_like, ``(C, kh, kw)``
        One kernel per channel.

    Returns
    -------
    array, ``(H - kh + 1, W - kw + 1)``
        Where `X` lives; dtypes as :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError
        As :func:`corr2d`; also if the channels differ in number.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> X = np.stack([np.arange(9).reshape(3, 3), np.arange(1, 10).reshape(3, 3)])
    >>> nc.corr2d_multi_in(X, [[[0, 1], [2, 3]], [[1, 2], [3, 4]]])
    array([[ 56,  72],
           [104, 120]])
    """
    check("corr2d_multi_in", X, K)
    return indexed(_convolve(X, indexed(K, "K", None)), "X", 0)


def corr2d_multi_in_out(X: Any, K: Any) -> Any:  # noqa: N803
    """Correlate with one channel-summed kernel per output channel: ``stack([corr2d_multi_in(X, k) for k in K])``.

    Parameters
    ----------
    X : array_like, ``(C, H, W)``
        The data.
    K : array_like, ``(O, C, kh, kw)``
        One kernel per output and input channel.

    Returns
    -------
    array, ``(O, H - kh + 1, W - kw + 1)``
        Where `X` lives; dtypes as :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError
        As :func:`corr2d_multi_in`.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.corr2d_multi_in_out(np.ones((2, 3, 3)), np.ones((4, 2, 2, 2))).shape
    (4, 2, 2)
    """
    check("corr2d_multi_in_out", X, K)
    return _convolve(X, K)


def corr2d_multi_in_out_1x1(X: Any, K: Any) -> Any:  # noqa: N803
    """Mix channels pixel by pixel: the matrix product over channels ``Y[:, i, j] = K[:, :, 0, 0] @ X[:, i, j]``.

    Parameters
    ----------
    X : array_like, ``(C, H, W)``
        The data.
    K : array_like, ``(O, C, 1, 1)``
        One number per output and input channel.

    Returns
    -------
    array, ``(O, H, W)``
        Where `X` lives; dtypes as :func:`numbaconv.conv2d`.

    Raises
    ------
    ValueError, TypeError
        As :func:`corr2d_multi_in`; also if the kernel is not 1x1.

    Examples
    --------
    >>> import numpy as np, numbaconv as nc
    >>> nc.corr2d_multi_in_out_1x1(np.ones((3, 2, 2)), np.ones((1, 3, 1, 1)))
    array([[[3., 3.],
            [3., 3.]]])
    """
    check("corr2d_multi_in_out_1x1", X, K)
    return _convolve(X, K)


def _convolve(X: Any, K: Any) -> Any:  # noqa: N803
    return convolve("corr", 2, (X, K, None, None, None), _OPTIONS)


def check(function: str, X: Any, K: Any) -> None:  # noqa: N803
    """Raise ValueError or TypeError for operands that a function does not take."""
    x = X if seen(X) else memory_of(X).view(X, "X")
    k = K if seen(K) else memory_of(K).view(K, "K")
    _check_specs(function, x.shape, x.dtype, k.shape, k.dtype)


@lru_cache(maxsize=1024)
def _check_specs(function: str, x: Size, x_dtype: np.dtype, k: Size, k_dtype: np.dtype) -> None:
    x_axes, k_axes = AXES[function]
    for argument, shape, dtype, axes in (("X", x, x_dtype, x_axes), ("K", k, k_dtype, k_axes)):
        dtypes.check(dtype, argument)
        if len(shape) != len(axes):
            raise bad_value(argument, f"{len(axes)} dimensions, ({', '.join(axes)})", f"shape {shape}")
    if "C" in x_axes and k[-3] != x[0]:
        raise bad_value("K", f"the {x[0]} channels of X", f"{k[-3]} in shape {k}")
    if min(k[-2:]) < 1 or k[-2] > x[-2] or k[-1] > x[-1]:
        raise bad_value("K", f"a kernel of 1 to {x[-2]} by 1 to {x[-1]} elements", f"shape {k}")
    if k_axes[-1] == "1" and k[-2:] != (1, 1):
        raise bad_value("K", "a 1x1 kernel", f"shape {k}")
