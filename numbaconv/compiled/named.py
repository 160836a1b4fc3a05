"""The caller's own functions as words. They hold in this process alone: Numba keeps no code on disk that is handed a function."""

from __future__ import annotations

from typing import Any

from numba.core.dispatcher import Dispatcher

__all__ = ["function_of", "is_name", "name_of"]

_MARK = "\0function "  # no name of an activation
_functions: dict[str, Dispatcher] = {}


def name_of(function: Dispatcher) -> str:
    """Return a name for a compiled function, which is kept from now on."""
    name = f"{_MARK}{function.py_func.__qualname__}:{id(function)}"
    _functions[name] = function
    return name


def is_name(value: Any) -> bool:
    """Whether that is such a name."""
    return isinstance(value, str) and value.startswith(_MARK)


def function_of(name: str) -> Dispatcher:
    """Return the function of a name."""
    return _functions[name]
