"""The exceptions of the package, and the one form that their messages take."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["BackendUnavailableError", "bad_type", "bad_value", "shown"]

_LONGEST = 200  # characters of a value in a message


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for cannot run here; the message says what is missing and how to get it."""


def bad_value(argument: str, expected: str, got: object) -> ValueError:
    """Return the ``ValueError`` for an argument of a right type and a wrong value or shape."""
    return ValueError(_message(argument, expected, got))


def bad_type(argument: str, expected: str, got: object) -> TypeError:
    """Return the ``TypeError`` for an argument of a wrong dtype or kind."""
    return TypeError(_message(argument, expected, got))


def shown(value: object, text: Callable[[object], str] = repr) -> str:
    """Return a value as text for a message: not all of it if it is long, and something for what cannot even do that."""
    try:
        whole = text(value)
    except Exception:  # of an int of thousands of digits too
        return f"a value of type {type(value).__name__}"
    return whole if len(whole) <= _LONGEST else f"{whole[:_LONGEST]} ..."


def _message(argument: str, expected: str, got: object) -> str:
    return f"{argument}: expected {expected}, got {got if isinstance(got, str) else shown(got, str)}"
