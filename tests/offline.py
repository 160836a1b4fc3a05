"""Compiling CUDA kernels where there is no GPU."""

from types import SimpleNamespace
from unittest.mock import patch


def ptx_of(function, signature, cc):
    """Compile a kernel for a compute capability. Its device functions ask for the one of the current GPU."""
    from numbaconv.cuda.binary import assembly

    gpu = SimpleNamespace(compute_capability=cc[:2])
    with patch("numba.cuda.dispatcher.get_current_device", lambda: gpu):
        return assembly(function, signature, cc)
