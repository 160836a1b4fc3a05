"""Compiled kernels: from Python to machine code for one compute capability, kept in the user's cache folder.

A kernel's file has its digest, its name and its code, nothing that is run to be read. It is found by what the kernel was made
from (:func:`factory`), its signature, and a stamp of all sources and versions; what is wrong with it, the kernel is compiled.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable
from functools import cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from numbaconv.files import check_owner, folder, replace_whole

__all__ = ["Binary", "assembly", "binary", "factory", "linker_options"]

PACKAGE = Path(__file__).parents[1]


class Binary(NamedTuple):
    """A kernel's name, and the code that has it."""

    name: str
    code: bytes


def factory(make: Callable) -> Callable:
    """Decorate what returns kernels: each is made once, and knows in ``origin`` what from, if other processes can tell."""

    @cache
    @wraps(make)
    def made(*args: Any, **options: Any) -> Callable:
        function: Callable = make(*args, **options)
        words = [_in_words(arg) for arg in (*args, *options.values())] + list(options)
        function.__dict__["origin"] = (
            None if None in words else f"{make.__module__}.{make.__name__}({', '.join(map(str, words))})"
        )
        return function

    return made


def _in_words(arg: Any) -> str | None:
    """What an argument of a factory is called, in every process; None for a caller's own function."""
    if not callable(arg) or hasattr(arg, "bitwidth"):
        return repr(arg)
    ours = arg.__module__.startswith("numbaconv.")
    return f"{arg.__module__}.{arg.__qualname__}" if ours and "<" not in arg.__qualname__ else None


@cache
def binary(function: Callable, signature: Any, capability: tuple[int, int]) -> Binary:
    """Return the machine code of a kernel for arguments of a signature, from the cache on disk or compiled now."""
    path = _path(function, signature, capability)
    if path is not None and path.exists():
        try:
            return _read(path)
        except Exception as error:
            warnings.warn(f"cannot read the CUDA kernel cache: {error!r}", RuntimeWarning, stacklevel=2)
    found = compiled(function, signature, capability)
    if path is not None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            check_owner(path.parent)
            rest = found.name.encode() + b"\n" + found.code
            replace_whole(path, hashlib.sha256(rest).digest() + rest)
        except Exception as error:
            warnings.warn(f"cannot write the CUDA kernel cache: {error!r}", RuntimeWarning, stacklevel=2)
    return found


def compiled(function: Callable, signature: Any, capability: tuple[int, int]) -> Binary:
    """Compile a kernel. Code for 9.0 has what exists there only."""
    from cuda.core import Linker, ObjectCode

    target = (*capability, "a") if capability == (9, 0) else capability
    ptx = assembly(function, signature, target)
    [name] = re.findall(r"\.visible \.entry (\S+)\(", ptx)
    options = linker_options(function, target)
    return Binary(name, bytes(Linker(ObjectCode.from_ptx(ptx.encode()), options=options).link("cubin").code))


def assembly(function: Callable, signature: Any, target: tuple) -> str:
    """Return a kernel's PTX. It may say in ``cluster`` of how many blocks its clusters are, which neighbour in the grid."""
    from numba import cuda

    ptx, _ = cuda.compile(function, signature, device=False, abi="numba", cc=target)
    blocks = getattr(function, "cluster", 1)
    if blocks == 1:
        return str(ptx)
    directive = f"\n.explicitcluster\n.reqnctapercluster {blocks}, 1, 1\n"
    marked, entries = re.subn(r"(\.visible \.entry \S+\([^)]*\))", lambda found: found[1] + directive, str(ptx))
    assert entries == 1, f"{entries} kernels in one's PTX"
    return marked


def linker_options(function: Callable, target: tuple, **more: Any) -> Any:
    """Return how a kernel is assembled for a target. It may limit a thread's registers by ``most_registers``."""
    from cuda.core import LinkerOptions

    most = getattr(function, "most_registers", None)
    return LinkerOptions(arch="sm_" + "".join(map(str, target)), max_register_count=most, **more)


def _read(path: Path) -> Binary:
    check_owner(path.parent)
    check_owner(path)
    data = path.read_bytes()
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        raise ValueError(f"{path} is damaged")
    name, _, code = data[32:].partition(b"\n")
    return Binary(name.decode(), code)


def _path(function: Callable, signature: Any, capability: tuple[int, int]) -> Path | None:
    origin = getattr(function, "origin", None)
    if origin is None:
        return None
    key = f"{_stamp()} {origin} {signature} {capability}"
    try:
        return folder() / "cuda" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.cubin"
    except FileNotFoundError:  # the user has no home
        return None


@cache
def _stamp() -> str:
    """A digest of all that a kernel may be made of, and the versions of what makes it."""
    digest = hashlib.sha256()
    for path in sorted([*(PACKAGE / "cuda").rglob("*.py"), PACKAGE / "toom.py", PACKAGE / "activation.py"]):
        digest.update(path.read_bytes())
    for name in ("numba", "numba-cuda", "llvmlite", "cuda-core"):
        digest.update(f"{name} {version(name)}".encode())
    return digest.hexdigest()
