"""Where compiled kernels are kept on disk: files that are ours, whole, and of these very sources, or as good as not there."""

from __future__ import annotations

import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime import rtsys

from numbaconv.files import check_owner, folder, replace_whole

__all__ = ["KernelCache", "cache_folder", "read", "source_stamp", "write"]


def cache_folder() -> str:
    """Where compiled kernels are kept, in words where they are not."""
    try:
        return KernelCache(cache_folder).cache_path
    except (RuntimeError, OSError) as error:
        return f"none ({error})"


def complain(verb: str, error: Exception) -> None:
    """Warn that the cache is of no use."""
    warnings.warn(f"cannot {verb} the kernel cache: {error!r}", RuntimeWarning, stacklevel=3)


@cache
def source_stamp() -> str:
    """A digest of all that a kernel may be made of: of other files too, which Numba's own stamp does not see."""
    digest = hashlib.sha256(f"numba {numba.__version__}".encode())
    package = Path(__file__).parents[1]
    others = (package / name for name in ("activation.py", "native.py", "table.py", "toom.py"))
    for path in sorted([*(package / "cpu").glob("*.py"), *(package / "compiled").glob("*.py"), *others]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


# ---------------------------------------------------------------- files of our own


def write(name: str, data: bytes) -> None:
    """Keep some bytes under a name; what goes wrong costs a warning."""
    try:
        replace_whole(_path(name), _sealed(source_stamp().encode() + data))
    except Exception as error:
        complain("write", error)


def read(name: str) -> bytes | None:
    """Return what was kept under a name by these very sources, or None."""
    try:
        path = _path(name)
        if not path.exists():
            return None
        check_owner(path)
        data, stamp = _whole(path.read_bytes()), source_stamp().encode()
    except Exception as error:
        complain("read", error)
        return None
    return data[len(stamp) :] if data.startswith(stamp) else None


def _path(name: str) -> Path:
    return Path(KernelCache(cache_folder).cache_path) / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.nbm"


def _sealed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest() + data


def _whole(data: bytes) -> bytes:
    digest, rest = data[:32], data[32:]
    if hashlib.sha256(rest).digest() != digest:
        raise ValueError("a damaged file")
    return rest


# ---------------------------------------------------------------- Numba's files


class KernelCache(FunctionCache):
    """Numba's cache on disk, renewed when any kernel source changes, and ignored where it is damaged or not the user's own.

    Raises
    ------
    RuntimeError, OSError
        If there is no folder for it.
    """

    def __init__(self, function: Callable, name: str | None = None) -> None:
        super().__init__(function)
        base = self._impl.filename_base
        if name is not None:
            base = f"{base}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        self._name = name
        path = Path(self.cache_path)
        try:
            check_owner(path)
        except PermissionError:
            path = folder() / "kernels"
            path.mkdir(parents=True, exist_ok=True)
            check_owner(path)
        self._cache_path = os.fspath(path)
        self._cache_file = _CheckedFile(self._cache_path, base, source_stamp())

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Numba's key has what a closure holds in it, which is new in every process; a name says what that is."""
        return super()._index_key(sig, codegen) if self._name is None else (sig, codegen.magic_tuple(), self._name)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """As Numba's, which first loads all that compiling may need: a quarter of a second. Code alone needs its runtime."""
        try:
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        except Exception as error:
            complain("read", error)
            self._start_afresh()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """As Numba's, with a warning where that fails."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            complain("write", error)
            self._start_afresh()

    def _start_afresh(self) -> None:
        try:
            self.flush()
        except Exception:
            self.disable()


class _CheckedFile(IndexDataCacheFile):
    """Numba's cache files, each behind a digest of itself: LLVM crashes on machine code that is not whole."""

    def _dump(self, obj: Any) -> bytes:
        return _sealed(super()._dump(obj))

    def _load_index(self) -> dict:
        try:
            with open(self._index_path, "rb") as file:
                if pickle.load(file) != self._version:
                    return {}
                stamp, overloads = pickle.loads(_whole(file.read()))
        except FileNotFoundError:
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _load_data(self, name: str) -> Any:
        with open(self._data_path(name), "rb") as file:
            return pickle.loads(_whole(file.read()))
