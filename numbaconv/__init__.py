"""Convolution kernels that are Python, compiled by Numba: NumPy arrays on the CPU, CUDA arrays on the GPU, one API for both."""

import gc as _gc

_collecting = _gc.isenabled()
_gc.disable()  # collections of all that Numba has just made would fall into these imports
try:
    import numbaconv.forks  # noqa: F401  (it registers what a fork has to see to)
    from numbaconv import grad
    from numbaconv.backend import backends, use_backend
    from numbaconv.compiled.overloads import register as _register
    from numbaconv.config import show_config
    from numbaconv.corr2d import corr2d, corr2d_multi_in, corr2d_multi_in_out, corr2d_multi_in_out_1x1
    from numbaconv.errors import BackendUnavailableError
    from numbaconv.explanation import explain
    from numbaconv.functional import conv1d, conv2d, conv3d, conv_transpose1d, conv_transpose2d, conv_transpose3d
    from numbaconv.prepared import Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

    _register()
finally:
    if _collecting:
        _gc.enable()

__version__ = "0.1.0"

__all__ = [
    "BackendUnavailableError",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "__version__",
    "backends",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "corr2d",
    "corr2d_multi_in",
    "corr2d_multi_in_out",
    "corr2d_multi_in_out_1x1",
    "explain",
    "grad",
    "show_config",
    "use_backend",
]
