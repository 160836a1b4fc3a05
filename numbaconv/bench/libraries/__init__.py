"""The libraries that are measured, a file each, imported by the process that measures it and by no other."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import NamedTuple

from numbaconv.bench.case import Case, Prepared

__all__ = ["AGAIN", "LIBRARIES", "OURS", "PEERS", "Library", "entries", "missing", "prepare", "version"]

OURS = "numbaconv"
AGAIN = "numbaconv again"  # a second process that does the same, by which the noise is known


class Library(NamedTuple):
    """A library, in one way of using it."""

    peer: str  # its name for ``--peers``
    needs: tuple[str, ...]  # modules, the one with the version first
    file: str  # of this folder
    function: str = "prepare"
    rest: float = 0.0  # seconds that its threads, which spin after a call, are left to come to rest


LIBRARIES = {
    "torch": Library("torch", ("torch",), "pytorch"),
    "torch.channels_last": Library("torch", ("torch",), "pytorch", "prepare_channels_last"),
    "onnxruntime": Library("onnxruntime", ("onnxruntime", "onnx"), "onnx_runtime", rest=0.05),
    "openvino": Library("openvino", ("openvino",), "open_vino"),
    "scipy": Library("scipy", ("scipy",), "sci_py"),
    "opencv": Library("opencv", ("cv2", "onnx"), "open_cv"),
    "jax": Library("jax", ("jax",), "jax_cpu"),
    OURS: Library(OURS, (OURS,), "own"),
    AGAIN: Library(OURS, (OURS,), "own"),
}
PEERS = tuple(dict.fromkeys(library.peer for library in LIBRARIES.values() if library.peer != OURS))


def entries(peers: Sequence[str]) -> list[str]:
    """Return the names of the libraries to measure, ours and ours again at the end."""
    return [name for name, library in LIBRARIES.items() if library.peer in (*peers, OURS)]


def missing(name: str) -> str | None:
    """Return which modules of a library are not installed, in words, or None."""
    absent = [module for module in LIBRARIES[name].needs if importlib.util.find_spec(module) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


def prepare(name: str, case: Case) -> Prepared:
    """Return a layer as a library computes it.

    Raises
    ------
    UnableError
        If it does not take the layer.
    """
    library = LIBRARIES[name]
    module = importlib.import_module(f"{__name__}.{library.file}")
    return getattr(module, library.function)(case)


def version(name: str) -> str:
    """Return a library's version."""
    return str(importlib.import_module(LIBRARIES[name].needs[0]).__version__)
