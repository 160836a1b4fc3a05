"""Convolution kernels that are Python, compiled by Numba: NumPy arrays on the CPU, CUDA arrays on the GPU, one API for both."""

from numbaconv.backend import backends, use_backend
from numbaconv.errors import BackendUnavailableError
from numbaconv.functional import conv2d

__all__ = ["BackendUnavailableError", "backends", "conv2d", "use_backend"]
