"""The exceptions of the package, and the one form that their messages take."""

from __future__ import annotations

__all__ = ["BackendUnavailableError", "bad_type", "bad_value"]


class BackendUnavailableError(RuntimeError):
    """The backend that was asked for cannot run here; the message says what is missing and how to get it."""


def bad_value(argument: str, expected: str, got: object) -> ValueError:
    """Return the ``ValueError`` for an argument of a right type and a wrong value or shape."""
    return ValueError(f"{argument}: expected {expected}, got {got}")


def bad_type(argument: str, expected: str, got: object) -> TypeError:
    """Return the ``TypeError`` for an argument of a wrong dtype or kind."""
    return TypeError(f"{argument}: expected {expected}, got {got}")
