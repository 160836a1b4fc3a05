"""The demonstration: named kernels on a photograph, through one call of ``conv2d``."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from numbaconv.errors import bad_value
from numbaconv.explanation import explain
from numbaconv.functional import conv2d
from numbaconv.measure import interleaved

__all__ = ["KERNELS", "filter_bank", "run"]

LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # how much each of R, G, B adds to what we see as brightness (BT.709)


def _gaussian(sigma: float) -> np.ndarray:
    x = np.arange(-2, 3)
    g = np.exp(-(x**2) / (2 * sigma**2))
    return np.outer(g, g) / np.outer(g, g).sum()


def _centred(kernel: list[list[float]]) -> np.ndarray:
    return np.pad(np.array(kernel, float), 1)


_IDENTITY = _centred([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
_BLUR = _gaussian(1.2)

# Each kernel looks at brightness, but the last, which looks at colour: name, 5x5 taps, weights of R, G, B, and whether
# responses have a sign (grey is zero then).
KERNELS: tuple[tuple[str, np.ndarray, np.ndarray, bool], ...] = (
    ("vertical edges (Sobel)", _centred([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]), LUMA, True),
    ("horizontal edges (Sobel)", _centred([[-1, -2, -1], [0, 0, 0], [1, 2, 1]]), LUMA, True),
    ("all edges (Laplacian)", _centred([[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]), LUMA, True),
    ("sharpen (unsharp mask)", _IDENTITY + 1.5 * (_IDENTITY - _BLUR), LUMA, False),
    ("blur (Gaussian)", _BLUR, LUMA, False),
    ("motion blur", np.eye(5) / 5, LUMA, False),
    ("emboss", _centred([[-2, -1, 0], [-1, 0, 1], [0, 1, 2]]), LUMA, True),
    ("red against blue", _BLUR, np.array([1, 0, -1], np.float32), True),
)


def filter_bank() -> np.ndarray:
    """Return the kernels as one weight, ``(kernels, 3, 5, 5)``, float32."""
    return np.stack([colours[:, None, None] * taps for _, taps, colours, _ in KERNELS]).astype(np.float32)


def run(image: str | None, output: str, report: Callable[[str], None] = print) -> None:
    """Filter a photograph, report what ran and how fast beside NumPy, and draw the responses.

    Parameters
    ----------
    image : str or None
        The path of a picture; None takes a photograph that comes with scikit-image.
    output : str
        Where to write the picture of input and responses.
    report : callable
        Takes each paragraph of the report.

    Raises
    ------
    ValueError
        If the file is no picture, or the output cannot be a picture file.
    OSError
        If a file cannot be read or written.
    ImportError
        If scikit-image or matplotlib is missing; the message names the extra that brings them.
    """
    name, photo = _photograph(image)
    weight = filter_bank()
    channels = np.ascontiguousarray(photo.transpose(2, 0, 1))[None]  # (1, 3, H, W)
    report(f"{name}: {photo.shape[1]}x{photo.shape[0]} RGB -> {len(KERNELS)} responses, one channel-summed 5x5 kernel each")

    def ours() -> np.ndarray:
        return conv2d(channels, weight, padding="same", padding_mode="replicate")

    start = time.perf_counter()
    responses = ours()
    first = time.perf_counter() - start
    report(str(explain("conv2d", channels, weight, padding="same", padding_mode="replicate")))

    numpys = _numpy_way(channels, weight)
    seconds, numpy_seconds = interleaved(ours, lambda: _numpy_way(channels, weight))
    report(
        f"numbaconv.conv2d          {1e3 * seconds:8.2f} ms   (first call, compiling or loading the kernel: {first:.2f} s)\n"
        f"NumPy, windows x matrix   {1e3 * numpy_seconds:8.2f} ms   {numpy_seconds / seconds:.1f}x our time\n"
        f"largest difference        {np.abs(responses - numpys).max():8.1e}      of values up to {np.abs(numpys).max():.2f}"
    )
    _draw(photo, responses[0], name, output)
    report(f"picture written to {output}")


def _photograph(image: str | None) -> tuple[str, np.ndarray]:
    """A name and an RGB float32 picture in [0, 1], ``(H, W, 3)``."""
    as_float = _import("skimage.util").img_as_float32
    if image is None:
        return "astronaut (scikit-image)", as_float(_import("skimage.data").astronaut())
    try:
        pixels = _import("skimage.io").imread(image)
    except OSError:
        raise
    except Exception as error:  # whatever the reader of this format raises
        raise bad_value("IMAGE", "a picture file", f"{image!r} ({error})") from None
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=-1)
    if pixels.ndim != 3 or pixels.shape[2] not in (3, 4) or min(pixels.shape[:2]) < 5:
        raise bad_value("IMAGE", "a grey or RGB picture of at least 5x5 pixels", f"{image!r} of shape {pixels.shape}")
    return Path(image).name, as_float(pixels)[..., :3]


def _numpy_way(channels: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """What NumPy offers: a view of all windows, and a matrix product that copies them."""
    padded = np.pad(channels, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    windows = sliding_window_view(padded, (5, 5), axis=(2, 3))  # (1, 3, H, W, 5, 5)
    return np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def _draw(photo: np.ndarray, responses: np.ndarray, name: str, output: str) -> None:
    height = 4 * photo.shape[0] / photo.shape[1]
    figure = _import("matplotlib.figure").Figure(figsize=(12.6, 3 * (height + 0.35)), layout="constrained", facecolor="white")
    axes = figure.subplots(3, 3).ravel()
    axes[0].imshow(photo)
    axes[0].set_title(name, fontsize=12, fontweight="bold")
    for axis, response, (title, _, _, signed) in zip(axes[1:], responses, KERNELS, strict=True):
        limit = max(1e-6, float(np.percentile(np.abs(response), 99.5)))
        low, high = (-limit, limit) if signed else (0.0, 1.0)
        axis.imshow(response, cmap="gray", vmin=low, vmax=high)
        axis.set_title(title, fontsize=12)
    for axis in axes:
        axis.set_axis_off()
    figure.savefig(output, dpi=110)


def _import(module: str) -> Any:
    """Import an optional module, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(f'the demo needs {module}: pip install "numbaconv[demo]" ({error})') from None
