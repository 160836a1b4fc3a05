"""Convolution inside kernels of the caller's own: device functions for ``@cuda.jit``.

Three functions make a device function each, for a kernel, a stride and tiles that are known when it is compiled:

- :func:`pixel`: a thread computes one output value;
- :func:`tile`: a block computes a tile of output pixels of a few output channels, from shared memory;
- :func:`gemm_tile`: a block computes a tile of the matrix product, pixels by output channels, with tiles of sums in registers.

All of them compute ``sum over c, i, j of input[c, h * stride + i * dilation - padding, ...] * weight[o, c, i, j]``, with zeros
where there is no input. They store nothing: the kernel that calls them has the sums, and does with them what it likes. The input
is what a device function of the caller's, ``load(image, c, y, x)``, makes of whatever `image` is: so what comes before
the convolution, and what comes after it, need no pass over memory of their own. They know one image: for a batch, a block takes
``images[n]``, and for groups a part of its channels and of the weight.

Importing this imports ``numba.cuda``; nothing else of numbaconv does that for it, and nothing is compiled before a kernel is.
"""

from __future__ import annotations

from importlib.util import find_spec

from numbaconv.cuda.target import why_unavailable

if find_spec("numba_cuda") is None:
    raise ImportError(f"numbaconv.cuda.device: {why_unavailable()}")

from numbaconv.cuda.device.gemm_tile import gemm_tile
from numbaconv.cuda.device.pixel import pixel
from numbaconv.cuda.device.tile import tile

__all__ = ["gemm_tile", "pixel", "tile"]
