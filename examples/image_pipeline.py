"""Filter a photograph, all of it in one compiled function: ``python examples/image_pipeline.py``.

At each level of a pyramid ``pipeline`` blurs, sharpens, thins the slopes of the brightness (Sobel) to edges, and halves the
picture: prepared operators with parallel loops between them, and no Python. The results are held against those of the same steps
called from Python, and of the same steps with SciPy's filters.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numba import njit, prange

import numbaconv as nc

LUMA = (np.float32(0.2126), np.float32(0.7152), np.float32(0.0722))  # what R, G, B add to brightness (BT.709)
GAUSSIAN = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]).astype(np.float32) / 256
ACROSS = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) / 8  # Sobel's slope to the right; transposed, downwards
SHARPER = np.float32(1.5)  # how much of what a blur takes away is added
STEEP = np.float32(0.03)  # an edge's slope
SMALLEST = 16  # pixels of a side below which a pyramid ends

Filter = Callable[[np.ndarray], np.ndarray]


class Filters(NamedTuple):
    """What the pipeline computes with: prepared operators, or in Python anything that may be called."""

    blur: Filter
    halve: Filter
    slopes: Filter


@njit
def pipeline(photo: np.ndarray, filters: Filters) -> tuple[np.ndarray, np.ndarray]:
    """Return two pyramids of a photograph ``(H, W, 3)``: sharpened ``(H, W + W / 2, 3)``, and the edges ``(H, W + W / 2)``."""
    blur, halve, slopes = filters
    height, width, _ = photo.shape
    sharpened = np.zeros((height, width + (width + 1) // 2, 3), np.float32)
    edges = np.zeros(sharpened.shape[:2], np.float32)
    picture, top, left = photo, 0, 0
    while min(picture.shape[:2]) >= SMALLEST and top + picture.shape[0] <= height:
        bottom, right = top + picture.shape[0], left + picture.shape[1]
        smooth = blur(picture)
        sharpen(picture, smooth, sharpened[top:bottom, left:right])
        thin(slopes(brightness(smooth)), edges[top:bottom, left:right])
        if left > 0:  # all but the first stand beside it, one under the other
            top = bottom
        left = width
        picture = halve(picture)
    return sharpened, edges


@njit(parallel=True)
def brightness(picture: np.ndarray) -> np.ndarray:
    """Return the brightness of a picture, ``(1, H, W)``."""
    height, width, _ = picture.shape
    result = np.empty((1, height, width), np.float32)
    for y in prange(height):
        for x in range(width):
            result[0, y, x] = LUMA[0] * picture[y, x, 0] + LUMA[1] * picture[y, x, 1] + LUMA[2] * picture[y, x, 2]
    return result


@njit(parallel=True)
def sharpen(picture: np.ndarray, smooth: np.ndarray, sharpened: np.ndarray) -> None:
    """Add to a picture what it has more than its blurred self."""
    height, width, colours = picture.shape
    for y in prange(height):
        for x in range(width):
            for c in range(colours):
                value = picture[y, x, c] + SHARPER * (picture[y, x, c] - smooth[y, x, c])
                sharpened[y, x, c] = min(max(value, np.float32(0)), np.float32(1))


@njit(parallel=True)
def thin(slopes: np.ndarray, edges: np.ndarray) -> None:
    """Take slopes ``(2, H, W)`` for edges where they are steep, and steeper than one pixel further up or down the slope."""
    _, height, width = slopes.shape
    for y in prange(1, height - 1):
        for x in range(1, width - 1):
            slope = math.hypot(slopes[0, y, x], slopes[1, y, x])
            if slope >= STEEP:
                dx, dy = round(slopes[0, y, x] / slope), round(slopes[1, y, x] / slope)
                before = math.hypot(slopes[0, y - dy, x - dx], slopes[1, y - dy, x - dx])
                behind = math.hypot(slopes[0, y + dy, x + dx], slopes[1, y + dy, x + dx])
                if before <= slope > behind:
                    edges[y, x] = slope


def prepared() -> Filters:
    """Return the filters as operators, which choose and pack once."""
    gaussian = np.stack([GAUSSIAN] * 3)[:, None]
    sobel = np.stack([ACROSS, ACROSS.T])[:, None]
    return Filters(
        blur=nc.Conv2d(gaussian, padding=2, padding_mode="reflect", groups=3, layout="NHWC"),
        halve=nc.Conv2d(gaussian, stride=2, padding=2, padding_mode="reflect", groups=3, layout="NHWC"),
        slopes=nc.Conv2d(sobel, padding=1, padding_mode="replicate"),
    )


def of_scipy() -> Filters:
    """Return the same filters from SciPy, which calls their padding otherwise."""
    from scipy import ndimage

    def blur(picture: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.correlate(picture[..., c], GAUSSIAN, mode="mirror") for c in range(3)], axis=-1)

    def slopes(grey: np.ndarray) -> np.ndarray:
        return np.stack([ndimage.correlate(grey[0], taps, mode="nearest") for taps in (ACROSS, ACROSS.T)])

    return Filters(blur, lambda picture: np.ascontiguousarray(blur(picture)[::2, ::2]), slopes)


def photograph() -> np.ndarray:
    """Return a photograph that comes with scikit-image, ``(512, 512, 3)``, float32 from 0 to 1."""
    from skimage import data

    return data.astronaut().astype(np.float32) / 255


def run(output: str | None) -> None:
    """Filter a photograph three times, print how far the results lie apart, and draw them if there is a path for that."""
    photo = photograph()
    sharpened, edges = pipeline(photo, prepared())
    print(f"{photo.shape[1]}x{photo.shape[0]}: {np.count_nonzero(edges)} of {edges.size} pixels are edges")
    called = pipeline.py_func(photo, prepared())
    same = all(np.array_equal(a, b) for a, b in zip((sharpened, edges), called, strict=True))
    print(f"called from Python: {'the same, bit for bit' if same else 'NOT THE SAME'}")
    other_sharpened, other_edges = pipeline.py_func(photo, of_scipy())
    apart, elsewhere = np.abs(sharpened - other_sharpened).max(), np.count_nonzero((edges > 0) != (other_edges > 0))
    print(f"with SciPy's filters: pictures differ by {apart:.1e} at most, and {elsewhere} pixels are edges in one of them alone")
    if output is not None:
        draw(sharpened, edges, output)
        print(f"picture written to {output}")


def draw(sharpened: np.ndarray, edges: np.ndarray, output: str) -> None:
    """Write a picture of both pyramids."""
    from skimage.io import imsave

    white = np.repeat(edges[..., None] / edges.max(), 3, axis=-1) ** 0.5
    imsave(output, (255 * np.concatenate([sharpened, white])).astype(np.uint8))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, and return its exit status: 2 for what is missing, or cannot be written."""
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("output", nargs="?", metavar="OUTPUT", help="where to write a picture of the results, as PNG for example")
    options = parser.parse_args(arguments)
    try:
        run(options.output)
    except ImportError as error:
        print(f'image_pipeline: error: {error}: pip install "numbaconv[examples]"', file=sys.stderr)
        return 2
    except (ValueError, OSError) as error:
        print(f"image_pipeline: error: OUTPUT: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
