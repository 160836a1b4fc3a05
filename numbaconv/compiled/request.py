"""What is known of a call when it is compiled: the function, the types of its arrays, and its options.

Some options may be numbers that are known when it runs. As text a request travels with the compiled code, to other processes too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from numbaconv.compiled.named import function_of, is_name

__all__ = ["LATER", "ArrayType", "Request", "array_at", "later"]

LATER = "\0later"  # in the place of an int that is known when the call runs: a word that is no option


@cache
def stamp() -> str:
    """A digest of all that compiled calls and Python have to agree on."""
    here = Path(__file__).parent
    files = sorted([*here.glob("*.py"), here.parent / "table.py", here.parent / "cpu" / "program.py"])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


class ArrayType(NamedTuple):
    """What Numba knows of an array: its strides follow from its shape if it is in C order."""

    dtype: str
    ndim: int
    in_order: bool

    @property
    def words(self) -> int:
        """How many words say what is known later."""
        return self.ndim if self.in_order else 2 * self.ndim


@dataclass(frozen=True)
class Request:
    """A call as it is compiled.

    Attributes
    ----------
    function
        The name of what is called; of a prepared operator, ``"prepared"``.
    arrays
        Types by what the operands are in a convolution ("input", "weight", "bias", "residual", "out"), for those that there are.
    options
        Values by name, with :data:`LATER` in the place of ints.
    result
        The result's type.
    backend
        The one that was asked for.
    """

    function: str
    arrays: Mapping[str, ArrayType]
    options: Mapping[str, Any]
    result: ArrayType
    backend: str | None = None

    @cached_property
    def text(self) -> str:
        """All of it, in one line."""
        return json.dumps([stamp(), self.function, self.arrays, self.options, self.result, self.backend])

    @classmethod
    @cache
    def read(cls, text: str) -> Request:
        """Return what was written.

        Raises
        ------
        RuntimeError
            If other sources wrote it: then the code that has it knows tables of another form.
        """
        if json.loads(text)[0] != stamp():
            raise RuntimeError(
                "this function was compiled, and kept by Numba, with another version of numbaconv: remove its cache (__pycache__ "
                "beside its source, or in NUMBA_CACHE_DIR)"
            )
        _, function, arrays, options, result, backend = json.loads(text)
        types = {name: ArrayType(*typ) for name, typ in arrays.items()}
        return cls(function, types, {name: _tuples(value) for name, value in options.items()}, ArrayType(*result), backend)

    @property
    def number(self) -> int:
        """A number that no other request has, as far as one can tell."""
        return int.from_bytes(hashlib.sha256(self.text.encode()).digest()[:8], "little", signed=True)

    @cached_property
    def words(self) -> int:
        """How many words a call is looked up by: its number, shapes and strides, and ints."""
        return (
            1 + sum(typ.words for typ in self.arrays.values()) + sum(1 for value in self.options.values() for _ in later(value))
        )

    def views(self, addresses: Mapping[str, int], words: Sequence[int]) -> dict[str, np.ndarray]:
        """Return the arrays of a call, as they lie in memory."""
        found, at = {}, 1
        for name, typ in self.arrays.items():
            shape, strides = tuple(words[at : at + typ.ndim]), tuple(words[at + typ.ndim : at + typ.words]) or None
            found[name] = array_at(addresses[name], shape, strides, np.dtype(typ.dtype))
            at += typ.words
        return found

    def values(self, words: Sequence[int]) -> dict[str, Any]:
        """Return the options of a call."""
        ints = iter(words[1 + sum(typ.words for typ in self.arrays.values()) :])
        return {name: _filled(value, ints) for name, value in self.options.items()}


def array_at(address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: np.dtype) -> np.ndarray:
    """The array that lies at an address, which has to stay there as long."""
    if not all(shape):
        return np.empty(shape, dtype)
    return np.asarray(_Memory(address, shape, strides, dtype))


class _Memory:
    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, dtype: np.dtype) -> None:
        self.__array_interface__ = {
            "version": 3, "data": (address, False), "shape": shape, "strides": strides, "typestr": dtype.str,
        }  # fmt: skip


def later(value: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    """Yield where in a value the ints are that are known later."""
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from later(item, (*path, i))
    elif isinstance(value, str) and value == LATER:
        yield path


def _filled(value: Any, ints: Iterator[int]) -> Any:
    if isinstance(value, tuple):
        return tuple(_filled(item, ints) for item in value)
    if is_name(value):
        return function_of(value)
    return next(ints) if isinstance(value, str) and value == LATER else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
