"""Filter a photograph, all of it in one compiled function: ``python examples/image_pipeline.py``.

At each level of a pyramid ``pipeline`` blurs, sharpens, finds the brightness's slopes (Sobel), thins them to edges, and halves the
picture: numbaconv's convolutions with loops of its own between them, and no Python. Its results are held against those of the same
steps called from Python, and of SciPy's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from numba import njit, prange

import numbaconv as nc

LUMA = (np.float32(0.2126), np.float32(0.7152), np.float32(0.0722))  # what R, G, B add to brightness (BT.709)
GAUSSIAN = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).astype(np.float32) / 256
SOBEL = np.array([[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], [[-1, -2, -1], [0, 0, 0], [1, 2, 1]]], np.float32)[:, None] / 8
SHARPEN = np.float32(1.5)  # how much of what a blur takes away is added
STEEP = np.float32(0.05)  # the slope from which on there is an edge
SMALLEST = 16  # pixels of a side below which a pyramid ends

Filters = tuple[nc.Conv2d, nc.Conv2d]


@njit
def pipeline(photo: np.ndarray, filters: Filters, sobel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two pyramids of a photograph ``(H, W, 3)``: sharpened ``(H, W + W / 2, 3)``, and the edges ``(H, W + W / 2)``."""
    blur, halve = filters
    height, width, _ = photo.shape
    sharpened = np.zeros((height, width + (width + 1) // 2, 3), np.float32)
    edges = np.zeros(sharpened.shape[:2], np.float32)
    picture, top, left = photo, 0, 0
    while min(picture.shape[:2]) >= SMALLEST and top + picture.shape[0] <= height:
        bottom, right = top + picture.shape[0], left + picture.shape[1]
        smooth = blur(picture)
        slopes = nc.conv2d(brightness(smooth), sobel, padding=1, padding_mode="replicate")
        sharpen(picture, smooth, sharpened[top:bottom, left:right])
        thin(slopes, edges[top:bottom, left:right])
        if left == 0:  # the others stand beside the first, one under the other
            left = width
        else:
            top = bottom
        picture = halve(picture)
    return sharpened, edges


@njit(parallel=True)
def brightness(picture: np.ndarray) -> np.ndarray:
    """Return the brightness of a picture as one channel, ``(1, H, W)``."""
    height, width, _ = picture.shape
    result = np.empty((1, height, width), np.float32)
    for y in prange(height):
        for x in range(width):
            red, green, blue = picture[y, x]
            result[0, y, x] = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    return result
