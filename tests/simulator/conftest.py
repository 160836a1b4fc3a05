"""Tests for Numba's CUDA simulator, which has to be switched on before Numba is imported.

``test_cuda.py`` runs them; by hand: ``NUMBA_ENABLE_CUDASIM=1 python -m pytest tests/simulator``.
"""

import os
import sys
import threading

import numpy as np

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
collect_ignore_glob = [] if SIMULATED else ["test_*.py"]

if SIMULATED:
    from numbaconv.cuda import (
        copying,
        depthwise,
        direct,
        halo_gemm,
        implicit_gemm,
        launch,
        reading,
        tensor_gemm,
        tiled,
        tma_gemm,
        warpgroup_gemm,
        winograd,
    )
    from numbaconv.cuda.kernels import depthwise as depthwise_kernels
    from numbaconv.cuda.kernels import halo_gemm as halo_kernels
    from numbaconv.cuda.kernels import implicit_gemm as gemm_kernels
    from numbaconv.cuda.kernels import pixels as pixels_kernels
    from numbaconv.cuda.kernels import tiled as tiled_kernels
    from numbaconv.cuda.kernels import tma_gemm as tma_kernels
    from numbaconv.cuda.kernels import transpose as transpose_kernels
    from numbaconv.cuda.kernels import winograd as winograd_kernels

    # A thread of the simulator's is one of Python's, and waits for others at every barrier.
    sys.setswitchinterval(1e-5)
    # Blocks, grids and shared memory so small that tiny problems have several tiles, several turns of the grid and several
    # stages of channels.
    direct.THREADS, launch.MOST_BLOCKS = 8, 5
    tiled.THREADS, tiled.WIDEST, tiled.HIGHEST = 8, 2, 2
    tiled.SHARED_BYTES = tiled_kernels.SHARED_BYTES = 1536
    for module in (implicit_gemm, gemm_kernels, pixels_kernels, reading):
        module.KC = 2
    for module in (implicit_gemm, gemm_kernels):
        module.THREADS_OF_GEMM, module.SUB = 4, 1
    gemm_kernels.DOWN, gemm_kernels.ACROSS = 2, 1
    depthwise.THREADS, depthwise.ROWS, depthwise.SECTOR = 16, 3, 16
    depthwise.STAGE_BYTES = depthwise_kernels.STAGE_BYTES = 4096
    tma_kernels.BLOCKS = halo_gemm.HALO_BLOCKS = halo_kernels.HALO_BLOCKS = 5
    halo_gemm.TILES = (halo_gemm.Tile(1, 16),)
    warpgroup_gemm.TILES, tma_gemm.ALONE = (warpgroup_gemm.Tile(1, 16, 4),), (tma_gemm.Tile(1, 16, 4),)
    tensor_gemm.TILES = (tensor_gemm.Tile(1, 1, 1, 2),)
    implicit_gemm.TILES = tuple(implicit_gemm.Tile(*tile) for tile in ((2, 2, 2), (1, 2, 2)))  # four weights are 16 bytes

    for module in (winograd, winograd_kernels):
        module.THREADS_OF_TILES, module.LANES_OF_CHANNELS, module.SECTOR = 8, 2, 2
    winograd.SCRATCH, winograd.LEAST = 1, 6
    for module in (copying, transpose_kernels):
        module.THREADS_OF_COPY, module.TILE_BITS = 8, 4
    copying.LEAST, copying.LEAST_BITS, copying.BLOCKS = 4, 1, 2

    # The simulator allocates a block's shared array when the first thread asks, without a lock: two threads may get two.
    from numba.cuda.simulator.kernelapi import FakeCUDAShared, numpy_support

    _lock = threading.Lock()

    _dynamic = FakeCUDAShared.array

    def _one_array_a_block(shared, shape, dtype, alignment=None):
        if shape == 0:
            return _dynamic(shared, shape, dtype, alignment)
        frame = sys._getframe(1)
        with _lock:
            place = frame.f_code.co_filename, frame.f_lineno
            if place not in shared._allocations:
                shared._allocations[place] = np.empty(shape, numpy_support.as_dtype(dtype))
            return shared._allocations[place]

    FakeCUDAShared.array = _one_array_a_block
